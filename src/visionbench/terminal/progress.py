"""The progress of a sweep: a bar with the remaining time on a terminal, and plain lines otherwise.

The bar is drawn only at events. A bar that a timer redraws would use the CPU during a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from visionbench.config import MeasureConfig
from visionbench.core import AUTO, FetchProgress, RunPlan

SEARCH = "search"
"""The stage in which batch=auto tries batch sizes."""
FIXED_SECONDS = {
    **{"load": 2.0, "inputs": 1.5, "first_call": 0.5, "memory": 0.5, "flops": 5.0, "evaluation": 5.0},
    "kernels": 0.1,  # the call is profiled before the first case
}
"""Estimated seconds of stages that have no time limit."""


@dataclass
class SweepProgress:
    """The progress over all runs of a command."""

    plans: Sequence[tuple[RunPlan, MeasureConfig]]
    console: Console
    bar: bool = True
    """Whether a terminal shows a bar."""
    _run: int = -1
    _began: float = field(default_factory=monotonic)
    _bar: Progress | None = None

    def __post_init__(self) -> None:
        if self.bar and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
                console=self.console,
                auto_refresh=False,
                transient=True,
            )
            self._task = self._bar.add_task("starting", total=self._expected_total(), left="")
            self._bar.start()
            self._bar.refresh()

    def next_run(self) -> None:
        """Start the next plan."""
        self._run += 1

    def show(self, stage: str, case: str, share: float = 0.0) -> None:
        """Show that a stage begins, or that this share of it is done. `case` is empty for a stage of the entire run."""
        plan, measure = self.plans[self._run]
        count = f"[{self._run + 1}/{len(self.plans)}] " if len(self.plans) > 1 else ""
        label = "  ".join(filter(None, [f"{count}{plan.name}", case.replace("-", " ")]))
        if self._bar is None:
            if not share and stage in ("load" if not case else _first_stage(plan, case), SEARCH):
                shows_stage = not case or stage == SEARCH
                self.console.print(f"{label}  {stage}" if shows_stage else label, highlight=False)
            return
        done = self._expected_before(stage, case, share)
        self._bar.update(
            self._task,
            description=f"{label}  {stage}{f' {share:.0%}' if share else ''}",
            completed=done,
            left=self._left(done),
        )
        self._bar.refresh()

    def close(self) -> None:
        """Remove the bar from the screen."""
        if self._bar is not None:
            self._bar.stop()

    def _left(self, done: float) -> str:
        """Return the remaining time; the estimate grows if the stages so far took longer than expected."""
        slower = max(1.0, (monotonic() - self._began) / done) if done > 0 else 1.0
        return f"about {clock_time((self._expected_total() - done) * slower)} left"

    def _expected_total(self) -> float:
        return sum(seconds for plan, measure in self.plans for _, _, seconds in steps(plan, measure))

    def _expected_before(self, stage: str, case: str, share: float) -> float:
        total = sum(seconds for plan, measure in self.plans[: self._run] for _, _, seconds in steps(plan, measure))
        plan, measure = self.plans[self._run]
        case = _planned_id(plan, case)
        if stage == SEARCH:
            return total
        for known_stage, known_case, seconds in steps(plan, measure):
            if (known_stage, known_case) == (stage, case):
                return total + share * seconds
            total += seconds
        return total


def clock_time(seconds: float) -> str:
    """Return a duration such as `1:05` or `2:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def steps(plan: RunPlan, measure: MeasureConfig) -> list[tuple[str, str, float]]:
    """Return the stage, the case and the expected seconds of each step of a plan, in order."""
    seconds = {
        **FIXED_SECONDS,
        "warmup": measure.warmup.min_seconds,
        "latency": measure.latency.min_seconds,
        "throughput": measure.throughput.min_seconds,
        "requests": float(measure.requests.timed),  # a second each, because the speed of an endpoint is not known
        "telemetry": measure.telemetry.idle_seconds + measure.telemetry.min_seconds,
        "pipeline": 2 * measure.pipeline.min_seconds,
        "serving": measure.serving.most_loads * measure.serving.min_seconds,
    }
    listed = [(stage, "", seconds[stage]) for stage in ("load", "inputs", "first_call")]
    return listed + [(stage, case.id, seconds[stage]) for case in plan.cases for stage in case.stages]


def _first_stage(plan: RunPlan, case_id: str) -> str:
    planned = _planned_id(plan, case_id)
    return next(case.stages[0] for case in plan.cases if case.id == planned)


def _planned_id(plan: RunPlan, case_id: str) -> str:
    """Return the id of a case in a plan, whose batch size a search may have found since."""
    known = {case.id for case in plan.cases}
    return AUTO if case_id and case_id not in known and AUTO in known else case_id


@dataclass
class FetchBars:
    """The progress of a download: lines and, on a terminal, a bar for each file or list."""

    console: Console
    progress: Progress
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def line(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, soft_wrap=True, highlight=False)

    def show(self, name: str, done: int, total: int | None) -> None:
        """Move the bar of a file or a list."""
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(name, total=total)
        self.progress.update(self.tasks[name], completed=done, total=total)


@contextmanager
def fetch_progress(console: Console) -> Iterator[FetchProgress]:
    """Show the progress of a download while the context is open."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        yield FetchBars(console, progress)
