"""`visionbench compare BASE CANDIDATE`: give a verdict for each metric, and an exit code for automatic checks."""

from __future__ import annotations

import math
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from visionbench.config import TrackingConfig
from visionbench.core import ConfigError, TrackingError
from visionbench.results import archive
from visionbench.results.archive import Run
from visionbench.results.comparison import Comparison, Rules, compare
from visionbench.terminal import comparison_view
from visionbench.terminal.console import screen

GIT, MLFLOW = "git:", "mlflow:"
WIDTH = 140
"""The width of the table in a file, in columns."""


@dataclass(frozen=True)
class Sources:
    """The places where results are searched, and the filter of `--where`."""

    output_dir: Path
    uri: str | None
    experiment: str
    where: str | None


def show(
    base: str, candidate: str, sources: Sources, rules: Rules, output_format: str, output: Path | None, strict: bool
) -> int:
    """Print the comparison, and write it to a file. Return exit code 1 for a regression.

    With `strict`, return exit code 1 for undecided metrics too.

    Raises ConfigError for sources that cannot be read and for invalid options.
    """
    with ExitStack() as fetched:
        sides = [_read_side(name, text, sources, fetched) for name, text in (("BASE", base), ("CANDIDATE", candidate))]
        comparison = compare(sides[0][0], sides[1][0], rules)
    comparison = replace(comparison, notes=(*sides[0][1], *sides[1][1], *comparison.notes))
    _print(comparison, output_format, screen())
    if output is not None:
        try:
            with output.open("w", encoding="utf-8") as file:
                _print(comparison, output_format, Console(file=file, width=WIDTH))
        except OSError as error:
            raise ConfigError(f"--output {output}: {error.strerror}") from error
    return int(bool(comparison.regressions) or (strict and bool(comparison.undecided)))


def fraction(text: str, option: str, minimum: float) -> float:
    """Return 0.05 for `5%` and `0.05`. Raises ConfigError for a value below `minimum`, or of 1 or more."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not minimum <= value < 1:
        raise ConfigError(f"{option} {text}: not a fraction below 1", "write 5% or 0.05")
    return value


def _print(comparison: Comparison, output_format: str, console: Console) -> None:
    if output_format == "text":
        console.print(comparison_view.text(comparison))
    else:
        console.file.write(
            comparison_view.markdown(comparison)
            if output_format == "markdown"
            else comparison_view.json_text(comparison)
        )


# ------------------------------------------------------------------------------------------------------------- sources
def _read_side(name: str, text: str, sources: Sources, fetched: ExitStack) -> tuple[list[Run], list[str]]:
    """Return the runs of a side, filtered by --where, and notes about them."""
    notes: list[str] = []
    if text.startswith(GIT):
        runs, notes = _read_revision(text.removeprefix(GIT), sources.output_dir)
    elif text.startswith(MLFLOW):
        runs = _fetch_query(text.removeprefix(MLFLOW), sources, fetched)
    elif Path(text).is_file():
        if Path(text).name != "results.jsonl":
            raise ConfigError(f"{name} {text}: not a results.jsonl", "give a run's folder or its results.jsonl")
        runs = archive.of_sweep(sources.output_dir, str(Path(text).parent))
    else:
        runs = archive.of_sweep(sources.output_dir, text)
    if not sources.where:
        return runs, notes
    facts = archive.parse_filter(sources.where, "--where")
    if chosen := archive.choose(runs, facts):
        return chosen, notes
    raise ConfigError(
        f"--where {sources.where}: none of the {len(runs)} runs of {name} {text} has these facts",
        "visionbench results SWEEP lists the runs",
    )


def _read_revision(revision: str, output_dir: Path) -> tuple[list[Run], list[str]]:
    """Return the runs of a commit, and a note if runs with uncommitted changes are left out."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"],
            capture_output=True,
            text=True,
        )
    except OSError as error:
        raise ConfigError(
            f"{GIT}{revision}: git cannot be run ({error.strerror})", "install it, or name the sweep"
        ) from error
    if result.returncode:
        raise ConfigError(
            f"{GIT}{revision}: no such commit in the repository of this folder", "give a commit, a branch or a tag"
        )
    commit = result.stdout.strip()
    runs = [run for run in archive.read(output_dir) if str(run.record.git_commit).startswith(commit)]
    clean = [run for run in runs if run.record.git_commit == commit]
    changed = len(runs) - len(clean)
    if not clean:
        problem = f"{GIT}{revision}: no run in {output_dir} is of commit {commit[:12]}"
        if not changed:
            raise ConfigError(problem)
        sweeps = ", ".join(dict.fromkeys(run.sweep for run in runs))
        raise ConfigError(
            f"{problem} without changes: {changed} had changed files (recorded with +)", f"name the sweep: {sweeps}"
        )
    note = f"{GIT}{revision}: {changed} run{'s' * (changed > 1)} of {commit[:12]} with changed files (+) left out"
    return clean, [note] if changed else []


def _fetch_query(query: str, sources: Sources, fetched: ExitStack) -> list[Run]:
    """Fetch the runs that match a query into a temporary folder, and return them."""
    from visionbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker(TrackingConfig(uri=sources.uri, experiment=sources.experiment), sources.output_dir)
    into = Path(fetched.enter_context(TemporaryDirectory(prefix="visionbench-")))
    try:
        count = tracker.fetch(query, into)
    except TrackingError as error:
        raise ConfigError(error.problem, error.remedy) from error
    if not count:
        raise ConfigError(f"{MLFLOW}{query}: no run in the experiment '{sources.experiment}' matches")
    return archive.read(into)
