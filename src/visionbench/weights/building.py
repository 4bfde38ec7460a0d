"""Build a model on its device, from a checkpoint or from random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.weights.architecture import build_random
from visionbench.weights.attention import used_attention
from visionbench.weights.image_size import resize_model
from visionbench.weights.loading import load_checkpoint
from visionbench.weights.location import find_checkpoint, find_source, local_folder
from visionbench.weights.tensors import count_bytes

if TYPE_CHECKING:
    import torch

CHANNELS_LAST = "channels_last"
"""torch's name of the memory format in which the channels of a pixel are adjacent."""


@dataclass(frozen=True)
class BuiltModel:
    """A model on its device in evaluation mode, with its identity."""

    module: Any
    source: Path | None
    """The checkpoint's folder, for processors and tokenizers; None with random weights."""
    identity: Mapping[str, Any]


def build_model(
    model: ModelConfig, auto_class: str, device: torch.device, dtype: torch.dtype, image_size: int | None = None
) -> BuiltModel:
    """Load the checkpoint, or build the architecture with random weights, on the device in the dtype.

    `auto_class` is the class of transformers that reads the family's checkpoints. `image_size` replaces the image size
    of the model. On the meta device, only the shapes of a checkpoint are read. Raises ConfigError.
    """
    source = None if model.weights == "random" else find_checkpoint(model)
    if source is None:
        if model.weights != "random":
            raise ConfigError(
                f"model.checkpoint={model.checkpoint}: not on this machine",
                f"run 'visionbench models fetch {model.name}'",
            )
        module = build_random(model, auto_class, device, dtype, image_size)
    else:
        module = load_checkpoint(model, auto_class, source, dtype, shapes_only=device.type == "meta")
        if image_size is not None:
            module = resize_model(module, image_size)
        module = module.to(device)
    if model.channels_last:
        _store_channels_last(module, model)
    module.eval().requires_grad_(False)
    return BuiltModel(
        module,
        source,
        {
            "weights": model.weights,
            "checkpoint": model.checkpoint if source else None,
            "revision": find_revision(model) if source else None,
            "model_class": type(module).__name__,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "weights_bytes": count_bytes(module),
            "dtype": str(dtype).removeprefix("torch."),
            "attention": used_attention(module),
            **({"memory_format": CHANNELS_LAST} if model.channels_last else {}),
        },
    )


def find_revision(model: ModelConfig) -> str | None:
    """Return the commit of a checkpoint from the Hub, which is the name of its folder in the cache."""
    source = None if local_folder(model) is not None else find_source(model)
    return source.name if source is not None else None


def count_convolutions(module: torch.nn.Module) -> int:
    """Return the number of layers whose weights can be stored with the channels last."""
    return sum(parameter.ndim == 4 for parameter in module.parameters())


def _store_channels_last(module: torch.nn.Module, model: ModelConfig) -> None:
    """Store the weights of convolutions with the channels last. torch then converts the inputs of a convolution.

    Raises ConfigError if the model has no convolution.
    """
    import torch

    if not count_convolutions(module):
        raise ConfigError(f"model.channels_last=true: {type(module).__name__} has no convolution", "remove it")
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
