"""The measuring process: load the model once, measure each case, and yield events to the parent process.

measure    load → for each case: stages → samples → metrics → a row
profile    in a process before it, for metrics=[kernels] on a device with a queue: one profiled call for each case
reference  in a process before it, for a run that is not in eager fp32: the outputs of eager fp32
try_batch  in processes before it, for batch=auto: calls of one batch size, and the peak of their memory
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from time import sleep
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from visionbench import core, validity, weights
from visionbench.config import DeviceConfig, ExperimentConfig, PrecisionConfig, RuntimeConfig
from visionbench.core import (
    Case,
    CaseResult,
    ConfigError,
    Connects,
    DescribesInputs,
    Device,
    Example,
    Inputs,
    LimitsMemory,
    LoadedModel,
    MemoryLimit,
    Metrics,
    Precision,
    Predictions,
    RunPlan,
    Samples,
)
from visionbench.examples import content_digest, denominators
from visionbench.examples.calibration import choose_images
from visionbench.examples.labelling import Labelling, resolve_labelling
from visionbench.examples.screening import raise_on_problems, usable_examples, with_mask_frame
from visionbench.parts import Parts, build_parts, is_remote, torchao_method
from visionbench.serving.arrivals import CLOSED
from visionbench.stages import (
    calibration,
    data_used,
    device_processor,
    evaluation,
    execution,
    flops,
    input_parity,
    kernels,
    latency,
    load,
    memory,
    parity,
    pipeline,
    serving,
    telemetry,
    throughput,
    warmup,
)
from visionbench.stages.autocast import autocast, in_autocast
from visionbench.stages.context import Context, Stage
from visionbench.stages.decoding import Decoding
from visionbench.stages.evaluation import Evaluation, EvaluationContext, EvaluationError
from visionbench.stages.inputs import TimedInputs, assemble, batch_count, have_several_sizes, preprocess
from visionbench.statistics.resampling import CLUSTER

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
E = TypeVar("E")
ONE_BATCH = ("memory", "flops")
"""The stages whose figures are those of one batch."""


# -------------------------------------------------------------------------------------------------------------- events
@dataclass(frozen=True)
class StageProgress:
    """The current stage of a case, or of the run if `case` is empty."""

    stage: str
    case: str = ""
    done: float = 0.0
    """The share of the stage that is done, if the stage reports it."""
    ahead: bool = False
    """Whether the measuring process continues at once, because the stage times nothing: see `worker.stream`."""


@dataclass(frozen=True)
class CaseFinished:
    """The end of a case, successful or not."""

    result: CaseResult
    samples: Samples
    predictions: Predictions | None = None


@dataclass(frozen=True)
class Conditions:
    """The identities of model, device and data, known once the model is loaded, and the examples left out so far."""

    model: Mapping[str, Any]
    device: Mapping[str, Any]
    data: Mapping[str, Any]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class ProfiledCall:
    """The samples of one profiled call of a case."""

    case: str
    samples: Samples


Event = StageProgress | CaseFinished | Conditions


# ----------------------------------------------------------------------------------------------- the measuring process
def measure(
    config: ExperimentConfig,
    plan: RunPlan,
    left_out: Mapping[str, str],
    profiled: Mapping[str, Samples] = MappingProxyType({}),
    reference: Reference | None = None,
) -> Iterator[Event]:
    """Load the model once and measure the plan's cases in order, without the examples in `left_out`.

    `profiled` holds the samples of the profiling process by case, and `reference` the outputs of eager fp32.
    """
    parts = build_parts(config)
    yield StageProgress("load")
    data = read_data(config, plan, parts, left_out)
    place, dtype = _set_up(config, parts.device)
    loading = load_run(config, plan, parts, data, place, dtype, reference)
    loaded = yield from _catch_out_of_memory(parts.device, loading)
    if isinstance(loaded, OutOfMemory):
        for case in plan.cases:
            yield _without_numbers(case, core.OUT_OF_MEMORY, f"while loading: {loaded.reason}")
        return
    yield _conditions(parts, loaded, data.sampled)
    stages = create_stages(profiled)
    too_large: Case | None = None
    for case in plan.cases:
        if too_large and case.timed and case.batch_size > too_large.batch_size:
            reason = f"not tried: batch size {too_large.batch_size} already ran out of memory"
            yield _without_numbers(case, core.SKIPPED_AFTER_OOM, reason)
            continue
        steps = _steps(loaded, case, stages)
        try:
            finished = yield from _catch_out_of_memory(parts.device, steps)
        except (ConfigError, EvaluationError) as error:  # the quality case failed; the timed cases keep their rows
            finished = _without_numbers(case, core.FAILED, str(error), _labels(loaded, case))
        if isinstance(finished, OutOfMemory):
            too_large = case
            finished = _without_numbers(case, core.OUT_OF_MEMORY, finished.reason, _labels(loaded, case))
        yield finished


def _steps(
    loaded: LoadedRun, case: Case, stages: Mapping[str, Stage]
) -> Generator[StageProgress | CaseFinished, None, CaseFinished]:
    if case.kind == core.LOAD:
        return serve_case(loaded, case)
    return measure_case(loaded, case, stages) if case.timed else evaluate_case(loaded, case)


def read_conditions(config: ExperimentConfig) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield the identities of the device and of the data. The model is not loaded."""
    parts = build_parts(config)
    if not isinstance(parts.adapter, Connects):
        _set_up(config, parts.device)
    yield (
        describe_device(config, parts),
        describe_data(parts, with_mask_frame(parts.data.examples(), config.data.exif)),
    )


