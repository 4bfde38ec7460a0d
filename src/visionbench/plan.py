"""Plan what a run measures, and refuse a config that cannot work before a model or data is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from visionbench import ranges, weights
from visionbench.config import (
    BatchConfig,
    DeviceConfig,
    ExperimentConfig,
    PrecisionConfig,
    RuntimeConfig,
    ServingConfig,
    TrackingConfig,
    refuse_unusable_folder,
    to_yaml,
)
from visionbench.core import (
    ARRAYS,
    AUTO,
    CALIBRATED,
    IN_PIXELS,
    REMOTE,
    SERVING,
    TRUTHS,
    Case,
    ConfigError,
    Connects,
    LimitsMemory,
    Metric,
    NamesGraphs,
    Precision,
    QualityMetric,
    Quantizes,
    RunPlan,
    Runtime,
)
from visionbench.credentials import public
from visionbench.parts import (
    Parts,
    accelerators,
    build_parts,
    find_adapter,
    find_decoder,
    find_device,
    find_runtime,
    is_remote,
    measured_elsewhere,
    quantizations,
)
from visionbench.registry import find, names, nearest
from visionbench.serving import loadgen
from visionbench.serving.arrivals import ARRIVALS, CLOSED, POISSON
from visionbench.variation import ABSENT, EAGER, PILLOW, TRANSFORMERS, base_parts, joined

STAGES = (
    "warmup",
    "latency",
    "throughput",
    "requests",
    "telemetry",
    "memory",
    "flops",
    "pipeline",
    "kernels",
    SERVING,
    "evaluation",
)
"""The stages in the order of the protocol. Each case runs the stages that its metrics need."""
DTYPES = ("float32", "bfloat16", "float16")
WEIGHTS = ("pretrained", "random", "auto")
RANDOM_WEIGHTS = "random weights have no quality to measure"
"""The reason against quality metrics."""
MOST_CHARACTERS = 100
"""The longest name of a model or a precision, because the names of folders contain both."""
ON_ERROR = ("fail", "skip")
EXIF = ("stored", "turned")
PREPROCESS = (TRANSFORMERS, "device")
GENERATORS = ("visionbench", loadgen.NAME)
CONCURRENCY = "concurrency"
"""The beginning of the id of its timed cases, before the number of requests in flight."""
REQUEST_STAGES = ("warmup", "requests")
"""The stages of its timed cases. One window of requests gives latency and throughput."""
FROM_REQUESTS = frozenset({"warmup", "latency", "throughput", "requests", "evaluation"})
"""The stages whose samples requests give."""
MOST_IN_FLIGHT = 512
AT_ENDPOINT = "it needs the model in this process, and the model is at an endpoint"
NOT_AT_ENDPOINT = "the model is in this process, not at an endpoint"
NO_PRICE = "no price is given: device.cost_per_hour, or model.options.prices of a remote model"


def plan(
    config: ExperimentConfig, overrides: Sequence[str] = (), unavailable: Mapping[str, str] | None = None
) -> RunPlan:
    """Return the plan of a run. Raises ConfigError, with a message of one line, if the config cannot work.

    `overrides` are the overrides on the command line; those that change the protocol become part of its name.
    `unavailable` maps each kind of annotation (`labels`) that the class of the data set declares, but that this data
    set cannot give to this model, to the reason.
    """
    _check(config)
    parts = build_parts(config)
    if config.data.exif == "stored" and not parts.data.provides & {*ARRAYS, "boxes"}:
        raise ConfigError(
            f"data.exif=stored: data={config.data.name} gives no masks, and images without masks are always turned",
            "remove data.exif",
        )
    refused, unsuited = _refusals(config, parts, unavailable or {})
    metrics = {name: metric for name, metric in parts.metrics.items() if name not in {**refused, **unsuited}}
    if not parts.metrics:
        raise ConfigError("metrics=[]: no metric is chosen", "choose some, as in metrics=[latency,memory]")
    if not metrics:
        reasons = [f"{name}: {reason}" for name, reason in refused.items()]
        raise ConfigError("; ".join(["metrics: nothing is left to measure", *reasons]))
    absent = frozenset(unavailable or {}) - {"labels"}  # a label that the model does not have is still one of the data
    if missing := parts.adapter.uses() - (parts.data.provides - absent):
        raise ConfigError(
            f"data={config.data.name} has no {' or '.join(sorted(missing))}, which model {config.model.name} reads",
            "choose other data, or a part of the model that does not read it (model.options.part=image)",
        )
    load = {name: metric for name, metric in metrics.items() if SERVING in metric.stages}
    speed = {name: metric for name, metric in metrics.items() if not _needs_evaluation(metric) and name not in load}
    quality = {name: metric for name, metric in metrics.items() if _needs_evaluation(metric)}
    remote = is_remote(config.model)
    word = CONCURRENCY if remote else "batch"
    sizes = {AUTO: 0} if config.batch.auto else {f"{word}-{size}": size for size in sorted(config.batch.sizes)}
    cases = [_case(name, size, speed) for name, size in sizes.items()] if speed else []
    if remote:
        cases = [replace(case, stages=REQUEST_STAGES) for case in cases]
    if load:
        cases.append(_case(SERVING, config.serving.max_batch, load))
    if quality:
        cases.append(_case("quality", config.measure.evaluation.batch_size, quality))
    planned = RunPlan(
        name="",
        model=config.model.name,
        task=parts.adapter.task,
        device=REMOTE if remote else parts.device.id,
        precision=ABSENT if remote else config.precision.name,
        runtime=EAGER if remote else config.runtime.name,
        decoder=config.data.decoder,
        preprocess=TRANSFORMERS if remote else config.data.preprocess,
        cases=tuple(cases),
        refused=refused,
        unsuited=unsuited,
        warnings=tuple(_warnings(config, parts)),
        protocol=_protocol(config.measure.name, overrides),
    )
    return replace(planned, name=joined(base_parts(planned).values()))


def _case(name: str, batch_size: int, metrics: Mapping[str, Metric]) -> Case:
    needed = {stage for metric in metrics.values() for stage in metric.stages}
    return Case(name, batch_size, tuple(stage for stage in STAGES if stage in needed), tuple(metrics))


def _check(config: ExperimentConfig) -> None:
    _check_common(config)
    if is_remote(config.model):
        _check_remote(config)
        return
    if config.device.name != "auto":
        _check_registered("device.name", config.device.name, "devices", "auto")
    if config.model.weights == "pretrained" and not config.model.checkpoint:
        raise ConfigError(
            f"model {config.model.name} has no checkpoint", "give model.checkpoint=… or model.weights=random"
        )
    _check_device(config)
    _check_search(config)
    _check_runtime(config)
    _check_decoder(config)
    _check_choice("data.preprocess", config.data.preprocess, PREPROCESS)
    _check_processes(config)


def _check_common(config: ExperimentConfig) -> None:
    """Refuse values that cannot work for any model."""
    _check_serving(config)
    _check_batch(config.batch)
    refuse_unusable_folder("output_dir", config.output_dir)
    for key, name in (("model.name", config.model.name), ("precision.name", config.precision.name)):
        _check_name(key, name)
    ranges.check(config)
    _check_choice("precision.dtype", config.precision.dtype, DTYPES)
    _check_precision(config.precision)
    _check_choice("model.weights", config.model.weights, WEIGHTS)
    if config.model.attention is not None:
        _check_choice("model.attention", config.model.attention, weights.ATTENTION)
    _check_choice("data.on_error", config.data.on_error, ON_ERROR)
    if config.data.exif is not None:
        _check_choice("data.exif", config.data.exif, EXIF)
    _check_registered("tracking.name", config.tracking.name, "trackers")
    _check_tracking(config.tracking)
    _check_price(config.device)


def _check_price(device: DeviceConfig) -> None:
    """Refuse a price of a device without a currency."""
    if device.cost_per_hour is not None and not (device.currency or "").strip():
        raise ConfigError(
            f"device.cost_per_hour={device.cost_per_hour:g}: it has no currency", "give one, as in device.currency=EUR"
        )


def _check_remote(config: ExperimentConfig) -> None:
    """Refuse what cannot be measured at an endpoint, and limits of the run that cannot be kept."""
    model, remote, name = config.model, config.remote, config.model.name
    if not model.checkpoint:
        raise ConfigError(f"model {name} has no checkpoint", "give the id of the model at the endpoint")
    if model.weights == "random":
        raise ConfigError(
            f"model.weights=random: model {name} is at an endpoint, which has its own weights", "remove it"
        )
    if config.batch.auto:
        raise ConfigError(
            f"batch=auto: model {name} is at an endpoint, whose memory is not known",
            "give the requests in flight, as in batch.sizes=[1,4]",
        )
    if (most := max(config.batch.sizes)) > MOST_IN_FLIGHT:
        raise ConfigError(
            f"batch.sizes: {most:,} requests in flight for model {name}", f"give at most {MOST_IN_FLIGHT:,}"
        )
    adapter = find_adapter(model)
    assert isinstance(adapter, Connects)
    prices, most_tokens = adapter.request_limits(model)
    if remote.max_cost is not None:
        if prices is None:
            raise ConfigError(
                f"remote.max_cost={remote.max_cost:g}: model {name} has no prices",
                "give model.options.prices, or use remote.max_requests",
            )
        if most_tokens is None and prices.output_per_million_tokens:
            raise ConfigError(
                f"remote.max_cost={remote.max_cost:g}: the length of an answer of model {name} has no limit",
                "give model.options.max_tokens",
            )
    repeats = config.measure.repeats
    if remote.max_requests is not None and remote.max_requests < repeats:
        raise ConfigError(
            f"remote.max_requests={remote.max_requests}: fewer than measure.repeats={repeats}", "allow more requests"
        )
    _check_decoder(config)
    if find_decoder(config.data.decoder).reduces:
        raise ConfigError(
            f"data.decoder={config.data.decoder}: the size to which the endpoint resizes an image is not known",
            f"use data.decoder={PILLOW}",
        )


def _check_precision(precision: PrecisionConfig) -> None:
    """Refuse autocast to fp32, autocast with quantisation, and a calibration that is missing or has no use."""
    if precision.autocast and precision.dtype == "float32":
        raise ConfigError(
            "precision.autocast=true: weights are in float32, so precision.dtype=float32 changes nothing",
            "use precision.dtype=bfloat16 or precision.dtype=float16",
        )
    _check_calibration(precision)
    if precision.quantization is None:
        return
    if precision.autocast:
        raise ConfigError(
            f"precision.quantization={precision.quantization}: not with precision.autocast=true", "use one of them"
        )


def _check_calibration(precision: PrecisionConfig) -> None:
    """Refuse a static quantisation without calibration images, and calibration images without it."""
    needed = precision.quantization in CALIBRATED
    if needed and precision.calibration_images is None:
        raise ConfigError(
            f"precision.calibration_images is null, and precision.quantization={precision.quantization} needs images",
            "give a number, as in precision.calibration_images=64",
        )
    if not needed and precision.calibration_images is not None:
        raise ConfigError(
            f"precision.calibration_images={precision.calibration_images}: {precision.name} is not calibrated",
            "remove it, or use precision=int8_static",
        )


def _check_tracking(tracking: TrackingConfig) -> None:
    """Refuse an experiment without a name, and a path instead of an address."""
    if not tracking.experiment.strip():
        raise ConfigError("tracking.experiment is empty", "give a name, as in tracking.experiment=visionbench")
    if tracking.uri is not None:
        check_address(tracking.uri, "tracking.uri=")


def check_address(uri: str, prefix: str) -> None:
    """Raise ConfigError if a text is not an address of a tracking store, or if the store would be in memory.

    `prefix` is the key or the option before the value in messages, such as `tracking.uri=`.
    """
    shown = f"{prefix}{public(uri)}"
    if not re.match(r"[a-z][a-z0-9+.-]*://|(sqlite(\+\w+)?|file):|databricks|uc\b", uri):
        raise ConfigError(f"{shown}: not an address", f"a SQLite file is sqlite:///{public(uri)}, a server http://…")
    if match := re.fullmatch(r"sqlite(?:\+\w+)?:(?P<slashes>/*)(?P<path>[^?]*)(?:\?(?P<query>.*))?", uri):
        path, query = match["path"], match["query"] or ""
        if not path or path.startswith((":memory:", "file::memory:")) or "mode=memory" in query:
            raise ConfigError(
                f"{shown}: a store in memory is lost at the end", "give a file, as in sqlite:///mlflow.db"
            )
        if len(match["slashes"]) < 3:
            raise ConfigError(f"{shown}: not an address of a file", f"write sqlite:///{path}")


def _check_name(key: str, name: str) -> None:
    """Refuse a name that cannot be a part of a folder's name."""
    if len(name) > MOST_CHARACTERS:
        raise ConfigError(f"{key}={name}: {len(name):,} characters", f"give at most {MOST_CHARACTERS}")
    if not name.strip(". ") or "/" in name or not name.isprintable():
        raise ConfigError(f"{key}={name!r}: not a name for a folder", "give a name without slashes")


