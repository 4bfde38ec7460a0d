"""Parity of inputs: the difference of decoded images and of the model's inputs from those of the reference pipeline.

The reference is Pillow, with the image processor of transformers. Differences are in levels of 8 bits, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def compare(
    model: LoadedModel, original: LoadedModel, examples: Sequence[Example], decoding: Decoding, rule: ParityConfig
) -> Samples:
    """Return the differences of the first `rule.images` images, or nothing if the run has the reference pipeline.

    `original` is the model with the image processor of transformers. Raises ParityError if the mean difference of an
    image is above its limit in `rule.max_levels`.
    """
    is_processed = model is not original
    if (decoding.is_reference and not is_processed) or not rule.images:
        return Samples()
    reference = Decoding()
    images = [Compared(one, reference.decode(one), decoding.decode(one)) for one in examples[: rule.images]]
    reduces = decoding.decoder is not None and decoding.decoder.reduces
    if decoding.is_reference:
        missing = dict.fromkeys(_series(DECODER), "the decoder is the reference")
        samples = Samples(missing=missing)
    elif reduces:
        samples = Samples(missing=dict.fromkeys(_series(DECODER), f"{decoding.name} gives smaller images"))
    else:
        samples = _compare_decoded(images, f"data.decoder={decoding.name}", rule)
    settings = {
        f"data.decoder={decoding.name}": ("draft" if reduces else "decoder", not decoding.is_reference),
        "data.preprocess=device": ("preprocess", is_processed),
    }
    keys = {setting: key for setting, (key, applies) in settings.items() if applies}
    return samples.merged(_compare_inputs(model, original, images, keys, rule))


@dataclass(frozen=True)
class Compared:
    """An image as Pillow decodes it, and as the decoder of the run does."""

    example: Example
    expected: Image
    own: Image


def _compare_decoded(images: Sequence[Compared], setting: str, rule: ParityConfig) -> Samples:
    differences = []
    for image in images:
        expected, own = image.expected, image.own
        if own.size != expected.size:
            raise ParityError(
                f"{setting}: {image.example.id} has {own.width} × {own.height} pixels, with Pillow "
                f"{expected.width} × {expected.height}"
            )
        difference = np.abs(np.asarray(expected, np.int16) - np.asarray(own, np.int16))
        differences.append((float(difference.mean()), float(difference.max())))
    return _samples(DECODER, differences, images, {setting: "decoder"}, rule)


def _compare_inputs(
    model: LoadedModel,
    original: LoadedModel,
    images: Sequence[Compared],
    keys: Mapping[str, str],
    rule: ParityConfig,
) -> Samples:
    differences = []
    for image in images:
        expected = _pixels(original, image.expected, image.example)
        own = _pixels(model, image.own, image.example)
        if expected is None or own is None:
            return Samples(missing=dict.fromkeys(_series(INPUT), "the model's inputs have no pixel_values"))
        difference = (expected - own).abs() * weights.levels(original)
        differences.append((float(difference.mean()), float(difference.max())))
    return _samples(INPUT, differences, images, keys, rule)


def _pixels(model: LoadedModel, image: Image, example: Example) -> torch.Tensor | None:
    """Return the pixels [1, 3, H, W] of an image as the model receives them, or None if its inputs have none."""
    import torch

    with torch.inference_mode():
        pixels = model.preprocess([image], list(example.captions[:1]) or [""]).get("pixel_values")
    return None if pixels is None or pixels.ndim != 4 else pixels.double().cpu()


def _samples(
    name: str,
    differences: Sequence[tuple[float, float]],
    images: Sequence[Compared],
    keys: Mapping[str, str],
    rule: ParityConfig,
) -> Samples:
    """Return the series of mean and largest differences. Raises ParityError for the first mean above the limit.

    `keys` are the settings that cause the difference, each with its key in `rule.max_levels`. The highest limit counts.
    """
    limits = {key: rule.max_levels[key] for key in keys.values() if key in rule.max_levels}
    key = max(limits, key=lambda key: limits[key], default=None)
    for image, (mean, largest) in zip(images, differences, strict=True):
        if key is not None and len(limits) == len(keys) and not mean <= limits[key]:
            kind = "decoded pixels" if name == DECODER else "inputs"
            raise ParityError(
                f"{', '.join(keys)}: the {kind} of {image.example.id} differ from those of the reference by "
                f"{mean:.3g} levels on average and by up to {largest:.3g}, and {LIMIT}.{key} is {limits[key]:g}"
            )
    columns = zip(*differences, strict=True)
    return Samples({series: np.array(values) for series, values in zip(_series(name), columns, strict=True)})


def _series(name: str) -> tuple[str, str]:
    return f"{name}_mean_levels", f"{name}_max_levels"
