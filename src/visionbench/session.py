"""The sequence of a sweep: prepare all runs, measure each run, and finish with the table, the tracker and the report.

    prepared = prepare(runs, resolver)            refuse, fetch, resolve, plan, check the data; start servers
    measure(prepared, index, folder, sweep, …)    one run in a fresh process; the previous run is sent at its start
    measure_repeats(prepared, …)                  with measure.repeats: the runs that were deferred, in turns
    finish(prepared, outcome)                     print the results, send them, and write the report

Only `Outcome` and the tracker's queue change after `prepare`, so an interrupted sweep still shows its finished runs.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench import registry, signals, variation, worker
from visionbench.config import ComposedRun, ExperimentConfig, MeasureConfig, Place
from visionbench.core import ConfigError, RunPlan, Tracker, TrackingError, first_line, visible
from visionbench.deadline import Call, Caller, DeadlineExceeded
from visionbench.parts import measured_elsewhere
from visionbench.plan import RANDOM_WEIGHTS
from visionbench.plan import plan as make_plan
from visionbench.records.output import NotWritten
from visionbench.registry import find
from visionbench.report import translations
from visionbench.resolve import Resolver, check
from visionbench.terminal.console import screen
from visionbench.terminal.progress import SweepProgress

if TYPE_CHECKING:
    from rich.console import Console

    from visionbench.measuring import StageProgress
    from visionbench.records.folder import RunFolder
    from visionbench.records.record import RunRecord
    from visionbench.records.sweep import SweepRecord
    from visionbench.results.archive import Run
    from visionbench.resume.choices import Choices
    from visionbench.resume.earlier import EarlierSweep
    from visionbench.resume.matching import Assignment


@dataclass(frozen=True)
class Resumption:
    """The sweep that a command continues, and the choices of the command."""

    sweep: EarlierSweep
    choices: Choices


SERVER_START_SECONDS = 2.0
"""The time in which a server that works has answered before the first run is prepared further."""
UNSENT_REMEDY = "results are safe in the run folder; send them later with visionbench sync"


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

    def session_plan(self, process: int = 1) -> RunPlan:
        """Return the plan of one process: all its cases, or those without a valid result if a sweep is continued."""
        from visionbench.results import repeats

        plan = repeats.planned(self.plan, process)
        return plan if self.assignment is None else replace(plan, cases=self.assignment.cases(plan, process))


@dataclass
class TrackerQueue:
    """Finished runs that the tracker has not received. If the tracker fails, its error is printed at the end.

    All calls of the tracker are made by one thread, in which they cannot block the command: the first call that exceeds
    `tracking.timeout_seconds` is left behind, and no further call is made.
    """

    tracker: Tracker | None
    caller: Caller = field(default_factory=lambda: Caller(ExperimentConfig().tracking.timeout_seconds))
    errors: list[str] = field(default_factory=list)
    view_hint: str = ""
    """The command or the address that shows the runs in the tracker."""
    unsent: list[Path] = field(default_factory=list)
    is_usable: bool = True
    """Whether the store could be opened."""
    is_remote: bool = False
    """Whether the tracker sends runs to a server. Runs are then sent while others are measured."""
    _calls: list[Call[str]] = field(default_factory=list)

    @classmethod
    def open(cls, config: ExperimentConfig) -> TrackerQueue:
        """Open the configured tracker. A local store is waited for; a server may answer while runs are measured."""
        tracker: Tracker = find("trackers", config.tracking.name)(config.tracking, Path(config.output_dir))
        queue = cls(tracker, Caller(config.tracking.timeout_seconds))
        queue.is_remote = getattr(tracker, "is_remote", False)
        if queue.is_remote and (load := getattr(tracker, "load", None)) is not None:
            with suppress(TrackingError):  # `open` raises the same error
                load()  # in this thread, because two threads that import the same libraries can block each other
        queue._submit(queue._open)
        with suppress(DeadlineExceeded):
            queue.caller.wait(queue._calls[0], SERVER_START_SECONDS if queue.is_remote else None)
        return queue

    def send(self) -> None:
        """Send all runs that were not sent. A server may receive them while runs are measured."""
        while self.unsent:
            self._submit(partial(self._log, self.unsent.pop(0)))
        if self._calls and not self.is_remote:  # it computes, which would disturb a measurement
            with suppress(DeadlineExceeded):
                self.caller.wait(self._calls[-1])

    def complete(self) -> None:
        """Send all runs that were not sent, and wait until the tracker has received them, or for the deadline."""
        self.send()
        while self._calls:
            call = self._calls[0]
            try:
                self.caller.wait(call)
            except DeadlineExceeded:
                self.errors.append(f"tracking: no answer within {self.caller.seconds:g} s; {UNSENT_REMEDY}")
                self._calls.clear()
                self.is_usable = False
                return
            self._calls.pop(0)
            if isinstance(call.error, TrackingError):
                self.errors.append(str(call.error))
            elif call.error is not None:
                self.errors.append(f"tracking: {type(call.error).__name__}: {first_line(call.error)}; {UNSENT_REMEDY}")
            elif call.result:
                self.view_hint = call.result

    def attach(self, folder: Path, files: Sequence[Path]) -> None:
        """Attach files to a run that was sent."""
        if self.is_usable and self.view_hint:
            self._submit(partial(self._attach, folder, files))
            self.complete()

    def _submit(self, function: Callable[[], str]) -> None:
        if self.is_usable and self.tracker is not None:
            self._calls.append(self.caller.submit(function))

    def _open(self) -> str:
        assert self.tracker is not None
        try:
            self.tracker.open()
        except BaseException:
            self.is_usable = False
            raise
        return ""

    def _log(self, folder: Path) -> str:
        return self.tracker.log(folder) if self.tracker is not None and self.is_usable else ""

    def _attach(self, folder: Path, files: Sequence[Path]) -> str:
        assert self.tracker is not None
        self.tracker.attach(folder, files)
        return ""


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


# ------------------------------------------------------------------------------------------------------------- prepare
@dataclass(frozen=True)
class Role:
    """What this process does with the runs that it prepares."""

    measures: bool = True
    """Whether it measures them."""
    gathers: bool = True
    """Whether it sends and shows the results."""
    naming: variation.Naming | None = None
    """What differs between the runs of the sweep, if this process has only one of them."""
    beside: str = ""
    """Which other runs may use this machine at the same time."""


ALL = Role()
GATHERS = Role(measures=False)
"""The role of the process that starts jobs."""


def prepare(
    requests: Sequence[ComposedRun],
    resolver: Resolver,
    earlier: PreparedSweep | None = None,
    resumption: Resumption | None = None,
    role: Role = ALL,
) -> PreparedSweep:
    """Prepare all runs. Raises ConfigError if any run is wrong, before the first run is measured.

    The fork server imports torch while the tracker's store is opened. `earlier` is the previous batch of runs of this
    sweep, whose tracker is used again. `resumption` is the sweep that the command continues.
    """
    from visionbench import weights

    plans = [plan_request(request, resolver.config_dir) for request in requests]
    console = screen()
    if any(request.config.values.check for request in requests):
        _show_diagnosis(console)
    runs = _named(_resolve_and_plan(requests, plans, resolver, console), earlier, role)
    if role.measures:
        modules = dict.fromkeys(module for run in runs for module in weights.transformers_modules(run.config.model))
        worker.start_fork_server(
            ["torch", "transformers", *modules, *registry.modules("models", "devices", "data", "metrics")]
        )
    if resumption is not None:
        runs = assign(runs, resumption, earlier)
        for line in describe_assignments(runs, resumption):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    if earlier:
        queue = earlier.queue
    elif role.gathers or is_server(runs[0].config.tracking.uri):
        queue = TrackerQueue.open(runs[0].config)
    else:  # a single process writes to a file
        queue = TrackerQueue(None)
    runs = _add_model_warnings(runs, console)
    _write_sweep_record(runs, resumption)
    progress = SweepProgress(_steps(runs), console, bar=role.measures)
    previous = (*(earlier.previous if earlier else ()), *runs)
    return PreparedSweep(runs, console, progress, queue, previous, resumption, measured_elsewhere())


def assign(
    runs: Sequence[PreparedRun], resumption: Resumption, earlier: PreparedSweep | None = None
) -> tuple[PreparedRun, ...]:
    """Return the runs with their folders and their missing cases in the sweep that is continued. Raises ConfigError."""
    from visionbench.resume import matching
    from visionbench.resume.conditions import PresentConditions

    present = PresentConditions()
    repeated = any(run.config.measure.repeats > 1 for run in runs)
    sweep = resumption.sweep
    planned = [
        matching.Planned(
            run.plan,
            present.identify(run.config, run.yaml, run.plan),
            run.config.measure.repeats,
            repeated,
            run.request.place.folder if run.request and run.request.place else sweep.folder,
        )
        for run in runs
    ]
    used = [run.assignment.folder for run in (earlier.previous if earlier else ()) if run.assignment]
    assignments = matching.assign(sweep, planned, resumption.choices, used)
    return tuple(
        replace(
            run,
            assignment=assignment,
            request=replace(run.request, place=Place(assignment.folder, sweep.folder, sweep.id))
            if run.request
            else None,
        )
        for run, assignment in zip(runs, assignments, strict=True)
    )


def describe_assignments(runs: Sequence[PreparedRun], resumption: Resumption) -> list[str]:
    """Return lines about what a resumed command measures and keeps, and about changed conditions."""
    from visionbench.resume import matching

    assignments = [run.assignment for run in runs if run.assignment]
    needed = sum(len(assignment.needed) for assignment in assignments)
    kept = sum(len(assignment.kept) for assignment in assignments)
    cases = f"{needed} case{'s' * (needed != 1)} to measure" if needed else "nothing to measure"
    lines = [f"resume={resumption.sweep.id}: {cases}, {kept} result{'s' * (kept != 1)} kept"]
    for change in dict.fromkeys(change for assignment in assignments for change in assignment.changes):
        treatment = {
            "measure": "its cases are measured again, as a separate run",
            "keep": "its results are kept, and missing cases are measured as a separate run",
        }[resumption.choices.on_change]
        lines.append(f"! {change}; {treatment}")
    others = [run.name for run in matching.unplanned(resumption.sweep, assignments)]
    if others:
        lines.append(f"not part of this command, and unchanged: {', '.join(others)}")
    return lines


def _write_sweep_record(runs: Sequence[PreparedRun], resumption: Resumption | None = None) -> None:
    """Write sweep.json. A run whose folder has results already keeps its entry, because it will be refused.

    A command that continues only a part of a sweep does not replace the command of the sweep.
    """
    from visionbench.records.sweep import PlannedRun, SweepRecord, without_password
    from visionbench.resume import matching

    places = [(run, run.request.place) for run in runs if run.request and run.request.place]
    if resumption is not None:
        places = [(run, place) for run, place in places if run.assignment and run.assignment.needed]
    if not places:
        return
    folder, sweep = places[0][1].sweep_folder, places[0][1].sweep
    planned = [
        PlannedRun(
            os.path.relpath(place.folder, folder),
            run.plan,
            tuple(map(without_password, run.request.overrides if run.request else ())),
            run.yaml,
        )
        for run, place in places
        if resumption is not None or not (place.folder / "results.jsonl").exists()
    ]
    if planned:
        folder.mkdir(parents=True, exist_ok=True)
        record = SweepRecord.start(sweep, planned).joined(_earlier_record(folder))
        if resumption is not None and resumption.sweep.record is not None:
            assignments = [run.assignment for run in runs if run.assignment]
            if matching.unplanned(resumption.sweep, assignments):
                record = replace(record, command=resumption.sweep.record.command)
        record.write(folder)


def expect_jobs_after_command(prepared: PreparedSweep) -> None:
    """Write into sweep.json that the runs are jobs in a queue, which may start after the command has ended."""
    from visionbench.records.sweep import SweepRecord

    for folder in _sweep_folders(prepared.runs):
        if (record := SweepRecord.read(folder)) is not None:
            replace(record, outlived=True).write(folder)


def remove_sweep_record(prepared: PreparedSweep) -> None:
    """Remove sweep.json, because no run of the sweep was started."""
    from visionbench.records.sweep import FILE

    for folder in _sweep_folders(prepared.runs):
        (folder / FILE).unlink(missing_ok=True)


def _sweep_folders(runs: Sequence[PreparedRun]) -> list[Path]:
    places = [run.request.place for run in runs if run.request and run.request.place]
    return list(dict.fromkeys(place.sweep_folder for place in places))


def _end_sweep_record(runs: Sequence[PreparedRun]) -> None:
    """Write the end of the command into sweep.json. A fault does not affect the results, which are on disk."""
    from visionbench.records.sweep import SweepRecord

    for folder in _sweep_folders(runs):
        with suppress(ConfigError, OSError):
            if (record := SweepRecord.read(folder)) is not None:
                record.ended(folder).write(folder)


def _earlier_record(folder: Path) -> SweepRecord | None:
    """Return the record of an earlier command in the same folder, or None if there is none that can be read."""
    from visionbench.records.sweep import SweepRecord

    with suppress(ConfigError):
        return SweepRecord.read(folder)
    return None


def _add_model_warnings(runs: Sequence[PreparedRun], console: Console) -> tuple[PreparedRun, ...]:
    """Check the models of all runs, and return the runs with the warnings about them. Raises ConfigError."""
    from visionbench import model_check

    warnings = model_check.check_models([run.config for run in runs])
    _warn(console, [warning for lines in warnings for warning in lines])
    return tuple(
        replace(run, plan=replace(run.plan, warnings=(*run.plan.warnings, *lines)))
        for run, lines in zip(runs, warnings, strict=True)
    )


def plan_request(request: ComposedRun, config_dir: Path | None) -> RunPlan:
    """Plan a configuration that may leave values open. Raises ConfigError before anything is fetched."""
    config = request.config.values
    _refuse_keys_of_resuming(config)
    translations.check(config.report.language, "report.language")
    check(config, config_dir)
    return make_plan(config, request.overrides)


def _refuse_keys_of_resuming(config: ExperimentConfig) -> None:
    """Refuse keys in a configuration file that only the command line can set."""
    defaults = ExperimentConfig()
    for key in ("resume", "retry", "on_change"):
        value = getattr(config, key)
        if value != getattr(defaults, key):
            raise ConfigError(f"{key}={value}: set in a configuration file", "give it on the command line")


def _show_diagnosis(console: Console) -> None:
    from visionbench.diagnosis import examine
    from visionbench.terminal.diagnosis_view import show_summary

    show_summary(examine(), console)


def _resolve_and_plan(
    requests: Sequence[ComposedRun], plans: Sequence[RunPlan], resolver: Resolver, console: Console
) -> tuple[PreparedRun, ...]:
    """Fetch data and checkpoints, replace open values, and check the data. Raises ConfigError.

    A run is planned again only if a value was open, or if the data lack annotations that their class declares.
    """
    from visionbench import data_check, model_check, weights

    resolutions = [resolver.resolve(request.config.values) for request in requests]
    configs = [
        request.config.with_changes(resolution.changes)
        for request, resolution in zip(requests, resolutions, strict=True)
    ]
    notes = [(*request.notes, *resolution.notes) for request, resolution in zip(requests, resolutions, strict=True)]
    _warn(console, [note for lines in notes for note in lines])
    for config in configs:
        weights.ensure_checkpoint(config.values.model)
    model_check.check_families([config.values for config in configs])
    unavailable = data_check.unavailable_annotations([config.values for config in configs])
    final = []
    for index, config in enumerate(configs):
        plan = plans[index]
        if resolutions[index].changes or unavailable[index]:
            try:
                plan = make_plan(config.values, requests[index].overrides, unavailable[index])
            except ConfigError as error:
                raise ConfigError("; ".join([str(error), *resolutions[index].notes])) from None
        _warn(console, _dropped_metrics(plans[index], plan))
        warnings = (*notes[index], *plan.warnings)
        final.append(replace(plan, warnings=warnings, experiment=requests[index].experiment))
    shown = {note for lines in notes for note in lines}
    _warn(console, [warning for plan in final for warning in plan.warnings if warning not in shown])
    left_out = data_check.unusable_examples([(c.values, plan) for c, plan in zip(configs, final, strict=True)])
    return tuple(
        PreparedRun(config.values, config.to_yaml(), plan, ids, request)
        for config, plan, ids, request in zip(configs, final, left_out, requests, strict=True)
    )


def is_server(uri: str | None) -> bool:
    """Return whether a tracking URI is that of a server, which several processes can use at once."""
    return uri is not None and uri.startswith(("http:", "https:", "databricks"))


def _named(runs: tuple[PreparedRun, ...], earlier: PreparedSweep | None, role: Role) -> tuple[PreparedRun, ...]:
    """Return the runs with names that show what differs between the runs of the sweep so far."""
    if role.naming is not None:
        return tuple(replace(run, plan=replace(role.naming.apply(run.plan), beside=role.beside)) for run in runs)
    known = [*(earlier.previous if earlier else ()), *runs]
    plans = variation.named([run.plan for run in known], [_values_to_name(run) for run in known])
    return tuple(replace(run, plan=plan) for run, plan in zip(runs, plans[-len(runs) :], strict=True))


def _values_to_name(run: PreparedRun) -> Any:
    """Return the configuration of a run, with references to the environment as they are saved, without their values."""
    import yaml

    def hide(value: Any, saved: Any) -> Any:
        if isinstance(value, dict) and isinstance(saved, dict):
            return {key: hide(inner, saved.get(key)) for key, inner in value.items()}
        return saved if isinstance(saved, str) and "${" in saved else value

    return hide(asdict(run.config), yaml.safe_load(run.yaml))


def _dropped_metrics(first: RunPlan, final: RunPlan) -> list[str]:
    """Return a warning for each metric group that the data or the checkpoint prevents, except for random weights."""
    return [
        f"{final.model}: no {name}, because {reason}"
        for name, reason in final.refused.items()
        if name not in first.refused and reason != RANDOM_WEIGHTS
    ]


def _warn(console: Console, notes: Sequence[str]) -> None:
    for note in dict.fromkeys(notes):
        console.print(f"! {note}", style="yellow", soft_wrap=True, highlight=False, markup=False)


def _steps(runs: Sequence[PreparedRun]) -> list[tuple[RunPlan, MeasureConfig]]:
    """Return the plans in the order of measuring: every run, or every repeat of every run in turns."""
    from visionbench.results import repeats

    counts = [run.config.measure.repeats for run in runs]
    turns = [(1, index) for index in range(len(runs))]
    if max(counts) > 1:
        turns = repeats.order(counts, runs[0].config.measure.order_seed)
    steps = [(runs[index].session_plan(repeat), runs[index].config.measure) for repeat, index in turns]
    return [(plan, measure) for plan, measure in steps if plan.cases]


# ------------------------------------------------------------------------------------------------------------- measure
def measure(prepared: PreparedSweep, index: int, path: Path, sweep: str, outcome: Outcome) -> None:
    """Measure one run into its folder; with repeats, only create the folder. A ConfigError ends only this run."""
    from visionbench.records.folder import RunFolder

    run = prepared.runs[index]
    earlier = None
    signals.raise_if_received()
    if outcome.not_written:
        outcome.not_measured += 1
        return
    try:
        if run.assignment is None:
            folder = RunFolder.create(path, run.yaml)
        else:
            path, sweep = run.assignment.folder, prepared.resumption.sweep.id if prepared.resumption else sweep
            if run.assignment.is_complete:
                _add_earlier_results(run.assignment, prepared.queue, outcome)
                return
            folder = _join(run, run.assignment)
            earlier = run.assignment.joined.record if run.assignment.joined else None
    except ConfigError as error:
        _add_error(error, outcome)
        return
    except OSError as error:
        add_write_error(error, outcome)
        outcome.not_measured += 1
        return
    outcome.folders.append(path)
    if prepared.repeated:
        outcome.repeated_runs.append((run, folder, sweep))
        return
    try:
        _measure_once(prepared, run, run.session_plan(), folder, sweep, outcome, earlier)
    except NotWritten as error:
        _add_unwritten(error, folder, outcome)
        return
    except BaseException:
        add_result(folder, prepared.queue, outcome)
        raise
    add_result(folder, prepared.queue, outcome)


def folder_of(prepared: PreparedSweep, index: int) -> Path | None:
    """Return the folder of a run if the command continues a sweep and measures the run, else None."""
    assignment = prepared.runs[index].assignment
    return assignment.folder if assignment is not None and not assignment.is_complete else None


def is_complete(prepared: PreparedSweep, index: int) -> bool:
    """Return whether all results of a run are kept, so that nothing is measured."""
    assignment = prepared.runs[index].assignment
    return assignment is not None and assignment.is_complete


def _join(run: PreparedRun, assignment: Assignment) -> RunFolder:
    """Prepare the folder of a run of the sweep that is continued."""
    from visionbench.records.folder import RunFolder
    from visionbench.resume import folders

    for earlier, cases in assignment.moved:
        folders.remove_from_plan(earlier.path, cases)
    if assignment.emptied:
        folders.empty(assignment.folder)
    if assignment.joined and assignment.joined.repeated:
        folders.remove_gathered(assignment.folder)
    return RunFolder.rejoin(assignment.folder, run.yaml)


def _add_earlier_results(assignment: Assignment, queue: TrackerQueue, outcome: Outcome) -> None:
    """Add the results of earlier runs that are kept, so that the table and the tracker have them."""
    from visionbench.records.folder import RunFolder
    from visionbench.resume import folders

    earlier = [assignment.joined] if assignment.joined else [change.earlier for change in assignment.changes]
    for run in earlier:
        folders.complete(run.path)
        outcome.folders.append(run.path)
        add_result(RunFolder.open(run.path), queue, outcome)


def measure_repeats(prepared: PreparedSweep, outcome: Outcome) -> None:
    """Measure the deferred runs `measure.repeats` times each, in turns, and gather the repeats of each run."""
    from visionbench.results import repeats
    from visionbench.results.archive import Run

    runs = outcome.repeated_runs
    seed = runs[0][0].config.measure.order_seed if runs else 0
    turns = repeats.order([run.config.measure.repeats for run, _, _ in runs], seed)
    try:
        for repeat, index in turns:
            run, folder, sweep = runs[index]
            plan = run.session_plan(repeat)
            if not plan.cases:
                continue
            joined = run.assignment.joined if run.assignment else None
            earlier = joined.processes.get(repeat) if joined else None
            process_folder = folder.repeat(repeat) if run.assignment is None else folder.rejoin_repeat(repeat)
            _measure_once(prepared, run, plan, process_folder, sweep, outcome, earlier[0] if earlier else None)
    except NotWritten as error:
        _add_unwritten(error, process_folder, outcome)
    except OSError as error:
        add_write_error(error, outcome)
    finally:
        for run, folder, _ in runs:
            if repeats.folders(folder):
                try:
                    repeats.write(folder, seed, run.config.measure.repeats)
                    add_result(folder, prepared.queue, outcome)
                except OSError as error:
                    outcome.runs.append(Run.read(folder))  # gathers the repeats
                    add_write_error(error, outcome)
        outcome.repeated_runs = []


def _measure_once(
    prepared: PreparedSweep,
    run: PreparedRun,
    plan: RunPlan,
    folder: RunFolder,
    sweep: str,
    outcome: Outcome,
    earlier: RunRecord | None = None,
) -> None:
    """Measure in one fresh process. Send earlier runs while the process prepares its inputs, which is not timed."""
    from visionbench import runner

    prepared.progress.next_run()

    def show(stage: StageProgress) -> None:
        prepared.progress.show(stage.stage, stage.case, stage.done)
        if stage.ahead:
            prepared.queue.send()

    try:
        runner.run(run.config, plan, folder, sweep, show, run.left_out, earlier)
    except ConfigError as error:
        _add_error(error, outcome)


def _add_error(error: ConfigError, outcome: Outcome) -> None:
    outcome.errors.append(str(error))
    outcome.exit_code = 2


def add_write_error(error: OSError, outcome: Outcome) -> None:
    """Add the error that results cannot be written. No further run is measured, because its results would be lost."""
    place = error.filename or "writing results"
    outcome.errors.append(f"{place}: {error.strerror or error}; free space, and measure the other runs again")
    outcome.not_written = True
    outcome.exit_code = outcome.exit_code or 1


def _add_unwritten(error: NotWritten, folder: RunFolder, outcome: Outcome) -> None:
    """Add a run whose files are incomplete. The table shows it from memory, and no tracker receives it."""
    from visionbench.results.archive import Run

    outcome.runs.append(Run(error.record, error.results, folder))
    outcome.errors.append(str(error))
    outcome.not_written = True
    outcome.exit_code = outcome.exit_code or 1


def add_result(folder: RunFolder, queue: TrackerQueue, outcome: Outcome) -> None:
    """Add a measured run to the outcome and to the tracker's queue."""
    from visionbench.records.record import UNSUCCESSFUL
    from visionbench.results.archive import Run

    record = folder.record()
    outcome.runs.append(Run(record, folder.results(), folder))
    if record.status == UNSUCCESSFUL and not outcome.exit_code:
        outcome.exit_code = 1
    queue.unsent.append(folder.path)


