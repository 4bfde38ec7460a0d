"""Relative paths in the user's YAML files: they start at the folder of the file that contains them.

A path on the command line starts at the current folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from visionbench.config import ExperimentConfig, path_from_file
from visionbench.yaml_limits import check_limits

PATHS = ("model.checkpoint", "data.root", "data.clusters")
"""The keys whose values are paths of input files. `output_dir` always starts at the current folder."""


@dataclass(frozen=True)
class UserFiles:
    """The files of the user's folder that take part in a composed configuration."""

    config_dir: Path | None
    choices: Mapping[str, str]
    """The chosen option of each group."""
    config_name: str | None = None

    def find(self, key: str) -> Path | None:
        """Return the file that sets a key, or None if no file of the user does."""
        group = key.partition(".")[0]
        groups = dict.fromkeys(("experiment", group, *self.choices))
        for name in groups:
            for path, content in self._read(name, self.choices.get(name)):
                if _sets(content, key, name):
                    return path
        for path, content in self._read("", self.config_name):
            if _sets(content, key, ""):
                return path
        return None

    def _read(self, group: str, option: str | None) -> Iterator[tuple[Path, Any]]:
        """Yield the file of an option with its content, and then the files of the same group that it builds on."""
        path = None if self.config_dir is None else self.config_dir / group / f"{option}.yaml"
        if path is None or not path.is_file():
            return
        check_limits(path)
        content = OmegaConf.load(path)
        if not OmegaConf.is_dict(content):
            return
        yield path, content
        for base in OmegaConf.select(content, "defaults") or ():
            if isinstance(base, str) and base not in ("_self_", option):
                yield from self._read(group, base.removeprefix(f"/{group}/"))


def resolve_paths(config: ExperimentConfig, overrides: Sequence[str], files: UserFiles) -> dict[str, str]:
    """Return the paths that a file of the user sets, as paths from the current folder. Raises ConfigError."""
    typed = {override.lstrip("+").partition("=")[0] for override in overrides}
    changes: dict[str, str] = {}
    for key in PATHS:
        section, name = key.split(".")
        value = getattr(getattr(config, section), name)
        file = None if value is None or key in typed else files.find(key)
        if file is not None and (path := path_from_file(key, value, file)) is not None and path != value:
            changes[key] = path
    return changes


def _sets(content: Any, key: str, group: str) -> bool:
    """Return whether a file sets a key. A file of a group holds the keys below the group, or all keys."""
    for name in (key, key.removeprefix(f"{group}.")):
        with suppress(OmegaConfBaseException):
            if OmegaConf.select(content, name, throw_on_missing=False) is not None:
                return True
    return False
