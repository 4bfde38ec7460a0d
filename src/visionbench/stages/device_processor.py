"""The image processor of a model, computed by torch for a batch on the device of the run (`data.preprocess=device`).

It computes what the processors of transformers compute with Pillow: resize with antialiasing to levels of 8 bits, crop,
rescale, normalise and pad. Pillow and torch round differently, so that a pixel can differ by one level. Both clip
levels between the two axes, and for some tall images Pillow begins with the other axis, so that strong edges can differ
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench import weights
from visionbench.core import ConfigError, LoadedModel
from visionbench.stages.load import with_facts

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

SHORTEST, LONGEST = "shortest_edge", "longest_edge"
COVERED = {
    **dict.fromkeys(
        ("CLIPImageProcessor", "SiglipImageProcessor", "ViTImageProcessor"), ({"height", "width"}, {SHORTEST})
    ),
    **dict.fromkeys(("BlipImageProcessor", "DeiTImageProcessor"), ({"height", "width"}, {SHORTEST})),
    "ConvNextImageProcessor": ({SHORTEST},),
    "SegformerImageProcessor": ({"height", "width"},),
    "SamImageProcessor": ({LONGEST},),
}
"""The classes of transformers, without the suffix of their backend, each with the keys that its size may have."""
STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad", "do_convert_rgb", "do_reduce_labels"}
"""The steps that are computed. `do_reduce_labels` only changes masks, which the models are not given."""
FILTERS = {2: "bilinear", 3: "bicubic"}
"""The numbers of Pillow's filters that torch also has, with antialiasing."""
CROPPED_BELOW = 384
"""ConvNext's processor resizes to a larger image and crops it, if the shortest edge is below this number of pixels."""


def on_device(model: LoadedModel, device: torch.device) -> LoadedModel:
    """Return the model with its images processed on the device. Raises ConfigError if its processor is not covered."""
    processor = weights.image_processor_of(model)
    if reason := why_not_covered(processor):
        raise ConfigError(f"data.preprocess=device: {reason}", "use data.preprocess=transformers")
    changed = with_facts(model, {"image_backend": "torch"})
    own: Any = DeviceProcessor(processor, device)
    outer: Any = getattr(model, "processor", None)
    if outer is not processor:  # a processor of images and prompts, which contains the image processor
        outer = copy(outer)
        outer.image_processor = own
        own = outer
    object.__setattr__(changed, "processor", own)  # the class may be a frozen dataclass
    return changed


def why_not_covered(processor: Any) -> str | None:
    """Return why an image processor cannot be computed by torch, or None."""
    if processor is None:
        return "the model has no image processor"
    name = type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
    if name not in COVERED:
        return f"{type(processor).__name__} is not one of {', '.join(COVERED)}"
    steps = {step for step in dir(processor) if step.startswith("do_") and getattr(processor, step) is True}
    if unknown := sorted(steps - STEPS):
        return f"{name} has the step {unknown[0]}"
    if "do_resize" not in steps:
        return f"{name} does not resize, so that images have different sizes"
    if set(_sides(processor)) not in COVERED[name]:
        return f"{name} has the size {_sides(processor)}"
    if int(processor.resample) not in FILTERS:
        return f"{name} resizes with Pillow's filter {int(processor.resample)}, and torch has only bilinear and bicubic"
    if "do_pad" in steps and not getattr(processor, "pad_size", None):
        return f"{name} pads to the largest image of a batch"
    return None