def _check_batch(batch: BatchConfig) -> None:
    """Refuse wrong batch sizes, sizes together with a search for one, and keys of the search without it."""
    if not batch.auto:
        defaults = BatchConfig()
        for name in ("max_memory_mib", "margin", "largest"):
            if (value := getattr(batch, name)) != getattr(defaults, name):
                raise ConfigError(f"batch.{name}={value}: only batch=auto uses it", "add batch=auto, or remove it")
        _check_batch_sizes(batch.sizes)
    elif batch.sizes:
        listed = ",".join(map(str, batch.sizes))
        raise ConfigError(
            f"batch.auto=true and batch.sizes=[{listed}]: a run has either a search or sizes",
            f"use batch=auto without batch.sizes, or batch.sizes=[{listed}] without batch.auto",
        )


def _check_search(config: ExperimentConfig) -> None:
    """Refuse batch=auto on a device of a user that does not report its memory."""
    device = find_device(config.device)
    if config.batch.auto and not isinstance(device, LimitsMemory):
        raise ConfigError(f"batch=auto: device={config.device.name} does not report its memory", "give batch.sizes=[…]")


def _check_batch_sizes(sizes: Sequence[int]) -> None:
    listed = "[" + ",".join(map(str, sizes)) + "]"
    if not sizes:
        raise ConfigError("batch.sizes=[]: no batch size is given", "give at least one, as in batch.sizes=[1,2,4]")
    for size in sizes:
        if size < 1:
            raise ConfigError(f"batch.sizes={listed}: {size} is not a batch size", "the smallest is 1")
        if (count := sizes.count(size)) > 1:
            times = "twice" if count == 2 else f"{count} times"
            raise ConfigError(f"batch.sizes={listed}: {size} is listed {times}", "list each size once")


