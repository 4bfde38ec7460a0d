"""Image classifiers with a head: ViT, ResNet, and whatever AutoModelForImageClassification knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Evaluator, Inputs, LoadedModel, Picture, Piece, Row
from visionbench.registry import ConfigError, nearest, register

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

    def pieces(self, inputs: Inputs) -> Mapping[str, Piece]:
        """`image`: the whole of it."""
        return {"image": Piece(partial(self.call, inputs))}

    def evidence(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """The logits."""
        return {"image": self.call(inputs)}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """The name of the likeliest class of each picture."""
        return [self.module.config.id2label[int(best)] for best in output.argmax(-1)]

    def evaluator(self, wanted: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Scores of all of the model's classes. Raises ConfigError where the data set's are not among them."""
        config = self.module.config
        own = [str(config.id2label[at]) for at in range(config.num_labels)]
        return ClassifierEvaluator(self, named(own, classes))


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


def named(own: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The model's classes in its order, those that the data set knows under the data set's name.

    As many classes as the model has, of which none is known at another place, are taken in their order: ImageNet's may
    be named by number, and two of its names stand for two classes each. Else each is found by its name, without regard
    to case, or by one of the synonyms that a name lists ("tench, Tinca tinca"). Raises ConfigError where one is not.
    """
    places = {name.lower(): at for at, name in reversed(list(enumerate(own)))}
    for at, name in enumerate(own):
        for synonym in name.split(", "):
            places.setdefault(synonym.lower(), at)
    words = {name: [word.lower() for word in (name, *name.split(", "))] for name in classes}
    found = {name: next((places[word] for word in of_one if word in places), None) for name, of_one in words.items()}
    if len(classes) == len(own) and all(index in (None, at) for at, index in enumerate(found.values())):
        return list(classes)
    if unknown := [name for name, index in found.items() if index is None]:
        raise ConfigError(
            f"the model does not know {len(unknown)} of the data's {len(classes)} classes, such as '{unknown[0]}'"
            f"{nearest(unknown[0], own)}"
        )
    renamed = {index: name for name, index in found.items()}
    return [renamed.get(at, name) for at, name in enumerate(own)]
