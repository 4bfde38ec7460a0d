"""`visionbench results`: the sweeps on disk, or the runs of one or of all, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from visionbench.core import INVALID, WARNED
from visionbench.results import archive, summary
from visionbench.terminal import listing
from visionbench.terminal.console import screen
from visionbench.terminal.table import MARKS

MOST = 20
"""Sweeps or runs that are listed, unless `--limit` says otherwise; of one sweep all are."""
NUMBERS = ("runs", "p50 ms", "peak MiB")
WIDTH_OF_SWEEP = len("2026-01-02_03-04-05")

Entry = Mapping[str, Any]


def show(sweep: str | None, output_dir: Path, where: str, runs: bool, limit: int | None, as_json: bool) -> int:
    """Print the newest sweeps, newest first; or runs: a sweep's in the order they began, or over all the newest first.

    Raises ConfigError where there is no run, or none is as `where` says.
    """
    wanted = archive.parse_filter(where, "--where")
    found = archive.of_sweep(output_dir, sweep) if sweep else archive.of_folder(output_dir)
    found = archive.select(found, wanted, f"--where {where}")
    of_runs = runs or sweep is not None
    groups: Sequence[Any] = found if of_runs else list(archive.sweeps(found))
    count = limit or (len(groups) if sweep else MOST)
    newest = groups[-count:] if sweep else groups[: -count - 1 : -1]
    entries = [listing.of_run(one) if of_runs else listing.of_sweep(*one) for one in newest]
    kind = "runs" if of_runs else "sweeps"
    if as_json:
        content = {"schema": listing.SCHEMA, "total": len(groups), kind: entries}
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return 0
    console = screen(highlight=False)
    width = console.width
    console.print(_of_runs(entries, width, with_sweep=sweep is None) if of_runs else _of_sweeps(entries, width))
    if any(entry["validity"] in (WARNED, INVALID) for entry in entries) and of_runs:
        console.print("? to be doubted   ! not to be trusted", style="dim")
    if len(entries) < len(groups):
        console.print(f"{len(entries)} of {len(groups)} {kind}; more with --limit", style="dim")
    return 0


def _of_sweeps(entries: Sequence[Entry], width: int) -> Table:
    """A row a sweep: its id, and below that when it began."""
    return _table(
        {
            "sweep": [f"{entry['sweep']}\n{_when(entry['started_at'])}" for entry in entries],
            "runs": [str(entry["runs"]) for entry in entries],
            "models": [", ".join(entry["models"]) for entry in entries],
            "on": [f"{', '.join(entry['devices'])}\n{', '.join(entry['precisions'])}" for entry in entries],
            "status": ["\n".join([*_ended(entry), *_failures(entry)]) for entry in entries],
            "validity": [entry["validity"] or "–" for entry in entries],
        },
        width,
        gap=2,
    )


def _of_runs(entries: Sequence[Entry], width: int, *, with_sweep: bool) -> Table:
    """A row a run; with its sweep below its name where they are of several."""
    return _table(
        {
            "run": ["\n".join([entry["run"], *([entry["sweep"]] if with_sweep else [])]) for entry in entries],
            "batch": [" ".join(map(str, entry["batch_sizes"])) or "–" for entry in entries],
            "best throughput": [_throughput(entry) for entry in entries],
            "p50 ms": [summary.text(entry["lowest_latency_p50_ms"]) for entry in entries],
            "peak MiB": [_mib(entry["peak_memory_mib"]) for entry in entries],
            "quality": [_quality(entry) for entry in entries],
            "status": ["\n".join([entry["status"], *_failures(entry)]) for entry in entries],
            "": [MARKS.get(entry["validity"], "") for entry in entries],
        },
        width,
        gap=1,
    )


def _table(columns: Mapping[str, Sequence[str]], width: int, gap: int) -> Table:
    """Cells break between words, and within one only where it is longer than a sweep's id; nothing is cut.

    Room that is left over goes first to the columns that lack least.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, gap, 0, 0))
    widths = {name: min(_longest(str.split, name, cells), WIDTH_OF_SWEEP) for name, cells in columns.items()}
    wishes = {name: _longest(str.splitlines, name, cells) - widths[name] for name, cells in columns.items()}
    spare = max(0, width - sum(widths.values()) - gap * (len(columns) - 1))
    for name in sorted(wishes, key=wishes.__getitem__):
        more = min(spare, wishes[name])
        widths[name] += more
        spare -= more
    for name in columns:
        side: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        table.add_column(name, justify=side, overflow="fold", width=widths[name])
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _longest(split: Callable[[str], list[str]], heading: str, cells: Sequence[str]) -> int:
    """Of a column's words or lines."""
    return max(len(part) for cell in (heading, *cells) for part in split(cell) or [""])


def _ended(entry: Entry) -> list[str]:
    return [f"{count} {status}" for status, count in entry["statuses"].items()]


def _failures(entry: Entry) -> list[str]:
    count = entry["failures"]
    return [f"{count} case{'s' * (count > 1)} lost"] if count else []


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _quality(entry: Entry) -> str:
    """The first of its quality metrics."""
    return next((f"{summary.words(name)} = {summary.text(value)}" for name, value in entry["quality"].items()), "–")


def _throughput(entry: Entry) -> str:
    if entry["best_throughput_metric"] is None:
        return "–"
    unit, at = summary.unit(entry["best_throughput_metric"]), entry["best_throughput_batch_size"]
    return f"{summary.text(entry['best_throughput_per_s'])} {unit} at {at}"


def _when(started_at: str) -> str:
    """To the minute, in UTC."""
    return f"{datetime.fromisoformat(started_at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
