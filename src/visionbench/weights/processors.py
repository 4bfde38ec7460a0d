"""Load the image processor and the tokenizer of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError, LeastSize, LoadedModel
from visionbench.weights.building import BuiltModel
from visionbench.weights.errors import one_line_errors
from visionbench.weights.image_size import resize_processor
from visionbench.weights.location import TOKENIZER_FILES

if TYPE_CHECKING:
    import torch


def load_image_processor(model: ModelConfig, source: Path | None, image_size: int | None = None) -> Any:
    """Return the checkpoint's image processor, or with random weights the one that `image_processor:` describes.

    `image_size` replaces the size of the images that it gives.
    """
    processor = _find_image_processor(model, source)
    return processor if image_size is None else resize_processor(processor, image_size, model)


def _find_image_processor(model: ModelConfig, source: Path | None) -> Any:
    if source is not None:
        return _load_image_processor(model, source, f"model.checkpoint={model.checkpoint}")
    if "image_processor_type" not in model.image_processor:
        raise ConfigError(
            f"model {model.name}: random weights need an 'image_processor:' with image_processor_type", "add it"
        )
    with TemporaryDirectory() as folder:  # transformers then chooses class and backend in the same way in both cases
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(model.image_processor))
        return _load_image_processor(model, Path(folder), f"model.image_processor of {model.name}")


def _load_image_processor(model: ModelConfig, folder: Path, setting: str) -> Any:
    from transformers import AutoImageProcessor

    with one_line_errors(model, setting):
        return AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=model.trust_remote_code
        )


def load_tokenizer(model: ModelConfig, built: BuiltModel) -> Any:
    """Return the checkpoint's tokenizer. Raises ConfigError if it is missing or does not fit the model."""
    from transformers import AutoTokenizer

    source, setting = built.source, f"model.checkpoint={model.checkpoint}"
    assert source is not None
    if not any((source / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigError(
            f"{setting}: {TOKENIZER_FILES[0]} (or {', '.join(TOKENIZER_FILES[1:])}) is missing in {source}",
            "add the file",
        )
    with one_line_errors(model, setting):
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        ids = tokenizer.get_vocab().values()
    if not set(ids) - set(tokenizer.all_special_ids):
        raise ConfigError(f"{setting}: its tokenizer has no words", f"complete the tokenizer's files in {source}")
    size = getattr(_text_config(built), "vocab_size", None)
    if size is not None and max(ids) >= size:
        raise ConfigError(
            f"{setting}: its tokenizer has tokens up to {max(ids)}, but the model only has tokens below {size}",
            "use the tokenizer's files of this checkpoint",
        )
    return tokenizer


def check_length(built: BuiltModel, tokens: int, keys: str) -> None:
    """Raise ConfigError if a text of this many tokens, set by these keys, is longer than the model's positions."""
    positions = getattr(_text_config(built), "max_position_embeddings", None)
    if positions is not None and tokens > positions:
        raise ConfigError(f"{keys}: {tokens} tokens, and the model has {positions} positions", "give fewer tokens")


def describe_processor(image_processor: Any) -> Mapping[str, str]:
    """Return the class of an image processor and its backend, `torchvision` or `pil`, whose results differ slightly."""
    return {
        "image_processor": type(image_processor).__name__,
        "image_backend": str(getattr(image_processor, "backend", "unknown")),
    }


def image_processor_of(model: LoadedModel) -> Any:
    """Return the image processor of a loaded model, or None if the model has none."""
    processor = getattr(model, "processor", None)
    return getattr(processor, "image_processor", processor)


def least_size(model: LoadedModel) -> LeastSize | None:
    """Return the function from the size of an image to the size to which the model's processor resizes it.

    Return None if the processor does not resize, or resizes in a way that is not known.
    """
    processor = image_processor_of(model)
    size = getattr(processor, "size", None)
    side = {name: pixels for name, pixels in dict(size or {}).items() if pixels is not None}
    if not getattr(processor, "do_resize", False) or set(side) not in ({"height", "width"}, {"shortest_edge"}):
        return None
    if "height" in side:
        return FixedSize(side["width"], side["height"])
    return ShortestEdge(side["shortest_edge"] / (getattr(processor, "crop_pct", None) or 1.0))


@dataclass(frozen=True)
class FixedSize:
    """A `core.LeastSize`: every image is resized to this width and height."""

    width: int
    height: int

    def __call__(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height."""
        return self.width, self.height


@dataclass(frozen=True)
class ShortestEdge:
    """A `core.LeastSize`: the shortest edge of an image is resized to this number of pixels."""

    pixels: float

    def __call__(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of the resized image, not rounded down."""
        scale = self.pixels / min(width, height)
        return ceil(width * scale), ceil(height * scale)


def levels(model: LoadedModel) -> torch.Tensor:
    """Return the levels of 8 bits [3, 1, 1], or [], that are one unit of the processor's normalised pixels."""
    import torch

    processor = image_processor_of(model)
    factor = processor.rescale_factor if getattr(processor, "do_rescale", False) else 1.0
    std = processor.image_std if getattr(processor, "do_normalize", False) else 1.0
    return torch.tensor(std, dtype=torch.float64).reshape(-1, 1, 1) / factor


def _text_config(built: BuiltModel) -> Any:
    return getattr(built.module.config, "text_config", built.module.config)
