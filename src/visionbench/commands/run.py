"""`visionbench run`: Hydra composes the runs, and a session prepares, measures and finishes them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from visionbench import dry_run, jobs, session, signals
from visionbench.composition import (
    Arguments,
    Collector,
    JobFailed,
    JobPlan,
    check_overrides,
    main,
    parse,
    shows_information,
)
from visionbench.config import ComposedRun, ExperimentConfig
from visionbench.core import ConfigError
from visionbench.engines import End, Job
from visionbench.parts import devices_of_other_machines
from visionbench.resolve import Resolver
from visionbench.resume.choices import Choices
from visionbench.resume.earlier import EarlierSweep
from visionbench.session import Outcome, PreparedSweep, Resumption

PREPARING_LAUNCHERS = ("visionbench", "submitit_slurm", "ray")
FOLDER_KEYS = ("hydra.run.dir=", "hydra.sweep.dir=")


def run(arguments: Sequence[str]) -> int:
    """Run with Hydra's own arguments and return the exit code. Raises ConfigError for bad input."""
    parsed = parse(arguments)
    resumption = None
    if parsed.resume is not None:
        parsed, resumption = continue_sweep(parsed)
    if parsed.dry_run:
        return show_plan(parsed, resumption)
    with resumption.sweep.lock() if resumption else nullcontext():
        sweep = Sweep(Resolver(parsed.config_dir), parsed.verbose, resumption=resumption)
        try:
            main(parsed, sweep)
        except JobFailed as failure:
            return failure.exit_code
        except signals.Ended as ended:
            ended.reported = bool(sweep.outcome.runs)
            raise
        except OSError as error:
            if not sweep.outcome.runs:
                raise
            session.add_write_error(error, sweep.outcome)
        finally:
            sweep.finish()
    return sweep.outcome.exit_code


def measures(arguments: Sequence[str]) -> bool:
    """Return whether a command measures, instead of showing a plan, a configuration or a help text."""
    parsed = parse(arguments)
    return not parsed.dry_run and not shows_information(parsed)


def continue_sweep(parsed: Arguments) -> tuple[Arguments, Resumption]:
    """Return the arguments that measure into the folder of an earlier sweep, and the sweep. Raises ConfigError.

    Without overrides, the command of the sweep is repeated. `output_dir` only selects where the sweep is searched.
    """
    assert parsed.resume is not None
    given = [text for text in parsed.overrides if not text.startswith("output_dir=")]
    choices = Choices.parse(parsed.retry, parsed.on_change, bool(given))
    for text in parsed.overrides:
        if text.startswith(FOLDER_KEYS):
            raise ConfigError(f"{text}: resume={parsed.resume} uses the folder of the sweep", "remove it")
    output_dirs = [text.partition("=")[2] for text in parsed.overrides if text.startswith("output_dir=")]
    sweep = EarlierSweep.find(Path(output_dirs[-1] if output_dirs else ExperimentConfig().output_dir), parsed.resume)
    if given:
        flags, overrides, config_dir = parsed.flags, parsed.overrides, parsed.config_dir
        if sweep.several and not parsed.multirun:
            flags = (*flags, "--multirun")
    else:
        stored = parse(sweep.words())
        flags = tuple(dict.fromkeys((*stored.flags, *parsed.flags)))
        if parsed.config_dir is not None:
            flags = tuple(flag for flag in flags if flag not in stored.flags or not flag.startswith("--config-dir"))
        overrides = tuple(text for text in stored.overrides if not text.startswith(FOLDER_KEYS))
        config_dir = parsed.config_dir or stored.config_dir
    folder = quoted(sweep.folder.absolute())
    overrides = (*overrides, f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}")
    return replace(parsed, flags=flags, overrides=overrides, config_dir=config_dir), Resumption(sweep, choices)


def quoted(path: Path) -> str:
    """Return a path as a quoted value of an override, in which Hydra interprets no character."""
    escaped = str(path).replace("'", "\\'")
    return f"'{escaped}'"


