"""`visionbench run`: Hydra composes the runs, and a session prepares, measures and finishes them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from visionbench import jobs, session
from visionbench.composition import JobFailed, JobPlan, main, parse
from visionbench.config import ComposedRun
from visionbench.engines import End, Job
from visionbench.parts import devices_of_other_machines
from visionbench.resolve import Resolver
from visionbench.session import Outcome, PreparedSweep


def run(arguments: Sequence[str]) -> int:
    """Run with Hydra's own arguments and return the exit code. Raises ConfigError for bad input."""
    parsed = parse(arguments)
    sweep = Sweep(Resolver(parsed.config_dir), parsed.verbose)
    try:
        main(parsed, sweep)
    except JobFailed as failure:
        return failure.exit_code
    finally:
        sweep.finish()
    return sweep.outcome.exit_code


@dataclass
class Sweep:
    """The runs of one command. Hydra calls `prepare`, then `measure` for each run, then `complete`.

    A sweeper may launch several batches of runs. Each batch is prepared separately, and all are finished together.
    """

    resolver: Resolver
    verbose: bool = False
    """Whether each run has its own table at the end."""
    outcome: Outcome = field(default_factory=Outcome)
    prepared: PreparedSweep | None = None

    def prepare(self, runs: Sequence[ComposedRun]) -> None:
        """Prepare a batch of runs."""
        earlier = self.prepared
        if earlier is not None:
            earlier.progress.close()
        self.prepared = session.prepare(runs, self.resolver, earlier)
        self.outcome.planned += len(runs)

    def measure(self, index: int, folder: Path, sweep: str) -> None:
        """Measure one run of the batch."""
        assert self.prepared is not None
        session.measure(self.prepared, index, folder, sweep, self.outcome)

    def complete(self) -> None:
        """Measure the repeats of the batch, if there are any."""
        assert self.prepared is not None
        session.measure_repeats(self.prepared, self.outcome)

    def finish(self) -> None:
        """Show the results, also after an error or an interrupt."""
        if self.prepared is not None:
            session.finish(self.prepared, self.outcome, self.verbose)

    def run_alone(self, run: ComposedRun, folder: Path, sweep: str) -> int:
        """Prepare, measure and finish one run of a sweep that another launcher distributes; return its exit code."""
        single = Sweep(self.resolver, self.verbose)
        try:
            single.prepare([run])
            single.measure(0, folder, sweep)
            single.complete()
        finally:
            single.finish()
        return single.outcome.exit_code

    # ------------------------------------------------------------------------------- runs that other processes measure
    def prepare_jobs(self, runs: Sequence[ComposedRun], plan: JobPlan) -> list[Job]:
        """Prepare runs that other processes measure, and return the jobs."""
        plan.engine.check([run.config.values.device.threads for run in runs])
        runs = jobs.assign_gpus(runs, plan.gpus)
        with nullcontext() if plan.here else devices_of_other_machines():
            self.prepared = session.prepare(runs, self.resolver, self.prepared, session.GATHERS)
        self.outcome.planned += len(runs)
        return jobs.of_runs(self.prepared, runs, self.resolver.config_dir, len(self.outcome.folders))

    def add_end(self, job: Job, end: End) -> None:
        """Add the results of a job that has ended."""
        assert self.prepared is not None
        jobs.add_end(self.prepared, job, end, self.outcome)

    def show(self, line: str) -> None:
        """Print a line about the jobs."""
        assert self.prepared is not None
        jobs.show(self.prepared, line)
