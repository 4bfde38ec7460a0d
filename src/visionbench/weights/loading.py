"""Load a checkpoint from its folder. A checkpoint that does not fill the complete model is an error."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.datafiles.text_file import is_lfs_pointer
from visionbench.weights.errors import one_line_errors

if TYPE_CHECKING:
    import torch

HARMLESS_UNUSED = re.compile(
    r"(^|\.)(position_ids|num_batches_tracked|inv_freq|attn\.(masked_)?bias|relative_position_index)$"
)
"""Tensors that older checkpoints contain and newer models compute."""
JSON_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
)
"""Files that are checked before transformers reads them, so that the message names a damaged one."""


def load_checkpoint(model: ModelConfig, auto_class: str, source: Path, dtype: torch.dtype) -> Any:
    """Return the checkpoint's model in host memory. Raises ConfigError if its files and its config do not match."""
    import transformers

    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"  # otherwise a thread sends requests about pickled checkpoints
    transformers.utils.logging.disable_progress_bar()  # it is not visible, and leaves a semaphore behind
    setting = f"model.checkpoint={model.checkpoint}"
    _check_files(source, setting)
    with one_line_errors(model, setting):
        module, report = getattr(transformers, auto_class).from_pretrained(
            source,
            dtype=dtype,
            attn_implementation=model.attention,
            trust_remote_code=model.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    if mismatched := sorted(report["mismatched_keys"]):
        name, stored, expected = mismatched[0]
        raise ConfigError(
            f"{setting}: {name} has the shape {list(stored)}, but config.json describes {list(expected)}"
            f"{_count_rest(mismatched)}",
            "use config.json and weights of the same model",
        )
    if missing := sorted(report["missing_keys"]):
        raise ConfigError(
            f"{setting}: it lacks {missing[0]}{_count_rest(missing)} of {type(module).__name__}",
            f"model.family={model.family} does not fit it",
        )
    _check_unused(module, report["unexpected_keys"], setting)
    return module


def _count_rest(items: Sequence[Any]) -> str:
    return f" and {len(items) - 1} more" if items[1:] else ""


def _check_files(source: Path, setting: str) -> None:
    """Raise ConfigError for a Git LFS pointer, or a JSON file that cannot be read."""
    for path in sorted(entry for entry in source.iterdir() if entry.is_file()):
        if is_lfs_pointer(path):
            raise ConfigError(
                f"{setting}: {path} is a Git LFS pointer, not the file itself", "run 'git lfs pull' in its repository"
            )
        if path.suffix == ".json" and path.name in JSON_FILES:
            _check_json(path, setting)


def _check_json(path: Path, setting: str) -> None:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{setting}: {path} is not JSON ({error})", "fetch it again") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{setting}: {path} does not contain a JSON object", "fetch it again")
    if path.name == "config.json" and not isinstance(content.get("model_type"), str):
        raise ConfigError(f"{setting}: {path} has no model_type, so its architecture is unknown", "add it")


def _check_unused(module: Any, unused: Collection[str], setting: str) -> None:
    """Raise ConfigError if the checkpoint has more parts of a kind than the model, such as more layers.

    `config.json` then describes a smaller model. Weights of other kinds of parts change nothing, because every part of
    the model is filled.
    """
    parts = {re.sub(r"\d+", "N", name) for name in module.state_dict()}
    surplus = sorted(name for name in unused if not HARMLESS_UNUSED.search(name) and re.sub(r"\d+", "N", name) in parts)
    if surplus:
        raise ConfigError(
            f"{setting}: it contains {surplus[0]}{_count_rest(surplus)}, which the model of config.json does not have",
            "use config.json and weights of the same model",
        )
