"""Promptable segmenters: SAM, whose image encoder runs once and whose small decoder answers points or boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Inputs, LoadedModel
from visionbench.registry import ConfigError, nearest, register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PARTS = ("encoder", "decoder", "both")
PROMPTS = ("point", "box")


@register("models", "promptable_segmenter")
@dataclass
class PromptableSegmenter:
    """Options: the `part` that a timed call runs, the kind of prompt, and how many of them each image gets."""

    part: str = "both"
    prompt: str = "point"
    prompts_per_image: int = 1

    auto_class: ClassVar[str] = "AutoModelForMaskGeneration"
    task: ClassVar[str] = "promptable segmentation"
    predicts: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ConfigError(f"model.options.part={self.part}: no such part{nearest(self.part, PARTS)}")
        if self.prompt not in PROMPTS:
            raise ConfigError(f"model.options.prompt={self.prompt}: no such prompt{nearest(self.prompt, PROMPTS)}")
        if self.prompts_per_image < 1:
            raise ConfigError(f"model.options.prompts_per_image={self.prompts_per_image}: must be at least 1")

    def uses(self) -> frozenset[str]:
        """Pictures alone: timing places its prompts on a grid."""
        return frozenset()

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """A SamModel with the processor that scales pictures and prompts to its frame."""
        from transformers import SamProcessor

        built = weights.build(model, self.auto_class, device, dtype)
        processor = SamProcessor(weights.image_processor(model, built.source))
        identity = {
            **built.identity,
            "image_processor": type(processor.image_processor).__name__,
            "part": self.part,
            "prompt": self.prompt,
            "prompts_per_image": self.prompts_per_image,
        }
        return LoadedSegmenter(built.module, processor, self.part, self.prompt, self.prompts_per_image, identity)


@dataclass
class LoadedSegmenter:
    """A promptable segmenter on its device."""

    module: Any
    processor: Any
    part: str
    prompt: str
    prompts_per_image: int
    identity: Mapping[str, Any]

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Images, and the masks that are asked of them."""
        masks = {} if self.part == "encoder" else {"prompts": batch_size * self.prompts_per_image}
        return {"images": batch_size, **masks}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """`pixel_values` [B, 3, S, S], or for the decoder alone `image_embeddings` [B, C, S/16, S/16], and prompts:
        `input_points` [B, P, 1, 2] or `input_boxes` [B, P, 4] in the model's frame."""
        encoded = self.processor(images=list(images), return_tensors="pt", **self._prompts(images))
        inputs = {"pixel_values": encoded["pixel_values"]}
        if self.part == "decoder":
            pixels = weights.place(inputs, self.module.device, self.module.dtype)["pixel_values"]
            inputs = {"image_embeddings": self.module.get_image_embeddings(pixels).cpu()}
        if self.part != "encoder":
            name = f"input_{'points' if self.prompt == 'point' else 'boxes'}"
            inputs[name] = encoded[name]
        return inputs

    def call(self, inputs: Inputs) -> Any:
        """The encoder's embeddings, or masks [B, P, 3, S/4, S/4] with the model's own estimate of their IoU."""
        if self.part == "encoder":
            return self.module.get_image_embeddings(inputs["pixel_values"])
        return self.module(**inputs, multimask_output=True)

    def evidence(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Embeddings or mask logits."""
        output = self.call(inputs)
        return {"image": output if self.part == "encoder" else output.pred_masks}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """For each picture its masks [P, 3, H, W], boolean and of the picture's own size; the encoder's rows alone."""
        if self.part == "encoder":
            return list(output.float().cpu().numpy())
        sizes = [(image.height, image.width) for image in images]
        frames = self.processor.image_processor(list(images), return_tensors="pt")["reshaped_input_sizes"]
        masks = self.processor.post_process_masks(output.pred_masks.float().cpu(), sizes, frames)
        return [mask.numpy() for mask in masks]

    def _prompts(self, images: Sequence[Image]) -> dict[str, Any]:
        """Points on the diagonal of each picture, or boxes of a third of its sides around them."""
        steps = [(k + 1) / (self.prompts_per_image + 1) for k in range(self.prompts_per_image)]
        centres = [[(step * image.width, step * image.height) for step in steps] for image in images]
        if self.prompt == "point":
            return {"input_points": [[[[x, y]] for x, y in of_one] for of_one in centres]}
        return {
            "input_boxes": [
                [
                    [x - image.width / 6, y - image.height / 6, x + image.width / 6, y + image.height / 6]
                    for x, y in of_one
                ]
                for image, of_one in zip(images, centres, strict=True)
            ]
        }
