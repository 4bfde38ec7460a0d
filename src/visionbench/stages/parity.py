"""Parity: the difference between the outputs of a run and those of the same model in eager fp32, on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from visionbench.config import ParityConfig
from visionbench.core import Inputs, LoadedModel, Samples, VisionbenchError
from visionbench.stages.inputs import assemble
from visionbench.stages.windows import quiet

if TYPE_CHECKING:
    import torch

Outputs = Mapping[str, np.ndarray]
"""The outputs of a model by name, each [images, values] in float64."""


class ParityError(VisionbenchError):
    """The outputs differ too much from those of eager fp32, so that the times are those of another computation."""


def outputs(
    model: LoadedModel, singles: Sequence[Inputs], count: int, place: torch.device, dtype: torch.dtype
) -> dict[str, np.ndarray]:
    """Return the model's outputs for the first `count` inputs, in one batch, as [images, values]."""
    count = min(count, len(singles))
    batch = next(assemble(singles[:count], count, place, dtype, model=model))
    with quiet():
        probed = model.probe_outputs(batch)
        return {name: output.double().cpu().numpy().reshape(count, -1) for name, output in probed.items()}


def compare(reference: Outputs, own: Outputs, rule: ParityConfig, limit: str) -> Samples:
    """Return `parity/cosine_ratio` and `parity/error_fraction` of each image and output.

    The error is the length of the difference ÷ the length of the reference. Raises ParityError if the cosine is below
    `rule.min_cosine[limit]`, or if an output is not finite.
    """
    cosines, errors = list[float](), list[float]()
    for name, expected in reference.items():
        for image, (a, b) in enumerate(zip(expected, own[name], strict=True), 1):
            lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
            cosine = float(a @ b) / (lengths[0] * lengths[1]) if all(lengths) else float(lengths[0] == lengths[1])
            if not np.isfinite(cosine):
                raise ParityError(f"the {name} output of image {image} is not finite")
            least = rule.min_cosine.get(limit)
            if least is not None and cosine < least:
                raise ParityError(
                    f"the {name} output of image {image} differs from eager fp32: cosine {cosine:.6g}, and "
                    f"measure.parity.min_cosine.{limit} is {least:g}"
                )
            cosines.append(cosine)
            errors.append(float(np.linalg.norm(a - b)) / lengths[0] if lengths[0] else 0.0)
    return Samples({"parity/cosine_ratio": np.array(cosines), "parity/error_fraction": np.array(errors)})
