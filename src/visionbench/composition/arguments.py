"""The arguments of `visionbench run`: Hydra's documented flags, and overrides in any position."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from visionbench.registry import ConfigError

SWITCHES = (
    ("--help", "-h"),
    ("--hydra-help",),
    ("--version",),
    ("--resolve",),
    ("--run", "-r"),
    ("--multirun", "-m"),
    ("--shell-completion", "-sc"),
)
OPTIONS = (
    ("--cfg", "-c"),
    ("--package", "-p"),
    ("--config-path", "-cp"),
    ("--config-name", "-cn"),
    ("--config-dir", "-cd"),
    ("--experimental-rerun",),
)
CHOICES = {"--cfg": ("job", "hydra", "all")}
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""Flags as in https://hydra.cc/docs/advanced/hydra-command-line-flags/."""


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message."""
        raise ConfigError(f"{message}; see visionbench run --help")


@dataclass(frozen=True)
class Arguments:
    """The arguments of one command, sorted into flags and overrides."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    config_dir: Path | None = None
    """The folder of the user's own configuration, `--config-dir`."""


def parse(arguments: Sequence[str]) -> Arguments:
    """Sort the arguments. Raises ConfigError for an unknown flag and for a `--config-dir` that does not exist."""
    parser = Parser(add_help=False, allow_abbrev=True)
    for names in SWITCHES:
        parser.add_argument(*names, action="store_true")
    for names in OPTIONS:
        parser.add_argument(*names, choices=CHOICES.get(names[0]))
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=INFO)
    parser.add_argument("overrides", nargs="*")
    parsed = parser.parse_intermixed_args(list(arguments))
    if parsed.config_dir is not None and not Path(parsed.config_dir).is_dir():
        raise ConfigError(f"--config-dir {parsed.config_dir}: there is no such folder")
    flags: list[str] = []
    for names in (*SWITCHES, *OPTIONS, ("--info",)):
        value = getattr(parsed, names[0].lstrip("-").replace("-", "_"))
        if value is True:
            flags.append(names[0])
        elif value:
            flags.append(f"{names[0]}={value}")
    config_dir = Path(parsed.config_dir) if parsed.config_dir is not None else None
    return Arguments(tuple(flags), tuple(parsed.overrides), config_dir)


@contextmanager
def command_line(arguments: Arguments) -> Iterator[None]:
    """Put the sorted arguments into `sys.argv` while the context is open.

    `hydra.main` reads `sys.argv`, and it accepts neither the name of our command nor flags between overrides.
    """
    original = sys.argv
    sys.argv = [original[0], *arguments.flags, *arguments.overrides]
    try:
        yield
    finally:
        sys.argv = original
