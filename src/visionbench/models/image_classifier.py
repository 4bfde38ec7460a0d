"""Image classifiers with a head: ViT, ResNet, and all other models of AutoModelForImageClassification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, DataClass, Evaluator, Inputs, LoadedModel, Picture, Row
from visionbench.examples.class_matching import describe_unknown, match_classes
from visionbench.examples.class_names import make_unique
from visionbench.registry import register
from visionbench.weights import LoadedImageModel

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

MODEL_TYPES = {
    "beit": "BeitForImageClassification",
    "bit": "BitForImageClassification",
    "clip": "CLIPForImageClassification",
    "convnext": "ConvNextForImageClassification",
    "convnextv2": "ConvNextV2ForImageClassification",
    "cvt": "CvtForImageClassification",
    "data2vec-vision": "Data2VecVisionForImageClassification",
    "deit": "DeiTForImageClassification",
    "dinov2": "Dinov2ForImageClassification",
    "dinov2_with_registers": "Dinov2WithRegistersForImageClassification",
    "donut-swin": "DonutSwinForImageClassification",
    "efficientnet": "EfficientNetForImageClassification",
    "efficientnet_lite": "EfficientNetLiteForImageClassification",
    "focalnet": "FocalNetForImageClassification",
    "hgnet_v2": "HGNetV2ForImageClassification",
    "hiera": "HieraForImageClassification",
    "ijepa": "IJepaForImageClassification",
    "levit": "LevitForImageClassification",
    "metaclip_2": "MetaClip2ForImageClassification",
    "mobilenet_v1": "MobileNetV1ForImageClassification",
    "mobilenet_v2": "MobileNetV2ForImageClassification",
    "mobilevit": "MobileViTForImageClassification",
    "mobilevitv2": "MobileViTV2ForImageClassification",
    "poolformer": "PoolFormerForImageClassification",
    "pvt": "PvtForImageClassification",
    "pvt_v2": "PvtV2ForImageClassification",
    "regnet": "RegNetForImageClassification",
    "resnet": "ResNetForImageClassification",
    "segformer": "SegformerForImageClassification",
    "siglip": "SiglipForImageClassification",
    "swiftformer": "SwiftFormerForImageClassification",
    "swin": "SwinForImageClassification",
    "swinv2": "Swinv2ForImageClassification",
    "textnet": "TextNetForImageClassification",
    "timm_wrapper": "TimmWrapperForImageClassification",
    "vit": "ViTForImageClassification",
    "vit_msn": "ViTMSNForImageClassification",
}
"""The model types that are documented, each with its class of transformers. All take `pixel_values` and give logits."""


@register("models", "image_classifier")
@dataclass
class ImageClassifier(weights.LabelledImageFamily):
    """From images to logits of classes. Option: `image_size`, the side of its square images in pixels; null is the
    model's own."""

    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    task: ClassVar[str] = "image classification"
    predicts: ClassVar[frozenset[str]] = frozenset({"class_scores"})
    class_pattern: ClassVar[str] = "ForImageClassification"
    """The family also reads all other classes of transformers with this in their name."""
    model_types: ClassVar[Mapping[str, str]] = MODEL_TYPES

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load an AutoModelForImageClassification with its image processor."""
        built = weights.build_model(model, self.auto_class, device, dtype, self.image_size)
        processor = weights.load_image_processor(model, built.source, self.image_size)
        identity = {**built.identity, **weights.describe_processor(processor)}
        return LoadedClassifier(built.module, dtype, processor, identity)


@dataclass
class LoadedClassifier(LoadedImageModel):
    """A classifier on its device."""

    def forward(self, module: Any, *tensors: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes] of pixels [B, 3, H, W]."""
        logits: torch.Tensor = module(pixel_values=tensors[0]).logits
        return logits

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return the name of the most probable class of each image."""
        return [self.module.config.id2label[int(best)] for best in output.argmax(-1)]

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return scores of all classes of the model. Raises ConfigError if it does not have a class of the data."""
        model_names = weights.list_class_names(self.module.config.id2label, "the model's config")
        if list(classes) == (names := make_unique(model_names)):
            return ClassifierEvaluator(self, names)
        matches = match_classes(model_names, [DataClass(name) for name in classes])
        if matches.unknown:
            raise ConfigError(describe_unknown(matches.unknown, len(classes), model_names))
        by_index = {index: name for name, index in matches.indices.items()}
        return ClassifierEvaluator(self, [by_index.get(index, name) for index, name in enumerate(names)])


@dataclass(frozen=True)
class ClassifierEvaluator:
    """The evaluation of a classifier; see `core.Evaluator`."""

    model: LoadedClassifier
    classes: Sequence[str]

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Return `pixel_values` [B, 3, H, W]."""
        return self.model.preprocess([picture.image for picture in pictures], [])

    def forward(self, inputs: Inputs) -> np.ndarray:
        """Return logits [B, classes] in fp32."""
        logits: np.ndarray = self.model.call_on_host(inputs)
        return logits

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return `class_scores` [classes] for each image."""
        return [{"class_scores": scores} for scores in output]
