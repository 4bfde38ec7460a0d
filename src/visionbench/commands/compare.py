"""`visionbench compare BASE CANDIDATE`: give a verdict for each metric, and an exit code for automatic checks."""

from __future__ import annotations

import math
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from visionbench.config import TrackingConfig
from visionbench.core import ConfigError, TrackingError
from visionbench.credentials import public
from visionbench.deadline import Caller, DeadlineExceeded
from visionbench.results import archive, gate
from visionbench.results.archive import Run
from visionbench.results.comparison import Comparison, Rules, compare
from visionbench.results.gate import Outcome
from visionbench.terminal import comparison_view
from visionbench.terminal.console import SafeConsole, screen

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


@dataclass(frozen=True)
class Output:
    """The format of the comparison, the file that receives it too, and whether it contains all details."""

    format: str
    file: Path | None = None
    verbose: bool = False


def show(
    base: str,
    candidate: str,
    sources: Sources,
    rules: Rules,
    output: Output,
    strict: bool = False,
    accept_undecided: bool = False,
) -> int:
    """Print the comparison, and write it to a file. Return the exit code: see `results.gate`.

    A damaged folder is named, and makes the exit code 1, because its cases are not compared.

    Raises ConfigError for sources that cannot be read and for invalid options.
    """
    if strict and accept_undecided:
        raise ConfigError("--strict with --undecided ok: they contradict each other", "use one of them")
    damages = archive.Damages()
    with ExitStack() as fetched:
        read = [
            _read_side(name, text, sources, fetched, damages)
            for name, text in (("BASE", base), ("CANDIDATE", candidate))
        ]
        (bases, base_notes), (candidates, candidate_notes) = read
        bases, shared = _without_shared(bases, candidates, base, candidate)
        comparison = compare(bases, candidates, rules)
        damaged = damages.exit_code(0, [*bases, *candidates])
    comparison = replace(comparison, notes=(*base_notes, *candidate_notes, *shared, *comparison.notes))
    outcome = gate.judge(comparison, strict, accept_undecided)
    _print(comparison, outcome, output, screen())
    if output.file is not None:
        try:
            with output.file.open("w", encoding="utf-8") as file:
                _print(comparison, outcome, output, SafeConsole(file=file, width=WIDTH))
        except OSError as error:
            raise ConfigError(f"--output {output.file}: {error.strerror}") from error
    return damaged or outcome.exit_code


def fraction(text: str, option: str, minimum: float) -> float:
    """Return 0.05 for `5%` and `0.05`. Raises ConfigError for a value below `minimum`, or of 1 or more."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not minimum <= value < 1:
        raise ConfigError(f"{option} {text}: not a fraction below 1", "write 5% or 0.05")
    return value


def _print(comparison: Comparison, outcome: Outcome, output: Output, console: Console) -> None:
    if output.format == "text":
        comparison_view.show(comparison, outcome, console, output.verbose)
    else:
        console.file.write(
            comparison_view.markdown(comparison, outcome, output.verbose)
            if output.format == "markdown"
            else comparison_view.json_text(comparison, outcome)
        )


# ------------------------------------------------------------------------------------------------------------- sources
def _without_shared(bases: list[Run], candidates: list[Run], base: str, candidate: str) -> tuple[list[Run], list[str]]:
    """Return the runs of the base that are not also in the candidate, and a note if some are.

    Raises ConfigError if no run is left, because a run is always equal to itself.
    """
    ids = {run.record.uid for run in candidates}
    remaining = [run for run in bases if run.record.uid not in ids]
    count = len(bases) - len(remaining)
    if not remaining:
        raise ConfigError(
            f"BASE {base} and CANDIDATE {candidate} are the same run{'s' * (count > 1)}, so nothing can be compared",
            "visionbench results lists the sweeps",
        )
    if not count:
        return bases, []
    return remaining, [
        f"{count} run{'s' * (count > 1)} of BASE {base} left out, because CANDIDATE {candidate} has them too"
    ]


def _read_side(
    name: str, text: str, sources: Sources, fetched: ExitStack, damages: archive.Damages
) -> tuple[list[Run], list[str]]:
    """Return the runs of a side, filtered by --where, and notes about them."""
    notes: list[str] = []
    if text.startswith(GIT):
        runs, notes = _read_revision(text.removeprefix(GIT), sources.output_dir, damages)
    elif text.startswith(MLFLOW):
        runs = _fetch_query(text.removeprefix(MLFLOW), sources, fetched, damages)
    elif Path(text).is_file():
        if Path(text).name != "results.jsonl":
            raise ConfigError(f"{name} {text}: not a results.jsonl", "give a run's folder or its results.jsonl")
        runs = archive.of_sweep(sources.output_dir, str(Path(text).parent), name, damages)
    else:
        runs = archive.of_sweep(sources.output_dir, text, name, damages)
    if not sources.where:
        return runs, notes
    facts = archive.parse_filter(sources.where, "--where")
    if chosen := archive.choose(runs, facts):
        return chosen, notes
    raise ConfigError(
        f"--where {sources.where}: none of the {len(runs)} runs of {name} {text} has these facts",
        "visionbench results SWEEP lists the runs",
    )


def _read_revision(revision: str, output_dir: Path, damages: archive.Damages) -> tuple[list[Run], list[str]]:
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
    if "not a git repository" in result.stderr:
        raise ConfigError(f"{GIT}{revision}: this folder is not in a git repository", "name the sweep or its folder")
    if result.returncode or not revision:
        raise ConfigError(
            f"{GIT}{revision}: no such commit in the repository of this folder", "give a commit, a branch or a tag"
        )
    commit = result.stdout.strip()
    runs = [run for run in archive.read(output_dir, damages) if str(run.record.git_commit).startswith(commit)]
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


def _fetch_query(query: str, sources: Sources, fetched: ExitStack, damages: archive.Damages) -> list[Run]:
    """Fetch the runs that match a query into a temporary folder, and return them."""
    from visionbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker(TrackingConfig(uri=sources.uri, experiment=sources.experiment), sources.output_dir)
    into = Path(fetched.enter_context(TemporaryDirectory(prefix="visionbench-")))
    caller = Caller(tracker.timeout_seconds)
    try:
        tracker.load()
        run_ids = caller.make(partial(tracker.matches, query))
        for run_id in run_ids:
            caller.make(partial(tracker.download, run_id, into))
    except TrackingError as error:
        raise ConfigError(error.problem, error.remedy) from error
    except DeadlineExceeded:
        problem = f"tracking.uri={public(tracker.uri)}: no answer within {caller.seconds:g} s"
        raise ConfigError(problem, "check the address and the server") from None
    if not run_ids:
        raise ConfigError(f"{MLFLOW}{query}: no run in the experiment '{sources.experiment}' matches")
    return archive.read(into, damages)
