"""`visionbench compare BASE CANDIDATE`: a verdict on what changed, with an exit code that a gate can stand on."""

from __future__ import annotations

import math
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from visionbench.config import TrackingConfig
from visionbench.core import TrackingError
from visionbench.registry import ConfigError
from visionbench.results import archive
from visionbench.results.archive import Run
from visionbench.results.comparison import Comparison, Rules, compare
from visionbench.terminal import comparison_view
from visionbench.terminal.console import screen

GIT, MLFLOW = "git:", "mlflow:"
WIDTH = 140
"""Of the table in a file."""


@dataclass(frozen=True)
class Sources:
    """Where results are looked for."""

    output_dir: Path
    uri: str | None
    experiment: str
    where: str | None


def show(
    base: str, candidate: str, sources: Sources, rules: Rules, form: str, output: Path | None, strict: bool
) -> int:
    """Print the comparison and write it; exit code 1 on a regression, with `strict` also where anything is undecided.

    Raises ConfigError for sources that cannot be read and for bad options.
    """
    with ExitStack() as fetched:
        sides = [_find(name, text, sources, fetched) for name, text in (("BASE", base), ("CANDIDATE", candidate))]
        found = compare(sides[0][0], sides[1][0], rules)
    found = Comparison(found.rules, found.rows, (*sides[0][1], *sides[1][1], *found.notes))
    _print(found, form, screen())
    if output is not None:
        try:
            with output.open("w", encoding="utf-8") as file:
                _print(found, form, Console(file=file, width=WIDTH))
        except OSError as error:
            raise ConfigError(f"--output {output}: {error.strerror}") from error
    return int(bool(found.regressions) or (strict and bool(found.undecided)))


def fraction(text: str, option: str, least: float) -> float:
    """`5%` and `0.05` as 0.05. Raises ConfigError, naming the option, for what is not of `least` up to below 1."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not least <= value < 1:
        raise ConfigError(f"{option} {text}: not a fraction below 1; write 5% or 0.05")
    return value


def _print(found: Comparison, form: str, console: Console) -> None:
    if form == "text":
        console.print(comparison_view.text(found))
    else:
        console.file.write(comparison_view.markdown(found) if form == "markdown" else comparison_view.machine(found))


# ------------------------------------------------------------------------------------------------------------- sources
def _find(name: str, text: str, sources: Sources, fetched: ExitStack) -> tuple[list[Run], list[str]]:
    """The runs that a side names, narrowed by --where, and what must be said of them."""
    said: list[str] = []
    if text.startswith(GIT):
        runs, said = _of_revision(text.removeprefix(GIT), sources.output_dir)
    elif text.startswith(MLFLOW):
        runs = _of_query(text.removeprefix(MLFLOW), sources, fetched)
    elif Path(text).is_file():
        if Path(text).name != "results.jsonl":
            raise ConfigError(f"{name} {text}: not a results.jsonl; give a run's folder or its results.jsonl")
        runs = archive.of_sweep(sources.output_dir, str(Path(text).parent))
    else:
        runs = archive.of_sweep(sources.output_dir, text)
    if not sources.where:
        return runs, said
    wanted = archive.parse_filter(sources.where, "--where")
    if chosen := archive.choose(runs, wanted):
        return chosen, said
    raise ConfigError(f"--where {sources.where}: none of the {len(runs)} runs of {name} {text} is such")


def _of_revision(revision: str, output_dir: Path) -> tuple[list[Run], list[str]]:
    """The runs whose commit this is. Those of a working folder with changed files are another thing, and are told."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"],
            capture_output=True,
            text=True,
        )
    except OSError as error:
        raise ConfigError(f"{GIT}{revision}: git cannot be run ({error.strerror})") from error
    if done.returncode:
        raise ConfigError(f"{GIT}{revision}: no such commit in the repository of this folder")
    commit = done.stdout.strip()
    runs = [run for run in archive.read(output_dir) if str(run.conditions.get("git_commit")).startswith(commit)]
    clean = [run for run in runs if run.conditions["git_commit"] == commit]
    changed = len(runs) - len(clean)
    if not clean:
        begun = f"{GIT}{revision}: no run in {output_dir} is of commit {commit[:12]}"
        if not changed:
            raise ConfigError(begun)
        sweeps = ", ".join(dict.fromkeys(run.sweep for run in runs))
        raise ConfigError(f"{begun} as it is: {changed} had changed files (recorded with +); name the sweep: {sweeps}")
    told = f"{GIT}{revision}: {changed} run{'s' * (changed > 1)} of {commit[:12]} with changed files (+) left out"
    return clean, [told] if changed else []


def _of_query(query: str, sources: Sources, fetched: ExitStack) -> list[Run]:
    """The runs that a store finds, their files fetched to a folder that is gone after the comparison."""
    from visionbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker(TrackingConfig(uri=sources.uri, experiment=sources.experiment), sources.output_dir)
    into = Path(fetched.enter_context(TemporaryDirectory(prefix="visionbench-")))
    try:
        count = tracker.fetch(query, into)
    except TrackingError as error:
        raise ConfigError(error.problem, error.remedy) from error
    if not count:
        raise ConfigError(f"{MLFLOW}{query}: no run in the experiment '{sources.experiment}' is found by it")
    return archive.read(into)
