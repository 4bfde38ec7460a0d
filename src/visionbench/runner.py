"""The one runner, and the only file that knows the whole line.

run      in the parent: config → plan → a child that measures → the run's folder → the tracker
measure  in the child:  load → stages fill samples → metrics → a row for each case
profile  in a child before it, for metrics=[kernels] on a GPU: load → one profiled call for each case
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from time import perf_counter, sleep
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import numpy as np

from visionbench import core, machine, validity, worker
from visionbench.config import ExperimentConfig
from visionbench.core import Case, CaseResult, Inputs, Metrics, Precision, Predictions, RunPlan, Samples
from visionbench.declarations import Declarations
from visionbench.examples import content_digest, denominators
from visionbench.examples.labelling import resolve_labelling
from visionbench.examples.sampling import list_all_examples
from visionbench.examples.screening import raise_on_problems, summarize_problems, usable_examples, with_mask_frame
from visionbench.parts import Parts, build_parts
from visionbench.records.folder import RunFolder
from visionbench.registry import ConfigError
from visionbench.stages import (
    evaluation,
    flops,
    kernels,
    latency,
    load,
    memory,
    pipeline,
    telemetry,
    throughput,
    warmup,
)
from visionbench.stages.context import Context, assemble, input_bytes, preprocess
from visionbench.stages.evaluation import Evaluated, EvaluationError
from visionbench.statistics.resampling import CLUSTER, read_clusters

STAGES: Mapping[str, Callable[[Context], Samples]] = {
    "warmup": warmup.run,
    "latency": latency.run,
    "throughput": throughput.run,
    "telemetry": telemetry.run,
    "memory": memory.run,
    "flops": flops.run,
    "pipeline": pipeline.run,
    "kernels": kernels.run,
}
"""Of the timed cases; the quality case has one stage of its own, `evaluation`."""


@dataclass(frozen=True)
class StageProgress:
    """What is being done: a stage of a case, or of the whole run where the case is empty."""

    stage: str
    case: str = ""
    done: float = 0.0
    """The share of the stage that is done, where it tells."""
    ahead: bool = False
    """Whether the measuring process goes on at once, since the stage times nothing: see `worker.stream`."""


@dataclass(frozen=True)
class CaseFinished:
    """A case that came to its end, good or bad."""

    result: CaseResult
    samples: Samples
    predictions: Predictions | None = None


@dataclass(frozen=True)
class Conditions:
    """Under what the numbers come about, known once the model is loaded."""

    found: Mapping[str, Any]


@dataclass(frozen=True)
class Profiled:
    """What the profiler saw of one call of a case."""

    case: str
    samples: Samples


Event = StageProgress | CaseFinished | Conditions


@dataclass
class Stopwatch:
    """A stopwatch that adds each lap to an account of seconds."""

    account: dict[str, float]
    at: float = field(default_factory=perf_counter)

    def lap(self, name: str) -> None:
        """Book the time since the last lap."""
        now = perf_counter()
        self.account[name] = self.account.get(name, 0.0) + now - self.at
        self.at = now


def run(
    config: ExperimentConfig,
    plan: RunPlan,
    folder: RunFolder,
    sweep: str,
    show: Callable[[StageProgress], None],
    left_out: Mapping[str, str],
) -> list[CaseResult]:
    """Measure a plan in a fresh process, keeping every row as it comes; a child that fails or dies costs its own rows.

    `left_out` are the ids of examples that cannot be used, with the reason. Returns the rows. Raises ConfigError where
    the child finds the config wrong, and KeyboardInterrupt as it comes, in both cases after writing down what there is.
    """
    conditions = {
        "uid": uuid4().hex,
        "sweep": sweep,
        "started_at": _now(),
        "git_commit": _git_commit(),
        "host": dict(machine.fingerprint()),
        "plan": asdict(plan),
        "config": folder.config(),
        "left_out": dict(left_out),
        "declarations": _declarations(build_parts(config), plan).written(),
    }
    folder.write_conditions({**conditions, "status": "running"})
    left = {case.id: case for case in plan.cases}
    at = StageProgress("start")
    spent: dict[str, float] = {}
    clock = Stopwatch(spent)
    status, reason, problem = core.NOT_RUN, "", ""
    try:
        profiled = _profiled(config, plan, left_out, folder, show)
        clock.lap("kernels")
        for event in worker.stream(measure, config, plan, left_out, profiled, log=folder.log):
            clock.lap(at.stage)
            if isinstance(event, CaseFinished):
                folder.append(event.result, event.samples, event.predictions)
                del left[event.result.case.id]
                at = StageProgress("inputs", next(iter(left), ""))
            elif isinstance(event, Conditions):
                conditions |= event.found
                folder.write_conditions({**conditions, "status": "running"})
            else:
                at = event
                show(at)
                if at.ahead:
                    continue
            clock.lap("keep")
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
        for case in left.values():
            hit = case.id == at.case or not at.case
            row = (status, reason) if hit else (core.NOT_RUN, f"the run had ended: {problem}")
            folder.append(CaseResult(case, *row), Samples())
        ending = {"status": ended(folder.results()), "ended_at": _now(), "seconds": spent}
        folder.write_conditions({**conditions, **ending})
    return folder.results()


def ended(results: list[CaseResult]) -> str:
    """How a run ended: `interrupted`; `failed` where a case failed or none has numbers; else `finished`."""
    statuses = {result.status for result in results}
    if core.INTERRUPTED in statuses:
        return "interrupted"
    return "failed" if statuses & {core.FAILED, core.KILLED, core.NOT_RUN} or core.OK not in statuses else "finished"


def _profiled(
    config: ExperimentConfig,
    plan: RunPlan,
    left_out: Mapping[str, str],
    folder: RunFolder,
    show: Callable[[StageProgress], None],
) -> dict[str, Samples]:
    """What `profile` sees of each case in a process of its own, as far as that process gets; empty where no case needs
    it. Why it ended early stands in the log."""
    profiled: dict[str, Samples] = {}
    if build_parts(config).device.queued and any("kernels" in case.stages for case in plan.cases):
        show(StageProgress("kernels"))
        with suppress(worker.WorkerDied, worker.WorkerFailed):
            for event in worker.stream(profile, config, plan, left_out, log=folder.log):
                profiled[event.case] = event.samples
    return profiled


def profile(config: ExperimentConfig, plan: RunPlan, left_out: Mapping[str, str]) -> Iterator[Profiled]:
    """Load the model and run one call of each case that wants it under the device's profiler; nothing is timed."""
    import torch

    run = build_parts(config)
    device = run.device
    device.setup(Precision(**asdict(config.precision)), config.device.threads)
    place, dtype = torch.device(device.id), getattr(torch, config.precision.dtype)
    model, _ = load.load(run.adapter, config.model, device, place, dtype)
    examples = usable_examples(with_mask_frame(run.data.examples(), config.data.exif), left_out)
    singles = preprocess(model, examples, config.measure.inputs).singles
    for case in plan.cases:
        if "kernels" in case.stages:
            batch = next(assemble(singles, case.batch_size, place, dtype))
            yield Profiled(case.id, kernels.profile(device, partial(model.call, batch)))


