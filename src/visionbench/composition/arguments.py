"""Parse the arguments of `visionbench run`: Hydra's documented flags, and overrides in any position."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from visionbench import suggestions
from visionbench.config import schema_keys
from visionbench.core import ConfigError
from visionbench.registry import nearest

# Hydra's flags, see https://hydra.cc/docs/advanced/hydra-command-line-flags/
SWITCHES = (("--help", "-h"), ("--hydra-help",), ("--version",), ("--resolve",))
OPTIONS = (
    ("--package", "-p"),
    ("--config-path", "-cp"),
    ("--config-name", "-cn"),
    ("--config-dir", "-cd"),
    ("--experimental-rerun",),
)
COMMANDS = (("--run", "-r"), ("--multirun", "-m"), ("--shell-completion", "-sc"))
GROUPS_OUTSIDE_SCHEMA = ("experiment",)
KEYS_OF_RESUMING = ("resume", "retry", "on_change")
EXAMPLES = {
    "resume": "give latest, or the id or the folder of a sweep, as in resume=latest",
    "retry": "name results, as in retry=invalid,failed",
    "on_change": "give refuse, measure or keep, as in on_change=measure",
}
LATEST = "latest"
HELP = "see visionbench run --help"
CONFIGS = ("job", "hydra", "all")
INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message of argparse, or with a clearer one."""
        if match := re.fullmatch(r"argument (\S+): not allowed with argument (\S+)", message):
            raise ConfigError(f"{match[1]} and {match[2]} cannot be used together", "remove one of them")
        if match := re.fullmatch(r"argument (\S+): expected .*argument", message):
            raise ConfigError(f"{match[1]}: a value is missing", HELP)
        raise ConfigError(message, HELP)


@dataclass(frozen=True)
class Arguments:
    """The arguments of one command, sorted into flags and overrides."""

    flags: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None
    """The folder of the user's own configuration, `--config-dir`."""
    verbose: bool = False
    """Whether each run has its own table, with all doubts and remarks, `--verbose`."""
    dry_run: bool = False
    """Whether the plan is printed and nothing is measured, `--dry-run`."""
    resume: str | None = None
    """The sweep that is continued: `latest`, an id or a folder."""
    retry: tuple[str, ...] = ()
    """The results that are measured again, `retry=…`; empty for the default."""
    on_change: str | None = None
    """The treatment of results that were measured under other conditions, `on_change=…`."""

    @property
    def multirun(self) -> bool:
        """Whether the command measures several runs, `-m`."""
        return "--multirun" in self.flags


def parse(arguments: Sequence[str]) -> Arguments:
    """Sort arguments into flags and overrides.

    Raises ConfigError for an unknown flag and for a `--config-dir` that does not exist.
    """
    parser = _parser()
    parsed, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        raise ConfigError(f"{unknown[0]}: there is no such flag", _remedy(unknown[0], parser))
    if parsed.config_dir is not None and not (parsed.config_dir and Path(parsed.config_dir).is_dir()):
        raise ConfigError(f"--config-dir {parsed.config_dir}: there is no such folder", "give an existing one")
    if parsed.experimental_rerun is not None and not Path(parsed.experimental_rerun).is_file():
        file = parsed.experimental_rerun
        raise ConfigError(f"--experimental-rerun {file}: there is no such file", "give a config.pickle of Hydra")
    flags: list[str] = []
    for name, value in vars(parsed).items():
        if name in ("verbose", "dry_run"):
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            flags.append(flag)
        elif value and name != "overrides":
            flags.append(f"{flag}={value}")
    config_dir = Path(parsed.config_dir) if parsed.config_dir is not None else None
    overrides, values = _take_keys(parsed.overrides)
    resume, retry, on_change = (values.get(key) for key in KEYS_OF_RESUMING)
    if resume is None and retry is not None:
        resume = LATEST
    if resume is None and on_change is not None:
        raise ConfigError(f"on_change={on_change}: nothing is resumed", "add resume=latest, or the id of a sweep")
    return Arguments(
        tuple(flags),
        overrides,
        config_dir,
        parsed.verbose,
        parsed.dry_run,
        resume,
        tuple(filter(None, (word.strip() for word in (retry or "").strip("[]").split(",")))),
        on_change,
    )


def _take_keys(texts: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the overrides without the keys of resuming, and the values of these keys.

    Hydra does not receive these keys, because they select the folder and the overrides that Hydra receives.
    """
    others: list[str] = []
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.lstrip("+").partition("=")
        if key not in KEYS_OF_RESUMING or not equals:
            others.append(text)
            continue
        if not value.strip("[] "):
            raise ConfigError(f"{key} is empty", EXAMPLES[key])
        if values.setdefault(key, value) != value:
            raise ConfigError(f"{key} is given twice: {values[key]} and {value}", "give it once")
    return tuple(others), {key: value for key, value in values.items() if value != "null"}


def _remedy(flag: str, parser: Parser) -> str:
    """Return what to write instead of an unknown flag: an override, or the nearest flag."""
    name, _, value = flag.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if suggestion := suggestions.key(key, value):
        return f"did you mean {suggestion}?"
    if key in (*schema_keys(), *GROUPS_OUTSIDE_SCHEMA):
        return f"did you mean {key}={value or '…'}?"
    flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    ending = nearest(f"--{name.replace('_', '-')}", flags)
    return ending.removeprefix("; ") if "did you mean" in ending else HELP


def _parser() -> Parser:
    parser = Parser(add_help=False)
    parser.add_argument("--verbose", "-v", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    for names in SWITCHES:
        parser.add_argument(*names, action="store_true")
    for names in OPTIONS:
        parser.add_argument(*names)
    exclusive = parser.add_mutually_exclusive_group()
    for names in COMMANDS:
        exclusive.add_argument(*names, action="store_true")
    exclusive.add_argument("--cfg", "-c", choices=CONFIGS)
    exclusive.add_argument("--info", "-i", nargs="?", const="all", choices=INFORMATION)
    parser.add_argument("overrides", nargs="*")
    return parser


@contextmanager
def command_line(arguments: Arguments) -> Iterator[None]:
    """Put the sorted arguments into `sys.argv` while the context is open.

    `hydra.main` reads `sys.argv`. It accepts neither the name of the command, `run`, nor flags between overrides.
    """
    original = sys.argv
    sys.argv = [original[0], *arguments.flags, *arguments.overrides]
    try:
        yield
    finally:
        sys.argv = original
