"""Runs of a sweep that other processes measure: their jobs, their GPUs, and their results.

The process that starts the jobs prepares all runs, so that a wrong run is refused before the first job starts. It
gathers the results from the folders of the runs, sends them to the tracker, and writes the report. A job prepares and
measures one run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from visionbench import runner, session, variation
from visionbench.config import ComposedRun
from visionbench.core import ConfigError, Counted
from visionbench.engines import End, Job
from visionbench.engines.options import ALL_GPUS
from visionbench.parts import device_of
from visionbench.resolve import Resolver
from visionbench.resume.matching import Assignment
from visionbench.session import Outcome, PreparedSweep, Role


@dataclass(frozen=True)
class Measurement:
    """The function of a job: prepare and measure one run."""

    run: ComposedRun
    folder: Path
    sweep: str
    naming: variation.Naming
    config_dir: Path | None
    assignment: Assignment | None
    """The cases that are missing, if a sweep is continued."""

    def __call__(self, beside: str) -> int:
        """Measure the run, send it if the tracker is a server, and return the exit code."""
        outcome, prepared = Outcome(), None
        try:
            role = Role(gathers=False, naming=self.naming, beside=beside)
            prepared = session.prepare([self.run], Resolver(self.config_dir), role=role)
            prepared = replace(prepared, runs=(prepared.runs[0].with_assignment(self.assignment),))
            session.measure(prepared, 0, self.folder, self.sweep, outcome)
            session.measure_repeats(prepared, outcome)
        finally:
            if prepared is not None:
                session.finish_job(prepared, outcome)
        return outcome.exit_code


def assign_gpus(runs: Sequence[ComposedRun], gpus: str | list[int] | None) -> list[ComposedRun]:
    """Return the runs with `device.index` set to one of these GPUs in turn. Runs on the CPU are returned unchanged.

    Raises ConfigError if no run uses a GPU, or if a run selects its GPU itself.
    """
    if gpus is None:
        return list(runs)
    assigned, turn = [], 0
    for run in runs:
        device = device_of(run.config.values)
        if not isinstance(device, Counted):
            assigned.append(run)
            continue
        if any(override.lstrip("+").startswith("device.index=") for override in run.overrides):
            raise ConfigError("hydra.launcher.gpus and device.index both select GPUs", "remove one of them")
        indices = list(range(device.count())) if gpus == ALL_GPUS else gpus
        assert isinstance(indices, list)
        index = indices[turn % len(indices)]
        assigned.append(replace(run, config=run.config.with_changes({"device.index": index})))
        turn += 1
    if not turn:
        raise ConfigError(
            f"hydra.launcher.gpus={variation.text(gpus)}: no run of the sweep uses a GPU",
            "use hydra.launcher.parallel=true for runs on the CPU",
        )
    return assigned


def of_runs(
    prepared: PreparedSweep, runs: Sequence[ComposedRun], config_dir: Path | None, outcome: Outcome
) -> list[Job]:
    """Return the jobs of prepared runs. The results of runs that are complete are added to the outcome."""
    first = len(prepared.previous) - len(runs)
    plans = [run.plan for run in prepared.previous]
    namings = variation.namings(plans, [asdict(run.config) for run in prepared.previous])[first:]
    jobs = []
    for index, (run, naming) in enumerate(zip(prepared.runs, namings, strict=True)):
        place = run.request.place if run.request else None
        assert run.request is not None and place is not None
        if session.is_complete(prepared, index):
            session.measure(prepared, index, place.folder, place.sweep, outcome)
            continue
        request = replace(runs[index], place=None)  # a job does not write the record of the sweep
        call = Measurement(request, place.folder, place.sweep, naming, config_dir, run.assignment)
        device = run.plan.device if isinstance(device_of(run.config), Counted) else None
        jobs.append(Job(first + index, run.plan.name, place.folder, call, device, run.config.device.threads))
    return jobs


def add_end(prepared: PreparedSweep, job: Job, end: End, outcome: Outcome) -> None:
    """Add the results of a job that has ended. Cases without a row become rows with the reason."""
    from visionbench.records.folder import RunFolder
    from visionbench.results import repeats

    run = prepared.runs[job.number - len(prepared.previous) + len(prepared.runs)]
    assert run.request is not None and run.request.place is not None
    path, sweep = job.folder, run.request.place.sweep
    outcome.exit_code = outcome.exit_code or end.exit_code
    outcome.folders.append(path)
    try:
        if parts := repeats.folders(RunFolder(path)):
            for part in parts:
                runner.close(part.path, run.yaml, part.record().plan, sweep, end.reason)
            if not (path / "run.json").exists():
                repeats.write(RunFolder(path), run.config.measure.order_seed, run.config.measure.repeats)
        folder = runner.close(path, run.yaml, run.plan, sweep, end.reason)
        session.add_result(folder, prepared.queue, outcome)
        name = outcome.runs[-1].name  # the machine of the job may have another device than the plan
        if end.reason:
            print(f"visionbench: {name}: {end.reason}", file=sys.stderr)
        show(prepared, f"{name}  {outcome.runs[-1].record.status}")
    except (ConfigError, OSError) as error:
        if end.reason:
            print(f"visionbench: {job.name}: {end.reason}", file=sys.stderr)
        outcome.errors.append(f"{job.name}: {error}")
        outcome.exit_code = outcome.exit_code or 1
    _sort(prepared, outcome)


def show(prepared: PreparedSweep, line: str) -> None:
    """Print a line about the jobs."""
    prepared.console.print(line, soft_wrap=True, highlight=False, markup=False)


def _sort(prepared: PreparedSweep, outcome: Outcome) -> None:
    """Sort the results in the order of the sweep. Jobs end in another order."""
    places = [run.request.place.folder for run in prepared.previous if run.request and run.request.place]
    order = {folder: index for index, folder in enumerate(places)}
    outcome.folders.sort(key=lambda folder: order.get(folder, len(order)))
    outcome.runs.sort(key=lambda run: order.get(run.folder.path, len(order)) if run.folder else len(order))
