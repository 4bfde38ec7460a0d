"""The files of a user's configuration folder that a command selects, and their faults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visionbench import credentials
from visionbench.composition.overrides import refuse_targets
from visionbench.composition.schema import SCHEMA
from visionbench.config import check_file, list_options, load_file, refuse_truth_values
from visionbench.core import ConfigError
from visionbench.suggestions import option as option_ending
from visionbench.suggestions import shown
from visionbench.yaml_limits import check_limits, refuse_other_kinds

PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)
GLOBAL = "_global_"
MAIN_FILE = "config.yaml"
SEARCH_PATH = "hydra.searchpath"
OF_SCHEMA = ("batch", "data", "device", "measure", "metrics", "model", "precision", "tracking")
"""Groups whose options are sections of the schema."""


def refuse_faulty_files(overrides: Sequence[str], config_dir: Path | None) -> None:
    """Raise ConfigError for the first selected file of the user that is not YAML or does not fit the schema."""
    for path, group, _ in selected_files(overrides, config_dir):
        _check_defaults(path, group, load_file(path).get("defaults"))
        _check_content(path, group)


def refuse_replaced_schema(config_dir: Path | None) -> None:
    """Raise ConfigError if the user's folder replaces the main file by one without the schema."""
    if config_dir is None or not os.path.lexists(path := config_dir / MAIN_FILE):
        return
    defaults = load_file(path).get("defaults")
    if SCHEMA not in (defaults if isinstance(defaults, list) else []):
        raise ConfigError(
            f"{path}: replaces the bundled {MAIN_FILE}, but its defaults lack {SCHEMA}",
            "rename the file; a file in experiment/ can set keys of all sections",
        )


def refuse_unsafe_files(overrides: Sequence[str], config_dir: Path | None) -> None:
    """Raise ConfigError for a selected file of the user before Hydra loads it.

    The file is too large or no file, holds a credential, names code, or has `true` for a text.
    """
    for path, group, content in selected_files(overrides, config_dir):
        check_limits(path)
        text = path.read_text("utf-8", errors="replace") if content else ""
        is_global = (header := PACKAGE.search(text)) is not None and header[1] == GLOBAL
        refuse_targets("" if is_global else group.replace("/", "."), content, path)
        credentials.refuse(content, "" if is_global else group, lambda _, path=path: path)  # type: ignore[misc]
        refuse_truth_values("" if is_global else group, content, f"{path}: ")


def search_folders(overrides: Sequence[str], config_dir: Path | None) -> list[Path]:
    """Return the folders that `hydra.searchpath` names, in a command or in the main file of the user's folder."""
    values: list[Any] = []
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == SEARCH_PATH:
            values += [folder.strip(" '\"") for folder in value.strip("[] ").split(",")]
    if config_dir is not None and os.path.lexists(path := config_dir / MAIN_FILE):
        section = load_file(path).get("hydra")
        entries = section.get("searchpath") if isinstance(section, dict) else None
        values += entries if isinstance(entries, list) else []
    folders = [Path(str(value).removeprefix("file://")) for value in values if not str(value).startswith("pkg://")]
    return [folder for folder in folders if "\0" not in str(folder) and folder.is_dir()]


def file_with_default(group: str, option: str, overrides: Sequence[str], config_dir: Path | None) -> Path | None:
    """Return the selected file of the user whose `defaults` name an option, or None."""
    for path, own_group, content in selected_files(overrides, config_dir):
        if (group, option) in _entries(own_group, content.get("defaults")):
            return path
    return None


def selected_files(overrides: Sequence[str], config_dir: Path | None) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    """Yield the user's files that the command line selects, directly or by `defaults`: path, group and content.

    The content of a file that cannot be read is empty. Raises ConfigError for a path that is not a file.
    """
    if config_dir is None:
        return
    pending = [("", MAIN_FILE.removesuffix(".yaml"))]
    for override in overrides:
        group, _, value = override.lstrip("+").partition("=")
        pending += [(group, option.strip(" '\"")) for option in value.strip("[]").split(",")]
        if "(" in value:  # a function, such as glob(*)
            pending += [(group, file.stem) for file in (config_dir / group).glob("*.yaml")]
    visited: set[Path] = set()
    while pending:
        group, option = pending.pop(0)
        path = config_dir / group / f"{option.removesuffix('.yaml')}.yaml"
        if path in visited or "\0" in str(path) or not os.path.lexists(path):
            continue
        refuse_other_kinds(path)
        visited.add(path)
        try:
            content = load_file(path)
        except ConfigError:
            content = {}
        yield path, group, content
        pending += _entries(group, content.get("defaults"))


def _entries(group: str, defaults: Any) -> list[tuple[str, str]]:
    """Return the group and the option of each entry of a list of defaults."""
    entries = []
    for entry in defaults if isinstance(defaults, list) else []:
        if isinstance(entry, str):
            entries.append((group, entry))
        elif isinstance(entry, dict):
            for key, value in entry.items():
                name = str(key).removeprefix("override ").strip().partition("@")[0]
                full = name[1:] if name.startswith("/") else "/".join(filter(None, [group, name]))
                entries += [(full, str(option)) for option in (value if isinstance(value, list) else [value])]
    return entries


def _check_defaults(path: Path, group: str, defaults: Any) -> None:
    if defaults is not None and not isinstance(defaults, list):
        raise ConfigError(f"{path}: defaults={shown(defaults)}: not a list", "write one '- group: option' per line")
    for entry in defaults or []:
        if isinstance(entry, str):
            continue
        if not isinstance(entry, dict) or len(entry) != 1:
            raise ConfigError(f"{path}: defaults: {entry} is not one option", "write one '- group: option' per line")
        ((key, value),) = entry.items()
        for option in value if isinstance(value, list) else [value]:
            if option is None or isinstance(option, str):
                continue
            name = str(key).removeprefix("override ").strip().strip("/")
            ending = option_ending(name, option, list_options(name))
            raise ConfigError(f"{path}: defaults: {key}: {shown(option)}: no such option{ending}")


def _check_content(path: Path, group: str) -> None:
    header = PACKAGE.search(path.read_text("utf-8"))
    package = header[1] if header else None
    if package == GLOBAL or not group:
        check_file(path, "")
    elif package is not None or group.startswith("hydra"):
        return
    elif group in OF_SCHEMA:
        check_file(path, group)
    else:
        raise ConfigError(
            f"{path}: there is no section '{group}' in the configuration", f"begin the file with '# @package {GLOBAL}'"
        )
