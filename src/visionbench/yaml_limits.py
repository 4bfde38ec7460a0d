"""Limits of a YAML file, checked before the file is loaded: its kind, its size, its depth, and what aliases expand to.

A YAML file of 500 bytes can expand to millions of values, because an alias repeats all that its anchor holds. The check
reads the events of the parser, so nothing is expanded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from visionbench.core import ConfigError

MOST_BYTES = 1_000_000
MOST_VALUES = 10_000
MOST_LENGTH = 10_000
"""The most characters of one value."""
MOST_CHARACTERS = 1_000_000
"""The most characters of all values after the expansion of the aliases."""
MOST_LEVELS = 100
COUNTED = 10**12
"""The count of values stops here, because the number itself could have thousands of digits."""
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
FAST_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Part:
    """The expanded size of a value: a scalar, or a list or mapping with all that it contains."""

    values: int = 1
    characters: int = 0
    levels: int = 0
    anchor: str | None = None

    def add(self, inner: Part) -> None:
        """Add a value that this list or mapping contains."""
        self.values += inner.values
        self.characters += inner.characters
        self.levels = max(self.levels, inner.levels + 1)


def check_limits(path: Path) -> None:
    """Raise ConfigError if a YAML file is not a regular file, or is too large, too deep, or expands to too much.

    A file that is not valid YAML passes, because the loader describes what is wrong with it.
    """
    refuse_other_kinds(path)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", "correct the file, or choose another") from error
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path}: larger than {MOST_BYTES:,} bytes", "write only configuration into the file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return
    for loader in (FAST_LOADER, yaml.SafeLoader):  # libyaml refuses some files that the loader in Python accepts
        try:
            _check_events(yaml.parse(text, Loader=loader), path)
        except yaml.YAMLError:
            continue
        return


def refuse_other_kinds(path: Path) -> None:
    """Raise ConfigError if a path is a folder, a device, a named pipe or a link to nothing, instead of a file."""
    if os.path.isfile(path) or not os.path.lexists(path):
        return
    try:
        kind = KINDS.get(stat.S_IFMT(path.stat().st_mode), "another kind of entry")
    except OSError:
        kind = "a link to nothing"
    raise ConfigError(f"{path}: {kind}, not a file", "write a YAML file of this name, or remove the entry")


def _check_events(events: Iterator[yaml.Event], path: Path) -> None:
    """Raise ConfigError if the values of a file exceed a limit."""
    document = Part(0)
    open_parts = [document]
    anchors: dict[str, Part] = {}
    has_aliases = False
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_parts) > MOST_LEVELS:
                raise _too_deep(path)
            open_parts.append(Part(levels=1, anchor=event.anchor))
            if event.anchor is not None:
                anchors.pop(event.anchor, None)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            part = open_parts.pop()
            if part.anchor is not None:
                anchors[part.anchor] = part
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MOST_LENGTH:
                length = f"a value has {len(event.value):,} characters"
                raise ConfigError(
                    f"{path}, line {event.start_mark.line + 1}: {length}", f"write at most {MOST_LENGTH:,}"
                )
            part = Part(characters=len(event.value), anchor=event.anchor)
            if part.anchor is not None:
                anchors[part.anchor] = part
        elif isinstance(event, yaml.AliasEvent):
            has_aliases = True
            if event.anchor not in anchors and event.anchor in [part.anchor for part in open_parts]:
                raise ConfigError(f"{path}: an anchor contains itself", "remove the anchor")
            part = anchors.get(event.anchor, Part())
        else:
            continue
        open_parts[-1].add(part)
        if document.values > COUNTED or open_parts[-1].values > COUNTED:
            raise _too_many(path, f"more than {COUNTED:,}")
        if not has_aliases and sum(part.values for part in open_parts) > MOST_VALUES:
            raise ConfigError(f"{path}: contains more than {MOST_VALUES:,} values", "write fewer values")
    if document.levels - 1 > MOST_LEVELS:
        raise _too_deep(path)
    if document.values > MOST_VALUES:
        raise _too_many(path, f"{document.values:,}")
    if document.characters > MOST_CHARACTERS:
        problem = f"{path}: its aliases expand to {document.characters:,} characters"
        raise ConfigError(problem, f"write at most {MOST_CHARACTERS:,}")


def _too_many(path: Path, count: str) -> ConfigError:
    return ConfigError(f"{path}: its aliases expand to {count} values", f"write at most {MOST_VALUES:,}")


def _too_deep(path: Path) -> ConfigError:
    return ConfigError(f"{path}: nested more than {MOST_LEVELS} levels deep", "write fewer levels")
