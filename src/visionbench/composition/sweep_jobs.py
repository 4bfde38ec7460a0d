"""Composing the jobs of a sweep in less time.

Hydra reads and merges all files for each job, and does so twice: its sweeper composes each job as a check before the
launcher does. Most jobs of a sweep differ only in values such as `model.seed=1`. `SweepJobs` composes the first, and
sets the values of the others in copies.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

VALUE = re.compile(r"(?!hydra\.)(\w+(?:\.\w+)+)=")
"""The beginning of an override that sets a value. The name of a group has no dot."""


class SweepJobs(ConfigLoader):
    """Composes the jobs of one sweep. The sweeper and the launcher compose a job one after the other, so it is kept."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self._checked: dict[tuple[str, ...], DictConfig] = {}
        self._first: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose a job, and keep it for `take`."""
        config = self._compose(master_config, sweep_overrides)
        self._checked[tuple(sweep_overrides)] = config
        return config

    def take(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Return a composed job, which is composed now if the sweeper did not compose it. The caller may change it."""
        config = self._checked.pop(tuple(sweep_overrides), None)
        return self._compose(master_config, list(sweep_overrides)) if config is None else config

    def _compose(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        values = [_value_of(override) for override in sweep_overrides]
        kind = tuple(text if pair is None else pair[0] for text, pair in zip(sweep_overrides, values, strict=True))
        first = self._first.get(kind)
        if first is not None:
            config = _with_values(first, [pair for pair in values if pair is not None], sweep_overrides)
            if config is not None:
                OmegaConf.copy_cache(from_config=master_config, to_config=config)
                return config
        config = self.loader.load_sweep_config(master_config, sweep_overrides)
        if first is None:
            self._first[kind] = copy.deepcopy(config)
        return config

    # ------------------------------------------------------------------------------------------ the same as the loader
    def load_configuration(self, *arguments: Any, **named: Any) -> DictConfig:
        """Compose a configuration."""
        return self.loader.load_configuration(*arguments, **named)

    def get_search_path(self) -> Any:
        """Return the search path of files."""
        return self.loader.get_search_path()

    def get_sources(self) -> Any:
        """Return the sources of files."""
        return self.loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        """Return the groups in a group."""
        return self.loader.list_groups(parent_name)

    def get_group_options(self, *arguments: Any, **named: Any) -> list[str]:
        """Return the options of a group."""
        return self.loader.get_group_options(*arguments, **named)

    def compute_defaults_list(self, *arguments: Any, **named: Any) -> Any:
        """Return the files of a configuration."""
        return self.loader.compute_defaults_list(*arguments, **named)


def _value_of(override: str) -> tuple[str, Any] | None:
    """Return the key and the value of an override that sets one value, or None for any other override."""
    match = VALUE.match(override)
    if match is None:
        return None
    value = OverridesParser.create().parse_override(override).value()
    return (match[1], value) if value is None or isinstance(value, str | int | float | bool) else None


def _with_values(first: DictConfig, values: Sequence[tuple[str, Any]], overrides: Sequence[str]) -> DictConfig | None:
    """Return a job with other values of the same keys, or None if Hydra must compose it, because a value is wrong."""
    config = copy.deepcopy(first)
    try:
        for key, value in values:
            OmegaConf.update(config, key, value, merge=True)
    except OmegaConfBaseException:
        return None
    job = config.hydra.job
    settings = job.config.override_dirname
    tasks = [text for text in overrides if not _is_of_hydra(text)]  # the configuration would resolve them
    config.hydra.overrides.task = tasks
    lines = [text for text in tasks if _key(text) not in settings.exclude_keys]
    job.override_dirname = settings.item_sep.join(sorted(lines)).replace("=", settings.kv_sep)
    return config


def _is_of_hydra(override: str) -> bool:
    return re.match(r"[+~]*hydra[./@=]", override) is not None


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]
