"""What is being measured now and how long the rest may take: a bar on a terminal, plain lines elsewhere.

It is drawn only when something happens. A bar that redraws itself by a timer would run beside what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from visionbench.config import MeasureConfig
from visionbench.core import FetchProgress, RunPlan

FIXED_SECONDS = {
    **{"load": 2.0, "inputs": 1.5, "first_call": 0.5, "memory": 0.5, "flops": 5.0, "evaluation": 5.0},
    "kernels": 0.1,  # the call is profiled before the first case
}
"""A first guess at stages that no rule of time bounds."""


@dataclass
class SweepProgress:
    """Progress over all runs of a command."""

    plans: Sequence[tuple[RunPlan, MeasureConfig]]
    console: Console
    _run: int = -1
    _began: float = field(default_factory=monotonic)
    _bar: Progress | None = None

    def __post_init__(self) -> None:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
                console=self.console,
                auto_refresh=False,
                transient=True,
            )
            self._task = self._bar.add_task("starting", total=self._expected_in_all(), left="")
            self._bar.start()
            self._bar.refresh()

    def next_run(self) -> None:
        """The next plan begins."""
        self._run += 1

    def show(self, stage: str, case: str, share: float = 0.0) -> None:
        """A stage begins, of a case or (where that is empty) of the whole run, or this share of it is done."""
        plan, measure = self.plans[self._run]
        count = f"[{self._run + 1}/{len(self.plans)}] " if len(self.plans) > 1 else ""
        what = "  ".join(filter(None, [f"{count}{plan.name}", case.replace("-", " ")]))
        if self._bar is None:
            if not share and stage == ("load" if not case else _first_stage(plan, case)):
                self.console.print(what if case else f"{what}  {stage}", highlight=False)
            return
        done = self._expected_before(stage, case, share)
        self._bar.update(
            self._task,
            description=f"{what}  {stage}{f' {share:.0%}' if share else ''}",
            completed=done,
            left=self._left(done),
        )
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()

    def _left(self, done: float) -> str:
        """Expected seconds of what is left, stretched by how much longer than expected the rest has taken so far."""
        slower = max(1.0, (monotonic() - self._began) / done) if done > 0 else 1.0
        seconds = round((self._expected_in_all() - done) * slower)
        return f"about {seconds // 60}:{seconds % 60:02d} left"

    def _expected_in_all(self) -> float:
        return sum(seconds for plan, measure in self.plans for _, _, seconds in steps(plan, measure))

    def _expected_before(self, stage: str, case: str, share: float) -> float:
        total = sum(seconds for plan, measure in self.plans[: self._run] for _, _, seconds in steps(plan, measure))
        for known_stage, known_case, seconds in steps(*self.plans[self._run]):
            if (known_stage, known_case) == (stage, case):
                return total + share * seconds
            total += seconds
        return total


def steps(plan: RunPlan, measure: MeasureConfig) -> list[tuple[str, str, float]]:
    """Stage, case and expected seconds of everything in a plan, in order."""
    seconds = {
        **FIXED_SECONDS,
        "warmup": measure.warmup.min_seconds,
        "latency": measure.latency.min_seconds,
        "throughput": measure.throughput.min_seconds,
        "telemetry": measure.telemetry.idle_seconds + measure.telemetry.min_seconds,
        "pipeline": 2 * measure.pipeline.min_seconds,
    }
    listed = [(stage, "", seconds[stage]) for stage in ("load", "inputs", "first_call")]
    return listed + [(stage, case.id, seconds[stage]) for case in plan.cases for stage in case.stages]


def _first_stage(plan: RunPlan, case_id: str) -> str:
    return next(case.stages[0] for case in plan.cases if case.id == case_id)


@dataclass
class FetchBars:
    """Lines and, on a terminal, a bar for each file or list that is fetched."""

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