def _check_device(config: ExperimentConfig) -> None:
    """Refuse a precision that the device does not support, and a protocol without tolerances for its kind."""
    device = find_device(config.device)
    if reason := device.why_unsupported(_precision(config)):
        raise ConfigError(f"precision={config.precision.name}: {reason}")
    tolerances = {
        "measure.warmup.max_ratio": config.measure.warmup.max_ratio,
        "measure.latency.median_within": config.measure.latency.median_within,
    }
    for key, by_kind in tolerances.items():
        if device.kind not in by_kind:
            raise ConfigError(f"{key} has no value for {device.kind}", f"add {key}.{device.kind}=…")


def _check_runtime(config: ExperimentConfig) -> None:
    """Refuse a runtime that is not installed, or that cannot execute this model on this device in this precision."""
    _check_registered("runtime.name", config.runtime.name, "runtimes")
    runtime, adapter, device = find_runtime(config.runtime), find_adapter(config.model), find_device(config.device)
    if config.precision.quantization is not None:
        _check_quantization(config, runtime, device.kind)
    if config.model.channels_last and not runtime.keeps_layout:
        raise ConfigError(
            f"model.channels_last=true: runtime={config.runtime.name} chooses the layout of its weights", "remove it"
        )
    if not runtime.replaces_eager:
        return
    unavailable = None if measured_elsewhere() else runtime.why_unavailable()
    if reason := unavailable or runtime.why_unsupported(device.kind, _precision(config)):
        raise ConfigError(f"runtime={config.runtime.name}: {reason}")
    if not isinstance(adapter, NamesGraphs) or not adapter.graph_names():
        raise ConfigError(
            f"runtime={config.runtime.name}: model {config.model.name} has no part that a runtime can execute",
            "use runtime=eager",
        )


