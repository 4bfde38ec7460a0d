"""The result of a command: the table of a run, or one table of several runs, then the doubts and the conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from visionbench.core import OK, CaseResult
from visionbench.results import missing
from visionbench.results.archive import Run
from visionbench.results.doubts import Doubts
from visionbench.results.naming import Names
from visionbench.terminal import footnotes, run_table, sweep_table
from visionbench.terminal.marks import LEGEND

MOST_FAILURES = 5
"""The number of different reasons of failures below the table of a sweep."""


def show(runs: Sequence[Run], console: Console, verbose: bool = False) -> None:
    """Print the results of these runs. With `verbose`, several runs have a table each, with all doubts and remarks."""
    console.print(render(runs, console.width, verbose))


def render(runs: Sequence[Run], width: int, verbose: bool = False) -> RenderableType:
    """Return the rows of the runs in at most `width` characters, then the doubts and the conditions."""
    if len(runs) == 1 or verbose:
        return _separate_tables(runs, width, verbose)
    names = Names.of(runs)
    lines = [*missing.sentences(runs), *_doubts(runs), *_failures(runs), *footnotes.overview(runs)]
    return Group(sweep_table.render(runs, names, width), Text(), *(Text(line, style="dim") for line in lines))


def _separate_tables(runs: Sequence[Run], width: int, verbose: bool) -> RenderableType:
    names = Names.of(runs)
    notes: dict[str, str] = {}
    tables = [part for run in runs for part in (*run_table.parts(run, runs, names.name(run), notes, width), Text())]
    legend = [LEGEND, *(f"  {kind}: {detail}" for kind, detail in notes.items())] if notes else []
    lines = [*missing.sentences(runs), *legend, *footnotes.details(runs, names.name, verbose)]
    return Group(*tables, *(Text(line, style="dim") for line in lines))


def _doubts(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the legend of the marks and one sentence about the questionable and invalid cases."""
    if sentence := Doubts.of([row for run in runs for row in run.results]).sentence():
        yield LEGEND
        yield sentence


def _failures(runs: Sequence[Run]) -> Iterator[str]:
    """Yield each reason why cases have no numbers, with the number of cases."""
    failed: dict[tuple[str, str], list[CaseResult]] = {}
    for row in (row for run in runs for row in run.results if row.status != OK):
        failed.setdefault((row.status, run_table.short_reason(row)), []).append(row)
    for (status, reason), rows in list(failed.items())[:MOST_FAILURES]:
        yield f"{status} ({len(rows)} case{'s' * (len(rows) > 1)}): {reason}"
    if len(failed) > MOST_FAILURES:
        yield f"{len(failed) - MOST_FAILURES} more reasons: see the report, or visionbench results SWEEP --verbose"
