"""A model whose output for an image becomes a map in the size of the image, such as a class or a depth for each pixel.

Timed calls need batches, so all their images have one size. If the image processor of the checkpoint keeps the aspect
ratio, timed calls use squares, and quality uses the size that the processor gives to each image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Inputs, Picture
from visionbench.weights.building import BuiltModel
from visionbench.weights.image_model import PIXELS, LoadedImageModel
from visionbench.weights.image_size import resize_processor
from visionbench.weights.processors import describe_processor, load_image_processor
from visionbench.weights.tensors import place_inputs

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

MASK = "pixel_mask"
"""The pixels of a padded batch that belong to an image, in the results of some image processors."""


@dataclass(frozen=True)
class MapProcessors:
    """The image processors of a model whose output becomes a map."""

    timed: Any
    """It gives all images one size."""
    own: Any
    """The checkpoint's, for quality. It is the same object if it gives all images one size."""

    def describe(self) -> dict[str, str]:
        """Return the facts for the identity of the model."""
        changed = {} if self.timed is self.own else {"timed_images": "square; quality keeps the aspect ratio"}
        return {**describe_processor(self.timed), **changed}


def load_processors(model: ModelConfig, built: BuiltModel, method: str, image_size: int | None) -> MapProcessors:
    """Return the processors of a model. With `image_size`, both give square images of this size.

    Raises ConfigError if the processor does not have the `method` that makes a map of an output, or if no processor for
    timed calls can be made of it.
    """
    own = load_image_processor(model, built.source)
    if not hasattr(own, method):
        raise ConfigError(
            f"model {model.name}: {type(own).__name__} has no {method}, which makes a map of the output",
            "use the image processor of the checkpoint",
        )
    timed = _with_one_size(own, model)
    if image_size is not None:
        timed = own = resize_processor(timed, image_size, model)
    return MapProcessors(timed, own)


@dataclass
class LoadedMapModel(LoadedImageModel):
    """A model on its device whose output for an image becomes a map. A family adds `forward` and `to_map`."""

    own_processor: Any = None
    """The image processor for quality; see `MapProcessors`. None is that of timed calls."""

    def to_map(self, output: Any, size: tuple[int, int]) -> torch.Tensor:
        """Return the map [H, W] of the output for one image, which has a batch axis, in this height and width."""
        raise NotImplementedError

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return a map [H, W] for each image, in its own size."""
        sizes = [(image.height, image.width) for image in images]
        outputs = zip(split_batch(output, len(images)), sizes, strict=True)
        return [self.to_map(one, size).cpu().numpy() for one, size in outputs]

    def check_quality(self) -> None:
        """Raise ConfigError if maps of the images cannot be predicted with this processor or this runtime."""
        processor = self.own_processor or self.processor
        if getattr(processor, "do_center_crop", False):
            raise ConfigError(
                f"{type(processor).__name__} crops images, so that their border has no prediction",
                "set do_center_crop to false in preprocessor_config.json",
            )
        if getattr(processor, "do_pad", False):
            raise ConfigError(
                f"{type(processor).__name__} pads images, so that a map does not fit the image",
                "set do_pad to false in preprocessor_config.json",
            )
        if self.executed and self.own_processor is not None:
            raise ConfigError(
                f"{type(processor).__name__} keeps the aspect ratio of images, and the runtime only takes one size",
                "use runtime=eager, or square images for quality too with model.options.image_size",
            )


@dataclass(frozen=True)
class MapEvaluator:
    """The first two steps of the evaluation of a model whose output becomes a map; see `core.Evaluator`."""

    model: LoadedMapModel
    classes: Sequence[str] = ()

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Return `pixel_values`, a tensor [1, 3, h, w] for each image, and `sizes`, the height and width of each image.

        Images are processed one by one, because a processor may pad the images of a batch to one size. Raises
        ValueError if an image is padded.
        """
        processor = self.model.own_processor or self.model.processor
        pixels = []
        for picture in pictures:
            processed = processor(images=[picture.image], return_tensors="pt")
            if MASK in processed and not bool(processed[MASK].all()):
                raise ValueError(f"{type(processor).__name__} pads it, so that the map would not fit the image")
            pixels.append(processed[PIXELS])
        return {PIXELS: pixels, "sizes": [(picture.image.height, picture.image.width) for picture in pictures]}

    def forward(self, inputs: Inputs) -> list[np.ndarray]:
        """Return a map [H, W] for each image in its own size, or an array of NaN if an output is not finite."""
        import torch

        model, pixels, sizes = self.model, inputs[PIXELS], inputs["sizes"]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, tensor in enumerate(pixels):
            by_shape.setdefault(tuple(tensor.shape), []).append(index)
        maps: dict[int, np.ndarray] = {}
        for indices in by_shape.values():
            batch = {PIXELS: torch.cat([pixels[index] for index in indices])}
            output = model.call(place_inputs(batch, model.module.device, model.dtype))
            for index, one in zip(indices, split_batch(output, len(indices)), strict=True):
                finite = all(bool(tensor.isfinite().all()) for tensor in (one if isinstance(one, tuple) else (one,)))
                maps[index] = (
                    model.to_map(one, sizes[index]).cpu().numpy()
                    if finite
                    else np.full(sizes[index], np.nan, np.float32)
                )
        return [maps[index] for index in range(len(pixels))]


def split_batch(output: Any, count: int) -> Iterator[Any]:
    """Yield the output for each image of a batch, a tensor or a tuple of tensors, with a batch axis of length one."""
    for index in range(count):
        if isinstance(output, tuple):
            yield tuple(tensor[index : index + 1] for tensor in output)
        else:
            yield output[index : index + 1]


def _with_one_size(processor: Any, model: ModelConfig) -> Any:
    """Return the processor if it gives all images one size, else one that gives squares.

    Raises ConfigError if the processor has no size that can be changed to a square.
    """
    if _gives_one_size(processor):
        return processor
    values = processor.to_dict()
    size = {side: pixels for side, pixels in dict(values.get("size") or {}).items() if pixels is not None}
    if "keep_aspect_ratio" in values:
        values["keep_aspect_ratio"] = False
    if "shortest_edge" in size:
        values["size"] = {"height": size["shortest_edge"], "width": size["shortest_edge"]}
    square = type(processor).from_dict(values)
    if not _gives_one_size(square):
        raise ConfigError(
            f"model {model.name}: {type(processor).__name__} gives images of different sizes, and a batch needs one",
            "set a height and a width in preprocessor_config.json",
        )
    return square


def _gives_one_size(processor: Any) -> bool:
    """Return whether a wide and a tall image have the same size after processing."""
    from PIL import Image

    shapes = {
        tuple(processor(images=[Image.new("RGB", size, "grey")], return_tensors="pt")[PIXELS].shape)
        for size in ((97, 61), (61, 97))
    }
    return len(shapes) == 1
