"""`visionbench results`: list the sweeps on disk, or runs, as a table or as JSON."""

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

DEFAULT_LIMIT = 20
"""The number of sweeps or runs that are listed without `--limit`. All runs of one sweep are listed."""
NUMBERS = ("runs", "p50 ms", "peak MiB")
WIDTH_OF_SWEEP = len("2026-01-02_03-04-05")

Entry = Mapping[str, Any]


def show(sweep: str | None, output_dir: Path, where: str, runs: bool, limit: int | None, as_json: bool) -> int:
    """Print the newest sweeps or runs, newest first, or the runs of one sweep in the order of their start.

    Raises ConfigError if there is no run, or no run with the facts of `where`.
    """
    facts = archive.parse_filter(where, "--where")
    read = archive.of_sweep(output_dir, sweep) if sweep else archive.of_folder(output_dir)
    chosen = archive.select(read, facts, f"--where {where}")
    lists_runs = runs or sweep is not None
    items: Sequence[Any] = chosen if lists_runs else list(archive.sweeps(chosen))
    count = limit or (len(items) if sweep else DEFAULT_LIMIT)
    newest = items[-count:] if sweep else items[: -count - 1 : -1]
    entries = [listing.of_run(item) if lists_runs else listing.of_sweep(*item) for item in newest]
    kind = "runs" if lists_runs else "sweeps"
    if as_json:
        content = {"schema": listing.SCHEMA, "total": len(items), kind: entries}
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return 0
    console = screen(highlight=False)
    width = console.width
    console.print(_run_table(entries, width, with_sweep=sweep is None) if lists_runs else _sweep_table(entries, width))
    if any(entry["validity"] in (WARNED, INVALID) for entry in entries) and lists_runs:
        console.print("? questionable   ! invalid", style="dim")
    if len(entries) < len(items):
        console.print(f"{len(entries)} of {len(items)} {kind}; more with --limit", style="dim")
    return 0


def _sweep_table(entries: Sequence[Entry], width: int) -> Table:
    """Return a table with a row for each sweep. The start of the sweep is below its id."""
    return _table(
        {
            "sweep": [f"{entry['sweep']}\n{_format_time(entry['started_at'])}" for entry in entries],
            "runs": [str(entry["runs"]) for entry in entries],
            "models": [", ".join(entry["models"]) for entry in entries],
            "on": [f"{', '.join(entry['devices'])}\n{', '.join(entry['precisions'])}" for entry in entries],
            "status": ["\n".join([*_statuses(entry), *_failures(entry)]) for entry in entries],
            "validity": [entry["validity"] or "–" for entry in entries],
        },
        width,
        gap=2,
    )


def _run_table(entries: Sequence[Entry], width: int, *, with_sweep: bool) -> Table:
    """Return a table with a row for each run. With `with_sweep`, the sweep is below the run's name."""
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
    """Return a table whose cells wrap between words, and within a word only if it is longer than a sweep's id.

    Spare width goes first to the columns that need the least additional width.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, gap, 0, 0))
    widths = {name: min(_longest(str.split, name, cells), WIDTH_OF_SWEEP) for name, cells in columns.items()}
    shortfalls = {name: _longest(str.splitlines, name, cells) - widths[name] for name, cells in columns.items()}
    spare = max(0, width - sum(widths.values()) - gap * (len(columns) - 1))
    for name in sorted(shortfalls, key=shortfalls.__getitem__):
        extra = min(spare, shortfalls[name])
        widths[name] += extra
        spare -= extra
    for name in columns:
        side: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        table.add_column(name, justify=side, overflow="fold", width=widths[name])
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _longest(split: Callable[[str], list[str]], heading: str, cells: Sequence[str]) -> int:
    """Return the length of the longest part of a column. `split` splits a cell into words or lines."""
    return max(len(part) for cell in (heading, *cells) for part in split(cell) or [""])


def _statuses(entry: Entry) -> list[str]:
    return [f"{count} {status}" for status, count in entry["statuses"].items()]


def _failures(entry: Entry) -> list[str]:
    count = entry["failures"]
    return [f"{count} case{'s' * (count > 1)} lost"] if count else []


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _quality(entry: Entry) -> str:
    """Return the first quality metric with its value."""
    return next((f"{summary.words(name)} = {summary.text(value)}" for name, value in entry["quality"].items()), "–")


def _throughput(entry: Entry) -> str:
    if entry["best_throughput_metric"] is None:
        return "–"
    unit, size = summary.unit(entry["best_throughput_metric"]), entry["best_throughput_batch_size"]
    return f"{summary.text(entry['best_throughput_per_s'])} {unit} at {size}"


def _format_time(started_at: str) -> str:
    """Return the time to the minute, in UTC."""
    return f"{datetime.fromisoformat(started_at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
