"""Read the names of a classifier's classes from the config of its checkpoint, without loading the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.weights.errors import first_sentence
from visionbench.weights.identification import prepare_architecture
from visionbench.weights.location import find_checkpoint


def read_class_names(model: ModelConfig) -> Mapping[Any, Any]:
    """Return `id2label`, the class names by index, of a checkpoint on this machine. Raises ConfigError."""
    source = find_checkpoint(model)
    if source is None:
        raise ConfigError(
            f"model.checkpoint={model.checkpoint}: not on this machine", f"run 'visionbench models fetch {model.name}'"
        )
    path = source / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({first_sentence(error)})", "fetch it again") from None
    if not isinstance(content, dict) or not isinstance(content.get("id2label"), dict):
        return _read_default_names(model, source)
    names: Mapping[Any, Any] = content["id2label"]
    if conflicts := _find_conflicts(names, content.get("label2id")):
        name, index = next(iter(conflicts.items()))
        raise ConfigError(
            f"{path}: id2label and label2id disagree on {len(conflicts)} classes, such as '{name}', to which label2id "
            f"gives the index {index}",
            "correct the file",
        )
    return names


def list_class_names(id2label: Mapping[Any, Any], source: str) -> list[str]:
    """Return the class names by index. Raises ConfigError if an index is missing."""
    try:
        names = {int(index): str(name) for index, name in id2label.items()}
        return [names[index] for index in range(len(names))]
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{source}: its id2label does not number the classes from 0", "correct it") from None


def _read_default_names(model: ModelConfig, source: Path) -> Mapping[Any, Any]:
    """Return the class names that transformers gives to a checkpoint without names."""
    from transformers import AutoConfig

    prepare_architecture(f"model.checkpoint={model.checkpoint}", source)
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"model.checkpoint={model.checkpoint}: {first_sentence(error)}") from None
    return dict(config.id2label)


def _find_conflicts(id2label: Mapping[Any, Any], label2id: Any) -> dict[str, Any]:
    """Return the names of `id2label` to which `label2id` gives the index of another name.

    Names that only `label2id` has are ignored: they remain if a user changes only `id2label`.
    """
    if not isinstance(label2id, dict):
        return {}
    by_index = {str(index): name for index, name in id2label.items()}
    known = set(by_index.values())
    return {name: index for name, index in label2id.items() if name in known and by_index.get(str(index)) != name}
