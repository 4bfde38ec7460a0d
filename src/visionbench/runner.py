"""The runner: one run from its plan to its folder. This file and `measuring.py` show the complete sequence.

run      in the parent process: starts the two processes below, and writes each row to the run's folder as it arrives
profile  `measuring.profile` in a first process, for metrics=[kernels] on a device with a queue
search   `batch_search`, for batch=auto: a process for each batch size that is tried
compare  `measuring.reference` in a first process, for a run that is not in eager fp32: the outputs to compare with
measure  `measuring.measure` in a second process: load → for each case: stages → samples → metrics → a row
         `remote_measuring.measure` for a model at an endpoint
"""

from __future__ import annotations

import inspect
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

from visionbench import batch_search, core, machine, measuring, remote_measuring, weights, worker
from visionbench.config import ExperimentConfig, to_yaml
from visionbench.core import BatchSearch, Case, CaseResult, ConfigError, Predictions, RunPlan, Samples
from visionbench.declarations import Declarations
from visionbench.examples import denominators
from visionbench.measuring import CaseFinished, Conditions, Event, Reference, StageProgress
from visionbench.parts import Parts, build_parts, is_remote
from visionbench.records import clock as time_of_day
from visionbench.records import identity, process
from visionbench.records.clock import WallClock
from visionbench.records.folder import RunFolder
from visionbench.records.output import Output
from visionbench.records.record import FINISHED, RUNNING, STOPPED, UNSUCCESSFUL, Host, RunRecord, Session

RESUMED = "resumed"
"""The label of a row that a later session of a run measured."""
RESTARTED = "restarted"
"""The label of a row that was measured after the measuring process had died in another case."""


@dataclass
class Stopwatch:
    """A sum of seconds for each stage, and for each case."""

    seconds: dict[str, float] = field(default_factory=dict)
    case_seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=perf_counter)

    def add_to(self, stage: str, case: str = "") -> None:
        """Add the time since the last call to a stage and to a case; the empty case is the run itself."""
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.case_seconds[case] = self.case_seconds.get(case, 0.0) + now - self.last
        self.last = now


def run(
    config: ExperimentConfig,
    plan: RunPlan,
    folder: RunFolder,
    sweep: str,
    show: Callable[[StageProgress], None],
    left_out: Mapping[str, str],
    earlier: RunRecord | None = None,
    is_last: Callable[[CaseResult], bool] = lambda row: False,
) -> list[CaseResult]:
    """Measure a plan in a fresh process, write every row as it arrives, and return the rows of the run.

    `left_out` holds the ids of examples that cannot be used, with the reason. `earlier` is the record of the folder if
    this is a further session of a run; the plan then holds only the cases of the session. `is_last` receives each row;
    if it returns True, the cases that are left are removed from the plan.

    If the measuring process dies in a case, the cases that are left are measured in a new process, without those that
    are larger than a killed one. If it fails, or dies before its first case, the cases that are left become rows with
    the reason. Raises ConfigError if the measuring process finds that the config is wrong, KeyboardInterrupt, and any
    unexpected error, after writing the rows; and NotWritten, which has the rows, if they cannot be written.
    """
    clock = WallClock()
    record = _new_record(config, plan, folder, sweep, clock, left_out)
    session = Session(record.started_at, tuple(case.id for case in plan.cases), host=record.host.name)
    if earlier is not None:
        record = earlier.resumed(record)
        record = replace(record, declarations=_declarations(build_parts(config), record.plan).to_json())
    output = Output(folder, record)
    output.write_record(record)
    measured = Measured(output, plan, clock, show, _session_label(record, session), is_last)
    ending = Ending(core.NOT_RUN, "the measuring process ended without a result of this case")
    try:
        _measure_cases(config, left_out, folder, measured)
        if output.error is not None:
            ending = Ending(core.FAILED, f"the results cannot be written: {output.error.strerror or output.error}")
    except (worker.WorkerDied, worker.WorkerFailed) as error:
        ending = Ending.by(error, folder)
    except BaseException as error:
        ending = Ending.by(error, folder)
        raise
    finally:
        session = replace(session, cases=tuple(case.id for case in measured.plan.cases))
        measured.end(ending)
        status = run_status(output.results()) if output.error is None else UNSUCCESSFUL
        record = replace(output.record, status=status, ended_at=clock.now(), seconds=measured.stopwatch.seconds)
        output.write_record(_with_times(record, session, measured.stopwatch, earlier))
    output.raise_if_failed()
    return output.results()


