"""The schema of the configuration, and the conversion of a composed configuration into plain dataclasses.

This module checks names and types; `plan.py` checks the values. Only this module, `references.py` and `composition/`
use OmegaConf.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import YAMLError

from visionbench import suggestions
from visionbench.core import ConfigError, first_line
from visionbench.ranges import CALLS, SECONDS, SEED, limits
from visionbench.references import TOO_MANY_REFERENCES, limited_references
from visionbench.registry import find, nearest
from visionbench.suggestions import shown
from visionbench.yaml_limits import check_limits

T = TypeVar("T")
MILLISECONDS = limits(0, 86_400_000, open_low=True)
PROCESSES_WITHIN = 0.1
"""Twice the default threshold of `compare`: a result that is known less precisely cannot show a change of 10 %."""


@dataclass
class ModelConfig:
    """A model: its family, its checkpoint, and the options of the family."""

    name: str = MISSING
    family: str = MISSING
    checkpoint: str | None = None
    """A Hub repository, a local folder, or `bundled:NAME` for a checkpoint in visionbench itself."""
    revision: str | None = None
    weights: str = "pretrained"
    """`pretrained`, `random`, or `auto`: pretrained if the checkpoint is present or can be fetched, else random."""
    attention: str | None = "auto"
    """The attention implementation of transformers. `auto` is the best one of the model: `sdpa`, else `eager`."""
    channels_last: bool = False
    """Whether the weights of convolutions are stored with the channels last, as in `torch.channels_last`."""
    trust_remote_code: bool = False
    pickled_weights: bool = False
    """Whether weights may be read from `pytorch_model.bin`, with torch's restricted unpickler, without safetensors."""
    seed: int = field(default=0, metadata=SEED)
    options: dict[str, Any] = field(default_factory=lambda: {"image_size": None})
    """The options of the family. `image_size` is set here, so that the command line changes it without a plus."""
    architecture: dict[str, Any] = field(default_factory=dict)
    image_processor: dict[str, Any] = field(default_factory=dict)


@dataclass
class DeviceConfig:
    """The device. With `threads: null`, torch's default number of threads is used and recorded."""

    name: str = "auto"
    index: int = field(default=0, metadata=limits(0, 1023, remedy="devices are counted from 0"))
    threads: int | None = field(default=None, metadata=limits(1, 4096))
    cost_per_hour: float | None = field(default=None, metadata=limits(0, 1e9))
    """The price of an hour of this device, in `currency`. With it, a run also has a cost per 1,000 images."""
    currency: str | None = None
    """The currency of `cost_per_hour`, such as `EUR`."""


@dataclass
class PrecisionConfig:
    """The dtype of weights and inputs. `fp32` is IEEE; TF32 is a separate precision."""

    name: str = MISSING
    dtype: str = MISSING
    tf32: bool = False
    autocast: bool = False
    """Whether weights and inputs stay in float32, and torch.autocast computes in `dtype`."""
    quantization: str | None = None
    """The method that quantises the model, by torchao or by the runtime: `int8_dynamic`, `int8_weight_only`,
    `fp8` or `int8_static`."""
    calibration_images: int | None = field(default=None, metadata=limits(1, 100_000))
    """The number of images that calibrate `int8_static`. They are not among the images that are measured."""


@dataclass
class RuntimeConfig:
    """The runtime: the library that executes the loaded model. A key that is null has the runtime's own default."""

    name: str = "eager"
    mode: str | None = None
    """The mode of `torch.compile`."""
    dynamic: bool | None = None
    """Whether `torch.compile` compiles once for all batch sizes."""
    fullgraph: bool | None = None
    """Whether `torch.compile` refuses a model that it can only compile in parts."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of the runtime, such as those of a runtime of the user."""


@dataclass
class BatchConfig:
    """The batch sizes that a run measures, or the search for the largest size that fits."""

    sizes: list[int] = field(default=MISSING, metadata=limits(1, 1_000_000))
    auto: bool = False
    """Whether the run searches for the largest batch size that fits."""
    max_memory_mib: int | None = field(default=None, metadata=limits(1, 2**30))
    """The memory limit of the search. With null, it is the free memory of the device."""
    margin: float = field(default=0.1, metadata=limits(0, 1, open_high=True))
    """The share of the limit that stays free."""
    largest: int = field(default=4096, metadata=limits(1, 1_000_000))
    """The largest size that the search tries."""


