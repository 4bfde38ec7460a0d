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
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

from visionbench import core, machine, measuring, weights, worker
from visionbench.config import ExperimentConfig
from visionbench.core import CaseResult, ConfigError, RunPlan, Samples
from visionbench.declarations import Declarations
from visionbench.examples import denominators
from visionbench.measuring import CaseFinished, Conditions, StageProgress
from visionbench.parts import Parts, build_parts
from visionbench.records import identity, process
from visionbench.records.folder import RunFolder
from visionbench.records.record import FINISHED, RUNNING, STOPPED, UNSUCCESSFUL, Host, RunRecord, Session

RESUMED = "resumed"
"""The label of a row that a later session of a run measured."""


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

    If the measuring process fails or dies, the cases that it has not finished become rows with the reason. Raises
    ConfigError if the measuring process finds that the config is wrong, and KeyboardInterrupt, both after writing the
    rows.
    """
    record = RunRecord(
        uid=uuid4().hex,
        sweep=sweep,
        started_at=_now(),
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
    folder.write_record(record)
    pending = {case.id: case for case in plan.cases}
    current = StageProgress("start")
    stopwatch = Stopwatch()
    status, reason, problem = core.NOT_RUN, "", ""
    try:
        profiled = _profile_in_process(config, plan, left_out, folder, show)
        stopwatch.add_to("kernels")
        for event in worker.stream(measuring.measure, config, plan, left_out, profiled, log=folder.log):
            stopwatch.add_to(current.stage, current.case)
            if isinstance(event, CaseFinished):
                folder.append(_labelled(event.result, record, session), event.samples, event.predictions)
                del pending[event.result.case.id]
                current = StageProgress("inputs", next(iter(pending), ""))
            elif isinstance(event, Conditions):
                loaded = record.with_identities(event.model, event.device, event.data, event.left_out)
                folder.write_record(loaded)  # raises ConfigError for values that JSON cannot hold
                record = loaded
            else:
                current = event
                show(current)
                if current.ahead:
                    continue
            stopwatch.add_to("keep")
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
    finally:
        for case in pending.values():
            was_running = case.id == current.case or not current.case
            row = (status, reason) if was_running else (core.NOT_RUN, f"the run had ended: {problem}")
            folder.append(CaseResult(case, *row), Samples())
        status = run_status(folder.results())
        record = replace(record, status=status, ended_at=_now(), seconds=stopwatch.seconds)
        folder.write_record(_with_times(record, session, stopwatch, earlier))
    return folder.results()


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
        record = RunRecord(uuid4().hex, sweep, _now(), RUNNING, Host(), plan, folder.config())
        folder.write_record(record)
    if record.status != RUNNING:
        return folder
    rows = {row.case.id for row in folder.results()}
    for case in record.plan.cases:
        if case.id not in rows:
            status = core.KILLED if record.host.name else core.NOT_RUN
            folder.append(CaseResult(case, status, failure or NO_ROW), Samples())
    folder.write_record(replace(record, status=run_status(folder.results()), ended_at=_now()))
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


def _labelled(result: CaseResult, record: RunRecord, session: Session) -> CaseResult:
    """Return a row that states its session, if it is not the first session of the run."""
    if not record.sessions:
        return result
    text = f"in session {len(record.sessions) + 1} of this run, a process that started at {session.started_at}"
    return replace(result, labels={**result.labels, RESUMED: text})


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
