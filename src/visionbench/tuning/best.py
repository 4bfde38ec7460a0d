"""best.yaml: an experiment of Hydra that measures the best configuration again.

The file selects the options of all groups, and sets the keys that differ from these options. Option files of the
user's own folder are copied beside it, so that one `--config-dir` suffices.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from visionbench.records import atomic

GROUP, NAME = "experiment", "best"
OTHER_SECTIONS = ("output_dir", "check", "resume", "retry", "on_change")
"""Keys that do not describe what is measured."""


def differences(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of nested mappings that differ from the defaults."""
    changed: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            if inner := differences(value, default):
                changed[key] = inner
        elif value != default or key not in defaults:
            changed[key] = value
    return changed


def write(
    folder: Path,
    choices: Mapping[str, str | Sequence[str]],
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    comments: Sequence[str],
    config_dir: Path | None,
) -> Path:
    """Write experiment/best.yaml below a folder.

    `choices` are the options of the groups, `values` the configuration, and `defaults` the configuration that the
    options alone give.
    """
    options = {group: option if isinstance(option, str) else list(option) for group, option in choices.items()}
    selected = [{f"override /{group}": option} for group, option in options.items()]
    changed = {key: value for key, value in differences(values, defaults).items() if key not in OTHER_SECTIONS}
    head = ["# @package _global_", f"# {command(folder)}", *(f"# {comment}" for comment in comments)]
    content = {"defaults": [*selected, "_self_"], **changed}
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    path = folder / GROUP / f"{NAME}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, "\n".join(head) + "\n" + body)
    if config_dir is not None:
        copy_own_options(config_dir, folder, choices)
    return path


def copy_own_options(config_dir: Path, folder: Path, choices: Mapping[str, str | Sequence[str]]) -> None:
    """Copy the files of the chosen groups from the user's folder."""
    for group, option in choices.items():
        for name in [option] if isinstance(option, str) else option:
            if (config_dir / group / f"{name}.yaml").is_file():
                (folder / group).mkdir(parents=True, exist_ok=True)
                for file in (config_dir / group).glob("*.yaml"):
                    shutil.copyfile(file, folder / group / file.name)


def command(folder: Path) -> str:
    """Return the command that measures the best configuration again."""
    shown = folder.relative_to(Path.cwd()) if folder.is_absolute() and folder.is_relative_to(Path.cwd()) else folder
    return shlex.join(["visionbench", "run", "--config-dir", str(shown), f"{GROUP}={NAME}"])
