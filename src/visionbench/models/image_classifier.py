"""Image classifiers with a head: ViT, ResNet, and whatever AutoModelForImageClassification knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Inputs, LoadedModel
from visionbench.registry import register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@register("models", "image_classifier")
@dataclass
class ImageClassifier:
    """No options: a picture goes in, logits of classes come out."""

    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    task: ClassVar[str] = "image classification"
    predicts: ClassVar[frozenset[str]] = frozenset()

    def uses(self) -> frozenset[str]:
        """Pictures alone."""
        return frozenset()

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """An AutoModelForImageClassification with its image processor."""
        built = weights.build(model, self.auto_class, device, dtype)
        processor = weights.image_processor(model, built.source)
        return LoadedClassifier(
            built.module, processor, {**built.identity, "image_processor": type(processor).__name__}
        )


@dataclass
class LoadedClassifier:
    """A classifier on its device."""

    module: Any
    processor: Any
    identity: Mapping[str, Any]

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Images."""
        return {"images": batch_size}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """`pixel_values` [B, 3, H, W]."""
        return {"pixel_values": self.processor(images=list(images), return_tensors="pt")["pixel_values"]}

    def call(self, inputs: Inputs) -> torch.Tensor:
        """Logits [B, classes]."""
        logits: torch.Tensor = self.module(**inputs).logits
        return logits

    def evidence(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """The logits."""
        return {"image": self.call(inputs)}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """The name of the likeliest class of each picture."""
        return [self.module.config.id2label[int(best)] for best in output.argmax(-1)]