@dataclass
class DeviceProcessor:
    """An image processor with the interface of `processor`, for the call of the model families."""

    processor: Any
    device: torch.device

    def __getattr__(self, name: str) -> Any:
        """Return other members of the processor, such as `size` and `post_process_masks`."""
        if name in ("processor", "device"):
            raise AttributeError(name)
        return getattr(self.processor, name)

    def __call__(self, images: Sequence[Image], return_tensors: str = "pt", **_: Any) -> dict[str, torch.Tensor]:
        """Return `pixel_values` [B, 3, H, W] in float32 on the device, and the sizes before padding on the host."""
        import torch

        if self.device.type != "cuda":
            return self._process(images)
        # a separate stream: the work does not wait for the model's, and is complete when this call returns
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            processed = self._process(images)
        stream.synchronize()
        processed["pixel_values"].record_stream(torch.cuda.default_stream(self.device))
        return processed

    def _process(self, images: Sequence[Image]) -> dict[str, torch.Tensor]:
        import torch

        scaled = [self._scaled_size(image.height, image.width) for image in images]
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault(image.size, []).append(index)
        groups = [
            self._pad(self._normalize(self._resize([images[index] for index in indices], scaled[indices[0]])))
            for indices in by_size.values()
        ]
        pixels = groups[0] if len(groups) == 1 else torch.cat(groups)
        order = [index for indices in by_size.values() for index in indices]
        if len(groups) > 1 and order != sorted(order):
            pixels = pixels[torch.tensor(np.argsort(order), device=pixels.device)]
        return {
            "pixel_values": pixels,
            "original_sizes": torch.tensor([(image.height, image.width) for image in images]),
            "reshaped_input_sizes": torch.tensor(scaled),
        }

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width to which an image is resized. Fractions are rounded as transformers does."""
        side = _sides(self.processor)
        if LONGEST in side:
            scale = side[LONGEST] / max(height, width)
            return int(height * scale + 0.5), int(width * scale + 0.5)
        if SHORTEST not in side:
            return side["height"], side["width"]
        shortest = side[SHORTEST]
        if (crop := getattr(self.processor, "crop_pct", None)) is not None:
            if shortest >= CROPPED_BELOW:
                return shortest, shortest
            shortest = int(shortest / crop)
        longest = int(shortest * max(height, width) / min(height, width))
        return (longest, shortest) if width <= height else (shortest, longest)

    def _resize(self, images: Sequence[Image], size: tuple[int, int]) -> torch.Tensor:
        """Return images of one size, resized and cropped, [B, 3, H, W] in whole levels."""
        import torch
        from torch.nn.functional import interpolate

        stored = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        if self.device.type == "cuda":
            stored = stored.pin_memory().to(self.device, non_blocking=True)
        levels = stored.permute(0, 3, 1, 2)
        on_cpu = self.device.type == "cpu"
        mode = FILTERS[int(self.processor.resample)]
        # torch resizes whole levels on a CPU only
        resized = interpolate(levels if on_cpu else levels.float(), size=size, mode=mode, antialias=True)
        if not on_cpu:
            resized = resized.round_().clamp_(0, 255)
        return self._crop(resized)

    def _crop(self, levels: torch.Tensor) -> torch.Tensor:
        """Return the centre of images. Images that are smaller than it are padded with black, as in transformers."""
        from torch.nn.functional import pad

        if getattr(self.processor, "crop_pct", None) is not None:
            shortest = _sides(self.processor)[SHORTEST]
            crop = (shortest, shortest)
        elif getattr(self.processor, "do_center_crop", False):
            crop = (int(self.processor.crop_size["height"]), int(self.processor.crop_size["width"]))
        else:
            return levels
        height, width = levels.shape[-2:]
        rows, columns = (max(0, side - own) for side, own in zip(crop, (height, width), strict=True))
        if rows or columns:
            top, left = ceil(rows / 2), ceil(columns / 2)
            levels = pad(levels, (left, columns - left, top, rows - top))
            height, width = levels.shape[-2:]
        top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
        return levels[..., top : top + crop[0], left : left + crop[1]]

    def _normalize(self, levels: torch.Tensor) -> torch.Tensor:
        """Return pixels in float32.

        On a CPU numpy computes them: torch would start threads in each loader, which compete with those of the model.
        """
        import torch

        scale, shift = (value.astype(np.float32).reshape(-1, 1, 1) for value in self._scale_and_shift())
        if self.device.type == "cpu":
            array = np.multiply(levels.numpy(), scale, dtype=np.float32, order="C")
            array += shift
            return torch.from_numpy(array)
        pixels = levels.to(torch.float32, memory_format=torch.contiguous_format)
        return pixels.mul_(torch.from_numpy(scale).to(self.device)).add_(torch.from_numpy(shift).to(self.device))

    def _scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the factor of levels and the number that is added, of rescaling and normalising together."""
        processor = self.processor
        factor = processor.rescale_factor if getattr(processor, "do_rescale", False) else 1.0
        if not getattr(processor, "do_normalize", False):
            return np.array([factor]), np.zeros(1)
        mean, std = (np.array(values, np.float64).reshape(-1) for values in (processor.image_mean, processor.image_std))
        return factor / std, -mean / std

    def _pad(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return images with zeros at the right and at the bottom. Raises ValueError if they are too large."""
        from torch.nn.functional import pad

        if not getattr(self.processor, "do_pad", False):
            return pixels
        height, width = pixels.shape[-2:]
        rows, columns = self.processor.pad_size["height"] - height, self.processor.pad_size["width"] - width
        if rows < 0 or columns < 0:
            raise ValueError(f"the resized image has {width} × {height} pixels, more than the processor pads to")
        return pad(pixels, (0, columns, 0, rows))


def _sides(processor: Any) -> dict[str, int]:
    return {name: int(pixels) for name, pixels in dict(processor.size).items() if pixels is not None}