def _new_record(
    config: ExperimentConfig,
    plan: RunPlan,
    folder: RunFolder,
    sweep: str,
    clock: WallClock,
    left_out: Mapping[str, str],
) -> RunRecord:
    """Return the record of a run that starts now, in this process."""
    return RunRecord(
        uid=uuid4().hex,
        sweep=sweep,
        started_at=clock.now(),
        status=RUNNING,
        git_commit=git_commit(),
        host=Host.from_fingerprint(machine.fingerprint()),
        process=process.current(),
        plan=plan,
        config=folder.config(),
        left_out=left_out,
        declarations=_declarations(build_parts(config), plan).to_json(),
        identity=describe(config),
    )


def _measure_cases(
    config: ExperimentConfig, left_out: Mapping[str, str], folder: RunFolder, measured: Measured
) -> None:
    """Measure the pending cases, in a new process after one that was killed. Raises the error of a measuring process.

    Returns early if a row cannot be written.
    """
    _find_batch_size(config, left_out, folder, measured)
    profiled = _profile_in_process(config, measured.plan, left_out, folder, measured.show)
    measured.stopwatch.add_to("kernels")
    reference = _reference_in_process(config, left_out, folder, measured.show)
    measured.stopwatch.add_to("reference")
    while measured.pending and measured.output.error is None:
        rest = replace(measured.plan, cases=tuple(measured.pending.values()))
        try:
            measure = remote_measuring.measure if is_remote(config.model) else measuring.measure
            stream = worker.stream(measure, config, rest, left_out, profiled, reference, log=folder.log)
            with closing(stream) as events:
                measured.receive(events)
            return
        except worker.WorkerDied as death:
            measured.continue_after(death, len(rest.cases))


@dataclass(frozen=True)
class Ending:
    """How the measurement of a run ended, for the rows of the cases without a result."""

    status: str
    """The status of the case that was being measured."""
    reason: str
    problem: str = ""
    """The reason without a remedy, for the cases that were not started; empty if it is the same."""

    @classmethod
    def by(cls, error: BaseException, folder: RunFolder) -> Ending:
        """Return the ending by an error."""
        if isinstance(error, worker.WorkerDied):
            return cls(core.KILLED, str(error), error.problem)
        if isinstance(error, worker.WorkerFailed):
            return cls(core.FAILED, f"{error}; the traceback is in {folder.log}", error.problem)
        if isinstance(error, ConfigError):
            return cls(core.FAILED, str(error), error.problem)
        if isinstance(error, KeyboardInterrupt):
            return cls(core.INTERRUPTED, str(error) or "interrupted from the keyboard")
        return cls(core.FAILED, worker.describe(error))


