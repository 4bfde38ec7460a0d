"""Find a checkpoint on this machine: a local folder, a bundled folder, or the Hub's cache."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from visionbench.config import ModelConfig, project_folder
from visionbench.core import ConfigError, Connects
from visionbench.registry import find

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
OPEN_CLIP = "open_clip_config.json"
"""The file that describes a model of open_clip."""
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""Files with a tokenizer's vocabulary. At least one is needed: without it, transformers makes an empty tokenizer."""
NO_NAME = "neither a folder nor the name of a Hub repository, owner/name"


def has_files(model: ModelConfig) -> bool:
    """Return whether a model has a checkpoint of files. A model at an endpoint has none."""
    has_no_family = model.family == ModelConfig.family
    return has_no_family or not issubclass(find("models", model.family), Connects)


def local_folder(model: ModelConfig) -> Path | None:
    """Return the local or bundled folder that the checkpoint names, or None if it names a Hub repository."""
    if not has_files(model):
        return None
    name = model.checkpoint or ""
    if name.startswith(BUNDLED):
        return project_folder("data") / name.removeprefix(BUNDLED)
    path = Path(name).expanduser()
    return path if path.is_absolute() or name.startswith((".", "~")) or (name and path.is_dir()) else None


def find_checkpoint(model: ModelConfig) -> Path | None:
    """Return the folder with the complete checkpoint on this machine, or None. Use no network."""
    path = find_source(model)
    if path is not None and is_open_clip(path):
        from visionbench.weights.open_clip import find_converted

        return find_converted(path)
    return path if path is not None and find_missing_file(path) is None else None


def find_source(model: ModelConfig) -> Path | None:
    """Return the local folder of the checkpoint, or its folder in the Hub's cache. It may be incomplete."""
    return local_folder(model) or _find_in_cache(model)


def is_open_clip(folder: Path) -> bool:
    """Return whether a folder has a checkpoint of open_clip, and none of transformers."""
    return (folder / OPEN_CLIP).is_file() and not (folder / "config.json").is_file()


def choose_open_clip_weights(names: Collection[str]) -> str | None:
    """Return the file of weights of open_clip to use if there are several formats, or None if there is none."""
    return next((name for name in OPEN_CLIP_WEIGHTS if name in names), None)


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
    """Return the names of the files with the weights: those in the index, or the file itself.

    Raises ConfigError if the index names a file outside its folder, or in another format than its own.
    """
    if weights.suffix != ".json":
        return [weights.name]
    try:
        names = sorted(set(json.loads(weights.read_text())["weight_map"].values()))
        suffix = Path(weights.name.removesuffix(".index.json")).suffix
        other = next((name for name in names if Path(name).name != name or Path(name).suffix != suffix), None)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{weights}: not an index of weights", "fetch it again") from None
    if other is not None:
        raise ConfigError(f"{weights}: it names {other!r}, which is not a file {suffix} beside it", "fetch it again")
    return names


def _find_in_cache(model: ModelConfig) -> Path | None:
    """Return the folder of the pinned revision in the Hub's cache, which may be incomplete, or None."""
    if not has_files(model):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in ("config.json", OPEN_CLIP):
        try:
            config = try_to_load_from_cache(model.checkpoint or "", name, revision=model.revision)
        except HFValidationError:
            raise ConfigError(f"model.checkpoint={model.checkpoint}: {NO_NAME}") from None
        if isinstance(config, str):
            return Path(config).parent
    return None


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