# -------------------------------------------------------------------------------------------------------------- finish
def finish_job(prepared: PreparedSweep, outcome: Outcome) -> None:
    """Send the results of a job to the tracking server, and print errors. The starting process shows the results."""
    prepared.progress.close()
    prepared.queue.send()
    for line in dict.fromkeys([*prepared.queue.errors, *outcome.errors]):
        print(f"visionbench: {line}", file=sys.stderr)


def finish(prepared: PreparedSweep, outcome: Outcome, verbose: bool = False) -> None:
    """Show the results, send the unsent runs, and write the report. Also called after an error or an interrupt.

    With `verbose`, several runs have a table each, with all doubts.
    """
    from visionbench.terminal import table

    console, queue = prepared.console, prepared.queue
    prepared.progress.close()
    _end_sweep_record(prepared.previous)
    if outcome.runs:
        table.show(outcome.runs, console, verbose)
        console.print()
    queue.complete()
    report = None if outcome.not_written else _write_report(prepared, outcome)
    if outcome.not_measured:
        outcome.errors.append(f"{outcome.not_measured} of {outcome.planned} runs were not measured")
    for line in dict.fromkeys([*queue.errors, *outcome.errors]):
        print(f"visionbench: {visible(line)}", file=sys.stderr)
    if outcome.folders:
        shared = prepared.resumption.sweep.folder if prepared.resumption else _shared_folder(outcome)
        lines = {"results": _relative(shared)}
        if report is not None:
            lines["report"] = _relative(report)
        if sum(len(run.timed) for run in outcome.runs) > 1:
            lines["advice"] = _advice_command(prepared.runs[0].config, outcome)
        if command := _resume_command(prepared, outcome):
            lines["resume"] = command
        if queue.view_hint:
            lines["view"] = queue.view_hint
        for name, value in lines.items():
            console.print(f"{name:<9}{value}", soft_wrap=True, highlight=False, markup=False)


