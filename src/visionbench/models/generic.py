"""Any model of transformers whose forward pass takes images: speed, memory, FLOPs and pipeline, without quality."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Inputs, LoadedModel
from visionbench.registry import nearest, register
from visionbench.weights import LoadedImageModel

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@register("models", "generic")
@dataclass
class Generic(weights.ImageFamily):
    """From images to one tensor of the model's output. Options: `auto_class`, an Auto class of transformers; `inputs`,
    the results of the image processor that the model takes, one name or a list; `output`, a field of the model's
    output, or null for its first tensor of floating-point numbers; `image_size`, the side of its square images in
    pixels, or null for the model's own.

    Quality is refused, because the meaning of the output is not known.
    """

    auto_class: str = "AutoModel"
    inputs: Any = weights.PIXELS
    output: str | None = None

    task: ClassVar[str] = "forward pass"
    predicts: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"Auto[A-Za-z0-9]+", self.auto_class):
            raise ConfigError(
                f"model.options.auto_class={self.auto_class}: not an Auto class of transformers",
                "give one, such as AutoModel or AutoModelForObjectDetection",
            )
        if not self.names or not all(isinstance(name, str) and name for name in self.names):
            raise ConfigError(
                f"model.options.inputs={self.inputs}: not a name or a list of names",
                f"give the inputs of the model, such as {weights.PIXELS}",
            )
        super().__post_init__()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs."""
        given = self.inputs
        return tuple(given) if isinstance(given, list | tuple) else (given,)

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load the model by `auto_class`, with its image processor."""
        _check_auto_class(self.auto_class)
        built = weights.build_model(model, self.auto_class, device, dtype, self.image_size)
        processor = weights.load_image_processor(model, built.source, self.image_size)
        identity = {**built.identity, **weights.describe_processor(processor), "output": self.output or "first"}
        return LoadedGeneric(built.module, dtype, processor, identity, {}, self.names, self.output)


@dataclass
class LoadedGeneric(LoadedImageModel):
    """A model on its device."""

    given_names: tuple[str, ...] = (weights.PIXELS,)
    output: str | None = None

    def names(self) -> tuple[str, ...]:
        """Return the names of the inputs, of the option `inputs`."""
        return self.given_names

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Return the inputs of the model, such as `pixel_values` [B, 3, H, W].

        Raises ConfigError if the image processor does not give one of them.
        """
        processed = self.processor(images=list(images), return_tensors="pt")
        if missing := next((name for name in self.names() if name not in processed), None):
            raise ConfigError(
                f"model.options.inputs={missing}: {type(self.processor).__name__} does not give it",
                f"it gives {', '.join(sorted(processed))}",
            )
        return {name: processed[name] for name in self.names()}

    def forward(self, module: Any, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the tensor of the output."""
        return select(module(**dict(zip(self.names(), tensors, strict=True))), self.output)

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return the tensor of each image, or the complete tensor for each if its first axis is not the batch."""
        return list(output) if len(output) == len(images) else [output] * len(images)


def select(output: Any, name: str | None) -> torch.Tensor:
    """Return a tensor of a model's output: the field with this name, or the first tensor of floating-point numbers.

    Raises ConfigError if there is no such tensor.
    """
    import torch

    if name is None:
        first = next(_tensors(output), None)
        if first is None:
            raise ConfigError(f"model.options.output=null: {type(output).__name__} has no tensor", "give its field")
        return first
    given = dict(output) if isinstance(output, Mapping) else {}
    if not isinstance(given.get(name), torch.Tensor):
        tensors = [key for key, value in given.items() if isinstance(value, torch.Tensor)]
        raise ConfigError(
            f"model.options.output={name}: not a tensor of {type(output).__name__}{nearest(name, tensors)}"
        )
    chosen: torch.Tensor = given[name]
    return chosen


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of floating-point numbers in an output, in its order."""
    import torch

    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def _check_auto_class(name: str) -> None:
    """Raise ConfigError if transformers has no Auto class with this name that builds models."""
    if name not in (known := weights.auto_classes()):
        raise ConfigError(
            f"model.options.auto_class={name}: transformers has no Auto class of models with this name"
            f"{nearest(name, known)}"
        )
