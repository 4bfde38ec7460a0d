"""Resolve the values that a configuration leaves open: `model.weights=auto`, and data that must be fetched.

The resolved values replace the open values in the configuration, so that a run's files show what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from visionbench import weights
from visionbench.config import DataConfig, ExperimentConfig, ModelConfig, read_fallback, replaced_option
from visionbench.core import ConfigError, Fetchable, problem_of
from visionbench.datafiles.download import Unreachable
from visionbench.parts import find_data
from visionbench.registry import find
from visionbench.terminal.console import screen
from visionbench.terminal.progress import fetch_progress


@dataclass(frozen=True)
class Resolution:
    """Keys of the configuration with their resolved values, and notes for the user."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class Resolver:
    """The resolutions of one command. Each section is resolved once, and an unreachable Hub is not tried again."""

    config_dir: Path | None = None
    resolutions: dict[str, Resolution] = field(default_factory=dict)
    hub_unreachable: bool = False

    def resolve(self, config: ExperimentConfig) -> Resolution:
        """Resolve the open values of this configuration, and fetch the files that they need.

        Raises ConfigError if a value cannot be resolved.
        """
        model, data = self._cached(config.model, self._weights), self._cached(config.data, self._data)
        return Resolution({**model.changes, **data.changes}, (*model.notes, *data.notes))

    def _cached(self, section: Any, resolve: Callable[[Any], Resolution]) -> Resolution:
        if repr(section) not in self.resolutions:
            self.resolutions[repr(section)] = resolve(section)
        return self.resolutions[repr(section)]

    def _weights(self, model: ModelConfig) -> Resolution:
        if model.weights != "auto":
            return Resolution()
        if not weights.has_files(model):
            return Resolution({"model.weights": "pretrained"})
        reason = self._reason_against_pretrained(model)
        if reason is None:
            return Resolution({"model.weights": "pretrained"})
        if model.checkpoint and not model.architecture:
            raise ConfigError(
                f"model.weights=auto: {reason}, and {model.name} has no 'architecture:' for random weights",
                "give a checkpoint that exists, or choose another model",
            )
        note = f"model.weights=auto: random for {model.name}, since {reason}"
        return Resolution({"model.weights": "random"}, (note,))

    def _reason_against_pretrained(self, model: ModelConfig) -> str | None:
        """Return why pretrained weights cannot be used, or None if the checkpoint is on this machine now."""
        if not model.checkpoint:
            return "it names no checkpoint"
        try:
            if self.hub_unreachable and weights.local_folder(model) is None and weights.find_checkpoint(model) is None:
                return f"{model.checkpoint} is not on this machine either, and the Hub was not tried again"
            weights.ensure_checkpoint(model)
        except Unreachable as error:
            self.hub_unreachable = True
            return problem_of(error)
        except (ConfigError, OSError) as error:
            return problem_of(error)
        return None

    def _data(self, data: DataConfig) -> Resolution:
        if _is_present(data):
            return Resolution()
        reason = f"{data.root} does not exist"
        if data.prepare is not None:
            try:
                _fetch(data)
                return Resolution()
            except (ConfigError, OSError) as error:
                if data.fallback is None:
                    raise
                reason = problem_of(error)
        if data.fallback is None:
            return Resolution()  # the data set's own error describes the expected files
        notes = [f"data={data.name}: {data.fallback} is used instead, since {reason}"]
        if note := replaced_option("data", data.fallback, self.config_dir):
            notes.append(note)
        return Resolution({f"data.{key}": value for key, value in asdict(self._fallback(data)).items()}, tuple(notes))

    def _fallback(self, data: DataConfig) -> DataConfig:
        """Return the fallback data set, with the requested number of images or as many as it has."""
        other = read_fallback(str(data.fallback), self.config_dir)
        requested, available = data.options.get("samples") or data.prepare, other.options.get("samples")
        if not isinstance(requested, int) or not isinstance(available, int):
            return other
        return replace(other, options={**other.options, "samples": min(requested, available)})


def check(config: ExperimentConfig, config_dir: Path | None = None) -> None:
    """Raise ConfigError for an invalid `data.prepare` or `data.fallback`, before anything is fetched."""
    data = config.data
    if data.fallback is not None:
        other = read_fallback(data.fallback, config_dir)
        if "root" in (field.name for field in fields(find("data", other.name))):
            raise ConfigError(
                f"data.fallback={data.fallback}: it is read from a folder, which may be missing too",
                "choose data without a folder, as in data.fallback=shapes",
            )
    if data.prepare is None:
        return
    data_set = find_data(data)
    if not isinstance(data_set, Fetchable):
        raise ConfigError(
            f"data.prepare={data.prepare}: data={data.name} cannot be fetched",
            "remove data.prepare, or choose data=coco",
        )
    source = data_set.fetch_source()
    if not source.is_ready():
        source.check(data.prepare)


def _is_present(data: DataConfig) -> bool:
    """Return whether the folder exists and, if it is one that is fetched, is complete."""
    if data.root is None:
        return True
    if data.prepare is not None and isinstance(data_set := find_data(data), Fetchable):
        return data_set.fetch_source().is_ready()
    return Path(data.root).expanduser().is_dir()


def _fetch(data: DataConfig) -> None:
    data_set = find_data(data)
    assert isinstance(data_set, Fetchable) and data.prepare is not None
    with fetch_progress(screen()) as progress:
        data_set.fetch_source().fetch(data.prepare, progress)
