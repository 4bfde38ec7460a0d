"""The values of a sweep that pass from one step of a session to the next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench import variation
from visionbench.config import ComposedRun, ExperimentConfig
from visionbench.core import RunPlan
from visionbench.session.tracker_queue import TrackerQueue
from visionbench.terminal.progress import SweepProgress

if TYPE_CHECKING:
    from rich.console import Console

    from visionbench.records.folder import RunFolder
    from visionbench.results.archive import Run
    from visionbench.resume.choices import Choices
    from visionbench.resume.earlier import EarlierSweep
    from visionbench.resume.matching import Assignment


@dataclass(frozen=True)
class Resumption:
    """The sweep that a command continues, and the choices of the command."""

    sweep: EarlierSweep
    choices: Choices


@dataclass(frozen=True)
class Role:
    """What this process does with the runs that it prepares."""

    measures: bool = True
    """Whether it measures them."""
    gathers: bool = True
    """Whether it sends and shows the results."""
    naming: variation.Naming | None = None
    """What differs between the runs of the sweep, if this process has only one of them."""
    namings: tuple[variation.Naming, ...] = ()
    """What each of the runs shows in its name, if that is not what differs between their configurations."""
    beside: str = ""
    """Which other runs may use this machine at the same time."""


ALL = Role()
GATHERS = Role(measures=False)
"""The role of the process that starts jobs."""


@dataclass(frozen=True)
class PreparedRun:
    """A run that is resolved, planned and checked."""

    config: ExperimentConfig
    yaml: str
    """The configuration as it is saved."""
    plan: RunPlan
    left_out: dict[str, str]
    """The ids of the examples that cannot be used, with the reasons."""
    request: ComposedRun | None = None
    """The run as Hydra composed it, with its overrides and its folders."""
    assignment: Assignment | None = None
    """The folder, and the cases that are measured, if a sweep is continued."""

    def with_assignment(self, assignment: Assignment | None) -> PreparedRun:
        """Return the run with its assignment, and with the batch size that an earlier session found."""
        plan = self.plan if assignment is None else assignment.with_batch_size(self.plan)
        return replace(self, assignment=assignment, plan=plan)

    def session_plan(self, process: int = 1) -> RunPlan:
        """Return the plan of one process: all its cases, or those without a valid result if a sweep is continued."""
        from visionbench.results import repeats

        plan = repeats.planned(self.plan, process)
        return plan if self.assignment is None else replace(plan, cases=self.assignment.cases(plan, process))


@dataclass(frozen=True)
class PreparedSweep:
    """All runs of a sweep, ready to be measured."""

    runs: tuple[PreparedRun, ...]
    console: Console
    progress: SweepProgress
    queue: TrackerQueue
    previous: tuple[PreparedRun, ...] = ()
    """The runs of all batches of the sweep so far, these runs included."""
    resumption: Resumption | None = None
    """The sweep that is continued."""
    elsewhere: bool = False
    """Whether other machines measure the runs."""

    @property
    def repeated(self) -> bool:
        """Whether any run is measured by several processes; the repeats of all runs then take turns."""
        return any(run.config.measure.repeats > 1 for run in self.runs)


@dataclass
class Outcome:
    """The results of a command so far. It grows run by run."""

    planned: int = 0
    """The number of runs that were prepared."""
    runs: list[Run] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    repeated_runs: list[tuple[PreparedRun, RunFolder, str]] = field(default_factory=list)
    """Runs that are deferred until the folders of all runs exist, with their folders and the sweep's id."""
    errors: list[str] = field(default_factory=list)
    exit_code: int = 0
    not_written: bool = False
    """Whether results could not be written."""
    not_measured: int = 0
    """The number of runs that were not measured, because results could not be written."""
