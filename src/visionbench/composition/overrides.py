"""Checks of the overrides on the command line before Hydra composes, with suggestions of what was meant."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from visionbench import credentials
from visionbench.config import list_options, project_folder, refuse_truth_values, refuse_unusable_folder
from visionbench.core import ConfigError
from visionbench.suggestions import option, shown

LISTS = ("metrics", "experiment")
"""Groups of which several options can be chosen at once."""
FOLDERS = ("output_dir", "hydra.run.dir", "hydra.sweep.dir")
COMMANDS = [
    "advise",
    "compare",
    "data",
    "docs",
    "doctor",
    "export",
    "models",
    "report",
    "results",
    "selftest",
    "serve",
    "summarize",
    "sync",
    "tune",
    "ui",
]
"""The other commands of visionbench, for a command that is written after `run`."""
MOST_RUNS = 10_000
TARGET = "_target_"
"""The key with which Hydra names a class to create or a function to call."""
OWN_TARGETS = ("visionbench.composition.new_folders.", "hydra_plugins.")
"""The classes that Hydra itself creates for visionbench, which a user's copy of the main file may name."""
LAUNCHER = "hydra/launcher"
REFUSED_LAUNCHERS = {
    "joblib": "it sets OMP_NUM_THREADS=1, its jobs share cores and GPUs, and a killed job ends the others",
    "submitit_local": "it starts all jobs at once, on the same cores and GPUs",
}
"""Launchers whose measurements would be wrong, each with the reason."""
PARALLEL = "use hydra.launcher.parallel=true, hydra/launcher=submitit_slurm or hydra/launcher=ray"
BRACKETS = {"(": ")", "[": "]", "{": "}"}


def check(texts: Sequence[str], config_dir: Path | None = None) -> None:
    """Raise ConfigError for the first override that cannot work, without composing.

    `config_dir` is the user's folder of configuration files.
    """
    groups = list_groups(config_dir)
    overrides = [parse(text, groups) for text in texts]
    runs = 1
    for override in overrides:
        if not override.key_or_group:
            raise ConfigError(*_describe_form(str(override.input_line), groups))
        for value in [] if override.is_delete() else _values(override):
            refuse_targets(override.key_or_group, value)
            refuse_truth_values(override.key_or_group, value)
        credentials.refuse([] if override.is_delete() else _values(override), override.key_or_group)
        if override.package is not None or override.is_delete():
            continue
        values = _values(override)
        _refuse_wrong_option(override, values, groups)
        if override.key_or_group == LAUNCHER:
            refuse_launcher(*values)
        for value in values if override.key_or_group in FOLDERS else []:
            refuse_unusable_folder(override.key_or_group, value)
        runs *= _refuse_endless_sweep(override, groups)
    if runs > MOST_RUNS:
        raise ConfigError(f"the sweep has {runs:,} runs; at most {MOST_RUNS:,} are possible", "give fewer values")
    _refuse_mixed_metrics(overrides)


def refuse_launcher(*names: Any) -> None:
    """Raise ConfigError for a launcher of Hydra whose measurements would be wrong."""
    for name in names:
        if reason := REFUSED_LAUNCHERS.get(str(name)):
            raise ConfigError(f"{LAUNCHER}={name}: {reason}", PARALLEL)


def refuse_targets(key: str, value: Any, file: Path | None = None) -> None:
    """Raise ConfigError if a key names a class or a function, which Hydra would create or call."""
    if key.rpartition(".")[2].lstrip("+") == TARGET and not str(value).startswith(OWN_TARGETS):
        place = f"{file}: {key}" if file else key
        raise ConfigError(f"{place}: a configuration cannot name code to run", "remove it")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            refuse_targets(f"{key}.{name}" if key else str(name), inner, file)
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_targets(key, inner, file)


def list_groups(config_dir: Path | None) -> dict[str, list[str]]:
    """Return the options of each group, bundled and of the user's folder."""
    folders = [project_folder("conf"), *([config_dir] if config_dir else [])]
    names = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()} - {"hydra"}
    return {name: options for name in sorted(names) if (options := list(list_options(name, config_dir)))}