def measure(
    config: ExperimentConfig,
    plan: RunPlan,
    left_out: Mapping[str, str],
    profiled: Mapping[str, Samples] = MappingProxyType({}),
) -> Iterator[Event]:
    """Load the model once and measure the plan's cases in order, without the examples that are left out.

    `profiled` is what the profiling process saw, by the case's id.
    """
    import torch

    run = build_parts(config)
    device = run.device
    yield StageProgress("load")
    taken = with_mask_frame(run.data.examples(), config.data.exif)
    meant = resolve_labelling(config, run, plan.cases)
    examples = meant.relabel(usable_examples(taken, left_out))
    of_cluster = _clusters(config, examples)
    device.setup(Precision(**asdict(config.precision)), config.device.threads)
    place, dtype = torch.device(device.id), getattr(torch, config.precision.dtype)
    try:
        model, loading = load.load(run.adapter, config.model, device, place, dtype)
        yield StageProgress("inputs", ahead=True)
        prepared = preprocess(model, examples, config.measure.inputs)
        singles, unfit = prepared.singles, prepared.unfit
        raise_on_problems(config.data.name, unfit, len(examples), config.data.on_error)
        examples, left_out = usable_examples(examples, unfit), {**left_out, **unfit}
        yield StageProgress("first_call")
        loading = loading.merged(load.first_call(model, device, next(assemble(singles[:1], 1, place, dtype))))
        load.check_output_follows_input(model, singles, place, dtype)
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        for case in plan.cases:
            yield CaseFinished(
                CaseResult(case, core.OUT_OF_MEMORY, f"while loading: {core.first_line(error)}"), Samples()
            )
        return
    yield Conditions({**_conditions(run, model.identity, taken), "left_out": dict(left_out)})
    kept_bytes = sum(map(input_bytes, singles))
    full_at: Case | None = None
    batches: list[Inputs] = []
    once: dict[str, Any] = {kernels.SEEN: profiled}
    for case in plan.cases:
        labels = {"protocol": plan.protocol, "distinct_inputs": str(len(singles))}
        no_room = ""
        if full_at and case.timed and case.batch_size > full_at.batch_size:
            reason = f"not tried: batch size {full_at.batch_size} already ran out of memory"
            yield CaseFinished(CaseResult(case, core.SKIPPED_AFTER_OOM, reason), Samples())
            continue
        try:
            if case.timed:
                batches = list(assemble(singles, case.batch_size, place, dtype, config.measure.inputs.max_mib))
                labels["distinct_inputs"] = str(min(len(singles), len(batches) * case.batch_size))
            metrics = {name: run.metrics[name] for name in case.metrics}
            context = Context(
                case,
                model,
                device,
                config.measure,
                batches,
                kept_bytes,
                examples,
                metrics,
                meant.classes or run.data.classes(),
                config.data.on_error,
                once,
            )
            samples = _work(model.work(case.batch_size)).merged(loading)
            predictions = None
            again: dict[str, list[str]] = {}
            for stage in (stage for stage in case.stages if case.timed):
                yield StageProgress(stage, case.id)
                with device.mark(f"{case.id} {stage}"):
                    found, earlier = _attempts(STAGES[stage], context)
                samples = samples.merged(found)
                again |= {stage: earlier} if earlier else {}
            if not case.timed:
                evaluated = yield from _evaluate(context)
                samples, predictions = samples.merged(evaluated.samples), evaluated.predictions
                everything = {**left_out, **evaluated.left_out}
                samples = samples.merged(_left_out(everything, len(examples) + len(left_out)))
                samples = samples.merged(_stands_on(run, case, len(taken), evaluated))
                samples = samples.merged(Samples(flags=meant.flags)).merged(_clustered(of_cluster, predictions))
            numbers = compute(metrics, samples)
            noted = {**labels, **samples.labels}
            noted |= {f"{stage}_retried": "; ".join(whys) for stage, whys in again.items()}
            if len(clusters := samples.get(CLUSTER)):
                noted["interval_over"] = f"{int(clusters.max()) + 1} clusters of pictures"
            row = CaseResult(case, core.OK, None, numbers, validity.judge(samples), noted)
            yield CaseFinished(row, samples, predictions)
        except (ConfigError, EvaluationError) as error:  # of the quality case alone: the rest is measured already
            yield CaseFinished(CaseResult(case, core.FAILED, str(error), labels=labels), Samples())
        except Exception as error:
            if not device.is_out_of_memory(error):
                raise
            full_at, no_room = case, core.first_line(error)
        if no_room:  # outside the except block: until it ends, the traceback holds the activations of the failed call
            batches.clear()
            device.reset_peak_memory()
            device.peak_memory(0)  # ends the window, in which a CPU's allocator is slower
            yield CaseFinished(CaseResult(case, core.OUT_OF_MEMORY, no_room, labels=labels), Samples())