def _check_quantization(config: ExperimentConfig, runtime: Runtime, device: str) -> None:
    """Refuse a method of quantisation that no runtime has or that this runtime does not have, and missing packages."""
    precision, own = config.precision, quantizations(runtime)
    method = str(precision.quantization)
    others = {name: find_runtime(RuntimeConfig(name)) for name in names("runtimes") if name != config.runtime.name}
    known = {*own, *(method for other in others.values() for method in quantizations(other))}
    _check_choice("precision.quantization", method, known)
    if method not in own:
        able = [
            f"runtime={name}"
            for name, other in others.items()
            if method in quantizations(other) and other.why_unsupported(device, _precision(config)) is None
        ]
        raise ConfigError(
            f"precision={precision.name}: runtime={config.runtime.name} cannot quantise by {method}, only by "
            f"{' or '.join(own)}",
            f"use {' or '.join(able) or 'another precision'}",
        )
    if not measured_elsewhere() and (reason := _why_no_quantization(runtime, method)):
        raise ConfigError(f"precision={precision.name}: {reason}")


def _why_no_quantization(runtime: Runtime, method: str) -> str | None:
    return runtime.why_no_quantization(method) if isinstance(runtime, Quantizes) else weights.why_no_quantization()


def _check_decoder(config: ExperimentConfig) -> None:
    """Refuse an unknown decoder, one that is not installed, and smaller images for masks in pixels of the image."""
    name = config.data.decoder
    _check_registered("data.decoder", name, "decoders")
    decoder = find_decoder(name)
    if not measured_elsewhere() and (reason := decoder.why_unavailable()):
        raise ConfigError(f"data.decoder={name}: {reason}")
    if decoder.reduces and IN_PIXELS & find_adapter(config.model).predicts:
        raise ConfigError(
            f"data.decoder={name}: model {config.model.name} predicts masks or boxes in the size of the stored "
            "image, and this decoder gives smaller images",
            f"use data.decoder={PILLOW}",
        )


def _check_processes(config: ExperimentConfig) -> None:
    """Refuse loader processes that would each use the GPU."""
    kind = find_device(config.device).kind
    if config.measure.pipeline.processes and config.data.preprocess == "device" and kind != "cpu":
        raise ConfigError(
            f"measure.pipeline.processes=true: not with data.preprocess=device on {kind}, because each process would "
            "use the device",
            "use data.preprocess=transformers or measure.pipeline.processes=false",
        )


def _check_generator(serving: ServingConfig) -> None:
    """Refuse a load generator that is not installed, or arrivals that it does not have."""
    _check_choice("serving.generator", serving.generator, GENERATORS)
    if serving.generator != loadgen.NAME:
        return
    if not measured_elsewhere() and (reason := loadgen.why_unavailable()):
        raise ConfigError(f"serving.generator={loadgen.NAME}: {reason}")
    if serving.arrivals == POISSON or (serving.arrivals == CLOSED and list(serving.clients) == [1]):
        return
    arrivals = f"serving.arrivals={serving.arrivals}"
    if serving.arrivals == CLOSED:
        arrivals += f", serving.clients=[{','.join(map(str, serving.clients))}]"
    raise ConfigError(
        f"serving.generator={loadgen.NAME}, {arrivals}: LoadGen has poisson arrivals, or one client in a closed loop",
        "use serving.arrivals=poisson, serving.clients=[1], or serving.generator=visionbench",
    )


def _check_serving(config: ExperimentConfig) -> None:
    """Refuse unknown arrivals, no bound or several bounds, repeated loads, and loads that the arrivals do not use."""
    serving = config.serving
    _check_choice("serving.arrivals", serving.arrivals, ARRIVALS)
    _check_generator(serving)
    bounds = {f"serving.{key}": getattr(serving, key) for key in ("p90_ms", "p95_ms", "p99_ms")}
    given = {key: value for key, value in bounds.items() if value is not None}
    if len(given) > 1:
        listed = " and ".join(f"{key}={value:g}" for key, value in given.items())
        raise ConfigError(f"{listed}: a run has one bound", f"set the others to null, as in {[*given][-1]}=null")
    if not given:
        raise ConfigError("serving.p90_ms, serving.p95_ms and serving.p99_ms are null", "give one, in milliseconds")
    closed = serving.arrivals == CLOSED
    if closed and serving.loads:
        listed = ",".join(f"{load:g}" for load in serving.loads)
        raise ConfigError(
            f"serving.loads=[{listed}]: serving.arrivals=closed has no loads, but clients",
            "give serving.clients=[…], or another serving.arrivals",
        )
    if not closed and serving.clients != ServingConfig().clients:
        listed = ",".join(map(str, serving.clients))
        raise ConfigError(
            f"serving.clients=[{listed}]: only serving.arrivals=closed uses it", "add serving.arrivals=closed"
        )
    if closed and not serving.clients:
        raise ConfigError("serving.clients=[]: no number of clients is given", "give some, as in serving.clients=[1,2]")
    _check_listed_once("serving.loads", serving.loads)
    _check_listed_once("serving.clients", serving.clients)
    rule = config.measure.serving
    for least, most in (("min_seconds", "max_seconds"), ("min_queries", "max_queries")):
        if getattr(rule, least) > getattr(rule, most):
            raise ConfigError(
                f"measure.serving.{least}={getattr(rule, least):g} is more than "
                f"measure.serving.{most}={getattr(rule, most):g}",
                "increase the second one",
            )


def _check_listed_once(key: str, values: Sequence[float]) -> None:
    for value in values:
        if (count := sum(f"{other:g}" == f"{value:g}" for other in values)) > 1:
            times = "twice" if count == 2 else f"{count} times"
            listed = ",".join(f"{each:g}" for each in values)
            raise ConfigError(f"{key}=[{listed}]: {value:g} is listed {times}", "list each value once")


def _check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    if value not in (choices := list(choices)):
        raise ConfigError(f"{key}={value}: no such value{nearest(value, choices)}")


def _check_registered(key: str, name: str, kind: str, *special: str) -> None:
    """Refuse a name that no part of this kind has. `special` are further valid values, such as `auto`."""
    try:
        find(kind, name)
    except ConfigError:
        if name in (known := names(kind)):
            raise
        raise ConfigError(f"{key}={name}: no such value{nearest(name, [*special, *known])}") from None


def _needs_evaluation(metric: Metric) -> bool:
    return "evaluation" in metric.stages


def _refusals(
    config: ExperimentConfig, parts: Parts, unavailable: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the metric groups that this run cannot measure, and the groups for other tasks, each with the reason.

    If no quality metric fits the model's task, all quality metrics are refused, so that the user sees the reasons.
    """
    refused: dict[str, str] = {}
    unsuited: dict[str, str] = {}
    remote = is_remote(config.model)
    for name, metric in parts.metrics.items():
        if remote and not FROM_REQUESTS.issuperset(metric.stages):
            unsuited[name] = AT_ENDPOINT
        elif not remote and "requests" in metric.stages:
            unsuited[name] = NOT_AT_ENDPOINT
        elif getattr(metric, "needs_price", False) and not _has_price(config):
            unsuited[name] = NO_PRICE
    quality = {name: metric for name, metric in parts.metrics.items() if isinstance(metric, QualityMetric)}
    for name, metric in quality.items():
        if not parts.adapter.predicts:
            unsuited[name] = f"model.family={config.model.family} gives no predictions"
        elif columns := metric.reads - TRUTHS - parts.adapter.predicts:
            unsuited[name] = f"a model for {parts.adapter.task} does not give {' and '.join(sorted(columns))}"
        elif config.model.weights == "random":
            refused[name] = RANDOM_WEIGHTS
        elif annotations := metric.needs - parts.data.provides:
            refused[name] = f"data={config.data.name} has no {' and '.join(sorted(annotations))}"
        elif missing := sorted(metric.needs & unavailable.keys()):
            refused[name] = f"data={config.data.name}: {unavailable[missing[0]]}"
    others = {name: reason for name, reason in unsuited.items() if name not in quality}
    if len(unsuited) - len(others) == len(quality):
        refused, unsuited = {**refused, **{name: unsuited[name] for name in unsuited if name in quality}}, others
    if set(quality) <= {*refused, *unsuited}:
        timings = [name for name, metric in parts.metrics.items() if _needs_evaluation(metric) and name not in quality]
        unsuited |= dict.fromkeys(timings, "no quality metric is measured, so there is no evaluation pass")
    if remote:
        return refused, unsuited
    if config.runtime.name != EAGER and "kernels" in parts.metrics:
        refused["kernels"] = f"the profiled call is executed by torch eager, not by runtime={config.runtime.name}"
    elif _is_reference(config, parts) and "parity" in parts.metrics:
        unsuited["parity"] = "eager fp32 is what other runs are compared with"
    return refused, unsuited


def _has_price(config: ExperimentConfig) -> bool:
    adapter = find_adapter(config.model)
    if isinstance(adapter, Connects):
        return adapter.request_limits(config.model)[0] is not None
    return config.device.cost_per_hour is not None


def _is_reference(config: ExperimentConfig, parts: Parts) -> bool:
    """Return whether other runs are compared with a run of this configuration."""
    has_reference_inputs = parts.decoder.is_reference and config.data.preprocess == TRANSFORMERS
    return config.runtime.name == EAGER and _precision(config).is_fp32 and has_reference_inputs


def _warnings(config: ExperimentConfig, parts: Parts) -> Iterable[str]:
    if is_remote(config.model):
        if ignored := without_effect(config):
            yield f"{config.model.name} is at an endpoint: {', '.join(ignored)} has no effect on it"
        return
    if config.device.name == "auto":
        for accelerator in accelerators(config.device.index):
            if reason := accelerator.why_unusable():
                yield f"device=auto uses {parts.device.id}: {reason}"
    if warning := parts.device.precision_warning(_precision(config)):
        yield warning


def without_effect(config: ExperimentConfig) -> list[str]:
    """Return the settings of this process that a model at an endpoint does not have, if they are not the usual ones."""
    usual = {
        "device": (config.device.name, ("auto", "cpu")),
        "precision": (config.precision.name, ("fp32",)),
        "runtime": (config.runtime.name, (EAGER,)),
        "data.preprocess": (config.data.preprocess, (TRANSFORMERS,)),
    }
    return [f"{key}={value}" for key, (value, values) in usual.items() if value not in values]


def distinct_runs(configs: Sequence[ExperimentConfig]) -> tuple[list[int], dict[int, str]]:
    """Return the indices of the runs of a sweep that differ in what they measure, and a note for some of them.

    Settings of this process, such as the precision, do not change what is measured at an endpoint. Runs of a model at
    an endpoint that differ only in such settings are one run, the first of them, which has a note.
    """
    first: dict[str, int] = {}
    kept: list[int] = []
    dropped: dict[int, int] = {}
    for index, config in enumerate(configs):
        if is_remote(config.model):
            usual = replace(
                config,
                device=DeviceConfig(),
                precision=PrecisionConfig("fp32", "float32"),
                runtime=RuntimeConfig(),
                data=replace(config.data, preprocess=TRANSFORMERS),
                output_dir="",
            )
            known = first.setdefault(to_yaml(usual), index)
            if known != index:
                dropped[known] = dropped.get(known, 1) + 1
                continue
        kept.append(index)
    notes = {
        index: f"{configs[index].model.name} is at an endpoint and is measured once: {count} runs of the sweep differ "
        "only in settings that have no effect on it"
        for index, count in dropped.items()
    }
    return kept, notes


def _precision(config: ExperimentConfig) -> Precision:
    return Precision(**asdict(config.precision))


def _protocol(name: str, overrides: Sequence[str]) -> str:
    changes = [override for override in overrides if override.lstrip("+~").startswith("measure.")]
    return f"{name} with {' '.join(changes)}" if changes else name