@dataclass
class DataConfig:
    """A registered data set and its options."""

    name: str = MISSING
    root: str | None = None
    """The folder of the data, for data sets that are read from a folder."""
    prepare: int | None = field(default=None, metadata=limits(1, 1_000_000))
    """The number of images to fetch if `root` does not exist. Only COCO can be fetched."""
    fallback: str | None = None
    """The option of `data` to use if `root` does not exist and cannot be fetched. It must need no folder."""
    on_error: str = "fail"
    """The treatment of examples that cannot be used: `fail`, before measuring if possible, or `skip`."""
    exif: str | None = None
    """The pixels that masks were drawn on if an image has an EXIF orientation: `stored`, or `turned` by the
    orientation. By default such images are refused. Images without masks are always turned."""
    decoder: str = "pillow"
    """The decoder of the image files."""
    preprocess: str = "transformers"
    """The library that resizes and normalises images: `transformers`, or `device` for torch on the run's device."""
    clusters: str | None = None
    """A CSV file with the columns `picture` and `cluster`, for images that are not independent, such as frames of a
    video or slices of one patient. Intervals of quality are then over clusters."""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class InputsConfig:
    """The number of distinct preprocessed samples that timed calls rotate over, and their limit of device memory."""

    distinct_samples: int = field(default=64, metadata=limits(1, 1_000_000))
    max_mib: int = field(default=1024, metadata=limits(1, 1_048_576))


@dataclass
class WarmupConfig:
    """Calls until timings are steady: the medians of `windows` consecutive windows differ by at most `max_ratio`.

    `max_ratio` has one value for each kind of device.
    """

    min_calls: int = field(default=10, metadata=CALLS)
    min_seconds: float = field(default=3.0, metadata=SECONDS)
    max_seconds: float = field(default=60.0, metadata=SECONDS)
    windows: int = field(default=3, metadata=limits(1, 1000))
    window_calls: int = field(default=10, metadata=CALLS)
    window_seconds: float = field(default=0.5, metadata=SECONDS)
    max_ratio: dict[str, float] = field(default_factory=lambda: {"cpu": 1.05, "cuda": 1.02}, metadata=limits(1, 100))
    calls: int | None = field(default=None, metadata=CALLS)
    """If set, exactly this number of calls is made, and steadiness is not judged."""


@dataclass
class LatencyConfig:
    """Single calls until the half-width of the median's interval is within `median_within`.

    `median_within` has one value for each kind of device.
    """

    least_calls: int = field(default=6, metadata=CALLS)
    """Minimum number of calls, even past `max_seconds`: with six calls or more, the median has an interval."""
    min_calls: int = field(default=100, metadata=CALLS)
    min_seconds: float = field(default=10.0, metadata=SECONDS)
    max_seconds: float = field(default=120.0, metadata=SECONDS)
    median_within: dict[str, float] = field(
        default_factory=lambda: {"cpu": 0.02, "cuda": 0.01}, metadata=limits(0, 1, open_low=True)
    )
    percentile: float = field(
        default=0.99, metadata=limits(0, 1, open_low=True, open_high=True, remedy="give one, as in 0.99")
    )
    """The highest percentile for which there must be enough samples."""
    calls: int | None = field(default=None, metadata=CALLS)
    """If set, exactly this number of calls is made, and convergence is not judged."""


@dataclass
class ThroughputConfig:
    """Consecutive calls without a pause. At most `in_flight` calls are unfinished at any time."""

    in_flight: int = field(default=3, metadata=limits(1, 10_000))
    min_calls: int = field(default=10, metadata=CALLS)
    min_seconds: float = field(default=10.0, metadata=SECONDS)
    calls: int | None = field(default=None, metadata=CALLS)


@dataclass
class MemoryConfig:
    """The calls between resetting the peaks of memory and reading them."""

    calls: int = field(default=3, metadata=CALLS)


@dataclass
class TelemetryConfig:
    """A window of consecutive calls during which energy and utilisation are read, after an idle window."""

    min_seconds: float = field(default=10.0, metadata=SECONDS)
    interval_ms: int = field(default=100, metadata=limits(1, 60_000))
    idle_seconds: float = field(default=3.0, metadata=SECONDS)


@dataclass
class CeilingConfig:
    """Large matrix products and copies. Their rates are the ceilings of the roofline."""

    calls: int = field(default=5, metadata=limits(1, 1_000_000))
    min_call_ms: float = field(default=20.0, metadata=limits(0, 60_000, open_low=True))
    """The matrices grow until one product takes this time."""


@dataclass
class PipelineConfig:
    """Images from encoded bytes to answers, first serial, then overlapped.

    Each pass takes at least `min_batches` batches and `min_seconds` seconds.
    """

    min_batches: int = field(default=8, metadata=limits(1, 1_000_000))
    min_seconds: float = field(default=10.0, metadata=SECONDS)
    processes: bool = False
    """Whether the loaders of the overlapped pass are processes instead of threads."""