def _evaluate(context: Context) -> Generator[StageProgress, None, Evaluated]:
    """The quality case's only stage, with its progress as events."""
    stage, case = "evaluation", context.case.id
    yield StageProgress(stage, case)
    passing = evaluation.run(context)
    while True:
        try:
            progress = next(passing)
        except StopIteration as end:
            evaluated: Evaluated = end.value
            return evaluated
        yield StageProgress(stage, case, progress.done / progress.of)


def _attempts(stage: Callable[[Context], Samples], context: Context) -> tuple[Samples, list[str]]:
    """A stage, measured again after a pause while its window is invalid; and why earlier attempts were."""
    earlier: list[str] = []
    while True:
        found = stage(context)
        judged = validity.judge(found)
        if judged.verdict != core.INVALID or len(earlier) == context.measure.retries:
            return found, earlier
        earlier.append(f"attempt {len(earlier) + 1}: {', '.join(map(str, judged.reasons))}")
        sleep(context.measure.retry_pause_seconds)


def _left_out(found: Mapping[str, str], of: int) -> Samples:
    """The count of pictures that quality is not measured on, and a doubt that names them where there are any."""
    doubt = {"pictures_left_out": f"{len(found)} of {of}: {summarize_problems(found)}"} if found else {}
    return Samples({"evaluation/left_out_count": np.array([float(len(found))])}, flags=doubt)