@dataclass(frozen=True)
class RunData:
    """The data of a run, read before the model is loaded."""

    sampled: Sequence[Example]
    """All examples that the data set gives, those that are left out included."""
    examples: Sequence[Example]
    """The examples that can be used, labelled by the model's classes."""
    left_out: Mapping[str, str]
    labelling: Labelling
    clusters: Mapping[str, float]


@dataclass(frozen=True)
class LoadedRun:
    """The loaded model, and the values that all cases of the run share."""

    config: ExperimentConfig
    plan: RunPlan
    parts: Parts
    data: RunData
    place: torch.device
    dtype: torch.dtype
    model: LoadedModel
    loading: Samples
    """The samples of loading, which are part of the samples of each case."""
    inputs: TimedInputs
    examples: Sequence[Example]
    """The examples that the model's processor accepts."""
    left_out: Mapping[str, str]
    """The ids of examples that are not used, with the reason."""
    decoding: Decoding

    @property
    def max_mib(self) -> int:
        """The limit for the total size of the batches of one case, in MiB."""
        return self.config.measure.inputs.max_mib


def read_data(config: ExperimentConfig, plan: RunPlan, parts: Parts, left_out: Mapping[str, str]) -> RunData:
    """Read the examples, leave out those in `left_out`, and label the others by the model's classes."""
    sampled = with_mask_frame(parts.data.examples(), config.data.exif)
    labelling = resolve_labelling(config, parts, plan.cases)
    examples = labelling.relabel(usable_examples(sampled, left_out))
    return RunData(sampled, examples, left_out, labelling, data_used.find_clusters(config, examples))


def load_run(
    config: ExperimentConfig,
    plan: RunPlan,
    parts: Parts,
    data: RunData,
    place: torch.device,
    dtype: torch.dtype,
    reference: Reference | None = None,
) -> Generator[StageProgress, None, LoadedRun]:
    """Load the model, preprocess the inputs of all timed cases, call the model once, and check its outputs.

    Raises ConfigError if the model's processor does not accept an image or if the runtime cannot execute the model,
    OutputCheckError, and ParityError.
    """
    device = parts.device
    precision = precision_of(config)
    model, loading = load.load(
        parts.adapter, config.model, device, place, dtype, torchao_method(parts.runtime, precision)
    )
    yield StageProgress("inputs", ahead=True)
    original = model
    model, decoding = with_input_pipeline(config, parts, model, place)
    inputs = preprocess(model, data.examples, config.measure.inputs, decoding)
    raise_on_problems(config.data.name, inputs.unfit, len(data.examples), config.data.on_error)
    examples = usable_examples(data.examples, inputs.unfit)
    pixels = input_parity.compare(model, original, examples, decoding, config.measure.parity)
    loading = loading.merged(pixels).merged(inputs.samples)
    if parts.runtime.replaces_eager:
        yield StageProgress("export")
        two = next(assemble(inputs.singles[:2], min(2, len(inputs.singles)), place, dtype, model=model))
        calibrator = _calibrator(config, parts, model, decoding, place, dtype) if precision.is_calibrated else None
        with autocast(place, precision):
            executed = execution.execute(config.runtime.name, model, parts.runtime, two, precision, calibrator)
        model, loading = executed.model, loading.merged(executed.samples)
    model = in_autocast(model, place, precision)
    yield StageProgress("first_call")
    first_call = load.first_call(model, device, next(assemble(inputs.singles[:1], 1, place, dtype, model=model)))
    load.check_output_follows_input(model, inputs.singles, place, dtype)
    if reference is not None:
        loading = loading.merged(_compare(reference, model, inputs, config, place, dtype))
    return LoadedRun(
        config,
        plan,
        parts,
        data,
        place,
        dtype,
        model,
        loading.merged(first_call),
        inputs,
        examples,
        {**data.left_out, **inputs.unfit},
        decoding,
    )


def load_to_serve(config: ExperimentConfig, plan: RunPlan, left_out: Mapping[str, str]) -> LoadedRun:
    """Return the loaded model and data of a run, as `measure` loads them. Nothing is measured.

    Raises the errors of `load_run`.
    """
    parts = build_parts(config)
    data = read_data(config, plan, parts, left_out)
    place, dtype = _set_up(config, parts.device)
    steps = load_run(config, plan, parts, data, place, dtype)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            loaded: LoadedRun = end.value
            return loaded


def _calibrator(
    config: ExperimentConfig,
    parts: Parts,
    model: LoadedModel,
    decoding: Decoding,
    place: torch.device,
    dtype: torch.dtype,
) -> calibration.Calibrator:
    """Return the model with the images of its calibration, none of which is measured."""
    count = precision_of(config).calibration_images
    assert count is not None
    images = choose_images(config.data.name, parts.data, count)
    return calibration.prepare(model, images.examples, images.source, decoding, place, dtype)


def _compare(
    reference: Reference,
    model: LoadedModel,
    inputs: TimedInputs,
    config: ExperimentConfig,
    place: torch.device,
    dtype: torch.dtype,
) -> Samples:
    """Return the samples of the comparison with eager fp32, or the reason why there is none. Raises ParityError."""
    if reference.why_missing:
        missing = dict.fromkeys(("parity/cosine_ratio", "parity/error_fraction"), reference.why_missing)
        return Samples(missing=missing, flags={"parity_unknown": reference.why_missing})
    rule = config.measure.parity
    own = parity.outputs(model, inputs.singles, rule.inputs, place, dtype)
    return parity.compare(reference.outputs, own, rule, precision_of(config).parity_limit)


def create_stages(profiled: Mapping[str, Samples]) -> Mapping[str, Stage]:
    """Return the stages of timed cases for one run, with the batches that each needs on the device."""
    return {
        "warmup": Stage(warmup.run, "all"),
        "latency": Stage(latency.run, "all"),
        "throughput": Stage(throughput.run, "all"),
        "telemetry": Stage(telemetry.run, "all"),
        "memory": Stage(memory.run, "one"),
        "flops": Stage(flops.Flops().run, "one"),
        "pipeline": Stage(pipeline.run, "none"),
        "kernels": Stage(partial(kernels.run, profiled), "none"),
    }


def measure_case(
    loaded: LoadedRun, case: Case, stages: Mapping[str, Stage]
) -> Generator[StageProgress, None, CaseFinished]:
    """Measure one batch size: run the stages of the case in order, then compute the metrics from their samples."""
    device = loaded.parts.device
    samples = _work(loaded, case).merged(loaded.loading).merged(_price(loaded.config.device))
    retried: dict[str, str] = {}
    batches: Sequence[Inputs] = ()
    if loaded.parts.runtime.compiles_each_size:
        batches = _fit_batches(loaded, case, Stage(warmup.run, "one"), batches)
        context = _context(loaded, case, batches)
        yield StageProgress("compile", case.id)
        samples = samples.merged(execution.first_of_size(context, loaded.parts.runtime))
    for name in case.stages:
        batches = _fit_batches(loaded, case, stages[name], batches)
        context = _context(loaded, case, batches)
        yield StageProgress(name, case.id)
        with device.mark(f"{case.id} {name}"):
            stage_samples, invalid_attempts = _measure_until_valid(stages[name], context)
        samples = samples.merged(stage_samples)
        if invalid_attempts:
            retried[f"{name}_retried"] = "; ".join(invalid_attempts)
    samples = samples.merged(_doubt_first_batch(loaded, case))
    samples = samples.merged(loaded.decoding.describe(_timed_examples(loaded, case), "pipeline" in case.stages))
    return _with_metrics(loaded, case, samples, retried)


def _doubt_first_batch(loaded: LoadedRun, case: Case) -> Samples:
    """Return a flag if figures of one batch do not hold for the others, because images have several sizes."""
    names = [name for name in ONE_BATCH if name in case.stages]
    if not names or not have_several_sizes(loaded.inputs.singles):
        return Samples()
    detail = f"{' and '.join(names)}: those of the first batch, and the inputs of the images have several sizes"
    return Samples(flags={"first_batch_only": detail})


def evaluate_case(loaded: LoadedRun, case: Case) -> Generator[StageProgress, None, CaseFinished]:
    """Evaluate quality: run all examples through the model once, then compute the metrics from the predictions."""
    parts, data, on_error = loaded.parts, loaded.data, loaded.config.data.on_error
    metrics = {name: parts.metrics[name] for name in case.metrics}
    classes = data.labelling.classes or parts.data.classes()
    context = EvaluationContext(
        case,
        loaded.model,
        parts.device,
        loaded.config.measure,
        loaded.examples,
        metrics,
        classes,
        on_error,
        loaded.decoding,
    )
    evaluated = yield from with_progress(context)
    left_out = {**loaded.left_out, **evaluated.left_out}
    samples = _work(loaded, case).merged(loaded.loading).merged(evaluated.samples)
    samples = samples.merged(loaded.decoding.describe(loaded.examples))
    samples = samples.merged(data_used.count_left_out(left_out, len(loaded.examples) + len(loaded.left_out)))
    samples = samples.merged(data_used.count_used(parts.data, list(metrics.values()), len(data.sampled), evaluated))
    samples = samples.merged(Samples(flags=data.labelling.flags))
    samples = samples.merged(data_used.number_clusters(data.clusters, evaluated.predictions))
    labels: dict[str, str] = {}
    if len(clusters := samples.get(CLUSTER)):
        labels["interval_over"] = f"{int(clusters.max()) + 1} clusters of images"
    return _with_metrics(loaded, case, samples, labels, evaluated.predictions)


def serve_case(loaded: LoadedRun, case: Case) -> Generator[StageProgress | CaseFinished, None, CaseFinished]:
    """Measure the loads of a run, yield the row of each, and return the row of the search for the largest load.

    A case of one load, which a resumed run measures again, has no search.
    """
    config = loaded.config.serving
    singles = loaded.inputs.singles
    server = serving.Server(loaded.model, loaded.parts.device, loaded.place, loaded.dtype, singles)
    yield StageProgress("serving", case.id)
    seconds = server.warm_up(loaded.config.measure.serving, config.max_batch)
    if case.offered is not None:
        return serve_load(loaded, case, server)
    if config.arrivals == CLOSED:
        for clients in config.clients:
            yield StageProgress("serving", case.id)
            yield serve_load(loaded, replace(case, id=f"clients-{clients}", clients=clients), server)
        reason = "a closed loop has no offered load"
        samples = Samples(missing=dict.fromkeys(serving.SEARCH_SERIES, reason), labels={"load_statement": reason})
        return _with_metrics(loaded, case, _work(loaded, case).merged(loaded.loading).merged(samples), {})
    search = serving.new_search(config, loaded.config.measure.serving, serving.capacity(seconds))
    verdicts: dict[float, str] = {}
    rates: Iterator[float] = iter(config.loads) if config.loads else iter(search.next_load, None)
    for rate in rates:
        yield StageProgress("serving", case.id, len(verdicts) / (len(config.loads) or search.rule.most_loads))
        finished = serve_load(loaded, replace(case, id=f"load-{rate:g}", load=rate), server)
        search.add(serving.trial_of(finished.samples, rate))
        verdicts[rate] = finished.result.validity.verdict
        yield finished
    samples = serving.describe_search(search, config, verdicts)
    return _with_metrics(loaded, case, _work(loaded, case).merged(loaded.loading).merged(samples), {})


def serve_load(loaded: LoadedRun, case: Case, server: serving.Server) -> CaseFinished:
    """Measure one load, again while its window is invalid and retries are left, and return its row."""
    config = loaded.config.serving
    stage = Stage(partial(serving.run, config, server, case.load, case.clients), "none")
    with loaded.parts.device.mark(case.id):
        samples, invalid_attempts = _measure_until_valid(stage, _context(loaded, case, ()))
    labels = {"load_conditions": serving.conditions(config)}
    if case.load is not None:
        labels["load_decision"] = serving.decision(samples, case.load)
    if invalid_attempts:
        labels["serving_retried"] = "; ".join(invalid_attempts)
    return _with_metrics(loaded, case, _work(loaded, case).merged(loaded.loading).merged(samples), labels)


def with_progress(context: EvaluationContext) -> Generator[StageProgress, None, Evaluation]:
    """Run the evaluation, and yield its progress as events."""
    stage, case = "evaluation", context.case.id
    yield StageProgress(stage, case)
    steps = evaluation.run(context)
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            evaluated: Evaluation = end.value
            return evaluated
        yield StageProgress(stage, case, progress.done / progress.total)


def _fit_batches(loaded: LoadedRun, case: Case, stage: Stage, batches: Sequence[Inputs]) -> Sequence[Inputs]:
    """Return the batches that a stage needs on the device: assemble them if there are too few, or drop the surplus."""
    singles, size = loaded.inputs.singles, case.batch_size
    count = {"all": batch_count(singles, size, loaded.max_mib), "one": 1, "none": 0}[stage.batches]
    if count > len(batches):
        batches_of_size = assemble(singles, size, loaded.place, loaded.dtype, loaded.max_mib, loaded.model)
        return tuple(islice(batches_of_size, count))
    return batches[:count]


def _context(loaded: LoadedRun, case: Case, batches: Sequence[Inputs]) -> Context:
    return Context(
        case,
        loaded.model,
        loaded.parts.device,
        loaded.config.measure,
        batches,
        loaded.inputs.kept_bytes,
        loaded.examples,
        loaded.decoding,
    )


def _measure_until_valid(stage: Stage, context: Context) -> tuple[Samples, list[str]]:
    """Run a stage, and repeat it after a pause while its samples are invalid and retries are left.

    Return the samples of the last attempt, and the reasons why earlier attempts were invalid.
    """
    invalid_attempts: list[str] = []
    while True:
        samples = stage.run(context)
        judged = validity.judge(samples)
        if judged.verdict != core.INVALID or len(invalid_attempts) == context.measure.retries:
            return samples, invalid_attempts
        invalid_attempts.append(f"attempt {len(invalid_attempts) + 1}: {', '.join(map(str, judged.reasons))}")
        sleep(context.measure.retry_pause_seconds)


@dataclass(frozen=True)
class OutOfMemory:
    """The result of work that the device had too little memory for."""

    reason: str


def _catch_out_of_memory(device: Device, steps: Generator[E, None, T]) -> Generator[E, None, T | OutOfMemory]:
    """Return the result of the steps. If the device runs out of memory, free its memory and return the reason."""
    try:
        return (yield from steps)
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        reason = core.first_line(error)
    # outside the except block: until the block ends, the traceback holds the activations of the failed call
    device.reset_peak_memory()
    device.peak_memory(0)  # ends the window, in which the allocator of a CPU is slower
    return OutOfMemory(reason)


def with_input_pipeline(
    config: ExperimentConfig, parts: Parts, model: LoadedModel, place: torch.device
) -> tuple[LoadedModel, Decoding]:
    """Return the loaded model with its images processed as configured, and the decoder of the run.

    Raises ConfigError if the model's processor cannot be replaced, or if the decoder needs its size and it is unknown.
    """
    if config.data.preprocess == "device":
        model = device_processor.on_device(model, place)
    least = None
    if parts.decoder.reduces:
        least = weights.least_size(model)
        if least is None:
            raise ConfigError(
                f"data.decoder={config.data.decoder}: the size to which this model's processor resizes an image is "
                "not known",
                "use data.decoder=pillow",
            )
    return model, Decoding(config.data.decoder, parts.decoder, least)


def _set_up(config: ExperimentConfig, device: Device) -> tuple[torch.device, torch.dtype]:
    """Set up the device, and return torch's device and the run's dtype."""
    import torch

    precision = precision_of(config)
    device.setup(precision, config.device.threads)
    return torch.device(device.id), getattr(torch, precision.stored_dtype)


def precision_of(config: ExperimentConfig) -> Precision:
    """Return the precision of a run."""
    return Precision(**asdict(config.precision))


@dataclass(frozen=True)
class Reference:
    """The outputs of the model in eager fp32, or the reason why there are none."""

    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    why_missing: str = ""


def needs_reference(config: ExperimentConfig) -> bool:
    """Return whether a run has another precision or runtime than eager fp32, with which its outputs are compared."""
    if is_remote(config.model):
        return False
    differs = build_parts(config).runtime.replaces_eager or not precision_of(config).is_fp32
    return differs and config.measure.parity.inputs > 0


def in_eager_fp32(config: ExperimentConfig) -> ExperimentConfig:
    """Return the configuration of the run whose outputs are the reference."""
    return replace(config, precision=PrecisionConfig("fp32", "float32"), runtime=RuntimeConfig())


def reference(config: ExperimentConfig, left_out: Mapping[str, str]) -> Iterator[Reference]:
    """Load the model in eager fp32, and yield its outputs for the first images. Nothing is timed."""
    config = in_eager_fp32(config)
    parts = build_parts(config)
    place, dtype = _set_up(config, parts.device)
    try:
        model, _ = load.load(parts.adapter, config.model, parts.device, place, dtype)
        examples = usable_examples(with_mask_frame(parts.data.examples(), config.data.exif), left_out)
        model, decoding = with_input_pipeline(config, parts, model, place)
        singles = preprocess(model, examples, config.measure.inputs, decoding).singles
        yield Reference(parity.outputs(model, singles, config.measure.parity.inputs, place, dtype))
    except Exception as error:
        if not parts.device.is_out_of_memory(error):
            raise
        yield Reference(why_missing=f"the device has too little memory for eager fp32 ({core.first_line(error)})")


@dataclass(frozen=True)
class BatchTrial:
    """The result of a trial of one batch size."""

    peak_bytes: float | None
    """The peak of the memory in the calls, or None if the device does not report it."""
    out_of_memory: bool = False


def try_batch(
    config: ExperimentConfig, plan: RunPlan, case: Case, left_out: Mapping[str, str]
) -> Iterator[StageProgress | MemoryLimit | BatchTrial]:
    """Yield the memory that this process can use, then load the model, call it with a batch size, and yield the peak.

    The process holds the inputs that a measurement of this size holds. Nothing is timed.
    """
    parts = build_parts(config)
    place, dtype = _set_up(config, parts.device)
    assert isinstance(parts.device, LimitsMemory)
    yield parts.device.memory_limit()
    data = read_data(config, plan, parts, left_out)
    steps = _load_and_call(config, plan, parts, data, place, dtype, case)
    peaks = yield from _catch_out_of_memory(parts.device, steps)
    if isinstance(peaks, OutOfMemory):
        yield BatchTrial(None, out_of_memory=True)
    else:
        yield BatchTrial(parts.device.limited_peak(peaks))


def _load_and_call(
    config: ExperimentConfig,
    plan: RunPlan,
    parts: Parts,
    data: RunData,
    place: torch.device,
    dtype: torch.dtype,
    case: Case,
) -> Generator[StageProgress, None, Samples]:
    """Load the model, call it with all batches of a case on the device, and return the peaks of the memory."""
    loaded = yield from load_run(config, plan, parts, data, place, dtype)
    batches = _fit_batches(loaded, case, Stage(memory.run, "all"), ())
    return memory.run(_context(loaded, case, batches))


def profile(config: ExperimentConfig, plan: RunPlan, left_out: Mapping[str, str]) -> Iterator[ProfiledCall]:
    """Load the model and run one call of each case that needs it under the device's profiler. Nothing is timed."""
    parts = build_parts(config)
    place, dtype = _set_up(config, parts.device)
    precision = precision_of(config)
    method = torchao_method(parts.runtime, precision)
    model, _ = load.load(parts.adapter, config.model, parts.device, place, dtype, method)
    model, decoding = with_input_pipeline(config, parts, model, place)
    model = in_autocast(model, place, precision)
    examples = usable_examples(with_mask_frame(parts.data.examples(), config.data.exif), left_out)
    singles = preprocess(model, examples, config.measure.inputs, decoding).singles
    for case in plan.cases:
        if "kernels" in case.stages:
            batch = next(assemble(singles, case.batch_size, place, dtype, model=model))
            yield ProfiledCall(case.id, kernels.profile(parts.device, partial(model.call, batch)))


# ---------------------------------------------------------------------------------------------------------------- rows
def _with_metrics(
    loaded: LoadedRun, case: Case, samples: Samples, labels: Mapping[str, str], predictions: Predictions | None = None
) -> CaseFinished:
    numbers = compute({name: loaded.parts.metrics[name] for name in case.metrics}, samples)
    samples = samples.merged(_beside(loaded, case))
    labels = {**_labels(loaded, case), **samples.labels, **labels}
    row = CaseResult(case, core.OK, None, numbers, validity.judge(samples), labels)
    return CaseFinished(row, samples, predictions)


def _beside(loaded: LoadedRun, case: Case) -> Samples:
    """Return that other runs may use the machine: a label, and on a CPU a doubt about the timings.

    Runs on a CPU share its caches, its memory bandwidth and its power. A GPU has its own.
    """
    text = loaded.plan.beside
    if not text:
        return Samples()
    doubtful = case.timed and not loaded.parts.device.queued
    return Samples(flags={"parallel": text} if doubtful else {}, labels={"other_runs": text})


def _without_numbers(case: Case, status: str, reason: str, labels: Mapping[str, str] | None = None) -> CaseFinished:
    return CaseFinished(CaseResult(case, status, reason, labels=labels or {}), Samples())


def compute(metrics: Mapping[str, core.Metric], samples: Samples) -> Metrics:
    """Compute all metric groups from a case's samples, and the counts of the data behind them."""
    numbers = Metrics()
    for metric in metrics.values():
        numbers = numbers.merged(metric.compute(samples))
    return numbers.merged(denominators.compute_metrics(samples))


def _labels(loaded: LoadedRun, case: Case) -> dict[str, str]:
    distinct = len(loaded.inputs.singles)
    if case.timed:
        distinct = min(distinct, batch_count(loaded.inputs.singles, case.batch_size, loaded.max_mib) * case.batch_size)
    labels = {"protocol": loaded.plan.protocol, "distinct_inputs": str(distinct)}
    if case.timed and isinstance(loaded.model, DescribesInputs):
        labels |= loaded.model.describe_inputs(loaded.inputs.singles[:distinct])
    return labels


def _timed_examples(loaded: LoadedRun, case: Case) -> Sequence[Example]:
    """Return the examples whose images a timed case decodes: those of its inputs, and those of its pipeline."""
    count = len(loaded.inputs.singles)
    if "pipeline" in case.stages:
        count = max(count, loaded.config.measure.inputs.distinct_samples)
    return loaded.examples[:count]


def _work(loaded: LoadedRun, case: Case) -> Samples:
    units = loaded.model.work(case.batch_size)
    return Samples({f"work/{unit}_count": np.array([float(count)]) for unit, count in units.items()})


def _price(device: DeviceConfig) -> Samples:
    """Return the price of an hour of the device with its currency, if it is given."""
    if device.cost_per_hour is None:
        return Samples()
    price = np.array([device.cost_per_hour])
    return Samples({"cost/per_hour_amount": price}, labels={"currency": str(device.currency)})


def _conditions(parts: Parts, loaded: LoadedRun, examples: Sequence[Example]) -> Conditions:
    model = {**loaded.model.identity, **_image_size(loaded)}
    return Conditions(model, dict(parts.device.fingerprint()), describe_data(parts, examples), dict(loaded.left_out))


def describe_device(config: ExperimentConfig, parts: Parts) -> dict[str, Any]:
    """Return the facts of the device, which is set up. For a model at an endpoint, it is the address."""
    if isinstance(parts.adapter, Connects):
        address = parts.adapter.address(config.model, config.remote)
        return {"kind": core.REMOTE, "device_name": f"endpoint {address}"}
    return dict(parts.device.fingerprint())


def describe_data(parts: Parts, examples: Sequence[Example]) -> dict[str, Any]:
    """Return the identity of the data: what the data set states, and a digest of its contents."""
    return {**parts.data.identity(), "contents_sha256": content_digest.digest_examples(examples)}


def _image_size(loaded: LoadedRun) -> dict[str, str]:
    """Return the height and width of the images that the model receives, if they are among its inputs."""
    pixels = loaded.inputs.singles[0].get("pixel_values") if loaded.inputs.singles else None
    return {} if pixels is None or pixels.ndim != 4 else {"image_size": f"{pixels.shape[-2]}x{pixels.shape[-1]}"}
