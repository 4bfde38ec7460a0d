"""The Auto classes of transformers, and the model classes that each of them builds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from visionbench.config import ModelConfig
from visionbench.weights.identification import read_config
from visionbench.weights.location import find_checkpoint


@cache
def auto_classes() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Return the Auto classes of models by name, each with its model types and their classes.

    AutoBackbone is not one of them: it loads checkpoints from the Hub only.
    """
    from transformers.models.auto import modeling_auto

    classes_of = {}
    for name, member in vars(modeling_auto).items():
        mapping: Any = getattr(member, "_model_mapping", None)
        if name.startswith("Auto") and name != "AutoBackbone" and mapping is not None:
            classes = mapping._model_mapping.items()
            classes_of[name] = {kind: (value,) if isinstance(value, str) else tuple(value) for kind, value in classes}
    return classes_of


def auto_class_of(model_type: str, model_class: str | None) -> str | None:
    """Return the Auto class that builds a model class of a model type, or None if there is none.

    Without a class, it is AutoModel if AutoModel builds the type. With one, AutoModel is preferred, then the order of
    transformers.
    """
    known = auto_classes()
    order = sorted(known, key=lambda name: (name != "AutoModel", name == "AutoModelForPreTraining"))
    for name in order:
        classes = known[name].get(model_type, ())
        if (model_class is None and name == "AutoModel" and classes) or model_class in classes:
            return name
    return None


def auto_class_for(family: Any, model: ModelConfig) -> str | None:
    """Return the Auto class with which a family loads a model, or None for a family that does not name one.

    It is `auto_class`, or the first of `other_auto_classes` that builds the type of the model if `auto_class` does not.
    """
    first: str | None = getattr(family, "auto_class", None)
    others: tuple[str, ...] = getattr(family, "other_auto_classes", ())
    if first is None or not others:
        return first
    folder = None if model.weights == "random" else find_checkpoint(model)
    model_type = (model.architecture if folder is None else read_config(folder)).get("model_type")
    builds = (name for name in (first, *others) if model_type in auto_classes()[name])
    return next(builds, first)
