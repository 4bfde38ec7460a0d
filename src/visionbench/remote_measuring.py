"""The measuring process of a model at an endpoint: send requests for each case, and yield the events of `measuring`.

measure   connect → encode images → for each case: warm-up → timed requests → metrics → a row; quality at the end
planned   the number of requests of a plan, for the limits and for --dry-run
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, cast

from visionbench import core, measuring, validity
from visionbench.config import ExperimentConfig
from visionbench.core import (
    Case,
    CaseResult,
    ConfigError,
    Connects,
    EncodedImage,
    Example,
    LoadedModel,
    Prices,
    RunPlan,
    Samples,
)
from visionbench.core.remote import BAD_REQUEST
from visionbench.datafiles.images import PictureError
from visionbench.examples.screening import raise_on_problems, usable_examples
from visionbench.measuring import CaseFinished, Conditions, Event, RunData, StageProgress
from visionbench.parts import Parts, build_parts
from visionbench.remote.budget import Budget
from visionbench.remote.requests import Requests
from visionbench.stages import data_used
from visionbench.stages.decoding import Decoding
from visionbench.stages.evaluation import EvaluationContext, EvaluationError
from visionbench.stages.remote import attempts, window
from visionbench.stages.remote.predictor import RemotePredictor
from visionbench.stages.remote.window import Images
from visionbench.statistics.resampling import CLUSTER


@dataclass(frozen=True)
class RemoteRun:
    """The values that all cases of a run share."""

    config: ExperimentConfig
    plan: RunPlan
    parts: Parts
    data: RunData
    requests: Requests
    images: Images
    examples: Sequence[Example]
    left_out: Mapping[str, str]
    decoding: Decoding
    prices: Prices | None

    @property
    def adapter(self) -> Connects:
        """The family of the model."""
        return cast(Connects, self.parts.adapter)

    @property
    def classes(self) -> Sequence[str]:
        """The classes of the data that the prompt lists."""
        return self.data.labelling.classes or self.parts.data.classes()


def measure(
    config: ExperimentConfig,
    plan: RunPlan,
    left_out: Mapping[str, str],
    profiled: Mapping[str, Samples] | None = None,
    reference: Any = None,
) -> Iterator[Event]:
    """Measure the plan's cases in order, without the examples in `left_out`. `profiled` and `reference` are not used.

    After a limit of `remote` is reached, or after the endpoint has refused every request, the cases that are left have
    no numbers, with this reason.
    """
    parts = build_parts(config)
    yield StageProgress("load")
    data = measuring.read_data(config, plan, parts, left_out)
    requests = connect(config, parts)
    with closing(requests.endpoint):
        yield from _measure(config, plan, parts, data, requests)


def _measure(
    config: ExperimentConfig, plan: RunPlan, parts: Parts, data: RunData, requests: Requests
) -> Iterator[Event]:
    yield StageProgress("inputs", ahead=True)
    run = _prepare(config, plan, parts, data, requests)
    yield Conditions(
        dict(requests.endpoint.identity),
        measuring.describe_device(config, parts),
        measuring.describe_data(parts, data.sampled),
        dict(run.left_out),
    )
    for index, case in enumerate(plan.cases):
        if requests.stopped:
            status = core.FAILED if requests.failed and not index else core.NOT_RUN
            yield _without_numbers(run, case, status, f"not measured: {requests.stopped}")
            continue
        try:
            yield (yield from _measure_case(run, case) if case.timed else _evaluate(run, case))
        except (ConfigError, EvaluationError) as error:
            yield _without_numbers(run, case, core.FAILED, str(error))


def parts_address(config: ExperimentConfig, parts: Parts) -> str:
    """Return the address of the endpoint of a run."""
    return cast(Connects, parts.adapter).address(config.model, config.remote)


def connect(config: ExperimentConfig, parts: Parts) -> Requests:
    """Return the requests of a run with its limits. Each process of `measure.repeats` has an equal part of them.

    Raises ConfigError if the address or the key is missing.
    """
    adapter, remote, repeats = cast(Connects, parts.adapter), config.remote, config.measure.repeats
    prices, most_tokens = adapter.request_limits(config.model)
    budget = Budget(
        None if remote.max_requests is None else remote.max_requests // repeats,
        None if remote.max_cost is None else remote.max_cost / repeats,
        prices,
        most_tokens,
    )
    endpoint = adapter.connect(config.model, remote)
    return Requests(endpoint, budget, remote.max_retries, remote.max_wait_seconds, remote.seed)


def planned_requests(config: ExperimentConfig, plan: RunPlan, images: int) -> int:
    """Return the number of requests of a plan without those that are sent again, for this number of images."""
    counts = [
        window.count_warmup(config.measure, case.batch_size) + window.count_timed(config.measure, case.batch_size)
        if case.timed
        else images
        for case in plan.cases
    ]
    return sum(counts)


def _prepare(config: ExperimentConfig, plan: RunPlan, parts: Parts, data: RunData, requests: Requests) -> RemoteRun:
    """Decode and encode the images of timed requests. Raises ConfigError if images cannot be used."""
    decoding = Decoding(config.data.decoder, parts.decoder, None)
    rule = config.measure.inputs
    encoded: list[EncodedImage] = []
    unfit: dict[str, str] = {}
    size = 0
    for example in data.examples:
        if len(encoded) == rule.distinct_samples or (encoded and size > rule.max_mib * 2**20):
            break
        try:
            encoded.append(requests.endpoint.encode(decoding.decode(example)))
            size += len(encoded[-1].data)
        except PictureError as error:
            unfit[example.id] = error.reason
    raise_on_problems(config.data.name, unfit, len(data.examples), config.data.on_error)
    if not encoded:
        raise ConfigError(f"data={config.data.name}: no image can be sent", "choose other data")
    examples = usable_examples(data.examples, unfit)
    prices, _ = cast(Connects, parts.adapter).request_limits(config.model)
    left_out = {**data.left_out, **unfit}
    return RemoteRun(config, plan, parts, data, requests, Images(encoded), examples, left_out, decoding, prices)


def _measure_case(run: RemoteRun, case: Case) -> Generator[StageProgress, None, CaseFinished]:
    """Measure one number of requests in flight."""
    measure, requests = run.config.measure, run.requests
    prompt = run.adapter.prompt_for(run.classes)
    yield StageProgress("warmup", case.id)
    warm = window.warm_up(requests, run.images, prompt, measure, case.batch_size)
    if not any(outcome.answered for outcome in warm):
        status, reason = _explain_no_answer(run, warm)
        return _without_numbers(run, case, status, reason)
    yield StageProgress("requests", case.id)
    samples = window.run(
        requests, run.images, prompt, measure, case.batch_size, run.prices, run.config.remote.max_error_share
    )
    if "requests_not_sent" in samples.flags and not len(samples.get("latency/host_s")):
        return _without_numbers(run, case, core.NOT_RUN, samples.flags["requests_not_sent"])
    return _row(run, case, samples)


def _explain_no_answer(run: RemoteRun, warm: Sequence[Any]) -> tuple[str, str]:
    """Return the status and the reason of a case whose warm-up has no answer.

    If the endpoint refused every request as wrong, the run ends, because further requests are wrong, too.
    """
    sent = [outcome for outcome in warm if outcome.attempts]
    if run.requests.failed:
        return core.FAILED, run.requests.stopped
    if not sent:
        return core.NOT_RUN, f"not measured: {run.requests.stopped}"
    reason = f"no request of the warm-up has an answer: {sent[-1].failure}"
    if all(outcome.last.kind == BAD_REQUEST for outcome in sent):
        run.requests.stop(reason, failed=True)
    return core.FAILED, reason


def _evaluate(run: RemoteRun, case: Case) -> Generator[StageProgress, None, CaseFinished]:
    """Evaluate quality: send each image once, then compute the metrics from the answers."""
    parts, config = run.parts, run.config
    metrics = {name: parts.metrics[name] for name in case.metrics}
    in_flight = max(config.batch.sizes)
    predictor = RemotePredictor(run.adapter, run.requests, in_flight)
    context = EvaluationContext(
        case,
        cast(LoadedModel, predictor),
        parts.device,
        config.measure,
        run.examples,
        metrics,
        run.classes,
        config.data.on_error,
        run.decoding,
    )
    try:
        evaluated = yield from measuring.with_progress(context)
    except EvaluationError:
        if run.requests.stopped:
            status = core.FAILED if run.requests.failed else core.NOT_RUN
            return _without_numbers(run, case, status, run.requests.stopped)
        raise
    left_out = {**run.left_out, **evaluated.left_out}
    samples = evaluated.samples.merged(attempts.series(predictor.outcomes, run.prices))
    kept = [outcome for outcome in predictor.outcomes if not outcome.refused]
    judged = attempts.judge(kept, len(kept), run.requests.stopped, config.remote.max_error_share, run.prices)
    samples = samples.merged(judged).merged(_refusals(predictor))
    samples = samples.merged(run.decoding.describe(run.examples))
    samples = samples.merged(data_used.count_left_out(left_out, len(run.examples) + len(run.left_out)))
    samples = samples.merged(data_used.count_used(parts.data, list(metrics.values()), len(run.data.sampled), evaluated))
    samples = samples.merged(Samples(flags=run.data.labelling.flags))
    samples = samples.merged(data_used.number_clusters(run.data.clusters, evaluated.predictions))
    labels = {"requests_in_flight": str(in_flight)}
    if len(clusters := samples.get(CLUSTER)):
        labels["interval_over"] = f"{int(clusters.max()) + 1} clusters of images"
    finished = _row(run, case, samples, labels)
    return replace(finished, predictions=evaluated.predictions)


def _refusals(predictor: RemotePredictor) -> Samples:
    """Return a flag if the model refused to answer, because a refusal counts as a wrong answer."""
    refused = sum(outcome.refused for outcome in predictor.outcomes)
    if not refused:
        return Samples()
    detail = f"{refused} of {len(predictor.outcomes)} answers are refusals, which count as wrong answers"
    return Samples(flags={"answers_refused": detail})


def _row(run: RemoteRun, case: Case, samples: Samples, labels: Mapping[str, str] | None = None) -> CaseFinished:
    numbers = measuring.compute({name: run.parts.metrics[name] for name in case.metrics}, samples)
    every = {**_labels(run, case), **samples.labels, **(labels or {})}
    return CaseFinished(CaseResult(case, core.OK, None, numbers, validity.judge(samples), every), samples)


def _without_numbers(run: RemoteRun, case: Case, status: str, reason: str) -> CaseFinished:
    return CaseFinished(CaseResult(case, status, reason, labels=_labels(run, case)), Samples())


def _labels(run: RemoteRun, case: Case) -> dict[str, str]:
    labels = {"protocol": run.plan.protocol, "endpoint": parts_address(run.config, run.parts)}
    if run.prices is not None:
        labels["currency"] = str(run.prices.currency)
        labels |= {"prices_of": run.prices.date} if run.prices.date else {}
    if case.timed:
        labels["distinct_inputs"] = str(len(run.images.encoded))
    return labels
