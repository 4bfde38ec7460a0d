"""Models whose call is one part, from the tensors of their image processor to the tensors of their output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from visionbench.config import ModelConfig
from visionbench.core import Inputs, ModelPart
from visionbench.weights.checkpoint_classes import list_class_names, read_class_names
from visionbench.weights.graphs import as_graph
from visionbench.weights.image_size import check_image_size
from visionbench.weights.tensors import place_inputs

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PIXELS = "pixel_values"


@dataclass
class ImageFamily:
    """A family whose models read only images, and whose one part `image` is the complete call; see `core.Adapter`.

    Option: `image_size`, the side of square images in pixels, or null for the model's own.
    """

    image_size: int | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError if the image size is not positive."""
        check_image_size(self.image_size)

    def uses(self) -> frozenset[str]:
        """Return an empty set: only images are used."""
        return frozenset()

    def graph_names(self) -> tuple[str, ...]:
        """Return the one part that a runtime can execute."""
        return ("image",)


@dataclass
class LabelledImageFamily(ImageFamily):
    """An image family whose models have a fixed list of classes."""

    def class_names(self, model: ModelConfig) -> Sequence[str]:
        """Return the class names in the checkpoint's config, by index. Raises ConfigError."""
        return list_class_names(read_class_names(model), f"model.checkpoint={model.checkpoint}")


@dataclass
class LoadedImageModel:
    """A model on its device, whose one part `image` is the complete call. A family adds `forward` and `postprocess`.

    See `core.LoadedModel` and `core.HasGraphs`.
    """

    module: Any
    dtype: torch.dtype
    processor: Any
    identity: Mapping[str, Any]
    executed: Mapping[str, Any] = field(default_factory=dict)
    """The parts that a runtime executes; see `core.HasGraphs`."""

    input_names: ClassVar[tuple[str, ...]] = (PIXELS,)
    """The names of the tensors of the image processor that `forward` takes, in order."""

    def forward(self, module: Any, *tensors: torch.Tensor) -> Any:
        """Return a tensor of floating-point numbers, or a tuple of tensors of which the first is one."""
        raise NotImplementedError

    def names(self) -> tuple[str, ...]:
        """Return the names of the inputs."""
        return self.input_names

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Return the number of images."""
        return {"images": batch_size}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Return the inputs of the model, such as `pixel_values` [B, 3, H, W]."""
        processed = self.processor(images=list(images), return_tensors="pt")
        return {name: processed[name] for name in self.names()}

    def call(self, inputs: Inputs) -> Any:
        """Return the output of `forward`."""
        execute = self.executed.get("image", partial(self.forward, self.module))
        return execute(*(inputs[name] for name in self.names()))

    def call_on_host(self, inputs: Inputs) -> Any:
        """Place inputs on the device, and return the output of `call` in fp32 as an array or a tuple of arrays."""
        output = self.call(place_inputs(inputs, self.module.device, self.dtype))
        if isinstance(output, tuple):
            return tuple(tensor.float().cpu().numpy() for tensor in output)
        return output.float().cpu().numpy()

    def graphs(self) -> Mapping[str, torch.nn.Module]:
        """Return one part, `image`: the inputs to the output of `forward`."""
        return {"image": as_graph(self.module, self.forward)}

    def graph_inputs(self, part: str, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """Return the inputs in the order of their names."""
        return tuple(inputs[name] for name in self.names())

    def with_graphs(self, executed: Mapping[str, Any]) -> Self:
        """Return the model whose call is this function."""
        return replace(self, executed=executed)

    def other_work(self) -> str:
        """Return an empty text: the part is the complete call."""
        return ""

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """Return one part, `image`: the complete call."""
        return {"image": ModelPart(partial(self.call, inputs))}

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Return the output, or its first tensor."""
        output = self.call(inputs)
        return {"image": output[0] if isinstance(output, tuple) else output}