def _advice_command(config: ExperimentConfig, outcome: Outcome) -> str:
    """Return the command that recommends one of the measured cases."""
    words = ["visionbench", "advise"]
    if config.output_dir != ExperimentConfig().output_dir:
        words.append(_relative(_shared_folder(outcome)))
    return shlex.join(words)


def _resume_command(prepared: PreparedSweep, outcome: Outcome) -> str:
    """Return the command that measures the cases without a valid result, or nothing if no case failed or is missing."""
    from visionbench.core import FAILED
    from visionbench.resume import earlier
    from visionbench.resume.choices import WORDS

    place = next((run.request.place for run in prepared.previous if run.request and run.request.place), None)
    failed = any(row.status in WORDS[FAILED] for run in outcome.runs for row in run.results)
    if place is None or prepared.elsewhere or not (failed or len(outcome.runs) < outcome.planned):
        return ""
    return earlier.command(place.sweep_folder, place.sweep, prepared.runs[0].config.output_dir)


def _write_report(prepared: PreparedSweep, outcome: Outcome) -> Path | None:
    """Write the report beside the runs' folders, and attach it to the first run in the tracker.

    The report of a continued sweep has all its runs.
    """
    config, queue, runs, folder = prepared.runs[0].config.report, prepared.queue, outcome.runs, None
    if prepared.resumption is not None and outcome.runs:
        from visionbench.results import archive

        folder = prepared.resumption.sweep.folder
        runs = archive.of_folder(folder)
    enabled = max(outcome.planned, len(runs)) > 1 if config.enabled is None else config.enabled
    if not enabled or not outcome.runs:
        return None
    from visionbench.report.page import write_report

    first = outcome.runs[0].folder
    assert first is not None
    try:
        files = write_report(runs, config.language, folder or _shared_folder(outcome))
    except Exception as error:  # an error of any kind must not hide the results, which are on disk
        outcome.errors.append(f"report: {type(error).__name__}: {first_line(error)}; try visionbench report")
        return None
    queue.attach(first.path, files)
    return files[0]


def _shared_folder(outcome: Outcome) -> Path:
    """Return the folder of the sweep, or of the run if it is the only one."""
    return outcome.folders[0] if len(outcome.folders) == 1 else outcome.folders[0].parent


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
