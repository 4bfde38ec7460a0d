"""Object detectors with fixed classes: DETR, RT-DETR, YOLOS, and other models of AutoModelForObjectDetection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, DataClass, Evaluator, LoadedModel
from visionbench.examples.class_matching import describe_unknown, match_classes, use_synonyms
from visionbench.examples.class_names import make_unique
from visionbench.registry import register
from visionbench.weights import LoadedDetector

if TYPE_CHECKING:
    import torch


@register("models", "object_detector")
@dataclass
class ObjectDetector(weights.LabelledImageFamily):
    """From images to boxes with classes. Options: `most_boxes`, the number of boxes of an image that are evaluated,
    from the highest score; and `image_size`, the side of its square images in pixels, null for the size of the
    checkpoint's image processor, which may keep the ratio of the sides."""

    most_boxes: int = 100

    auto_class: ClassVar[str] = "AutoModelForObjectDetection"
    task: ClassVar[str] = "object detection"
    predicts: ClassVar[frozenset[str]] = frozenset({"boxes", "box_scores", "box_classes"})
    model_types: ClassVar[Mapping[str, str]] = {
        "conditional_detr": "ConditionalDetrForObjectDetection",
        "d_fine": "DFineForObjectDetection",
        "dab-detr": "DabDetrForObjectDetection",
        "deformable_detr": "DeformableDetrForObjectDetection",
        "detr": "DetrForObjectDetection",
        "lw_detr": "LwDetrForObjectDetection",
        "rf_detr": "RfDetrForObjectDetection",
        "rt_detr": "RTDetrForObjectDetection",
        "rt_detr_v2": "RTDetrV2ForObjectDetection",
        "table-transformer": "TableTransformerForObjectDetection",
        "yolos": "YolosForObjectDetection",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        weights.check_most_boxes(self.most_boxes)

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load an AutoModelForObjectDetection with its image processor. The model itself takes images of all sizes."""
        built = weights.build_model(model, self.auto_class, device, dtype)
        processor = weights.load_image_processor(model, built.source, self.image_size)
        inputs = weights.find_image_inputs(built.module, processor)
        identity = {**built.identity, **weights.describe_processor(processor), "most_boxes": self.most_boxes}
        return LoadedObjectDetector(
            built.module, dtype, processor, identity, most_boxes=self.most_boxes, image_inputs=inputs
        )


@dataclass
class LoadedObjectDetector(LoadedDetector):
    """A detector with fixed classes on its device."""

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return an evaluator of the boxes. Raises ConfigError if the model does not have a class of the data."""
        names = weights.list_class_names(self.module.config.id2label, "the model's config")
        unique = make_unique(names)
        if list(classes) == unique:
            return weights.make_evaluator(self, classes, dict(enumerate(unique)))
        matches = match_classes(names, use_synonyms(names, [DataClass(name) for name in classes]))
        if matches.unknown:
            raise ConfigError(describe_unknown(matches.unknown, len(classes), names))
        return weights.make_evaluator(self, classes, {index: name for name, index in matches.indices.items()})