def show_plan(parsed: Arguments, resumption: Resumption | None) -> int:
    """Print the plan of the command, and return the exit code. Nothing is measured, fetched or written."""
    check_overrides(parsed.overrides, parsed.config_dir)  # those of folders are replaced below
    with TemporaryDirectory(prefix="visionbench-") as folder:
        words = [text for text in parsed.overrides if not text.startswith(FOLDER_KEYS) and not is_foreign(text)]
        if resumption is not None:
            resumption.sweep.refuse_running()
        replaced = (
            *words,
            f"hydra.run.dir={quoted(Path(folder, 'run'))}",
            f"hydra.sweep.dir={quoted(Path(folder, 'sweep'))}",
        )
        main(replace(parsed, overrides=replaced), PlanView(Resolver(parsed.config_dir), resumption))
    return 0


def is_foreign(override: str) -> bool:
    """Return whether an override selects a launcher that does not prepare all runs."""
    key, _, value = override.partition("=")
    return key == "hydra/launcher" and value not in PREPARING_LAUNCHERS


@dataclass
class PlanView(Collector):
    """An application that prints the plan of its runs, for `--dry-run`."""

    resolver: Resolver
    resumption: Resumption | None = None

    def prepare(self, runs: Sequence[ComposedRun]) -> None:
        """Print the plan of a batch of runs."""
        dry_run.show(runs, self.resolver, self.resumption)

    def prepare_jobs(self, runs: Sequence[ComposedRun], plan: JobPlan) -> list[Job]:
        """Print the plan of a batch of runs, and return no jobs."""
        with nullcontext() if plan.here else devices_of_other_machines():
            return super().prepare_jobs(jobs.assign_gpus(runs, plan.gpus), plan)


@dataclass
class Sweep:
    """The runs of one command. Hydra calls `prepare`, then `measure` for each run, then `complete`.

    A sweeper may launch several batches of runs. Each batch is prepared separately, and all are finished together.
    """

    resolver: Resolver
    verbose: bool = False
    """Whether each run has its own table at the end."""
    resumption: Resumption | None = None
    """The sweep that is continued."""
    outcome: Outcome = field(default_factory=Outcome)
    prepared: PreparedSweep | None = None

    def prepare(self, runs: Sequence[ComposedRun]) -> None:
        """Prepare a batch of runs."""
        earlier = self.prepared
        if earlier is not None:
            earlier.progress.close()
        self.prepared = session.prepare(runs, self.resolver, earlier, self.resumption)
        self.outcome.planned += len(runs)

    def folder_of(self, index: int) -> Path | None:
        """Return the folder of a run of a continued sweep, or None if the run uses the folder of its job."""
        return session.folder_of(self.prepared, index) if self.prepared else None

    def is_complete(self, index: int) -> bool:
        """Return whether all results of a run exist."""
        return self.prepared is not None and session.is_complete(self.prepared, index)

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
        single = Sweep(self.resolver, self.verbose, self.resumption)
        try:
            single.prepare([run])
            single.measure(0, folder, sweep)
            single.complete()
        finally:
            single.finish()
        return single.outcome.exit_code

    # ------------------------------------------------------------------------------- runs that other processes measure
    def prepare_jobs(self, runs: Sequence[ComposedRun], plan: JobPlan) -> list[Job]:
        """Prepare runs that other processes measure, and return the jobs of those with missing results."""
        plan.engine.check([run.config.values.device.threads for run in runs])
        if self.resumption is not None and not plan.here:
            raise ConfigError(
                f"resume={self.resumption.sweep.id}: this machine cannot compare the conditions of other machines",
                "measure the missing runs as a new sweep, without resume",
            )
        runs = jobs.assign_gpus(runs, plan.gpus)
        with nullcontext() if plan.here else devices_of_other_machines():
            self.prepared = session.prepare(runs, self.resolver, self.prepared, self.resumption, session.GATHERS)
            if plan.engine.outlives_command:
                session.expect_jobs_after_command(self.prepared)
            self.outcome.planned += len(runs)
            return jobs.of_runs(self.prepared, runs, self.resolver.config_dir, self.outcome)

    def add_end(self, job: Job, end: End) -> None:
        """Add the results of a job that has ended."""
        assert self.prepared is not None
        jobs.add_end(self.prepared, job, end, self.outcome)

    def withdraw(self) -> None:
        """Remove the record of the sweep, because no job of it was started. Results of earlier batches are kept."""
        if self.prepared is not None and not self.outcome.folders:
            session.remove_sweep_record(self.prepared)
            self.prepared = None

    def show(self, line: str) -> None:
        """Print a line about the jobs."""
        assert self.prepared is not None
        jobs.show(self.prepared, line)
