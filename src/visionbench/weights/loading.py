"""Load a checkpoint from its folder. A checkpoint that does not fill the complete model is an error."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.datafiles.text_file import is_lfs_pointer
from visionbench.weights.attention import explain_unsupported, requested_attention
from visionbench.weights.errors import one_line_errors
from visionbench.weights.identification import check_family, has_unused_head, prepare_architecture
from visionbench.weights.location import choose_weights, is_timm, list_shards, refuse_pickled

if TYPE_CHECKING:
    import torch

HARMLESS_UNUSED = re.compile(
    r"(^|\.)(position_ids|num_batches_tracked|inv_freq|attn\.(masked_)?bias|relative_position_index)$"
)
"""Tensors that older checkpoints contain and newer models compute."""
LARGEST_UNUSED_SHARE = 0.1
"""Largest share of a checkpoint's numbers that the model may leave unused. A larger share is that of another model."""
JSON_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
)
"""Files that are checked before transformers reads them, so that the message names a damaged one."""


def load_checkpoint(
    model: ModelConfig, auto_class: str, source: Path, dtype: torch.dtype, shapes_only: bool = False
) -> Any:
    """Return the checkpoint's model in host memory. Raises ConfigError if its files and its config do not match.

    With `shapes_only`, only the names and shapes of the weights are read, and the values of the model are undefined.
    """
    import transformers

    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"  # otherwise a thread sends requests about pickled checkpoints
    transformers.utils.logging.disable_progress_bar()  # it is not visible, and leaves a semaphore behind
    setting = f"model.checkpoint={model.checkpoint}"
    _check_files(source, setting)
    refuse_pickled(model, choose_weights({path.name for path in source.iterdir()}))
    check_family(model, source)
    prepare_architecture(setting, source)
    attention = requested_attention(model)
    options = {
        "dtype": dtype,
        "attn_implementation": attention,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    with one_line_errors(model, setting):
        try:
            if shapes_only:
                module, report = _load_shapes(model, auto_class, source, dtype, options)
                module.tie_weights()
            else:
                module, report = getattr(transformers, auto_class).from_pretrained(
                    str(source), local_files_only=True, trust_remote_code=model.trust_remote_code, **options
                )
        except (ImportError, ValueError):
            if attention is not None:
                _raise_if_unsupported(model, auto_class, source)
            raise
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
    if not has_unused_head(model, source):
        _check_share(module, report["unexpected_keys"], source, setting)
    return module


def read_shapes(source: Path) -> dict[str, list[int]]:
    """Return the names and shapes of the weights of a checkpoint, without their values."""
    import torch
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    first = source / choose_weights({path.name for path in source.iterdir()})
    for name in list_shards(first):
        if name.endswith(".safetensors"):
            with safe_open(source / name, "pt") as file:
                shapes |= {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        else:
            state = torch.load(source / name, map_location="meta", weights_only=True)
            shapes |= {key: list(tensor.shape) for key, tensor in state.items() if hasattr(tensor, "shape")}
    return shapes


def _load_shapes(
    model: ModelConfig, auto_class: str, source: Path, dtype: torch.dtype, options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Return the model with tensors that repeat one undefined number, and transformers' report on the names."""
    import torch
    import transformers

    trusted = {"trust_remote_code": model.trust_remote_code}
    config = transformers.AutoConfig.from_pretrained(source, local_files_only=True, **trusted)
    with torch.device("meta"):
        model_class = type(getattr(transformers, auto_class).from_config(deepcopy(config), **trusted))
    state = {name: torch.empty((), dtype=dtype).expand(shape) for name, shape in read_shapes(source).items()}
    loaded: tuple[Any, Any] = model_class.from_pretrained(None, config=config, state_dict=state, **options)
    return loaded


def _raise_if_unsupported(model: ModelConfig, auto_class: str, source: Path) -> None:
    """Raise ConfigError with the supported implementations if the model does not support `model.attention`."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=model.trust_remote_code)
    if error := explain_unsupported(model, auto_class, config):
        raise error


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
    if path.name == "config.json" and not (isinstance(content.get("model_type"), str) or is_timm(content)):
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


def _check_share(module: Any, unused: Collection[str], source: Path, setting: str) -> None:
    """Raise ConfigError if a large part of the checkpoint is not used, because it then belongs to another model."""
    if not unused:
        return
    sizes = {name: math.prod(shape) for name, shape in read_shapes(source).items()}
    names = sorted(name for name in unused if name in sizes)
    share = sum(sizes[name] for name in names) / max(1, sum(sizes.values()))
    if share > LARGEST_UNUSED_SHARE:
        raise ConfigError(
            f"{setting}: {type(module).__name__} has no place for {share:.0%} of its weights, such as "
            f"{names[0]}{_count_rest(names)}, so it is the checkpoint of another model",
            "set model.family to the family of that model, or save only this model with save_pretrained()",
        )