def _stands_on(run: Parts, case: Case, taken: int, evaluated: Evaluated) -> Samples:
    """What of the data set the quality figures stand on, `taken` of its pictures having been asked for."""
    metrics = [run.metrics[name] for name in case.metrics]
    needs = frozenset().union(*(metric.needs for metric in metrics if isinstance(metric, core.QualityMetric)))
    found = list_all_examples(run.data)
    ids = set(evaluated.predictions.ids)
    samples = denominators.count_used(found, taken, ids, needs, evaluated.samples)
    if "labels" in needs:
        used = [example for example in found if example.id in ids]
        samples = samples.merged(denominators.count_classes(run.data.classes(), used))
    doubts = run.data.doubts() if isinstance(run.data, core.HasDoubts) else {}
    return samples.merged(Samples(flags=doubts))


def _clusters(config: ExperimentConfig, examples: Sequence[core.Example]) -> dict[str, float]:
    """The cluster of each example by its id; none where `data.clusters` names no file."""
    ids = [example.id for example in examples]
    path = config.data.clusters
    return dict(zip(ids, map(float, read_clusters(path, ids)), strict=True)) if path else {}


def _clustered(of_cluster: Mapping[str, float], predictions: Predictions) -> Samples:
    """The cluster of each picture that has a prediction, numbered from 0 without a gap."""
    if not of_cluster:
        return Samples()
    _, numbers = np.unique([of_cluster[name] for name in predictions.ids], return_inverse=True)
    return Samples({CLUSTER: numbers.astype(np.float64)})


def compute(metrics: Mapping[str, core.Metric], samples: Samples) -> Metrics:
    """All metric groups over a case's samples, and what of the data they stand on."""
    found = Metrics()
    for metric in metrics.values():
        found = found.merged(metric.compute(samples))
    return found.merged(denominators.compute_metrics(samples))


def _declarations(run: Parts, plan: RunPlan) -> Declarations:
    """The declarations of the planned metric groups; with quality, also those of the counts of the data."""
    groups = {name for case in plan.cases for name in case.metrics}
    declared = Declarations.collect({name: metric for name, metric in run.metrics.items() if name in groups})
    timed = all(case.timed for case in plan.cases)
    return declared if timed else declared.followed_by(denominators.GROUP, denominators.DECLARATIONS)


def _conditions(run: Parts, identity: Mapping[str, Any], examples: Sequence[core.Example]) -> dict[str, Any]:
    return {
        "model": dict(identity),
        "device": dict(run.device.fingerprint()),
        "data": {**run.data.identity(), "contents_sha256": content_digest.digest_examples(examples)},
    }


def _work(units: Mapping[str, int]) -> Samples:
    return Samples({f"work/{unit}_count": np.array([float(count)]) for unit, count in units.items()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@cache
def _git_commit() -> str | None:
    """The commit of the working folder, with `+` where files are changed; None outside a repository."""
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