def parse(text: str, groups: dict[str, list[str]]) -> Override:
    """Return a parsed override. Raises ConfigError that describes what is wrong with its form."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(*_describe_form(text, groups)) from error
    except RecursionError as error:
        raise ConfigError(f"'{text[:40]}…': nested too deeply") from error


def choices(text: str, groups: dict[str, list[str]]) -> tuple[str, ...]:
    """Return the values of an override as typed, more than one if it is a sweep. Raises ConfigError for its form."""
    override = parse(text, groups)
    if not override.is_sweep_override():
        return (text.partition("=")[2],)
    if not isinstance(override.value(), ChoiceSweep):
        raise ConfigError(f"{text}: not a list of values", "write the values, as in a,b")
    return tuple(str(override.get_value_string()).split(","))


def wrong_form(text: str, config_dir: Path | None) -> ConfigError:
    """Return the error for an override that cannot be parsed."""
    return ConfigError(*_describe_form(text, list_groups(config_dir)))


def _describe_form(text: str, groups: dict[str, list[str]]) -> tuple[str, str]:
    """Return the problem of an override that cannot be parsed, and the remedy."""
    key, equals, value = text.partition("=")
    name = key.lstrip("+~").strip()
    if not text.strip():
        return "an empty argument", "remove it, or write key=value"
    if not equals:
        return _word_without_value(text, name, groups)
    if not name:
        return f"'{text}': no key before the equals sign", "write key=value"
    if not name.isascii() or any(character in name for character in " \t,:;'\"()[]{}"):
        return f"'{text}': '{name}' is not a key", "write key=value; see visionbench run --help"
    if value.startswith("~"):
        return f"'{text}': ~ is not expanded", f"write the folder in full, as in {key}=$HOME{value[1:]}"
    if unclosed := _unclosed(value):
        return f"'{text}': {unclosed}", f"close it, or quote the value, as in '{key}=\"…\"'"
    if "," in value and "" in (part.strip() for part in value.split(",")):
        return f"'{text}': a value is missing beside a comma", f"write {key}=a,b"
    return f"'{text}': a special character in the value", f"quote the value, as in '{key}=\"…\"'"


def _word_without_value(text: str, name: str, groups: dict[str, list[str]]) -> tuple[str, str]:
    if name in groups:
        return f"'{text}': no option is given", f"write {name}=…; there are: {', '.join(groups[name])}"
    if holders := [group for group, options in groups.items() if name in options]:
        return f"'{text}': not of the form key=value", f"did you mean {holders[0]}={name}?"
    if name in COMMANDS:
        return f"'{text}': not of the form key=value", f"{name} is another command: visionbench {name}"
    if name in ("help", "version"):
        return f"'{text}': not of the form key=value", f"did you mean --{name}?"
    return f"'{text}': not of the form key=value", "write key=value; see visionbench run --help"


def _unclosed(value: str) -> str:
    """Return which bracket or quote of a value has no partner, or an empty text."""
    open_brackets: list[str] = []
    quote = ""
    for character in value:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in BRACKETS:
            open_brackets.append(character)
        elif character in BRACKETS.values() and character != BRACKETS.get(open_brackets.pop() if open_brackets else ""):
            return f"'{character}' closes nothing"
    if quote:
        return f"the quote {quote} is not closed"
    return f"'{open_brackets[-1]}' is not closed" if open_brackets else ""


def _refuse_wrong_option(override: Override, values: Sequence[Any], groups: dict[str, list[str]]) -> None:
    """Raise ConfigError for a group whose option is not a name, or that is added although it has an option."""
    group, text = override.key_or_group, str(override.input_line)
    if group != "hydra" and not group.startswith("hydra/") and group not in groups:
        return
    if override.is_force_add() or (override.is_add() and group not in LISTS and group in groups):
        raise ConfigError(f"{text}: {group} has an option already", f"write {text.lstrip('+')}, which replaces it")
    for value in values:
        entries = value if isinstance(value, list) else [value]
        names = all(isinstance(entry, str) for entry in entries)
        if names and (entries == [value] or group in LISTS):
            continue
        if isinstance(value, dict) and group in groups and group != "experiment":  # an experiment has no section
            continue
        if names and group in groups and set(entries) <= set(groups[group]):
            sweep = f"-m {group}={','.join(entries)}"
            raise ConfigError(f"{text}: one run has one option of {group}", f"sweep over several, as in {sweep}")
        wrong = value if group == "batch" else next(entry for entry in [*entries, value] if not isinstance(entry, str))
        ending = option(group, wrong, groups.get(group, [])) or f"; write {group}.KEY=VALUE"
        raise ConfigError(f"{group}={shown(wrong)}: no such option{ending}")


def _refuse_endless_sweep(override: Override, groups: dict[str, list[str]]) -> int:
    """Return the number of values of an override. Raises ConfigError if a sweep has no value or is not a list."""
    text, sweep = str(override.input_line), override.value()
    if not override.is_sweep_override():
        return 1
    if override.is_interval_sweep():
        raise ConfigError(f"{text}: an interval is not a list of values", "write the values, as in a,b or range(0,3)")
    if isinstance(sweep, RangeSweep):
        start, stop, step = (float(end) if end is not None else 0.0 for end in (sweep.start, sweep.stop, sweep.step))
        count = math.ceil((stop - start) / step) if step and math.isfinite((stop - start) / step) else 0
    elif isinstance(sweep, Glob):
        count = len(sweep.filter(groups[override.key_or_group])) if override.key_or_group in groups else 1
    else:
        count = len(sweep.list) if isinstance(sweep, ChoiceSweep) else 1
    if count < 1:
        raise ConfigError(f"{text}: the sweep has no value", "write the values, as in a,b or range(0,3)")
    return count


def _values(override: Override) -> list[Any]:
    """Return the value of an override, or the values of a sweep that its type depends on."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [entry.text if isinstance(entry, QuotedString) else entry for entry in value.list]
    if isinstance(value, RangeSweep):
        return [value.start]
    return [] if override.is_sweep_override() else [value]


def _refuse_mixed_metrics(overrides: Iterable[Override]) -> None:
    """Raise ConfigError if `metrics` is both replaced and extended, because Hydra would ignore one of the two."""
    lists = [override for override in overrides if override.key_or_group == "metrics" and not override.is_delete()]
    if len({override.is_add() for override in lists}) == 2:
        typed = " ".join(str(override.input_line) for override in lists)
        raise ConfigError(
            f"{typed}: both a list and additions are given",
            "give either the full list, as in metrics=[…,…], or only additions",
        )
