"""Another image size for a model: its configuration, its weights that have one entry per patch, and its processor.

Position embeddings are interpolated once, when the model is loaded, in the same way as with `interpolate_pos_encoding`
of transformers. A timed call then does the work of a model that was made for this size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError

if TYPE_CHECKING:
    import torch

KEY = "model.options.image_size"
EDGES = ("shortest_edge", "longest_edge")
PREFIX_TOKENS = 6
"""Most tokens before the patches in a table of positions: a class token, a distillation token, and registers."""


def check_image_size(size: int | None) -> None:
    """Raise ConfigError if an image size is not positive. None is the model's own size."""
    if size is not None and size < 1:
        raise ConfigError(f"{KEY}={size}: must be at least 1")


def set_config_size(config: Any, size: int) -> bool:
    """Set the image size in a configuration of transformers. Return False if the configuration has none.

    Raises ConfigError if the model cannot have this size.
    """
    vision = getattr(config, "vision_config", config)
    if not hasattr(vision, "image_size"):
        return False
    patch = _patch_size(vision)
    if patch and size < patch:
        raise ConfigError(f"{KEY}={size}: smaller than the model's patches of {patch} px", f"give at least {patch}")
    prompts = getattr(config, "prompt_encoder_config", None)
    if prompts is not None and patch and size % patch:
        raise ConfigError(
            f"{KEY}={size}: masks need a multiple of the model's patches of {patch} px",
            f"give {_multiples(size, patch)}",
        )
    vision.image_size = size if isinstance(vision.image_size, int) else type(vision.image_size)([size, size])
    if prompts is not None and patch:
        prompts.image_size, prompts.image_embedding_size = size, size // patch
    return True


def describe_border(config: Any, size: int | None) -> str | None:
    """Return a warning if the image is not a multiple of the model's patches, or None."""
    vision = getattr(config, "vision_config", config)
    patch = _patch_size(vision)
    if size is None or not patch or not hasattr(vision, "image_size") or not size % patch:
        return None
    return (
        f"{KEY}={size}: not a multiple of the model's patches of {patch} px, so the model may ignore a border of "
        f"{size % patch} px; {_multiples(size, patch)} would use all of the image"
    )


def resize_model(module: Any, size: int) -> Any:
    """Return a loaded model for square images of this size, in host memory. Raises ConfigError if it cannot have it."""
    import torch
    from transformers.initialization import no_init_weights

    config = deepcopy(module.config)
    if not set_config_size(config, size):
        return module
    dtype = next(module.parameters()).dtype
    with torch.device("cpu"), torch.random.fork_rng([]), no_init_weights():
        resized = type(module)._from_config(config, dtype=dtype, attn_implementation=config._attn_implementation)
    loaded = module.state_dict()
    patches = size // (_patch_size(getattr(config, "vision_config", config)) or size)
    resized.load_state_dict(
        {
            name: loaded[name]
            if loaded[name].shape == tensor.shape
            else _interpolate(loaded[name], tensor.shape, name, size, patches, type(module).__name__)
            for name, tensor in resized.state_dict().items()
        },
        assign=True,
    )
    resized.tie_weights()
    buffers = dict(module.named_buffers())
    for name, buffer in resized.named_buffers():
        if name in buffers and buffers[name].shape == buffer.shape:
            buffer.data = buffers[name].data
    if getattr(module, "generation_config", None) is not None:
        resized.generation_config = module.generation_config
    return resized


def _interpolate(
    tensor: torch.Tensor, shape: torch.Size, name: str, size: int, patches: int, model_class: str
) -> torch.Tensor:
    """Return a table of positions [1, N, D], [N, D], [1, H, W, D] or, for relative positions along one side, [L, D]
    for another number of patches. Raises ConfigError for any other tensor."""
    from torch.nn.functional import interpolate

    values = tensor.float()
    if "rel_pos_" in name and values.ndim == 2:
        resized = interpolate(values.T[None], size=shape[0], mode="linear")[0].T
    elif "pos" in name and values.ndim == 4:
        resized = _resize_grid(values, shape[1], shape[2])
    elif "position" in name and values.ndim in (2, 3) and _prefix(values.shape[-2], shape[-2], patches) is not None:
        prefix = _prefix(values.shape[-2], shape[-2], patches) or 0
        table = values.reshape(-1, values.shape[-1])
        side = math.isqrt(len(table) - prefix)
        grid = _resize_grid(table[prefix:].reshape(1, side, side, -1), patches, patches)
        import torch

        resized = torch.cat([table[:prefix], grid.reshape(patches * patches, -1)]).reshape(shape)
    else:
        raise ConfigError(
            f"{KEY}={size}: {name} of {model_class} has a size that depends on the image size, and cannot be "
            "interpolated",
            "remove the option, or give the size of the checkpoint",
        )
    return resized.to(tensor.dtype)


def _resize_grid(grid: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return a grid [1, H, W, D] with another height and width."""
    from torch.nn.functional import interpolate

    resized = interpolate(grid.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def _prefix(old: int, new: int, patches: int) -> int | None:
    """Return the number of tokens before the patches in both tables of positions, or None if they are no grids."""
    prefix = new - patches * patches
    square = 0 <= prefix <= PREFIX_TOKENS and old > prefix and math.isqrt(old - prefix) ** 2 == old - prefix
    return prefix if square else None


def resize_processor(processor: Any, size: int, model: ModelConfig) -> Any:
    """Return an image processor that gives square images of this size. Raises ConfigError if it cannot.

    A processor that scales and then crops keeps the ratio of both sizes.
    """
    values = processor.to_dict()
    crop = values.get("crop_size") if values.get("do_center_crop") else None
    old = _largest(crop or values.get("size"))
    if not old:
        raise ConfigError(f"{KEY}={size}: {type(processor).__name__} has no size that can be set", "remove the option")
    for key in ("size", "crop_size", "pad_size", "mask_size", "mask_pad_size"):
        if isinstance(values.get(key), Mapping):
            if key == "size" and set(EDGES) <= {side for side, pixels in values[key].items() if pixels is not None}:
                values[key] = {"height": size, "width": size}  # instead of an image that keeps the ratio of its sides
                continue
            values[key] = {
                side: round(pixels * size / old) if crop or key.startswith("mask") else size
                for side, pixels in values[key].items()
                if pixels is not None
            }
    resized = type(processor).from_dict(values)
    if (height_width := _output_size(resized)) != (size, size):
        raise ConfigError(
            f"{KEY}={size}: {type(processor).__name__} of {model.name} gives images of {height_width} and not of this "
            "size",
            "remove the option, or change the size in preprocessor_config.json",
        )
    return resized


def _output_size(processor: Any) -> tuple[int, ...]:
    """Return height and width of the processor's output for a grey image that is not square."""
    from PIL import Image

    pixels = processor(images=[Image.new("RGB", (97, 61), (128, 128, 128))], return_tensors="pt")["pixel_values"]
    return tuple(pixels.shape[-2:])


def _largest(sizes: Any) -> int | None:
    numbers = [value for value in sizes.values() if value is not None] if isinstance(sizes, Mapping) else []
    return max(numbers, default=None)


def _patch_size(vision: Any) -> int | None:
    patch = getattr(vision, "patch_size", None)
    return patch if isinstance(patch, int) else None


def _multiples(size: int, patch: int) -> str:
    lower = size // patch * patch
    return " or ".join(str(multiple) for multiple in (lower, lower + patch) if multiple)
