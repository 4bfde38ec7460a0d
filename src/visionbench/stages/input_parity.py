"""Parity of inputs: the difference of decoded images and of the model's inputs from those of the reference pipeline.

The reference is Pillow, with the image processor of transformers. Differences are in levels of 8 bits, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from visionbench import weights
from visionbench.config import ParityConfig
from visionbench.core import Example, LoadedModel, Samples
from visionbench.stages.decoding import Decoding
from visionbench.stages.parity import ParityError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

DECODER, INPUT = "parity/decoder", "parity/input"
"""The beginnings of the names of the series: `_mean_levels` and `_max_levels`, one value for each image."""
LIMIT = "measure.parity.max_levels"


def compare(model: LoadedModel, examples: Sequence[Example], decoding: Decoding, rule: ParityConfig) -> Samples:
    """Return the differences of the first `rule.images` images, or nothing if the run has the reference pipeline.

    Raises ParityError if the mean difference of an image is above its limit in `rule.max_levels`.
    """
    if decoding.is_reference or not rule.images:
        return Samples()
    reference = Decoding()
    decoded = [(example, reference.decode(example), decoding.decode(example)) for example in examples[: rule.images]]
    reduces = decoding.decoder is not None and decoding.decoder.reduces
    samples = Samples()
    if reduces:
        missing = dict.fromkeys(_series(DECODER), f"{decoding.name} gives smaller images")
        samples = samples.merged(Samples(missing=missing))
    else:
        samples = samples.merged(_compare_decoded(decoded, decoding.name, rule.max_levels.get("decoder")))
    limit = rule.max_levels.get("draft" if reduces else "decoder")
    return samples.merged(_compare_inputs(model, decoded, decoding.name, limit, "draft" if reduces else "decoder"))


def _compare_decoded(decoded: Sequence[tuple[Example, Image, Image]], name: str, limit: float | None) -> Samples:
    differences = []
    for example, expected, own in decoded:
        if own.size != expected.size:
            raise ParityError(
                f"data.decoder={name}: {example.id} has {own.width} × {own.height} pixels, with Pillow "
                f"{expected.width} × {expected.height}"
            )
        difference = np.abs(np.asarray(expected, np.int16) - np.asarray(own, np.int16))
        differences.append((float(difference.mean()), float(difference.max())))
    return _samples(
        DECODER, differences, [example for example, _, _ in decoded], f"data.decoder={name}", limit, "decoder"
    )


def _compare_inputs(
    model: LoadedModel,
    decoded: Sequence[tuple[Example, Image, Image]],
    name: str,
    limit: float | None,
    key: str,
) -> Samples:
    differences, examples = [], []
    for example, expected, own in decoded:
        pixels = [_pixels(model, image, example) for image in (expected, own)]
        if pixels[0] is None or pixels[1] is None:
            return Samples(missing=dict.fromkeys(_series(INPUT), "the model's inputs have no pixel_values"))
        difference = (pixels[0] - pixels[1]).abs() * weights.levels(model).to(pixels[0].device)
        differences.append((float(difference.mean()), float(difference.max())))
        examples.append(example)
    return _samples(INPUT, differences, examples, f"data.decoder={name}", limit, key)


def _pixels(model: LoadedModel, image: Image, example: Example) -> torch.Tensor | None:
    """Return the pixels [1, 3, H, W] of an image as the model receives them, or None if its inputs have none."""
    import torch

    with torch.inference_mode():
        pixels = model.preprocess([image], list(example.captions[:1]) or [""]).get("pixel_values")
    return None if pixels is None or pixels.ndim != 4 else pixels.double()


def _samples(
    name: str,
    differences: Sequence[tuple[float, float]],
    examples: Sequence[Example],
    setting: str,
    limit: float | None,
    key: str,
) -> Samples:
    """Return the series of mean and largest differences. Raises ParityError for the first mean above the limit."""
    for example, (mean, largest) in zip(examples, differences, strict=True):
        if limit is not None and not mean <= limit:
            kind = "decoded pixels" if name == DECODER else "inputs"
            raise ParityError(
                f"{setting}: the {kind} of {example.id} differ from those of the reference by {mean:.3g} levels on "
                f"average and by up to {largest:.3g}, and {LIMIT}.{key} is {limit:g}"
            )
    columns = zip(*differences, strict=True)
    return Samples({series: np.array(values) for series, values in zip(_series(name), columns, strict=True)})


def _series(name: str) -> tuple[str, str]:
    return f"{name}_mean_levels", f"{name}_max_levels"
