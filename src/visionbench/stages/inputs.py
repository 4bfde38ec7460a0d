"""Inputs of timed calls: decode and preprocess images once, and assemble them to batches on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING

from visionbench import weights
from visionbench.config import InputsConfig
from visionbench.core import Collates, Example, Inputs, LoadedModel, PadsImages, Samples, first_line
from visionbench.datafiles.images import PictureError
from visionbench.stages.decoding import Decoding

if TYPE_CHECKING:
    import torch

MAX_ERROR_CHARACTERS = 120
"""The maximum length of a model's error in the reason why an image is left out."""


@dataclass(frozen=True)
class TimedInputs:
    """Inputs for timed calls, and the images that the model's processor does not accept."""

    singles: list[Inputs]
    """Inputs of one image each, with a batch axis of length one, on the host."""
    unfit: Mapping[str, str]
    """The ids of examples that the processor does not accept, with the reason."""
    samples: Samples = field(default_factory=Samples)
    """The label `padding`, if the images had several sizes and are padded to one."""

    @property
    def kept_bytes(self) -> int:
        """The host memory that the inputs take."""
        return sum(map(input_bytes, self.singles))


def preprocess(
    model: LoadedModel, examples: Sequence[Example], rule: InputsConfig, decoding: Decoding | None = None
) -> TimedInputs:
    """Decode and preprocess `rule.distinct_samples` examples, and keep the inputs that fit into `rule.max_mib`.

    At least two inputs are kept if there are two. Further examples are preprocessed too, to find those that the
    processor does not accept, because the pipeline stage uses them. Their inputs are dropped.

    Raises the processor's error if it accepts none of the first `rule.distinct_samples` images, because the cause is
    then not a single image.
    """
    decoding = decoding or Decoding()
    singles: list[Inputs] = []
    unfit: dict[str, str] = {}
    errors: list[Exception] = []
    accepted, full = 0, False
    for example in examples:
        if accepted == rule.distinct_samples or (not accepted and len(errors) == rule.distinct_samples):
            break
        try:
            inputs = model.preprocess([decoding.decode(example)], list(example.captions[:1]) or [""])
        except MemoryError:
            raise
        except Exception as error:
            unfit[example.id] = reason_for(error)
            errors.append(error)
            continue
        accepted += 1
        if not full:
            singles.append({name: tensor.cpu() for name, tensor in inputs.items()})
            full = len(singles) >= 2 and (len(singles) + 1) * input_bytes(singles[0]) > rule.max_mib * 2**20
    if errors and not accepted:
        raise errors[0]
    padding = ""
    if isinstance(model, PadsImages):
        singles, padding = model.pad(singles)
    return TimedInputs(singles, unfit, Samples(labels={"padding": padding} if padding else {}))


def reason_for(error: Exception) -> str:
    """Return why an image has no inputs or no prediction: the problem of its file, or the model's error."""
    if isinstance(error, PictureError):
        return error.reason
    line = first_line(error)
    if len(line) > MAX_ERROR_CHARACTERS:
        line = f"{line[:MAX_ERROR_CHARACTERS]}…"
    return f"the model cannot take it ({type(error).__name__}: {line})"


def input_bytes(inputs: Inputs) -> int:
    """Return the bytes of a batch's tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in inputs.values())


def batch_count(singles: Sequence[Inputs], batch_size: int, max_mib: int | None = None) -> int:
    """Return the number of batches that use every input once, but no more than fit into `max_mib`, and at least one."""
    count = -(-len(singles) // batch_size)
    if max_mib is None:
        return count
    return min(count, max(1, max_mib * 2**20 // (max(map(input_bytes, singles)) * batch_size)))


def have_several_sizes(singles: Sequence[Inputs]) -> bool:
    """Return whether the inputs of single images differ in the size of a tensor."""
    return any(single[name].shape != tensor.shape for single in singles for name, tensor in singles[0].items())


def assemble(
    singles: Sequence[Inputs],
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    max_mib: int | None = None,
    model: LoadedModel | None = None,
) -> Iterator[Inputs]:
    """Yield `batch_count` batches on the device, in the run's dtype. The last batch is filled from the first inputs.

    The inputs are concatenated, unless the model combines them itself.
    """
    collate = model.collate if isinstance(model, Collates) else concatenate
    samples = cycle(singles)
    for _ in range(batch_count(singles, batch_size, max_mib)):
        yield weights.place_inputs(collate(list(islice(samples, batch_size))), device, dtype)


def concatenate(inputs: Sequence[Inputs]) -> Inputs:
    """Return one batch from inputs whose tensors have the same sizes."""
    import torch

    return {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
