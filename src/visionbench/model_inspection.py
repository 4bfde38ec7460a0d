"""Write the YAML of a model from the files of its checkpoint.

The family is the one that reads the model, or `generic`. The model is then built with shapes only, by the code that
loads it for a measurement, so that a YAML that is written can be measured.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, LoadedModel, first_line
from visionbench.model_check import call_with_shapes
from visionbench.parts import find_adapter
from visionbench.registry import find

GENERIC = "generic"
LEFT_OUT = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "num_labels",
    "torch_dtype",
    "transformers_version",
}
"""Keys of config.json that do not describe the architecture. The number of labels is written by itself."""
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
MOST_CHARACTERS = 4000
"""The length of an `architecture:` above which it is left out of the YAML."""


@dataclass(frozen=True)
class Inspection:
    """The configuration of a model, with facts for its YAML."""

    model: ModelConfig
    """The configuration of the model."""
    task: str
    model_class: str
    parameters: int
    notes: tuple[str, ...] = ()

    def to_yaml(self, command: str) -> str:
        """Return the text of the YAML file, with the command that measures the model."""
        comments = [command, f"{self.model_class}: {self.parameters:,} parameters", *self.notes]
        values: dict[str, Any] = {
            "name": self.model.name,
            "family": self.model.family,
            "checkpoint": self.model.checkpoint,
            "revision": self.model.revision,
            "weights": "pretrained",
        }
        for key in ("trust_remote_code", "pickled_weights"):
            if getattr(self.model, key):
                values[key] = True
        for key in ("options", "architecture", "image_processor"):
            if value := getattr(self.model, key):
                values[key] = value
        nested = any(isinstance(value, dict) for value in values.values())
        text: str = yaml.safe_dump(
            values, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None if nested else False
        )
        return "".join(f"# {comment}\n" for comment in comments) + text


def inspect(checkpoint: str, name: str | None = None, revision: str | None = None) -> Inspection:
    """Return the inspection of a local checkpoint, or of a Hub repository, of which only the small files are fetched.

    `name` is the model's name, by default that of the checkpoint. Raises ConfigError with what prevents a measurement.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns about values that do not matter here
    model = ModelConfig(
        name=name or _default_name(checkpoint), family=GENERIC, checkpoint=checkpoint, revision=revision, options={}
    )
    local = weights.local_folder(model)
    if local is not None:
        folder = weights.find_checkpoint(model) or weights.obtain_checkpoint(model)
        if not checkpoint.startswith("bundled:"):
            model = replace(model, checkpoint=str(local.expanduser().absolute()))
    else:
        folder = weights.find_checkpoint(model) or weights.fetch_description(model)
        if not (folder / "config.json").is_file():  # a checkpoint of open_clip, which is converted as a whole
            folder = weights.obtain_checkpoint(model)
        model = replace(model, revision=weights.find_revision(model))
    setting = f"model.checkpoint={checkpoint}"
    described = weights.describe(setting, folder)
    weights.prepare_architecture(setting, folder)
    if described.needs_code and not described.families:
        raise ConfigError(
            f"{setting}: its model is Python code of the checkpoint",
            "read this code, and write a YAML with trust_remote_code: true",
        )
    notes = []
    if described.families:
        model = replace(model, family=described.families[0])
        if read_options := getattr(find("models", model.family), "read_options", None):
            model = replace(model, options=read_options(folder))
    else:
        model = replace(model, options=_generic_options(setting, described))
        notes.append("speed, memory, FLOPs and pipeline of the forward pass; quality is refused")
    model = replace(model, pickled_weights=_is_pickled(folder) and local is not None)
    model = _with_architecture(model, folder)
    model, loaded = _with_working_options(model, setting, local is not None)
    parameters = sum(parameter.numel() for parameter in loaded.module.parameters())
    if model.pickled_weights:
        notes.append("the weights are a pickle: torch's restricted unpickler reads them")
    return Inspection(model, find("models", model.family).task, type(loaded.module).__name__, parameters, tuple(notes))


def _with_working_options(model: ModelConfig, setting: str, has_weights: bool) -> tuple[ModelConfig, LoadedModel]:
    """Return the model with the first options of its family with which it can be called, and its shapes.

    Raises ConfigError of the first options if it cannot be called with any.
    """
    first: ConfigError | None = None
    choices: Sequence[Mapping[str, Any]] = getattr(find("models", model.family), "inspected_options", ({},))
    for options in choices:
        candidate = replace(model, options={**model.options, **options})
        try:
            loaded = _build_shapes(_buildable(candidate, has_weights), setting)
            _call(loaded, setting)
        except ConfigError as error:
            first = first or error
            continue
        return candidate, loaded
    assert first is not None
    raise first


