"""What a config leaves open is settled before planning: `weights=auto`, and data that are to be fetched or replaced.

What was settled is in the config from then on, so that a run's files show what really ran.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from visionbench import weights
from visionbench.config import DataConfig, ExperimentConfig, ModelConfig, data_option
from visionbench.core import Fetchable, problem_of
from visionbench.datafiles.download import Unreachable
from visionbench.parts import find_data
from visionbench.registry import ConfigError, find
from visionbench.terminal.console import screen
from visionbench.terminal.progress import fetch_progress


@dataclass(frozen=True)
class Resolution:
    """Keys of the config with the values that they get, and what is to be told of it."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class Resolver:
    """The answers of one command: nothing is asked twice, and a Hub that was out of reach is left alone."""

    config_dir: Path | None = None
    answers: dict[str, Resolution] = field(default_factory=dict)
    hub_away: bool = False

    def of(self, config: ExperimentConfig) -> Resolution:
        """What this config leaves open, settled; fetches if need be. Raises ConfigError where nothing can stand in."""
        model, data = self._once(config.model, self._weights), self._once(config.data, self._data)
        return Resolution({**model.changes, **data.changes}, (*model.notes, *data.notes))

    def _once(self, part: Any, settle: Callable[[Any], Resolution]) -> Resolution:
        if repr(part) not in self.answers:
            self.answers[repr(part)] = settle(part)
        return self.answers[repr(part)]

    def _weights(self, model: ModelConfig) -> Resolution:
        if model.weights != "auto":
            return Resolution()
        why = self._why_not_pretrained(model)
        if why is None:
            return Resolution({"model.weights": "pretrained"})
        if model.checkpoint and not model.architecture:
            raise ConfigError(f"model.weights=auto: {why}; and {model.name} has no 'architecture:' for random weights")
        return Resolution({"model.weights": "random"}, (f"model.weights=auto: random for {model.name}, since {why}",))

    def _why_not_pretrained(self, model: ModelConfig) -> str | None:
        if not model.checkpoint:
            return "it names no checkpoint"
        try:
            if self.hub_away and weights.local_folder(model) is None and weights.find_checkpoint(model) is None:
                return f"{model.checkpoint} is not on this machine either, and the Hub was not tried again"
            weights.ensure_checkpoint(model)
        except Unreachable as error:
            self.hub_away = True
            return problem_of(error)
        except (ConfigError, OSError) as error:
            return problem_of(error)
        return None

    def _data(self, data: DataConfig) -> Resolution:
        if _is_present(data):
            return Resolution()
        why = f"{data.root} is not there"
        if data.prepare is not None:
            try:
                _fetch(data)
                return Resolution()
            except (ConfigError, OSError) as error:
                if data.otherwise is None:
                    raise
                why = problem_of(error)
        if data.otherwise is None:
            return Resolution()  # the data set itself says what is expected where
        stand_in = self._stand_in(data)
        changes = {f"data.{key}": value for key, value in asdict(stand_in).items()}
        return Resolution(changes, (f"data={data.name}: {data.otherwise} in its place, since {why}",))

    def _stand_in(self, data: DataConfig) -> DataConfig:
        """The other data set, with as many pictures as were wanted where it has them."""
        other = data_option(str(data.otherwise), self.config_dir)
        wanted, has = data.options.get("samples") or data.prepare, other.options.get("samples")
        if not isinstance(wanted, int) or not isinstance(has, int):
            return other
        return replace(other, options={**other.options, "samples": min(wanted, has)})


def check(config: ExperimentConfig, config_dir: Path | None = None) -> None:
    """Raise ConfigError for `data.prepare` and `data.otherwise` that make no sense, before anything is fetched."""
    data = config.data
    if data.otherwise is not None:
        other = data_option(data.otherwise, config_dir)
        if "root" in (field.name for field in fields(find("data", other.name))):
            raise ConfigError(
                f"data.otherwise={data.otherwise}: is read from a folder, which may be missing too; "
                "name one that is not, as data.otherwise=shapes"
            )
    if data.prepare is None:
        return
    source = find_data(data)
    if not isinstance(source, Fetchable):
        raise ConfigError(
            f"data.prepare={data.prepare}: data={data.name} cannot be fetched; remove data.prepare, or choose data=coco"
        )
    if not source.is_ready():
        source.check_fetch(data.prepare)


def _is_present(data: DataConfig) -> bool:
    """Return whether the folder exists and, if it is one that is fetched, is complete."""
    if data.root is None:
        return True
    if data.prepare is not None and isinstance(source := find_data(data), Fetchable):
        return source.is_ready()
    return Path(data.root).expanduser().is_dir()


def _fetch(data: DataConfig) -> None:
    source = find_data(data)
    assert isinstance(source, Fetchable) and data.prepare is not None
    with fetch_progress(screen()) as progress:
        source.fetch(data.prepare, progress)
