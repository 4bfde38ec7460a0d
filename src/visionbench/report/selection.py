"""The runs that a figure shows, and the colour, line and mark of each run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from visionbench.core import INVALID, OK, VALID, WARNED, CaseResult, MetricDeclaration
from visionbench.report import advice
from visionbench.report.drawing import SERIES
from visionbench.results import declared, summary
from visionbench.results.archive import Run

LINES = ("-", "--", "-.", ":")
SHAPES = ("o", "s", "^", "D", "v", "P", "<", ">")
"""The shapes of marks. No shape is a cross, which marks invalid points."""
FROM_BEST_TO_WORST = (VALID, WARNED, INVALID)


MOST_RUNS, MOST_ROWS = 200, 1000
"""The most runs in the tables of a report, and the most cases of these runs. One run is always in the tables."""


@dataclass(frozen=True)
class Style:
    """The appearance of a run in all figures of its task."""

    colour: str
    line: str
    shape: str


NO_STYLE = Style("", "", "")


@dataclass(frozen=True)
class Series:
    """A run in the figures of its task. The name distinguishes the run from the other runs of the task."""

    run: Run
    name: str
    style: Style

    @cached_property
    def fastest(self) -> CaseResult | None:
        """The case with the largest throughput; an invalid case only if all cases are invalid."""
        name = summary.throughput_name(self.run.timed)
        rows = [row for row in self.run.timed if row.status == OK and row.metrics.values.get(name) is not None]
        trusted = [row for row in rows if row.validity.verdict != INVALID] or rows
        return max(trusted, key=lambda row: row.metrics.values[name] or 0.0, default=None)

    @property
    def throughput(self) -> float | None:
        """The largest throughput of the run, in the unit of its task."""
        row = self.fastest
        return row.metrics.values[summary.throughput_name(self.run.timed)] if row else None

    @cached_property
    def headline(self) -> tuple[MetricDeclaration, float] | None:
        """The quality metric that the run is compared by, and its value; None if no quality was measured."""
        return advice.headline(self.run)

    @property
    def verdict(self) -> str:
        """The worse verdict of the fastest case and of the quality case."""
        rows = [row for row in (self.fastest, self.run.quality) if row is not None and row.status == OK]
        return max((row.validity.verdict for row in rows), key=FROM_BEST_TO_WORST.index, default=VALID)


def by_task(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group the runs that have a case with numbers by their task, in their order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if any(row.status == OK for row in run.results):
            groups.setdefault(run.record.plan.task, []).append(run)
    return groups


def styles(runs: Sequence[Run]) -> list[Style]:
    """Return a style for each run.

    If there are several models, colour and shape show the model, and the line shows the runs of a model. If there is
    only one model, colour, line and shape show the run.
    """
    models = sorted({run.model for run in runs})
    several = len(models) > 1
    counts: dict[str, int] = {}
    chosen = []
    for index, run in enumerate(runs):
        look = models.index(run.model) if several else index
        variant = counts.setdefault(run.model, 0)
        counts[run.model] += 1
        line = LINES[(variant if several else index) % len(LINES)]
        chosen.append(Style(SERIES[look % len(SERIES)], line, SHAPES[look % len(SHAPES)]))
    return chosen


def front(series: Sequence[Series]) -> list[Series]:
    """Return the runs that no other run exceeds in both quality and throughput, from the slowest to the fastest.

    Invalid runs and runs without a quality are left out.
    """
    points: dict[tuple[float, float], Series] = {}
    for one in series:
        if one.headline and one.throughput and one.verdict != INVALID:
            declaration, value = one.headline
            sign = -1 if declared.direction(declaration) < 0 else 1
            points.setdefault((one.throughput, sign * value), one)
    return [points[point] for point in advice.frontier(list(points))]


def by_importance(series: Sequence[Series]) -> Iterator[Series]:
    """Yield each run once: the fastest run of each model, then the rest of the front, then the others by throughput.

    Runs with an invalid verdict come after all other runs.
    """
    fastest = sorted(series, key=lambda one: (one.verdict == INVALID, -(one.throughput or 0.0)))
    best = {one.run.model: id(one) for one in reversed(fastest)}
    of_models = [one for one in fastest if best[one.run.model] == id(one)]
    yielded: set[int] = set()
    for one in (*of_models, *front(series), *fastest):
        if id(one) not in yielded:
            yielded.add(id(one))
            yield one


def choose(series: Sequence[Series], most: int) -> list[Series]:
    """Return the most important runs, at most this number, in the order of the table."""
    important = {id(one) for _, one in zip(range(most), by_importance(series), strict=False)}
    return [one for one in series if id(one) in important]


def listed(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that the tables of a report list, in their order: all, or the most important of each task.

    Runs without numbers come last.
    """
    groups = [list(by_importance([Series(run, "", NO_STYLE) for run in group])) for group in by_task(runs).values()]
    ranked = [one.run for turn in zip_longest(*groups) for one in turn if one is not None]
    known = set(map(id, ranked))
    ranked += [run for run in runs if id(run) not in known]
    chosen: set[int] = set()
    rows = 0
    for run in ranked[:MOST_RUNS]:
        rows += len(run.results)
        if rows > MOST_ROWS and chosen:
            break
        chosen.add(id(run))
    return [run for run in runs if id(run) in chosen]
