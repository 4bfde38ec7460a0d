"""`visionbench results`: list the sweeps on disk, or runs, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from visionbench.records.record import FINISHED
from visionbench.results import archive, missing
from visionbench.results.archive import Run
from visionbench.results.doubts import Doubts
from visionbench.results.naming import Names
from visionbench.terminal import listing, sweep_table, table
from visionbench.terminal.console import screen
from visionbench.terminal.fitting import Column, fitted
from visionbench.terminal.marks import LEGEND

DEFAULT_LIMIT = 20
"""The number of sweeps or runs that are listed without `--limit`. All runs of one sweep are listed."""

Entry = Mapping[str, Any]


def show(
    sweep: str | None, output_dir: Path, where: str, runs: bool, limit: int | None, as_json: bool, verbose: bool = False
) -> int:
    """Print the newest sweeps or runs, newest first, or the runs of one sweep in the order of their start.

    Return 1 if a folder is damaged.
    With `verbose`, print the table of each run with all doubts and remarks. Raises ConfigError if there is no run, or
    no run with the facts of `where`.
    """
    facts = archive.parse_filter(where, "--where")
    damages = archive.Damages()
    read = (
        archive.of_sweep(output_dir, sweep, report=damages) if sweep else archive.of_folder(output_dir, report=damages)
    )
    chosen = archive.select(read, facts, f"--where {where}")
    lists_runs = runs or sweep is not None or verbose
    items: Sequence[Any] = chosen if lists_runs else list(archive.sweeps(chosen))
    count = limit or (len(items) if sweep else DEFAULT_LIMIT)
    newest = items[-count:] if sweep else items[: -count - 1 : -1]
    names = _names(chosen, {run.sweep for run in newest}) if lists_runs else {}
    if as_json:
        entries = [listing.of_run(i, names[i.sweep]) if lists_runs else listing.of_sweep(*i) for i in newest]
        content = {"schema": listing.SCHEMA, "total": len(items), "runs" if lists_runs else "sweeps": entries}
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return damages.exit_code(0, chosen)
    console = screen(highlight=False)
    if verbose:
        table.show(newest, console, verbose=True)
    elif lists_runs:
        _show_runs(newest, names, sweep is None, console)
    else:
        console.print(_sweep_table([listing.of_sweep(*item) for item in newest], console.width))
    if len(newest) < len(items):
        kind = "runs" if lists_runs else "sweeps"
        console.print(f"{len(newest)} of {len(items)} {kind}; more with --limit", style="dim")
    return damages.exit_code(0, chosen)


def _names(runs: Sequence[Run], shown: Collection[str]) -> dict[str, Names]:
    """Return the names of the runs of these sweeps: a run is named by what differs within its sweep."""
    return {sweep: Names.of(members) for sweep, members in archive.sweeps(runs) if sweep in shown}


def _show_runs(runs: Sequence[Run], names: Mapping[str, Names], of_all_sweeps: bool, console: Console) -> None:
    """Print a row for each run with its best numbers, and one sentence about all doubts."""
    if of_all_sweeps:
        first = [
            Column("run", [names[run.sweep].name(run) for run in runs], number=False),
            Column("sweep", [run.sweep for run in runs], number=False, complete=True),
        ]
    else:
        own = names[runs[0].sweep] if len({run.sweep for run in runs}) == 1 else Names.of(runs)
        first = sweep_table.name_columns(runs, own)
        console.print(sweep_table.equal_parts(runs, own), style="bold", markup=False)
    console.print(fitted([*first, *sweep_table.run_columns(runs)], console.width))
    for line in missing.sentences(runs):
        console.print(line, style="dim", markup=False)
    for line in missing.resume_commands(runs):
        console.print(f"resume   {line}", soft_wrap=True, highlight=False, markup=False)
    if sentence := Doubts.of([row for run in runs for row in run.results]).sentence():
        console.print(f"{LEGEND}\n{sentence}", style="dim", markup=False)


def _sweep_table(entries: Sequence[Entry], width: int) -> RenderableType:
    """Return a table with a row for each sweep."""
    starts = [_format_time(entry["started_at"]) for entry in entries]
    return fitted(
        [
            Column("sweep", [entry["sweep"] for entry in entries], number=False, complete=True),
            Column("started", starts, number=False, complete=True, rank=1),
            Column("runs", [str(entry["runs"]) for entry in entries]),
            Column("models", [", ".join(entry["models"]) for entry in entries], number=False),
            Column("on", [", ".join([*entry["devices"], *entry["precisions"]]) for entry in entries], number=False),
            Column("status", [_status(entry) for entry in entries], number=False, complete=True),
            Column("validity", [entry["validity"] or "–" for entry in entries], number=False, complete=True),
        ],
        width,
    )


def _status(entry: Entry) -> str:
    """Return `finished` if all runs finished, else the number of runs by status; or the number of failed cases."""
    unfinished = [f"{count} {status}" for status, count in entry["statuses"].items() if status != FINISHED]
    if unfinished:
        return ", ".join(unfinished)
    count = entry["failures"]
    return f"{count} case{'s' * (count > 1)} failed" if count else FINISHED


def _format_time(started_at: str) -> str:
    """Return the time to the minute, in UTC."""
    return f"{datetime.fromisoformat(started_at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
