"""Compare the model that a checkpoint's config.json describes with the family that is to read it.

This happens before anything is loaded, because some models can be loaded by the wrong family without an error: a
BlipForQuestionAnswering has all weights of a captioner.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench import architectures
from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.registry import find, names
from visionbench.weights.location import TIMM, is_timm

ADAPTER = "adapter_config.json"
TASKS = {
    "ObjectDetection": "detectors of this kind",
    "DepthEstimation": "depth estimation",
    "Segmentation": "segmentation other than semantic, without prompts",
    "DocumentQuestionAnswering": "questions about documents",
    "QuestionAnswering": "visual question answering",
    "ImageTextRetrieval": "scoring pairs of an image and a text",
    "VideoClassification": "video classification",
    "Audio|Speech|CTC": "audio",
    "Keypoint|PoseEstimation": "keypoints and poses",
    "ImageToImage|SuperResolution|Matting": "images as output",
    "MaskedImageModeling|PreTraining": "pretraining",
    "MaskedLM|SequenceClassification|TokenClassification|MultipleChoice|NextSentence": "text without images",
    "ConditionalGeneration|ImageTextToText|CausalLM": "text from models of this type",
}
"""A part of the name of a class of transformers to its task. The first match counts."""
ONE_ENCODER = r"(Vision|Text)Model(WithProjection)?$"
NO_HEAD = r"(Model|Backbone)$"


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's config.json. Raises ConfigError if it is not a JSON object."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({str(error).rstrip('.')})", "fetch it again") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: it does not contain a JSON object", "fetch it again")
    return content


def prepare_architecture(setting: str, folder: Path) -> None:
    """Register the architecture of a checkpoint with transformers, if visionbench defines it.

    Raises ConfigError for a model of timm if its packages are not installed.
    """
    content = read_config(folder)
    architectures.register(content.get("model_type"))
    missing = [name for name in ("timm", "torchvision") if importlib.util.find_spec(name) is None]
    if is_timm(content) and missing:
        raise ConfigError(
            f"{setting}: a model of timm, and {' and '.join(missing)} {'are' if missing[1:] else 'is'} not installed",
            "pip install 'visionbench[timm]'",
        )


def check_adapter(setting: str, folder: Path) -> None:
    """Raise ConfigError if a folder holds an adapter, whose weights are useless without its base model."""
    if (folder / ADAPTER).is_file():
        raise ConfigError(
            f"{setting}: {folder} contains {ADAPTER}, so its weights are an adapter (LoRA) without its base model",
            "merge both with merge_and_unload() of peft, and save the result with save_pretrained()",
        )


@dataclass(frozen=True)
class Description:
    """The kind of a model, from the config.json of its checkpoint."""

    model_class: str | None
    """The class of transformers, or None if it is not written."""
    model_type: str
    needs_code: bool
    """Whether the checkpoint has Python code for the model."""
    families: tuple[str, ...]
    """The families that read the model, without the generic one."""


def describe(setting: str, folder: Path) -> Description:
    """Return the description of the checkpoint in a folder. Raises ConfigError if config.json has no model type."""
    check_adapter(setting, folder)
    content = read_config(folder)
    model_class, model_type = _first_class(content), TIMM if is_timm(content) else content.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigError(
            f"{setting}: {folder}/config.json has no model_type, so its architecture is unknown", "add it"
        )
    families = [family for family in names("models") if _reads(family, model_class, model_type)]
    families = families or [family for family in names("models") if _leaves_head_out(family, model_class, model_type)]
    families.sort(key=_has_no_head)  # a class that is not written is more often one with a head
    return Description(model_class, model_type, "auto_map" in content, tuple(families))


def check_family(model: ModelConfig, folder: Path) -> None:
    """Raise ConfigError if the family of the model does not read the kind of model in a checkpoint's folder.

    A class that is not known here, such as a user's own, is accepted if its model type is one of the family.
    """
    setting = f"model.checkpoint={model.checkpoint}"
    check_adapter(setting, folder)
    if not known_models(model.family) or (model.trust_remote_code and "auto_map" in read_config(folder)):
        return
    described = describe(setting, folder)
    if model.family in described.families or _leaves_head_out(
        model.family, described.model_class, described.model_type
    ):
        return
    kind = described.model_class or f"model of the type {described.model_type}"
    problem = f"{setting}: config.json describes a {kind}"
    if described.families:
        raise ConfigError(
            f"{problem}, which model.family={model.family} does not read",
            f"use model.family={' or '.join(described.families)}",
        )
    if described.needs_code:
        raise ConfigError(f"{problem}, a model with custom code", "model.trust_remote_code=true would run it")
    raise ConfigError(
        f"{problem}; {_explain(model.family, described.model_class, described.model_type)}",
        f"to measure its speed and memory, see 'visionbench models inspect {model.checkpoint}'",
    )


def has_unused_head(model: ModelConfig, folder: Path) -> bool:
    """Return whether the family leaves out the head of the model in a checkpoint's folder."""
    described = describe(f"model.checkpoint={model.checkpoint}", folder)
    return _leaves_head_out(model.family, described.model_class, described.model_type)


def known_models(family: str) -> Mapping[str, str]:
    """Return the model types that a family reads, each with its class of transformers. Empty for a user's family."""
    return dict(getattr(find("models", family), "model_types", {}))


def _reads(family: str, model_class: str | None, model_type: str) -> bool:
    """Return whether a family reads a model of this type, and of this class if it is known."""
    known = known_models(family)
    pattern = getattr(find("models", family), "class_pattern", None)
    if model_class is None:
        return model_type in known
    if model_class in known.values() or (pattern and re.search(pattern, model_class)):
        return True
    has_head = not any(name.endswith("Model") for name in known.values())
    other = "|".join((*TASKS, "ForImageClassification", ONE_ENCODER, *([NO_HEAD] if has_head else [])))
    return model_type in known and not re.search(other, model_class)


def _leaves_head_out(family: str, model_class: str | None, model_type: str) -> bool:
    """Return whether a family reads a model of this class without its head."""
    pattern = getattr(find("models", family), "without_head", None)
    return bool(pattern and model_type in known_models(family) and re.search(pattern, model_class or ""))


def _has_no_head(family: str) -> bool:
    return hasattr(find("models", family), "without_head")


def _explain(family: str, model_class: str | None, model_type: str) -> str:
    """Return why no family reads a model."""
    name = model_class or ""
    if re.search(ONE_ENCODER, name):
        return "it is only one encoder of a dual encoder, and visionbench needs both"
    if task := next((task for part, task in TASKS.items() if re.search(part, name)), None):
        return f"visionbench has no family for {task}"
    if re.search(NO_HEAD, name) and (
        model_type in known_models(family) or hasattr(find("models", family), "class_pattern")
    ):
        return "it has no head for a task, so its answers would be random; train a head and save the complete model"
    known = ", ".join(sorted(known_models(family)))
    return f"visionbench has no family for the model type {model_type}; model.family={family} reads {known}"


def _first_class(content: Mapping[str, Any]) -> str | None:
    classes = content.get("architectures")
    return str(classes[0]) if isinstance(classes, list) and classes else None