@dataclass
class ParityConfig:
    """The comparison of the outputs with those of eager fp32, before a run in another precision or runtime is timed,
    and of images with those of Pillow and transformers, before a run with another input pipeline is timed."""

    inputs: int = field(default=2, metadata=limits(0, 1000))
    """The number of images; with 0, nothing is compared."""
    min_cosine: dict[str, float] = field(
        default_factory=lambda: {"float32": 0.9999, "bfloat16": 0.99, "float16": 0.99, "int8": 0.98, "fp8": 0.98},
        metadata=limits(0, 1),
    )
    """The lowest cosine with which the run is timed, by dtype; `int8` is for quantised weights in any dtype."""
    images: int = field(default=16, metadata=limits(0, 10_000))
    """The number of images whose pixels are compared with those of the reference pipeline; with 0, none."""
    max_levels: dict[str, float] = field(
        default_factory=lambda: {"decoder": 1.0, "draft": 4.0, "preprocess": 0.5}, metadata=limits(0, 255)
    )
    """The largest mean difference of an image's pixels, in levels of 8 bits: `decoder` for a decoder that gives images
    in full size, `draft` for the model's inputs if it reduces them, `preprocess` for inputs with preprocess=device."""


@dataclass
class EvaluationConfig:
    """One pass of the data set through the model, for quality."""

    batch_size: int = field(default=32, metadata=limits(1, 1_000_000))
    workers: int | None = field(default=None, metadata=limits(1, 4096))
    """Threads that decode and preprocess ahead of the model; by default one for each usable core, at most eight."""


@dataclass
class ServingRule:
    """The queries of each load, and the end of the search for the largest load."""

    min_queries: int = field(default=1000, metadata=CALLS)
    min_seconds: float = field(default=10.0, metadata=SECONDS)
    max_seconds: float = field(default=60.0, metadata=limits(0, 7 * 24 * 3600, open_low=True))
    """The longest window of a load that is not decided earlier. It also limits `min_queries`."""
    max_queries: int = field(default=300_000, metadata=CALLS)
    precision: float = field(default=0.05, metadata=limits(0, 10, open_low=True))
    """The search ends if the smallest load that fails exceeds the largest that holds by at most this fraction."""
    most_loads: int = field(default=16, metadata=limits(1, 1000))
    warmup_calls: int = field(default=5, metadata=CALLS)
    """The calls of each batch size before the first window."""


@dataclass
class RequestsConfig:
    """The numbers of requests to a remote endpoint. They are fixed, because each request costs money."""

    warmup: int = field(default=2, metadata=CALLS)
    """Requests before the timed ones, for each number of requests in flight."""
    timed: int = field(default=100, metadata=CALLS)
    """Timed requests for each number of requests in flight."""
    timed_per_slot: int = field(default=4, metadata=CALLS)
    """The least number of timed requests for each request in flight, so that many in flight are also busy."""