def _default_name(checkpoint: str) -> str:
    """Return a name for the YAML from the last part of a checkpoint's name."""
    last = Path(checkpoint.removeprefix("bundled:")).expanduser().absolute().name
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_") or "model"


def _generic_options(setting: str, described: weights.Description) -> dict[str, Any]:
    """Return the options of the generic family. Raises ConfigError if the model's input is not an image."""
    import transformers

    name = described.model_class or f"a model of the type {described.model_type}"
    auto_class = weights.auto_class_of(described.model_type, described.model_class)
    if auto_class is None:
        raise ConfigError(f"{setting}: no Auto class of transformers {transformers.__version__} builds {name}")
    classes = weights.auto_classes()[auto_class][described.model_type]
    built = getattr(transformers, described.model_class or classes[0], None)
    main_input = getattr(built, "main_input_name", None)
    if main_input != weights.PIXELS:
        raise ConfigError(
            f"{setting}: {name} reads {main_input or 'an unknown input'}, and visionbench measures models that read "
            "images"
        )
    return {"auto_class": auto_class}


def _is_pickled(folder: Path) -> bool:
    names = {entry.name for entry in folder.iterdir()}
    return not any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names)


def _with_architecture(model: ModelConfig, folder: Path) -> ModelConfig:
    """Return the model with its `architecture:` and `image_processor:`, for random weights.

    Both are left out if the architecture cannot be built from them, or is too long for a YAML that people read.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        architecture = _plain(_without_derived(config.to_diff_dict(), config))
        if config.num_labels != type(config)().num_labels:
            architecture["num_labels"] = config.num_labels
        processor = _read_processor(folder)
        candidate = replace(model, architecture=architecture, image_processor=processor)
        if not processor or len(json.dumps(architecture)) > MOST_CHARACTERS:
            return model
        weights.build_config(candidate)
        random = _build_shapes(replace(candidate, weights="random"), "")
        expected = weights.count_checkpoint_parameters(model, _auto_class(model), folder)
        if sum(parameter.numel() for parameter in random.module.parameters()) != expected:
            return model
    except Exception:  # the architecture is optional, and transformers' configurations fail in many ways
        return model
    return candidate


def _auto_class(model: ModelConfig) -> str:
    return str(model.options.get("auto_class") or weights.auto_class_for(find("models", model.family), model))


def _without_derived(values: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Return the values of a configuration without the keys that another configuration has added to it.

    For example, PaliGemma adds the number of image tokens to the configuration of its language model.
    """
    default = type(config)()
    return {
        key: _without_derived(value, getattr(config, key))
        if isinstance(value, Mapping) and hasattr(getattr(config, key, None), "to_diff_dict")
        else value
        for key, value in values.items()
        if key == "model_type" or hasattr(default, key)
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration that a YAML can hold, without those that do not describe the model."""
    from transformers import PreTrainedConfig

    defaults = PreTrainedConfig().to_dict()
    plain: dict[str, Any] = {}
    for key, value in values.items():
        if key in LEFT_OUT or key.startswith("_") or value is None or (key in defaults and defaults[key] == value):
            continue
        plain[key] = _plain(value) if isinstance(value, Mapping) else value
    return plain


def _read_processor(folder: Path) -> dict[str, Any]:
    """Return the options of a checkpoint's image processor, or an empty dictionary if its class is not written."""
    for name in PROCESSOR_FILES:
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            content = content.get("image_processor", content)
            kept = {key: value for key, value in content.items() if value is not None and key != "processor_class"}
            return kept if "image_processor_type" in kept else {}
    return {}


def _buildable(model: ModelConfig, has_weights: bool) -> ModelConfig:
    """Return the configuration that can be built on this machine. Raises ConfigError if there is none."""
    if has_weights or weights.find_checkpoint(model) is not None:
        return model
    if not model.architecture:
        raise ConfigError(
            f"model.checkpoint={model.checkpoint}: its architecture cannot be read without its weights",
            "download the checkpoint, and inspect its folder",
        )
    return replace(model, weights="random")


def _build_shapes(model: ModelConfig, setting: str) -> LoadedModel:
    """Return the model with shapes only. Raises ConfigError if it cannot be built, as from a damaged configuration."""
    import torch

    try:
        return find_adapter(model).load(model, torch.device("meta"), torch.float32)
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(
            f"{setting}: the model cannot be built from its files ({reason})", "check its config.json"
        ) from error


def _call(loaded: LoadedModel, setting: str) -> None:
    """Raise ConfigError if the model cannot process an image."""
    try:
        call_with_shapes(loaded)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{setting}: {type(loaded.module).__name__} cannot process an image alone ({first_line(error)})"
        ) from error
