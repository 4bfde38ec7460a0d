"""Semantic segmenters: SegFormer, Mask2Former, and all other models of AutoModelForSemanticSegmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, DataClass, Evaluator, LoadedModel, Picture, Row
from visionbench.examples.class_matching import describe_unknown, match_classes
from visionbench.examples.class_names import make_unique
from visionbench.registry import register
from visionbench.weights import LoadedMapModel, MapEvaluator

if TYPE_CHECKING:
    import torch

MODEL_TYPES = {
    "beit": "BeitForSemanticSegmentation",
    "data2vec-vision": "Data2VecVisionForSemanticSegmentation",
    "dpt": "DPTForSemanticSegmentation",
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "maskformer": "MaskFormerForInstanceSegmentation",
    "mobilenet_v2": "MobileNetV2ForSemanticSegmentation",
    "mobilevit": "MobileViTForSemanticSegmentation",
    "mobilevitv2": "MobileViTV2ForSemanticSegmentation",
    "segformer": "SegformerForSemanticSegmentation",
    "upernet": "UperNetForSemanticSegmentation",
}
"""The model types that are documented, each with its class of transformers. All take `pixel_values`."""
METHOD = "post_process_semantic_segmentation"
"""The method of the image processor that makes a class map of the model's output."""


@register("models", "semantic_segmenter")
@dataclass
class SemanticSegmenter(weights.LabelledImageFamily):
    """From images to the class of each pixel. Option: `image_size`, the side of its square images in pixels; null is
    the model's own."""

    auto_class: ClassVar[str] = "AutoModelForSemanticSegmentation"
    other_auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForUniversalSegmentation",)
    task: ClassVar[str] = "semantic segmentation"
    predicts: ClassVar[frozenset[str]] = frozenset({"predicted_map"})
    class_pattern: ClassVar[str] = "ForSemanticSegmentation"
    """The family also reads all other classes of transformers with this in their name."""
    model_types: ClassVar[Mapping[str, str]] = MODEL_TYPES

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load the model with its image processor."""
        auto_class = weights.auto_class_for(self, model) or self.auto_class
        built = weights.build_model(model, auto_class, device, dtype, self.image_size)
        processors = weights.load_processors(model, built, METHOD, self.image_size)
        own = None if processors.own is processors.timed else processors.own
        identity = {**built.identity, **processors.describe()}
        return LoadedSemanticSegmenter(built.module, dtype, processors.timed, identity, own_processor=own)


@dataclass
class LoadedSemanticSegmenter(LoadedMapModel):
    """A semantic segmenter on its device."""

    def forward(self, module: Any, *tensors: torch.Tensor) -> Any:
        """Return logits [B, classes, h, w] of pixels [B, 3, H, W], or the logits of masks [B, queries, h, w] and of
        their classes [B, queries, classes + 1]."""
        output = module(pixel_values=tensors[0])
        if "logits" in output:
            return output.logits
        return output.masks_queries_logits, output.class_queries_logits

    def to_map(self, output: Any, size: tuple[int, int]) -> torch.Tensor:
        """Return the class of each pixel [H, W], by the method of the model's image processor."""
        if isinstance(output, tuple):
            masks, classes = output
            named = SimpleNamespace(masks_queries_logits=masks.float(), class_queries_logits=classes.float())
        else:
            named = SimpleNamespace(logits=output.float())
        classes_of_pixels: torch.Tensor = getattr(self.processor, METHOD)(named, target_sizes=[size])[0]
        return classes_of_pixels

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return class maps in the order of the data's classes.

        `classes` are names of the model's classes. Raises ConfigError if the model does not have one of them.
        """
        self.check_quality()
        model_names = weights.list_class_names(self.module.config.id2label, "the model's config")
        by_name = {name: index for index, name in enumerate(make_unique(model_names))}
        if not set(classes) <= by_name.keys():
            matches = match_classes(model_names, [DataClass(name) for name in classes])
            if matches.unknown:
                raise ConfigError(describe_unknown(matches.unknown, len(classes), model_names))
            by_name = dict(matches.indices)
        indices = np.full(len(model_names), len(classes), np.int32)
        for index, name in enumerate(classes):
            indices[by_name[name]] = index
        return SegmenterEvaluator(self, tuple(classes), indices)


@dataclass(frozen=True)
class SegmenterEvaluator(MapEvaluator):
    """The evaluation of a semantic segmenter; see `core.Evaluator`."""

    indices: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    """The index in `classes` of each class of the model; their number for another class."""

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return `predicted_map` [H, W] for each image: indices into `classes`, or NaN if a logit was not finite."""
        return [{"predicted_map": self.indices[one] if np.issubdtype(one.dtype, np.integer) else one} for one in output]