@dataclass
class MeasureConfig:
    """The numbers of the protocol. Results have the label `name`, which distinguishes a shorter protocol from
    `standard`."""

    name: str = MISSING
    repeats: int = field(default=1, metadata=limits(1, 10_000))
    """The number of fresh processes that measure each case; the repeats of all runs take turns."""
    order_seed: int = field(default=0, metadata=SEED)
    """The seed that shuffles the order of the runs within each repeat."""
    processes_within: float = field(default=PROCESSES_WITHIN, metadata=limits(0, 1000, open_low=True))
    """The largest half-width of the interval across processes, as a fraction, without a doubt about the result."""
    retries: int = field(default=3, metadata=limits(0, 1000))
    """The number of times that an invalid window is measured again before it is reported as invalid."""
    retry_pause_seconds: float = field(default=2.0, metadata=SECONDS)
    inputs: InputsConfig = field(default_factory=InputsConfig)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    throughput: ThroughputConfig = field(default_factory=ThroughputConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    ceiling: CeilingConfig = field(default_factory=CeilingConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    serving: ServingRule = field(default_factory=ServingRule)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    parity: ParityConfig = field(default_factory=ParityConfig)
    requests: RequestsConfig = field(default_factory=RequestsConfig)


@dataclass
class ServingConfig:
    """The load of metrics=[serving]: the arrivals of queries, the batches of the server, and the bound of the latency.

    Exactly one of `p90_ms`, `p95_ms` and `p99_ms` is the bound.
    """

    arrivals: str = "poisson"
    """`poisson`, `constant`, or `closed`: a client sends its next query when the last one is answered."""
    generator: str = "visionbench"
    """`visionbench`, a process that sends the queries, or `loadgen`, MLPerf's LoadGen."""
    loads: list[float] = field(
        default_factory=list, metadata=limits(0, 1e6, open_low=True, remedy="give requests per second, as in 10")
    )
    """The loads to measure, in requests per second. If there are none, the largest load is searched for."""
    clients: list[int] = field(default_factory=lambda: [1, 2, 4], metadata=limits(1, 10_000))
    """The numbers of clients to measure, with `arrivals: closed`."""
    p90_ms: float | None = field(default=None, metadata=MILLISECONDS)
    p95_ms: float | None = field(default=None, metadata=MILLISECONDS)
    p99_ms: float | None = field(default=100.0, metadata=MILLISECONDS)
    max_batch: int = field(default=8, metadata=limits(1, 4096))
    max_wait_ms: float = field(default=2.0, metadata=limits(0, 3_600_000))
    """The longest time that the first query of a batch waits for others."""
    seed: int = field(default=0, metadata=SEED)


@dataclass
class TrackingConfig:
    """The tracker that receives results after they are on disk. `uri: null` is the SQLite store in `output_dir`."""

    name: str = "mlflow"
    uri: str | None = None
    experiment: str = "visionbench"
    timeout_seconds: float = field(default=30.0, metadata=limits(0, 3600, open_low=True))
    """The longest time of one exchange with a server: opening the store, or sending one run. A local store may take ten
    times as long."""


@dataclass
class RemoteConfig:
    """The connection to a remote endpoint, and the limits of what a run spends there."""

    base_url: str | None = None
    """The address of the endpoint, such as `https://host/v1`. With null, the environment variable OPENAI_BASE_URL."""
    key_env: str = "OPENAI_API_KEY"
    """The name of the environment variable that has the key. The key itself is never in a configuration."""
    timeout_seconds: float = field(default=60.0, metadata=limits(0, 3600, open_low=True))
    """The longest wait for a connection, and for each part of an answer."""
    max_retries: int = field(default=4, metadata=limits(0, 100))
    """The number of times that a failed request is sent again."""
    max_wait_seconds: float = field(default=60.0, metadata=limits(0, 3600))
    """The longest wait before a request is sent again, also if the endpoint requires a longer one."""
    stream: bool = False
    """Whether answers are streamed, so that the time to the first token is measured."""
    max_requests: int | None = field(default=None, metadata=limits(1, 1_000_000_000))
    """The most requests of a run, those that are sent again included. With null, there is no limit."""
    max_cost: float | None = field(default=None, metadata=limits(0, 1e9, open_low=True))
    """The most that a run costs, in the currency of `model.options.prices`. With null, there is no limit."""
    max_error_share: float = field(default=0.01, metadata=limits(0, 1))
    """The share of failed requests above which a row is questionable."""
    seed: int = field(default=0, metadata=SEED)
    """The seed of the random part of the waits."""


@dataclass
class ReportConfig:
    """The report that is written after the last run. By default it is written if there are several runs."""

    enabled: bool | None = None
    language: str = "en"


@dataclass
class ExperimentConfig:
    """The configuration of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    data: DataConfig = field(default_factory=DataConfig)
    metrics: dict[str, Any] = field(default_factory=dict)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    check: bool = False
    """Whether to show facts and problems of this machine before the run."""
    output_dir: str = "outputs"
    resume: str | None = None
    """A sweep to continue: `latest`, its id or its folder. Only cases without a valid result are measured. Like the two
    keys below, it is read from the command line only."""
    retry: list[str] | None = None
    """The results that `resume` measures again, such as `[invalid, failed]`, which is the default."""
    on_change: str = "refuse"
    """The treatment of results that were measured under other conditions: `refuse`, `measure` or `keep`."""


RENAMED = {"data.otherwise": "data.fallback", "report.make": "report.enabled"}
"""Keys of earlier versions, with their present names. An old key is refused; result folders may still hold it."""


@dataclass(frozen=True)
class ComposedConfig:
    """A run's configuration as Hydra composed it. OmegaConf's type is private to this class."""

    values: ExperimentConfig
    _composed: DictConfig = field(repr=False)

    @classmethod
    def of(cls, cfg: DictConfig) -> ComposedConfig:
        """Check a composed configuration. Raises ConfigError for an unknown key, a wrong type or a missing value."""
        composed = _without_hydra(cfg)
        return cls(from_hydra(composed), composed)

    def with_changes(self, changes: Mapping[str, Any]) -> ComposedConfig:
        """Return a copy with these values; keys are in dotted form."""
        return ComposedConfig.of(with_changes(self._composed, changes)) if changes else self

    def unresolved(self) -> Any:
        """Return the values as they were written, with references."""
        return OmegaConf.to_container(self._composed, resolve=False)

    def to_yaml(self) -> str:
        """Return the YAML that is saved with the results, without secrets."""
        return to_safe_yaml(self._composed)


@dataclass(frozen=True)
class Place:
    """The folders of a run."""

    folder: Path
    """The folder of the run."""
    sweep_folder: Path
    """The folder of all runs of the command; the folder of the run if the command measures one run."""
    sweep: str
    """The id that all runs of the command share."""


@dataclass(frozen=True)
class ComposedRun:
    """One run as Hydra composed it."""

    config: ComposedConfig
    overrides: tuple[str, ...] = ()
    """The overrides of this run, as typed."""
    notes: tuple[str, ...] = ()
    """One line for each of the user's files that replaces a bundled one."""
    experiment: str = ""
    """The options of the group `experiment` that were chosen, separated by commas."""
    place: Place | None = None
    """The folders of the run; None if it is only planned."""
    choices: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """The chosen option of each group of visionbench, or the options of a group that is a list."""


def from_hydra(cfg: DictConfig) -> ExperimentConfig:
    """Return plain dataclasses; raise ConfigError for an unknown key, a wrong type or a missing value."""
    try:
        plain = OmegaConf.to_container(_without_hydra(cfg), resolve=True, throw_on_missing=True)
        merged = OmegaConf.merge(_schema(), plain)
        config = OmegaConf.to_object(merged)
    except (ConfigKeyError, ConfigAttributeError) as error:
        key = str(error.full_key)
        value = OmegaConf.select(cfg, key) if key in RENAMED else None
        raise ConfigError(unknown_key(key, schema_keys(), value)) from error
    except OmegaConfBaseException as error:
        raise explain(error) from error
    assert isinstance(config, ExperimentConfig)
    return config


@cache
def _schema() -> DictConfig:
    """Return the schema of a run's configuration. A merge copies it."""
    schema: DictConfig = OmegaConf.structured(ExperimentConfig)
    return schema


def build_part(kind: str, name: str, options: Mapping[str, Any], key: str) -> Any:
    """Build the part registered as `name` with its options, which are below `key` in the configuration."""
    cls: Any = find(kind, name)
    if not isinstance(options, Mapping):
        raise ConfigError(f"{key}={options}: not options", f"give options as in {key}={{}} or {key}.option=value")
    fields_by_option = option_fields(cls)
    try:
        return OmegaConf.to_object(
            OmegaConf.merge(
                _part_schema(cls), {fields_by_option.get(name, name): value for name, value in options.items()}
            )
        )
    except OmegaConfBaseException as error:
        raise explain(error, prefix=key, known=list(fields_by_option)) from error


@lru_cache(maxsize=64)
def _part_schema(cls: Any) -> DictConfig:
    """Return the schema of a part's options. A merge copies it."""
    schema: DictConfig = OmegaConf.structured(cls)
    OmegaConf.set_readonly(schema, False)
    return schema


def build_metric(name: str, options: Mapping[str, Any] | None) -> Any:
    """Return the metric group of this name with its options. Equal options give the same object."""
    cls: Any = find("metrics", name)
    return _metric(cls, name, json.dumps(options or {}, sort_keys=True, default=str))


@lru_cache(maxsize=64)
def _metric(cls: Any, name: str, options: str) -> Any:
    return build_part("metrics", name, json.loads(options), f"metrics.{name}")


def option_fields(cls: type[Any]) -> dict[str, str]:
    """Return the fields of a part by the names of their options: the metadata's `option`, or the field's name."""
    return {field.metadata.get("option", field.name): field.name for field in fields(cls)}


def list_options(group: str, config_dir: Path | None = None) -> dict[str, Path]:
    """Return the YAML files of a group by name. A file of the user's folder replaces a bundled file."""
    folders = [project_folder("conf"), *([config_dir] if config_dir else [])]
    paths = {path.stem: path for folder in folders for path in (folder / group).glob("*.yaml")}
    return dict(sorted(paths.items()))


def replaced_option(group: str, option: str, config_dir: Path | None) -> str | None:
    """Return one line if the user's folder replaces a bundled option, or None if it does not."""
    if config_dir is None or not (project_folder("conf") / group / f"{option}.yaml").is_file():
        return None
    path = config_dir / group / f"{option}.yaml"
    return f"{group}={option}: {path} replaces the bundled file of the same name" if path.is_file() else None


def models(config_dir: Path | None = None) -> dict[str, ModelConfig]:
    """Return every model by the name of its YAML file. A file of the user's folder replaces a bundled file."""
    configs = {}
    for name, path in list_options("model", config_dir).items():
        model = _read_option(ModelConfig, "model", path)
        model.checkpoint = path_from_file("model.checkpoint", model.checkpoint, path)
        configs[name] = model
    return configs


def path_from_file(key: str, value: str | None, file: Path) -> str | None:
    """Return a path of a YAML file in the form in which the current folder is its start.

    A relative path in a user's file starts at the folder of the file. Paths of bundled files are returned unchanged, as
    is the name of a Hub repository. Raises ConfigError if the path only exists from the current folder.
    """
    path = Path(value or "").expanduser()
    if not value or path.is_absolute() or file.is_relative_to(project_folder("conf")):
        return value
    target = Path(os.path.abspath(file.parent / path))
    is_path = value.startswith(".") or key != "model.checkpoint" or target.is_dir()
    if not is_path or ":" in value:
        return value
    if not target.exists() and path.exists():
        raise ConfigError(
            f"{file}: {key}={value}: there is no {target}, and a relative path starts at the folder of the file",
            f"use {os.path.relpath(path.absolute(), file.parent.absolute())}",
        )
    inside = target.is_relative_to(Path.cwd())
    return f"./{target.relative_to(Path.cwd())}" if inside else str(target)


def read_fallback(name: str, config_dir: Path | None = None) -> DataConfig:
    """Return the data set of `data.fallback=name`. Raises ConfigError if there is no such option of `data`."""
    options = list_options("data", config_dir)
    if name not in options:
        raise ConfigError(f"data.fallback={name}: no such option of data{nearest(name, options)}")
    return _read_option(DataConfig, "data", options[name])


@limited_references()
def _read_option(cls: type[T], group: str, path: Path) -> T:
    """Read the YAML file of one option. Raises ConfigError that names the file."""
    merged = merge_file(cls, path, group)
    try:
        option = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {explain(error, group)}") from error
    assert isinstance(option, cls)
    return option


def check_file(path: Path, group: str) -> None:
    """Raise ConfigError that names the file if a YAML file has an unknown key or a value of a wrong type.

    `group` is the group of the option, or empty if the keys of the file begin at the root of the configuration.
    References to other keys are not resolved.
    """
    cls = get_type_hints(ExperimentConfig).get(group) if group else ExperimentConfig
    if isinstance(cls, type) and is_dataclass(cls):
        merge_file(cls, path, group)
    else:
        load_file(path)


def merge_file(cls: type[Any], path: Path, group: str) -> DictConfig:
    """Return a YAML file merged into the schema of its section. Raises ConfigError that names the file."""
    content = load_file(path)
    for key in ("defaults", "hydra") if not group else ("defaults",):  # sections of Hydra, not of the schema
        content.pop(key, None)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), content)
    except (ConfigKeyError, ConfigAttributeError) as error:
        known = [f"{group}.{item.name}" for item in fields(cls)] if group else schema_keys()
        key = ".".join(filter(None, [group, str(error.full_key)]))
        value: Any = content
        for name in str(error.full_key).split("."):
            value = value.get(name) if isinstance(value, dict) else None
        raise ConfigError(f"{path}: {unknown_key(key, known, value)}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {explain(error, group)}") from error
    assert isinstance(merged, DictConfig)
    return merged