@dataclass
class Measured:
    """The state of a run: the cases without a row, the current stage, and the rows in the output."""

    output: Output
    plan: RunPlan
    clock: WallClock
    show: Callable[[StageProgress], None]
    labels: dict[str, str]
    """Labels of all further rows."""
    is_last: Callable[[CaseResult], bool] = lambda row: False
    """Whether no further case is measured after a row."""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    current: StageProgress = StageProgress("start")
    too_large: Case | None = None
    """The last case that ran out of memory, or whose process was killed."""

    def __post_init__(self) -> None:
        self.pending = {case.id: case for case in self.plan.cases}

    def set_batch_size(self, search: BatchSearch) -> None:
        """Replace the case of batch=auto by the case of the size that was found, in the plan and in run.json.

        If no size was found, the case has a row with the reason. Rows of earlier searches without numbers are removed.
        """
        record = self.output.record
        self.plan = self.plan.with_batch_size(search)
        self.pending = {case.id: case for case in self.plan.cases}
        rows = {row.case.id: row for row in self.output.results()}
        earlier = {record.plan.batch_search.case} if record.plan.batch_search else set()
        replaced = {name for name in {core.AUTO, *earlier} if name not in rows or rows[name].status != core.OK}
        self.output.remove_rows(replaced)
        planned = [case for case in record.plan.cases if case.id not in {*replaced, *self.pending}]
        cases = sorted([*self.plan.cases, *planned], key=lambda case: case.order)
        plan = replace(record.plan, cases=tuple(cases), batch_search=search)
        self.output.write_record(replace(record, plan=plan))
        if search.failure:
            self.finish(CaseResult(self.pending[search.case], core.FAILED, search.failure), Samples())

    def receive(self, events: Iterator[Event]) -> None:
        """Write the rows of a measuring process and show its progress, until it ends or a row cannot be written."""
        for event in events:
            self.stopwatch.add_to(self.current.stage, self.current.case)
            if isinstance(event, CaseFinished):
                self.finish(*_with_clock(event, self.clock.moved_s()), event.predictions)
                self.current = StageProgress("inputs", next(iter(self.pending), ""))
                if event.result.status == core.OUT_OF_MEMORY:
                    self.too_large = event.result.case
                if self.output.error is None and self.is_last(event.result):
                    self.drop_pending()
                    return
            elif isinstance(event, Conditions):
                record = self.output.record
                record = record.with_identities(event.model, event.device, event.data, event.left_out)
                self.output.write_record(record)  # raises ConfigError for values that JSON cannot hold
            else:
                self.current = event
                self.show(event)
                if event.ahead:
                    continue
            if self.output.error is not None:
                return
            self.stopwatch.add_to("keep")

    def finish(self, result: CaseResult, samples: Samples, predicted: Predictions | None = None) -> None:
        """Write the row of a case. A case that was not planned, such as that of a load, becomes part of the plan."""
        if result.case.id not in {case.id for case in self.output.record.plan.cases}:
            self.plan = self.plan.with_case(result.case)
            record = self.output.record
            self.output.write_record(replace(record, plan=record.plan.with_case(result.case)))
        search = self.plan.batch_search
        of_search = search.labels if search and search.case == result.case.id else {}
        self.output.append(replace(result, labels={**result.labels, **of_search, **self.labels}), samples, predicted)
        self.pending.pop(result.case.id, None)

    def drop_pending(self) -> None:
        """Remove the cases without a row from the plan and from run.json."""
        record, dropped = self.output.record, set(self.pending)
        self.pending.clear()
        self.plan = replace(self.plan, cases=tuple(case for case in self.plan.cases if case.id not in dropped))
        cases = tuple(case for case in record.plan.cases if case.id not in dropped)
        self.output.write_record(replace(record, plan=replace(record.plan, cases=cases)))

    def continue_after(self, death: worker.WorkerDied, cases: int) -> None:
        """Write the row of the case in which a process died, and of the cases that are not tried after it.

        `cases` is the number of cases that the process had. Raises the death if a new process would not help: if the
        process died before its first case, or if it finished no case and was not killed for its memory.
        """
        died = self.pending.get(self.current.case)
        was_killed = isinstance(death, worker.WorkerKilled)
        if self.plan.is_remote:  # what the process has spent is not known
            raise death
        if died is None or not (was_killed or len(self.pending) < cases):
            raise death
        self.finish(CaseResult(died, core.KILLED, str(death)), Samples())
        if was_killed and died.timed:
            self.too_large = died
        for case in list(self.pending.values()):
            if self.too_large and case.timed and case.batch_size > self.too_large.batch_size:
                size = f"batch size {self.too_large.batch_size}"
                reason = f"not tried: {size} already ran out of memory"
                if self.too_large == died:
                    reason = f"not tried: the measuring process was killed at {size}, as if memory ran out"
                self.finish(CaseResult(case, core.SKIPPED_AFTER_OOM, reason), Samples())
        self.labels[RESTARTED] = f"in a new process, because the process before it ended at {died.id}"
        self.current = StageProgress("start")

    def end(self, ending: Ending) -> None:
        """Write the rows of all pending cases: the current one with the status and the reason, the others not run."""
        for case in list(self.pending.values()):
            was_running = case.id == self.current.case or not self.current.case
            not_run = (core.NOT_RUN, f"the run had ended: {ending.problem or ending.reason}")
            self.finish(CaseResult(case, *((ending.status, ending.reason) if was_running else not_run)), Samples())


def _with_clock(event: CaseFinished, moved_s: float) -> tuple[CaseResult, Samples]:
    """Return the row and the samples of a case, with a doubt if the wall clock was set while it was measured."""
    result, samples = event.result, event.samples
    if not moved_s or result.status != core.OK:
        return result, samples
    doubt = core.Reason("clock_moved", f"the wall clock was set by {moved_s:+,.0f} s while this case was measured")
    return replace(result, validity=result.validity.with_doubt(doubt)), samples.merged(
        Samples(flags={doubt.kind: doubt.detail})
    )


NO_ROW = "the process of the run ended without a row for this case"


def close(path: Path, config_yaml: str, plan: RunPlan, sweep: str, failure: str) -> RunFolder:
    """Return the folder of a run whose process has ended, with a row for each planned case.

    `failure` is the reason why the process ended before its run did, or an empty text. The process may have ended
    before it created the folder. Raises ConfigError if the files of the folder cannot be read.
    """
    folder = RunFolder(path)
    if not (path / "results.jsonl").exists():
        folder = RunFolder.create(path, config_yaml)
    if (path / "run.json").exists():
        record = folder.record()
    else:
        record = RunRecord(uuid4().hex, sweep, time_of_day.now(), RUNNING, Host(), plan, folder.config())
        folder.write_record(record)
    if record.status != RUNNING:
        return folder
    rows = {row.case.id for row in folder.results()}
    for case in record.plan.cases:
        if case.id not in rows:
            status = core.KILLED if record.host.name else core.NOT_RUN
            folder.append(CaseResult(case, status, failure or NO_ROW), Samples())
    folder.write_record(replace(record, status=run_status(folder.results()), ended_at=time_of_day.now()))
    return folder


def describe(config: ExperimentConfig) -> dict[str, Any]:
    """Return `identity` of run.json: the code, the libraries and the weights of a run."""
    parts = build_parts(config)
    own = {
        inspect.getsourcefile(type(part))
        for part in (parts.adapter, parts.device, parts.data, parts.decoder, *parts.metrics.values())
    }
    package = Path(__file__).parent
    paths = (Path(name) for name in own if name is not None)
    return identity.to_store(
        weights.describe_state(config.model), [path for path in paths if not path.is_relative_to(package)]
    )


def _session_label(record: RunRecord, session: Session) -> dict[str, str]:
    """Return the label of the rows of a session, if it is not the first session of the run."""
    if not record.sessions:
        return {}
    number = len(record.sessions) + 1
    return {RESUMED: f"in session {number} of this run, a process that started at {session.started_at}"}


def _with_times(record: RunRecord, session: Session, stopwatch: Stopwatch, earlier: RunRecord | None) -> RunRecord:
    """Return the record of an ended session with the times of all sessions."""
    if earlier is None:
        return replace(record, case_seconds=stopwatch.case_seconds)
    seconds = Counter(earlier.seconds)
    seconds.update(record.seconds)
    sessions = (*record.sessions, replace(session, ended_at=record.ended_at))
    case_seconds = {**earlier.case_seconds, **stopwatch.case_seconds}
    return replace(record, seconds=dict(seconds), case_seconds=case_seconds, sessions=sessions)


def run_status(results: list[CaseResult]) -> str:
    """Return `interrupted`, `failed` (if a case failed or no case has numbers) or `finished`."""
    statuses = {result.status for result in results}
    if core.INTERRUPTED in statuses:
        return STOPPED
    unsuccessful = statuses & {core.FAILED, core.KILLED, core.NOT_RUN} or core.OK not in statuses
    return UNSUCCESSFUL if unsuccessful else FINISHED


def _profile_in_process(
    config: ExperimentConfig,
    plan: RunPlan,
    left_out: Mapping[str, str],
    folder: RunFolder,
    show: Callable[[StageProgress], None],
) -> dict[str, Samples]:
    """Run `measuring.profile` in its process, and return the samples by case; nothing if no case needs them.

    If the process fails, later cases have no samples, and the reason is in the log.
    """
    profiled: dict[str, Samples] = {}
    if build_parts(config).device.queued and any("kernels" in case.stages for case in plan.cases):
        show(StageProgress("kernels"))
        with suppress(worker.WorkerDied, worker.WorkerFailed):
            for event in worker.stream(measuring.profile, config, plan, left_out, log=folder.log):
                profiled[event.case] = event.samples
    return profiled


_references: dict[str, Reference] = {}
"""The outputs of eager fp32 of the models of this command, by the configuration that determines them."""


_searches: dict[str, BatchSearch] = {}
"""The results of the searches for batch sizes, by configuration: all processes of a run measure the same size."""


def _find_batch_size(
    config: ExperimentConfig, left_out: Mapping[str, str], folder: RunFolder, measured: Measured
) -> None:
    """Search for the batch size of a run with batch=auto, if it is not known, and set it."""
    case = measured.pending.get(core.AUTO)
    if case is None:
        return

    def show(stage: StageProgress) -> None:
        measured.current = StageProgress(batch_search.STAGE)
        measured.show(stage)

    key = "".join([to_yaml(config), *sorted(left_out)])
    if key not in _searches:
        plan = measured.plan
        _searches[key] = batch_search.search_in_processes(config, plan, case, left_out, folder.log, show)
    measured.stopwatch.add_to(batch_search.STAGE)
    measured.set_batch_size(_searches[key])
    measured.current = StageProgress("start")


def _reference_in_process(
    config: ExperimentConfig,
    left_out: Mapping[str, str],
    folder: RunFolder,
    show: Callable[[StageProgress], None],
) -> Reference | None:
    """Return the outputs of eager fp32, from `measuring.reference` in its process; None if the run needs none.

    The runs of a command that have the same model, device and data share them. If the process fails, there are none.
    """
    if not measuring.needs_reference(config):
        return None
    eager = measuring.in_eager_fp32(config)
    sections = (eager.model, eager.device, eager.data, eager.measure.inputs, eager.measure.parity)
    key = "".join([*map(to_yaml, sections), *sorted(left_out)])
    if key not in _references:
        show(StageProgress("reference"))
        try:
            for outputs in worker.stream(measuring.reference, config, left_out, log=folder.log):
                _references[key] = outputs
        except (worker.WorkerDied, worker.WorkerFailed) as failure:
            return Reference(why_missing=f"eager fp32 could not be measured: {failure.problem}")
    return _references[key]


def _declarations(parts: Parts, plan: RunPlan) -> Declarations:
    """Return the declarations of the planned metric groups and, for quality, of the counts of used images."""
    groups = {name for case in plan.cases for name in case.metrics}
    declared = Declarations.collect({name: metric for name, metric in parts.metrics.items() if name in groups})
    timed = all(case.timed for case in plan.cases)
    return declared if timed else declared.followed_by(denominators.GROUP, denominators.DECLARATIONS)


@cache
def git_commit() -> str | None:
    """Return the commit of the working folder, with `+` if files are changed, or None outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
