"""The runner: one run from its plan to its folder. This file and `measuring.py` show the complete sequence.

run      in the parent process: starts the two processes below, and writes each row to the run's folder as it arrives
profile  `measuring.profile` in a first process, for metrics=[kernels] on a device with a queue
measure  `measuring.measure` in a second process: load → for each case: stages → samples → metrics → a row
"""

from __future__ import annotations

import inspect
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

from visionbench import core, machine, measuring, weights, worker
from visionbench.config import ExperimentConfig
from visionbench.core import Case, CaseResult, ConfigError, Predictions, RunPlan, Samples
from visionbench.declarations import Declarations
from visionbench.examples import denominators
from visionbench.measuring import CaseFinished, Conditions, StageProgress
from visionbench.parts import Parts, build_parts
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
) -> list[CaseResult]:
    """Measure a plan in a fresh process, write every row as it arrives, and return the rows of the run.

    `left_out` holds the ids of examples that cannot be used, with the reason. `earlier` is the record of the folder if
    this is a further session of a run; the plan then holds only the cases of the session.

    If the measuring process dies in a case, the cases that are left are measured in a new process, without those that
    are larger than a killed one. If it fails, or dies before its first case, the cases that are left become rows with
    the reason. Raises ConfigError if the measuring process finds that the config is wrong, KeyboardInterrupt, and any
    unexpected error, after writing the rows; and NotWritten, which has the rows, if they cannot be written.
    """
    clock = WallClock()
    record = RunRecord(
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
    session = Session(record.started_at, tuple(case.id for case in plan.cases), host=record.host.name)
    if earlier is not None:
        record = earlier.resumed(record)
        record = replace(record, declarations=_declarations(build_parts(config), record.plan).to_json())
    output = Output(folder, record)
    output.write_record(record)
    pending = {case.id: case for case in plan.cases}
    current = StageProgress("start")
    stopwatch = Stopwatch()
    labels: dict[str, str] = _session_label(record, session)
    limit: Case | None = None
    status, reason = core.NOT_RUN, "the measuring process ended without a result of this case"
    problem = reason

    def finish(result: CaseResult, samples: Samples, predicted: Predictions | None = None) -> None:
        output.append(replace(result, labels={**result.labels, **labels}), samples, predicted)
        del pending[result.case.id]

    try:
        profiled = _profile_in_process(config, plan, left_out, folder, show)
        stopwatch.add_to("kernels")
        while pending and output.error is None:
            rest = replace(plan, cases=tuple(pending.values()))
            try:
                stream = worker.stream(measuring.measure, config, rest, left_out, profiled, log=folder.log)
                with closing(stream) as events:
                    for event in events:
                        stopwatch.add_to(current.stage, current.case)
                        if isinstance(event, CaseFinished):
                            finish(*_with_clock(event, clock.moved_s()), event.predictions)
                            if event.result.status == core.OUT_OF_MEMORY:
                                limit = event.result.case
                            current = StageProgress("inputs", next(iter(pending), ""))
                        elif isinstance(event, Conditions):
                            record = record.with_identities(event.model, event.device, event.data, event.left_out)
                            output.write_record(record)  # raises ConfigError for values that JSON cannot hold
                        else:
                            current = event
                            show(current)
                            if current.ahead:
                                continue
                        if output.error is not None:
                            break
                        stopwatch.add_to("keep")
                break
            except worker.WorkerDied as death:
                died = pending.get(current.case)
                if died is None or not (isinstance(death, worker.WorkerKilled) or len(pending) < len(rest.cases)):
                    raise
                finish(CaseResult(died, core.KILLED, str(death)), Samples())
                if isinstance(death, worker.WorkerKilled) and died.timed:
                    limit = died
                for case in [case for case in pending.values() if limit and _is_larger(case, limit)]:
                    finish(CaseResult(case, core.SKIPPED_AFTER_OOM, _skipped_after(limit, died)), Samples())
                labels[RESTARTED] = f"in a new process, because the process before it ended at {died.id}"
                current = StageProgress("start")
        if output.error is not None:
            status = core.FAILED
            reason = problem = f"the results cannot be written: {output.error.strerror or output.error}"
    except worker.WorkerDied as death:
        status, reason, problem = core.KILLED, str(death), death.problem
    except worker.WorkerFailed as failure:
        status, reason, problem = core.FAILED, f"{failure}; the traceback is in {folder.log}", failure.problem
    except ConfigError as error:
        status, reason, problem = core.FAILED, str(error), error.problem
        raise
    except KeyboardInterrupt as interrupt:
        status, reason = core.INTERRUPTED, str(interrupt) or "interrupted from the keyboard"
        problem = reason
        raise
    except BaseException as error:
        status, problem = core.FAILED, worker.describe(error)
        reason = problem
        raise
    finally:
        for case in list(pending.values()):
            was_running = case.id == current.case or not current.case
            row = (status, reason) if was_running else (core.NOT_RUN, f"the run had ended: {problem}")
            finish(CaseResult(case, *row), Samples())
        status = run_status(output.results()) if output.error is None else UNSUCCESSFUL
        record = replace(record, status=status, ended_at=clock.now(), seconds=stopwatch.seconds)
        output.write_record(_with_times(record, session, stopwatch, earlier))
    output.raise_if_failed()
    return output.results()


def _is_larger(case: Case, limit: Case) -> bool:
    return case.timed and case.batch_size > limit.batch_size


def _skipped_after(limit: Case | None, died: Case) -> str:
    """Return why a case is not measured that is larger than `limit`."""
    assert limit is not None
    if limit != died:
        return f"not tried: batch size {limit.batch_size} already ran out of memory"
    return f"not tried: the measuring process was killed at batch size {limit.batch_size}, as if memory ran out"


def _with_clock(event: CaseFinished, moved_s: float) -> tuple[CaseResult, Samples]:
    """Return the row and the samples of a case, with a doubt if the wall clock was set while it was measured."""
    result, samples = event.result, event.samples
    if not moved_s or result.status != core.OK:
        return result, samples
    doubt = core.Reason("clock_moved", f"the wall clock was set by {moved_s:+,.0f} s while this case was measured")
    verdict = core.WARNED if result.validity.verdict == core.VALID else result.validity.verdict
    validity = core.Validity(verdict, (*result.validity.reasons, doubt))
    return replace(result, validity=validity), samples.merged(Samples(flags={doubt.kind: doubt.detail}))


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
        record = RunRecord(uuid4().hex, sweep, WallClock().now(), RUNNING, Host(), plan, folder.config())
        folder.write_record(record)
    if record.status != RUNNING:
        return folder
    rows = {row.case.id for row in folder.results()}
    for case in record.plan.cases:
        if case.id not in rows:
            status = core.KILLED if record.host.name else core.NOT_RUN
            folder.append(CaseResult(case, status, failure or NO_ROW), Samples())
    folder.write_record(replace(record, status=run_status(folder.results()), ended_at=WallClock().now()))
    return folder


def describe(config: ExperimentConfig) -> dict[str, Any]:
    """Return `identity` of run.json: the code, the libraries and the weights of a run."""
    parts = build_parts(config)
    own = {
        inspect.getsourcefile(type(part)) for part in (parts.adapter, parts.device, parts.data, *parts.metrics.values())
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
