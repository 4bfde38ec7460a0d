"""Calibration: the inputs of the parts of a model for images that are not measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionbench import weights
from visionbench.core import Calibration, Example, HasGraphs, Inputs, LoadedModel
from visionbench.stages.decoding import Decoding
from visionbench.stages.windows import quiet

if TYPE_CHECKING:
    import torch

BATCH = 4
"""The number of images of a batch."""


@dataclass(frozen=True)
class Calibrator:
    """A model that is not quantised yet, with the images of its calibration."""

    model: LoadedModel
    examples: Sequence[Example]
    """The examples that the model's processor accepts."""
    source: str
    """Where the images come from."""
    digest: str
    """The SHA-256 of the preprocessed images and captions."""
    decoding: Decoding
    place: torch.device
    dtype: torch.dtype

    def calibration_of(self, part: str) -> Calibration:
        """Return the inputs of a part of the model. They are computed whenever they are read."""
        return Calibration(lambda: self._inputs_of(part), -(-len(self.examples) // BATCH), self.digest)

    def facts(self) -> Mapping[str, str | int]:
        """Return the facts for run.json."""
        return {
            "calibration_images": len(self.examples),
            "calibration_source": self.source,
            "calibration_sha256": self.digest,
        }

    def _inputs_of(self, part: str) -> Iterator[tuple[torch.Tensor, ...]]:
        import torch

        assert isinstance(self.model, HasGraphs)
        for start in range(0, len(self.examples), BATCH):
            singles = [
                _preprocess(self.model, example, self.decoding) for example in self.examples[start : start + BATCH]
            ]
            batch = {name: torch.cat([single[name] for single in singles]) for name in singles[0]}
            with quiet():
                tensors = self.model.graph_inputs(part, weights.place_inputs(batch, self.place, self.dtype))
            yield tuple(tensor.float().cpu() if tensor.is_floating_point() else tensor.cpu() for tensor in tensors)


def prepare(
    model: LoadedModel,
    examples: Sequence[Example],
    source: str,
    decoding: Decoding,
    place: torch.device,
    dtype: torch.dtype,
) -> Calibrator:
    """Preprocess the images once, to find those that the model's processor accepts, and to compute their digest.

    Raises the processor's error if it accepts none.
    """
    sha, accepted, errors = hashlib.sha256(), list[Example](), list[Exception]()
    for example in examples:
        try:
            inputs = _preprocess(model, example, decoding)
        except MemoryError:
            raise
        except Exception as error:
            errors.append(error)
            continue
        accepted.append(example)
        for name, tensor in inputs.items():
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            sha.update(tensor.contiguous().numpy().tobytes())
    if errors and not accepted:
        raise errors[0]
    return Calibrator(model, accepted, source, sha.hexdigest(), decoding, place, dtype)


def _preprocess(model: LoadedModel, example: Example, decoding: Decoding) -> Inputs:
    inputs = model.preprocess([decoding.decode(example)], [next(iter(example.captions), "")])
    return {name: tensor.cpu() for name, tensor in inputs.items()}
