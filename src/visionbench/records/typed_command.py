"""The command that measured a run, from the files that Hydra writes beside the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER_FOLDER = "user"
"""The name under which `--config-dir` is in Hydra's list of configuration sources."""


@dataclass(frozen=True)
class TypedCommand:
    """The overrides of a `visionbench run` command as they were typed, and its flags."""

    overrides: tuple[str, ...]
    sweep: bool
    """Whether the command measured several runs (`-m`)."""
    config_dir: str | None = None


def read(folder: Path) -> TypedCommand | None:
    """Return the command that measured the run in this folder, or None if Hydra's files are not there."""
    run = _yaml(folder / ".hydra" / "hydra.yaml")
    if run is None:
        return None
    sources = _sequence(_get(run, "hydra", "runtime", "config_sources"))
    user = (str(_get(one, "path")) for one in sources if _get(one, "provider") == USER_FOLDER)
    sweep = _yaml(folder.parent / "multirun.yaml")
    typed = run if sweep is None else sweep
    overrides = tuple(map(str, _sequence(_get(typed, "hydra", "overrides", "task"))))
    return TypedCommand(overrides, sweep is not None, next(user, None))


def _yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _get(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _sequence(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []
