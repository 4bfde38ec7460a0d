"""From config to plan: what a run will measure, and every refusal that can be known before anything loads. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from visionbench import machine
from visionbench.config import ExperimentConfig
from visionbench.core import TRUTHS, Case, Metric, QualityMetric, RunPlan
from visionbench.parts import Parts, build_parts, find_device
from visionbench.registry import ConfigError, find, names, nearest

STAGES = ("warmup", "latency", "throughput", "telemetry", "memory", "flops", "pipeline", "kernels", "evaluation")
"""In the order of the protocol; each case runs those that its metrics ask for."""
DTYPES = ("float32", "bfloat16", "float16")
WEIGHTS = ("pretrained", "random", "auto")
ATTENTION = ("sdpa", "eager", "flash_attention_2")
ON_ERROR = ("fail", "skip")
EXIF = ("stored", "turned")


def plan(config: ExperimentConfig, overrides: Sequence[str] = (), lacking: Mapping[str, str] | None = None) -> RunPlan:
    """The run's cases, or ConfigError in one line. `overrides`, as typed, tell where the protocol was changed.

    `lacking` is what these data do not give to this model although data sets of their kind do, each with the reason.
    """
    _check(config)
    run = build_parts(config)
    if config.data.exif == "stored" and "masks" not in run.data.gives:
        raise ConfigError(
            f"data.exif=stored: data={config.data.name} gives no masks, and pictures without masks are always turned; "
            "leave it out"
        )
    refused, unsuited = _refusals(config, run, lacking or {})
    wanted = {name: metric for name, metric in run.metrics.items() if name not in {**refused, **unsuited}}
    if not run.metrics:
        raise ConfigError("metrics: nothing is asked for; choose some, as in metrics=[latency,memory]")
    if not wanted:
        raise ConfigError("metrics: nothing is left to measure; " + "; ".join(f"{k}: {v}" for k, v in refused.items()))
    if missing := run.adapter.uses() - run.data.gives:
        raise ConfigError(
            f"data={config.data.name} has no {' or '.join(sorted(missing))}, which model {config.model.name} reads; "
            "choose other data, or a part of the model that does without (model.options.part=image)"
        )
    speed = {name: metric for name, metric in wanted.items() if not _of_quality(metric)}
    quality = {name: metric for name, metric in wanted.items() if _of_quality(metric)}
    cases = [_case(f"batch-{size}", size, speed) for size in sorted(config.batch.sizes)] if speed else []
    if quality:
        cases.append(_case("quality", config.measure.evaluation.batch_size, quality))
    return RunPlan(
        name=f"{config.model.name} · {run.device.id} · {config.precision.name}",
        model=config.model.name,
        task=run.adapter.task,
        device=run.device.id,
        precision=config.precision.name,
        cases=tuple(cases),
        refused=refused,
        unsuited=unsuited,
        warnings=tuple(_warnings(config, run)),
        protocol=_protocol(config.measure.name, overrides),
    )


def _case(name: str, batch_size: int, metrics: Mapping[str, Metric]) -> Case:
    asked = {stage for metric in metrics.values() for stage in metric.stages}
    return Case(name, batch_size, tuple(stage for stage in STAGES if stage in asked), tuple(metrics))


def _check(config: ExperimentConfig) -> None:
    sizes = config.batch.sizes
    if not sizes:
        raise ConfigError("batch.sizes=[]: give at least one batch size, as in batch.sizes=[1,2,4]")
    for size in sizes:
        if size < 1:
            raise ConfigError(f"batch.sizes={_listed(sizes)}: {size} is not a batch size; they start at 1")
        if sizes.count(size) > 1:
            raise ConfigError(
                f"batch.sizes={_listed(sizes)}: {size} stands there {sizes.count(size)} times; once is enough"
            )
    _one_of("precision.dtype", config.precision.dtype, DTYPES)
    _one_of("model.weights", config.model.weights, WEIGHTS)
    if config.model.attention is not None:
        _one_of("model.attention", config.model.attention, ATTENTION)
    _one_of("data.on_error", config.data.on_error, ON_ERROR)
    if config.data.exif is not None:
        _one_of("data.exif", config.data.exif, EXIF)
    _part("tracking.name", config.tracking.name, "trackers")
    if config.device.name != "auto":
        _part("device.name", config.device.name, "devices", "auto")
    if config.model.weights == "pretrained" and not config.model.checkpoint:
        raise ConfigError(
            f"model {config.model.name} names no checkpoint; give model.checkpoint=… or model.weights=random"
        )
    _positive(
        {
            "data.prepare": config.data.prepare,
            "device.threads": config.device.threads,
            "measure.inputs.distinct_samples": config.measure.inputs.distinct_samples,
            "measure.inputs.max_mib": config.measure.inputs.max_mib,
            "measure.warmup.calls": config.measure.warmup.calls,
            "measure.warmup.min_calls": config.measure.warmup.min_calls,
            "measure.warmup.windows": config.measure.warmup.windows,
            "measure.warmup.window_calls": config.measure.warmup.window_calls,
            "measure.latency.calls": config.measure.latency.calls,
            "measure.latency.least_calls": config.measure.latency.least_calls,
            "measure.latency.min_calls": config.measure.latency.min_calls,
            "measure.throughput.calls": config.measure.throughput.calls,
            "measure.throughput.min_calls": config.measure.throughput.min_calls,
            "measure.throughput.in_flight": config.measure.throughput.in_flight,
            "measure.memory.calls": config.measure.memory.calls,
            "measure.repeats": config.measure.repeats,
            "measure.telemetry.interval_ms": config.measure.telemetry.interval_ms,
            "measure.ceiling.calls": config.measure.ceiling.calls,
            "measure.pipeline.min_batches": config.measure.pipeline.min_batches,
            "measure.evaluation.batch_size": config.measure.evaluation.batch_size,
            "measure.evaluation.workers": config.measure.evaluation.workers,
        }
    )
    if config.device.index < 0:
        raise ConfigError(f"device.index={config.device.index}: devices are counted from 0")
    if not 0 < config.measure.latency.percentile < 1:
        raise ConfigError(f"measure.latency.percentile={config.measure.latency.percentile}: must lie between 0 and 1")
    kind = find_device(config.device).kind
    if kind == "cpu" and config.precision.tf32:
        raise ConfigError(
            f"precision={config.precision.name}: TF32 is a mode of NVIDIA GPUs; on a CPU use fp32 or bf16"
        )
    tolerances = {
        "measure.warmup.max_ratio": config.measure.warmup.max_ratio,
        "measure.latency.median_within": config.measure.latency.median_within,
    }
    for key, of_kind in tolerances.items():
        if kind not in of_kind:
            raise ConfigError(f"{key} has no value for {kind}; add {key}.{kind}=…")


def _of_quality(metric: Metric) -> bool:
    return "evaluation" in metric.stages


def _refusals(
    config: ExperimentConfig, run: Parts, lacking: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Metric groups that this run cannot have, each with the reason; and those for other tasks than the model's.

    The latter are refusals too where no quality metric fits the model: then the user has to be told why.
    """
    refused: dict[str, str] = {}
    unsuited: dict[str, str] = {}
    quality = {name: metric for name, metric in run.metrics.items() if isinstance(metric, QualityMetric)}
    for name, metric in quality.items():
        if absent := metric.reads - TRUTHS - run.adapter.predicts:
            unsuited[name] = f"a model for {run.adapter.task} does not give {' and '.join(sorted(absent))}"
        elif config.model.weights == "random":
            refused[name] = "random weights have no quality to measure"
        elif metric.needs - run.data.gives:
            refused[name] = f"data={config.data.name} has no {' and '.join(sorted(metric.needs - run.data.gives))}"
        elif missing := sorted(metric.needs & lacking.keys()):
            refused[name] = f"data={config.data.name}: {lacking[missing[0]]}"
    if len(unsuited) == len(quality):
        refused, unsuited = {**refused, **unsuited}, {}
    if set(quality) == {*refused, *unsuited}:
        beside = [name for name, metric in run.metrics.items() if _of_quality(metric) and name not in quality]
        unsuited |= dict.fromkeys(beside, "no quality metric is left for it to go with")
    return refused, unsuited


def _warnings(config: ExperimentConfig, run: Parts) -> Iterable[str]:
    if config.device.name == "auto" and run.device.kind == "cpu" and machine.has_nvidia_gpu():
        why = find("devices", "cuda")(index=config.device.index).why_absent()
        yield f"device=auto takes the CPU: the NVIDIA GPU of this machine cannot be used ({why})"
    if run.device.kind == "cpu" and config.precision.dtype == "float16":
        yield "fp16 on a CPU is emulated in places, and many times slower than fp32"


def _protocol(name: str, overrides: Sequence[str]) -> str:
    changed = [override for override in overrides if override.lstrip("+~").startswith("measure.")]
    return f"{name} with {' '.join(changed)}" if changed else name


def _one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in (allowed := list(allowed)):
        raise ConfigError(f"{key}={value}: no such value{nearest(value, allowed)}")


def _part(key: str, name: str, kind: str, *also: str) -> None:
    """Refuse a name that no part of a kind has, by the key it came from; `also` are names of no part that would do."""
    try:
        find(kind, name)
    except ConfigError:
        if name in (known := names(kind)):
            raise
        raise ConfigError(f"{key}={name}: no such value{nearest(name, [*also, *known])}") from None


def _positive(values: Mapping[str, int | None]) -> None:
    for key, value in values.items():
        if value is not None and value < 1:
            raise ConfigError(f"{key}={value}: must be at least 1")


def _listed(sizes: Iterable[int]) -> str:
    return "[" + ",".join(map(str, sizes)) + "]"
