"""Image classifiers with a head: ViT, ResNet, and whatever AutoModelForImageClassification knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import DataClass, Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row
from visionbench.examples.class_matching import describe_unknown, match_classes
from visionbench.examples.class_names import make_unique
from visionbench.registry import ConfigError, register

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image


@register("models", "image_classifier")
@dataclass
class ImageClassifier:
    """No options: a picture goes in, logits of classes come out."""

    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    task: ClassVar[str] = "image classification"
    predicts: ClassVar[frozenset[str]] = frozenset({"class_scores"})

    def uses(self) -> frozenset[str]:
        """Pictures alone."""
        return frozenset()

    def class_names(self, model: ModelConfig) -> Sequence[str]:
        """The classes that the checkpoint's config names, by rising index. Raises ConfigError."""
        return _of_config(weights.id2label(model), f"model.checkpoint={model.checkpoint}")

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """An AutoModelForImageClassification with its image processor."""
        built = weights.build(model, self.auto_class, device, dtype)
        processor = weights.image_processor(model, built.source)
        return LoadedClassifier(built.module, dtype, processor, {**built.identity, **weights.describe(processor)})


@dataclass
class LoadedClassifier:
    """A classifier on its device."""

    module: Any
    dtype: torch.dtype
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

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """`image`: the whole of it."""
        return {"image": ModelPart(partial(self.call, inputs))}

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """The logits."""
        return {"image": self.call(inputs)}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """The name of the likeliest class of each picture."""
        return [self.module.config.id2label[int(best)] for best in output.argmax(-1)]

    def evaluator(self, wanted: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Scores of all of the model's classes. Raises ConfigError where the data set's are not among them."""
        own = _of_config(self.module.config.id2label, "the model's config")
        if list(classes) == (names := make_unique(own)):
            return ClassifierEvaluator(self, names)
        found = match_classes(own, [DataClass(name) for name in classes])
        if found.unknown:
            raise ConfigError(describe_unknown(found.unknown, len(classes), own))
        of_index = {at: name for name, at in found.indices.items()}
        return ClassifierEvaluator(self, [of_index.get(at, name) for at, name in enumerate(names)])


@dataclass(frozen=True)
class ClassifierEvaluator:
    """A classifier at work for quality; see `core.Evaluator`."""

    model: LoadedClassifier
    classes: Sequence[str]

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """`pixel_values` [B, 3, H, W]."""
        return self.model.preprocess([picture.image for picture in pictures], [])

    def forward(self, inputs: Inputs) -> np.ndarray:
        """Logits [B, classes] in fp32."""
        placed = weights.place(inputs, self.model.module.device, self.model.dtype)
        logits: np.ndarray = self.model.call(placed).float().cpu().numpy()
        return logits

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """`class_scores` [classes]."""
        return [{"class_scores": scores} for scores in output]


def _of_config(id2label: Mapping[Any, Any], where: str) -> list[str]:
    """The names of classes by rising index. Raises ConfigError where an index is missing."""
    try:
        names = {int(at): str(name) for at, name in id2label.items()}
        return [names[at] for at in range(len(names))]
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{where}: its id2label does not number the classes from 0 on", "correct it") from None
