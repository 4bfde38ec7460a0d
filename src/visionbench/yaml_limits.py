"""Limits of a YAML file, checked before the file is loaded: its kind, its size, its depth, and what aliases expand to.

A YAML file of 500 bytes can expand to millions of values, because an alias repeats all that its anchor holds. The check
reads the events of the parser, so nothing is expanded.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
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
            sizes = Sizes(path)
            for event in yaml.parse(text, Loader=loader):
                sizes.count(event)
        except yaml.YAMLError:
            continue
        sizes.check_total()
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


@dataclass
class Sizes:
    """The expanded sizes of the values of one file, counted event by event."""

    path: Path
    document: Part = field(default_factory=lambda: Part(0))
    anchors: dict[str, Part] = field(default_factory=dict)
    has_aliases: bool = False

    def __post_init__(self) -> None:
        self.open_parts = [self.document]

    def count(self, event: yaml.Event) -> None:
        """Add the value that ends with an event. Raises ConfigError if a limit is exceeded so far."""
        part = self._ended_part(event)
        if part is None:
            return
        self.open_parts[-1].add(part)
        if self.document.values > COUNTED or self.open_parts[-1].values > COUNTED:
            raise _too_many(self.path, f"more than {COUNTED:,}")
        if not self.has_aliases and sum(part.values for part in self.open_parts) > MOST_VALUES:
            raise ConfigError(f"{self.path}: contains more than {MOST_VALUES:,} values", "write fewer values")

    def check_total(self) -> None:
        """Raise ConfigError if the complete file exceeds a limit."""
        if self.document.levels - 1 > MOST_LEVELS:
            raise _too_deep(self.path)
        if self.document.values > MOST_VALUES:
            raise _too_many(self.path, f"{self.document.values:,}")
        if self.document.characters > MOST_CHARACTERS:
            problem = f"{self.path}: its aliases expand to {self.document.characters:,} characters"
            raise ConfigError(problem, f"write at most {MOST_CHARACTERS:,}")

    def _ended_part(self, event: yaml.Event) -> Part | None:
        """Return the value that ends with an event, or None if no value ends."""
        if isinstance(event, yaml.CollectionStartEvent):
            self._open(event.anchor)
            return None
        if isinstance(event, yaml.AliasEvent):
            return self._repeated(event.anchor)
        if isinstance(event, yaml.CollectionEndEvent):
            part = self.open_parts.pop()
        elif isinstance(event, yaml.ScalarEvent):
            part = self._scalar(event)
        else:
            return None
        if part.anchor is not None:
            self.anchors[part.anchor] = part
        return part

    def _open(self, anchor: str | None) -> None:
        """Begin a list or a mapping."""
        if len(self.open_parts) > MOST_LEVELS:
            raise _too_deep(self.path)
        self.open_parts.append(Part(levels=1, anchor=anchor))
        if anchor is not None:
            self.anchors.pop(anchor, None)

    def _scalar(self, event: yaml.ScalarEvent) -> Part:
        if len(event.value) > MOST_LENGTH:
            place = f"{self.path}, line {event.start_mark.line + 1}"
            problem = f"{place}: a value has {len(event.value):,} characters"
            raise ConfigError(problem, f"write at most {MOST_LENGTH:,}")
        return Part(characters=len(event.value), anchor=event.anchor)

    def _repeated(self, anchor: str) -> Part:
        """Return the value that an alias repeats."""
        self.has_aliases = True
        if anchor not in self.anchors and anchor in [part.anchor for part in self.open_parts]:
            raise ConfigError(f"{self.path}: an anchor contains itself", "remove the anchor")
        return self.anchors.get(anchor, Part())


def _too_many(path: Path, count: str) -> ConfigError:
    return ConfigError(f"{path}: its aliases expand to {count} values", f"write at most {MOST_VALUES:,}")


def _too_deep(path: Path) -> ConfigError:
    return ConfigError(f"{path}: nested more than {MOST_LEVELS} levels deep", "write fewer levels")