def load_file(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file of the configuration. Raises ConfigError that names the file."""
    check_limits(path)
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except YAMLError as error:
        raise ConfigError(yaml_problem(error, path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8", "save the file in UTF-8") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {explain(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply", "write fewer levels") from error
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:  # !!int abc, or 5,000 digits
        raise ConfigError(f"{path}: a value does not have its type ({first_line(error)})", "quote text") from error
    except OSError as error:
        if error.errno is not None:
            raise
        content = None  # OmegaConf read a single value
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a mapping", "write one key per line, as in 'name: value'")
    return {str(key): value for key, value in content.items()}


def yaml_problem(error: YAMLError, path: Path | None = None) -> str:
    """Return the problem of a YAML error in one line: the file, the line and the reason."""
    mark = getattr(error, "problem_mark", None)
    file = path or (Path(mark.name) if mark else None)
    reason = " ".join(str(getattr(error, "problem", None) or error).split())
    if "'\\t'" in reason:
        reason = "a tab; indent with spaces"
    place = ", ".join(filter(None, [str(file or ""), f"line {mark.line + 1}" if mark else ""]))
    return f"{place or 'a configuration file'}: not valid YAML ({reason})"


def from_yaml(text: str) -> Any:
    """Return the content of a YAML text that `to_safe_yaml` has written. The loader in C is ten times as fast."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def to_yaml(section: Any) -> str:
    """Return the YAML of a section of the configuration."""
    return OmegaConf.to_yaml(OmegaConf.structured(section))


def with_changes(cfg: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """Return a copy of the composed configuration with these values; keys are in dotted form."""
    changed = copy.deepcopy(cfg)
    for key, value in changes.items():
        OmegaConf.update(changed, key, value, merge=False)
    return changed


def to_safe_yaml(cfg: DictConfig) -> str:
    """Return the composed configuration as YAML, with resolved references.

    A reference that reads the environment, directly or through another key, stays unresolved, so that no secret is
    saved.
    """
    secrets: set[str] = set()

    def reads_environment(raw: str, resolved: Any) -> bool:
        if "${oc.env:" in raw.replace(" ", ""):
            secrets.add(str(resolved))
            return True
        return "${" in raw and any(secret in str(resolved) for secret in secrets - {""})

    def restore_references(raw: Any, resolved: Any) -> Any:
        if isinstance(raw, dict):
            return {key: restore_references(raw[key], resolved[key]) for key in raw}
        if isinstance(raw, list):
            return [restore_references(a, b) for a, b in zip(raw, resolved, strict=True)]
        return raw if isinstance(raw, str) and reads_environment(raw, resolved) else resolved

    cfg = _without_hydra(cfg)
    raw, resolved = OmegaConf.to_container(cfg, resolve=False), OmegaConf.to_container(cfg, resolve=True)
    restore_references(raw, resolved)  # the first pass collects the secrets, for references that come before them
    return OmegaConf.to_yaml(OmegaConf.create(restore_references(raw, resolved)))


def _without_hydra(cfg: DictConfig) -> DictConfig:
    """Return the configuration without Hydra's section. Without one, the configuration itself is returned."""
    if "hydra" not in cfg:
        return cfg
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def project_folder(folder: str) -> Path:
    """Return the folder `conf`, `data` or `docs` of the repository, or of the package if there is no repository."""
    package = Path(__file__).resolve().parent
    repository = package.parent.parent
    if (repository / "pyproject.toml").is_file() and (repository / folder).is_dir():
        return repository / folder
    return package / {"conf": "conf", "data": "bundled", "docs": "docs"}[folder]


def schema_keys() -> list[str]:
    """Return every key of the schema in dotted form, such as `measure.latency.min_calls`."""

    def list_keys(cls: type, prefix: str) -> Iterable[str]:
        for item in fields(cls):
            key = prefix + item.name
            yield key
            inner = globals().get(str(item.type))
            if isinstance(inner, type) and is_dataclass(inner):
                yield from list_keys(inner, key + ".")

    return list(list_keys(ExperimentConfig, ""))


@lru_cache
def text_keys() -> frozenset[str]:
    """Return the keys of the schema whose value is text, such as `model.name`."""
    return frozenset(
        f"{prefix}{name}"
        for prefix, cls in [("", ExperimentConfig), *((f"{key}.", kind) for key, kind in _sections(ExperimentConfig))]
        for name, kind in get_type_hints(cls).items()
        if kind is str or kind == str | None
    )


def refuse_truth_values(key: str, value: Any, origin: str = "") -> None:
    """Raise ConfigError if a text of the schema is `true` or `false`, which OmegaConf converts to text.

    `value` may be a mapping of keys below `key`. In a YAML file, `yes`, `no`, `on` and `off` have the same meaning.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            refuse_truth_values(f"{key}.{name}" if key else str(name), inner, origin)
    elif isinstance(value, bool) and key in text_keys():
        raise ConfigError(f"{origin}{key}={shown(value)}: not text", "quote the value if it is a name")


def refuse_unusable_folder(key: str, folder: Any) -> None:
    """Raise ConfigError if a value cannot be a folder of results: no text, empty, `~`, or a control character."""
    if isinstance(folder, bool) or not isinstance(folder, str | int | float):
        raise ConfigError(f"{key}={shown(folder)}: not a folder", f"give a folder, as in {key}=outputs")
    folder = str(folder)
    if not folder.strip():
        raise ConfigError(f"{key} is empty", f"give a folder, as in {key}=outputs")
    if folder.startswith("~"):
        raise ConfigError(
            f"{key}={folder}: ~ is not expanded", f"write the folder in full, as in {key}=$HOME{folder[1:]}"
        )
    if not folder.isprintable():
        raise ConfigError(f"{key}={folder!r}: a folder's name cannot have this character", "remove it")


def explain(error: Exception, prefix: str = "", known: Iterable[str] = ()) -> ConfigError:
    """Return an error with the message of OmegaConf's exception in one line: the key, the value and a remedy.

    `prefix` is the key of the section that holds the value, and `known` are the valid names in the section.
    """
    key = str(getattr(error, "full_key", "") or "")
    full = ".".join(filter(None, [prefix, key]))
    if isinstance(error, MissingMandatoryValue):
        return ConfigError(f"'{full or 'config'}' has no value", f"give it one, as in {full or 'key'}=…")
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return ConfigError(unknown_key(full, [f"{prefix}.{name}" for name in known] if prefix else schema_keys()))
    if isinstance(error, ValidationError) and (expected := _expected_type(error)) is not None:
        value = shown(error.value)
        if get_origin(expected) is list:
            example = f"[{value}]" if value.isdecimal() else "[1,2,4]"
            return ConfigError(f"{full}={value}: not a list", f"write a list, as in {full}={example}")
        return ConfigError(f"{full}={value}: not {TYPES.get(expected, expected.__name__)}")
    return _explain_text(" ".join(first_line(error).split()), full)


def _explain_text(text: str, key: str) -> ConfigError:
    """Return an error for a message of OmegaConf that has no special exception type."""
    if match := re.search(r"(\w+) is not a subclass of (\w+)\. value: (.*)", text):
        _, cls, value = match.groups()
        key = key or _section_of(cls) or cls
        return ConfigError(f"{key}={value}: a section has keys, not one value", f"write {key}.KEY=VALUE")
    if re.search(r"Cannot assign \w+ to Dict|Cannot merge \w+ with ", text):
        place = key or "a section of the configuration"
        return ConfigError(f"{place}: a section has keys, not one value", f"write {key or 'section'}.KEY=VALUE")
    if "does not support deletion" in text:
        return ConfigError(f"~{key}: this key cannot be removed", f"set a value, as in {key}=…")
    if match := re.search(r"Unsupported interpolation type (\S+)", text):
        return ConfigError(f"{key or 'config'}: there is no resolver ${{{match[1]}:…}}", "remove the reference")
    if match := re.search(r"Invalid value '(.*)', expected one of \[(.*)\]", text):
        return ConfigError(f"{key}={match[1]}: no such value; there are: {match[2]}")
    if "is not Optional" in text:
        return ConfigError(f"{key}=null: must have a value", "remove it to use the default")
    if match := re.search(r"Environment variable '(.*?)' not found", text):
        name = match[1]
        remedy = f"set it, or write a default, as in ${{oc.env:{name},default}}"
        return ConfigError(f"{key or 'config'}: the environment variable {name} is not set", remedy)
    if match := re.search(r"Interpolation key '(.*?)' not found", text):
        return ConfigError(f"{key or 'config'}: the reference ${{{match[1]}}} names no key", "name a key that exists")
    if "Recursive interpolation" in text:
        return ConfigError(f"{key or 'config'}: a reference leads back to itself", "replace it by a value")
    if TOO_MANY_REFERENCES in text:
        return ConfigError(f"{key or 'config'}: {TOO_MANY_REFERENCES}", "replace references by values")
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "a reference cannot be resolved: ", text)
    return ConfigError(f"{key or 'config'}: {text}")


def _section_of(cls: str) -> str | None:
    """Return the key of the section that a class of the schema describes."""
    by_class = {str(kind.__name__): key for key, kind in _sections(ExperimentConfig)}
    return by_class.get(cls)


def _sections(cls: type, prefix: str = "") -> Iterable[tuple[str, type]]:
    for name, kind in get_type_hints(cls).items():
        if isinstance(kind, type) and is_dataclass(kind):
            yield prefix + name, kind
            yield from _sections(kind, f"{prefix}{name}.")


TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _expected_type(error: ValidationError) -> type | None:
    """Return the type that the schema gives to the key of an error, without `None`; None if it is none of `TYPES`."""
    parent, key = error.object_type, error.key
    if is_dataclass(parent):
        expected = get_type_hints(parent).get(str(key))
    else:  # an entry of a list or a dictionary
        expected = next(iter(get_args(error.ref_type)[-1:]), None)
    if get_origin(expected) in (Union, UnionType):
        expected = next(kind for kind in get_args(expected) if kind is not NoneType)
    return expected if get_origin(expected) is list or expected in TYPES else None


def unknown_key(key: str, known: Iterable[str], value: Any = None) -> str:
    """Return the error message for a key that is not in the schema, with its new name or the nearest key."""
    if new := RENAMED.get(key):
        return f"{key} was renamed to {new}; use {new}={'…' if value is None else shown(value)}"
    known = [name for name in known if not key.startswith(f"{name}.")]
    if key in known:
        return f"'{key}' is not in the config yet; add it with a plus in front, as in +{key}=…"
    if suggestion := suggestions.key(key, value):
        return f"there is no key '{key}'; did you mean {suggestion}?"
    siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    ending = nearest(key, known)
    return f"there is no key '{key}'{ending if 'did you mean' in ending else nearest(key, siblings)}"
