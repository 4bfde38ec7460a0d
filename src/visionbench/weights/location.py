"""Find a checkpoint on this machine: a local folder, a bundled folder, or the Hub's cache."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from visionbench.config import ModelConfig, project_folder
from visionbench.core import ConfigError

BUNDLED = "bundled:"
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""The files in which transformers looks for weights, in its order. An index names the files with the weights."""
PROCESSOR = "preprocessor_config.json"
TIMM = "timm_wrapper"
"""The model type of transformers for models of timm."""
NEEDED_FILES = {
    "config.json": ("config.json",),
    PROCESSOR: ("preprocessor_config.json", "processor_config.json"),
    "model.safetensors or pytorch_model.bin": WEIGHT_FILES,
}
"""The files that every checkpoint needs, each with its possible names."""
NO_NAME = "neither a folder nor the name of a Hub repository, owner/name"


def local_folder(model: ModelConfig) -> Path | None:
    """Return the local or bundled folder that the checkpoint names, or None if it names a Hub repository."""
    name = model.checkpoint or ""
    if name.startswith(BUNDLED):
        return project_folder("data") / name.removeprefix(BUNDLED)
    path = Path(name).expanduser()
    return path if path.is_absolute() or name.startswith((".", "~")) or (name and path.is_dir()) else None


def find_checkpoint(model: ModelConfig) -> Path | None:
    """Return the folder with the complete checkpoint on this machine, or None. Use no network."""
    path = local_folder(model) or _find_in_cache(model)
    return path if path is not None and find_missing_file(path) is None else None


def find_missing_kind(names: Collection[str], timm: bool = False) -> str | None:
    """Return the first needed file that is not among the names, or None. A model of timm needs no file of a processor,
    because its config.json describes the processor."""
    needed = {kind: known for kind, known in NEEDED_FILES.items() if not (timm and kind == PROCESSOR)}
    return next((kind for kind, known in needed.items() if not any(name in names for name in known)), None)


def is_timm(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json is that of a model of timm with its processor. It may have no model_type."""
    return "pretrained_cfg" in config and config.get("model_type", TIMM) == TIMM


def choose_weights(names: Collection[str]) -> str:
    """Return the file of weights that transformers uses if there are several formats."""
    return next(name for name in WEIGHT_FILES if name in names)


def refuse_pickled(model: ModelConfig, weights: str) -> None:
    """Raise ConfigError if a file of weights is a pickle, which can hold code, and the model does not allow it."""
    if ".safetensors" not in weights and not model.pickled_weights:
        raise ConfigError(
            f"model.checkpoint={model.checkpoint}: {weights} is a pickle, not safetensors",
            "save it with save_pretrained(), or allow it with model.pickled_weights=true; only tensors are then read",
        )


def list_shards(weights: Path) -> list[str]:
    """Return the names of the files with the weights: those in the index, or the file itself."""
    if weights.suffix != ".json":
        return [weights.name]
    try:
        return sorted(set(json.loads(weights.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{weights}: not an index of weights", "fetch it again") from None


def _find_in_cache(model: ModelConfig) -> Path | None:
    """Return the folder of the pinned revision in the Hub's cache, which may be incomplete, or None."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model.checkpoint or "", "config.json", revision=model.revision)
    except HFValidationError:
        raise ConfigError(f"model.checkpoint={model.checkpoint}: {NO_NAME}") from None
    return Path(config).parent if isinstance(config, str) else None


def find_missing_file(folder: Path) -> str | None:
    """Return the first missing file of the checkpoint in a folder, including shards, or None if it is complete."""
    names = {entry.name for entry in folder.iterdir() if entry.is_file()} if folder.is_dir() else set()
    if (kind := find_missing_kind(names)) and not (kind == PROCESSOR and _is_folder_of_timm(folder)):
        return kind
    if kind and (kind := find_missing_kind(names, timm=True)):
        return kind
    shards = list_shards(folder / choose_weights(names))
    return next((shard for shard in shards if not (folder / shard).is_file()), None)


def _is_folder_of_timm(folder: Path) -> bool:
    with suppress(ValueError):
        content = json.loads((folder / "config.json").read_bytes())
        return isinstance(content, dict) and is_timm(content)
    return False
