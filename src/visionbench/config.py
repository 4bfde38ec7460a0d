"""The schema: every key that a YAML may hold, and the way from Hydra's DictConfig to plain dataclasses.

Values are checked here by name and type, and in `plan.py` by meaning. A DictConfig never leaves this file.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from visionbench.registry import ConfigError, find, nearest

T = TypeVar("T")


@dataclass
class ModelConfig:
    """Which model, from where, and with which of its family's options."""

    name: str = MISSING
    family: str = MISSING
    checkpoint: str | None = None
    """A Hub repository, a local folder, or `bundled:NAME` for one that comes with visionbench."""
    revision: str | None = None
    weights: str = "pretrained"
    """`pretrained`, `random`, or `auto`: pretrained where the checkpoint is here or can be fetched, else random."""
    attention: str | None = "sdpa"
    """The attention that transformers is told to use; null for a model without one."""
    trust_remote_code: bool = False
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    image_processor: dict[str, Any] = field(default_factory=dict)


@dataclass
class DeviceConfig:
    """Where to run. `threads: null` leaves torch's own choice, which is recorded."""

    name: str = "auto"
    index: int = 0
    threads: int | None = None


@dataclass
class PrecisionConfig:
    """Weights and inputs in one dtype; `fp32` is IEEE, and TF32 is a precision of its own."""

    name: str = MISSING
    dtype: str = MISSING
    tf32: bool = False


@dataclass
class BatchConfig:
    """The batch sizes that a run sweeps."""

    sizes: list[int] = MISSING


@dataclass
class DataConfig:
    """A registered data set and its options."""

    name: str = MISSING
    root: str | None = None
    """The folder that it lies in, for those that are read from a folder."""
    prepare: int | None = None
    """Where `root` is not there, fetch so many pictures into it first; COCO's alone can be fetched."""
    otherwise: str | None = None
    """The option of `data`, one that needs no folder, that stands in where `root` is not there even so."""
    on_error: str = "fail"
    """What to do with examples that cannot be used: `fail` (before measuring, where it can be known then) or `skip`."""
    exif: str | None = None
    """Which pixels masks were drawn on where a picture has an EXIF orientation: `stored`, or `turned` as it says. By
    default such pictures are refused. Pictures without masks are always turned."""
    clusters: str | None = None
    """A CSV file with the columns `picture` and `cluster`, for pictures that are not independent: frames of a video,
    slices of a patient. Intervals of quality are then over clusters."""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class InputsConfig:
    """How many distinct preprocessed samples the timed calls rotate over, and what they may take on the device."""

    distinct_samples: int = 64
    max_mib: int = 1024


@dataclass
class WarmupConfig:
    """Calls until steady: `windows` windows in a row whose medians differ by at most `max_ratio` of the device kind."""

    min_calls: int = 10
    min_seconds: float = 3.0
    max_seconds: float = 60.0
    windows: int = 3
    window_calls: int = 10
    window_seconds: float = 0.5
    max_ratio: dict[str, float] = field(default_factory=lambda: {"cpu": 1.05, "cuda": 1.02})
    calls: int | None = None
    """Exactly this many calls instead; steadiness is then not judged."""


@dataclass
class LatencyConfig:
    """Single calls until the interval of the median is within `median_within` of the device kind."""

    least_calls: int = 6
    """Never fewer, even beyond the cap: from six calls on, the median has an interval."""
    min_calls: int = 100
    min_seconds: float = 10.0
    max_seconds: float = 120.0
    median_within: dict[str, float] = field(default_factory=lambda: {"cpu": 0.02, "cuda": 0.01})
    percentile: float = 0.99
    """The highest percentile that must have its samples."""
    calls: int | None = None
    """Exactly this many calls instead; convergence is then not judged."""


@dataclass
class ThroughputConfig:
    """Calls back to back with at most `in_flight` unfinished ones."""

    in_flight: int = 3
    min_calls: int = 10
    min_seconds: float = 10.0
    calls: int | None = None


@dataclass
class MemoryConfig:
    """Calls in the memory pass, between resetting the peaks and reading them."""

    calls: int = 3


@dataclass
class TelemetryConfig:
    """A window of calls back to back beside which energy is read and utilisation is sampled; idle time before it."""

    min_seconds: float = 10.0
    interval_ms: int = 100
    idle_seconds: float = 3.0


@dataclass
class CeilingConfig:
    """Large matrix products and copies, for the rates that the device reaches at best."""

    calls: int = 5
    min_call_ms: float = 20.0
    """Matrices grow until one product takes this long."""


@dataclass
class PipelineConfig:
    """Pictures from encoded bytes to answers: so many batches for so long, serial and then overlapped."""

    min_batches: int = 8
    min_seconds: float = 10.0


@dataclass
class EvaluationConfig:
    """The data set once through the model, for quality."""

    batch_size: int = 32
    workers: int | None = None
    """Threads that decode and preprocess ahead of the model; by default one a core that may be used, at most eight."""


@dataclass
class MeasureConfig:
    """The protocol's numbers. Results are labelled with `name`: a loosened protocol is never taken for `standard`."""

    name: str = MISSING
    repeats: int = 1
    """Fresh processes that measure each case, one after the other over the whole sweep."""
    order_seed: int = 0
    """Shuffles the order of the runs within each repeat."""
    retries: int = 3
    """How often a window that came out invalid is measured again before it is published as invalid."""
    retry_pause_seconds: float = 2.0
    inputs: InputsConfig = field(default_factory=InputsConfig)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    throughput: ThroughputConfig = field(default_factory=ThroughputConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    ceiling: CeilingConfig = field(default_factory=CeilingConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@dataclass
class TrackingConfig:
    """Where results go after the local file has them. `uri: null` is the SQLite store in `output_dir`."""

    name: str = "mlflow"
    uri: str | None = None
    experiment: str = "visionbench"


@dataclass
class ReportConfig:
    """The sweep's report, made once all is measured: by default of several runs, and by `make` always or never."""

    make: bool | None = None
    language: str = "en"


@dataclass
class ExperimentConfig:
    """The whole of a run's configuration."""

    model: ModelConfig = field(default_factory=ModelConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    data: DataConfig = field(default_factory=DataConfig)
    metrics: dict[str, Any] = field(default_factory=dict)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    check: bool = False
    """Whether to tell first what this machine is and what would go wrong on it."""
    output_dir: str = "outputs"


SCHEMA = "visionbench_schema"


def register_schema() -> None:
    """Make the schema known to Hydra, for `conf/config.yaml` to start from."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=SCHEMA, node=ExperimentConfig)
    # Hydra copies its search path, and with it this singleton, once for every group that --help lists: half a second.
    # Reading from the store makes a copy of its own, so the singleton may well be its own copy.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]


def from_hydra(cfg: DictConfig) -> ExperimentConfig:
    """Plain dataclasses of what Hydra composed; raises ConfigError for an unknown key, a wrong type or a gap."""
    try:
        plain = OmegaConf.to_container(_ours(cfg), resolve=True, throw_on_missing=True)
        merged = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), plain)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    assert isinstance(config, ExperimentConfig)
    return config


def build_part(kind: str, name: str, options: Mapping[str, Any], key: str) -> Any:
    """Build the part registered as `name` with its options, which stand in the config under `key`."""
    cls = find(kind, name)
    if not isinstance(options, Mapping):
        raise ConfigError(f"{key}={options}: not options, as in {key}={{}} or {key}.option=value")
    schema = OmegaConf.structured(cls)
    OmegaConf.set_readonly(schema, False)
    of_option = option_fields(cls)
    try:
        return OmegaConf.to_object(
            OmegaConf.merge(schema, {of_option.get(name, name): value for name, value in options.items()})
        )
    except OmegaConfBaseException as error:
        raise explain(error, prefix=key, known=list(of_option)) from error


def option_fields(cls: type[Any]) -> dict[str, str]:
    """The fields of a part by the names of their options: a field's own, or the one in its metadata as `option`."""
    return {field.metadata.get("option", field.name): field.name for field in fields(cls)}


def models(config_dir: Path | None = None) -> dict[str, ModelConfig]:
    """Every model YAML by its file's name, of visionbench and of one's own config folder, which wins."""
    folders = [project_folder("conf"), *([config_dir] if config_dir else [])]
    found = {}
    for path in (path for folder in folders for path in (folder / "model").glob("*.yaml")):
        try:
            described = OmegaConf.to_container(OmegaConf.load(path))
            if isinstance(described, dict):
                described.pop("defaults", None)  # Hydra's, not the schema's
            merged = OmegaConf.merge(OmegaConf.structured(ModelConfig), described)
            found[path.stem] = OmegaConf.to_object(merged)
        except OmegaConfBaseException as error:
            known = [item.name for item in fields(ModelConfig)]
            raise ConfigError(f"{path}: {explain(error, 'model', known)}") from error
        except YAMLError as error:
            raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    return dict(sorted(found.items()))  # type: ignore[arg-type]


def data_option(name: str, config_dir: Path | None = None) -> DataConfig:
    """What `data=name` means by itself, from one's own config folder or visionbench's. Raises ConfigError."""
    folders = [*([config_dir] if config_dir else []), project_folder("conf")]
    options = {path.stem: path for folder in reversed(folders) for path in (folder / "data").glob("*.yaml")}
    if name not in options:
        raise ConfigError(f"data.otherwise={name}: no such option of data{nearest(name, options)}")
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig), OmegaConf.load(options[name])))
    except OmegaConfBaseException as error:
        known = [item.name for item in fields(DataConfig)]
        raise ConfigError(f"{options[name]}: {explain(error, 'data', known)}") from error
    assert isinstance(found, DataConfig)
    return found


def with_changes(cfg: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """A copy of the composed config in which these keys, in dotted form, have other values."""
    found = copy.deepcopy(cfg)
    for key, value in changes.items():
        OmegaConf.update(found, key, value, merge=False)
    return found


def to_safe_yaml(cfg: DictConfig) -> str:
    """The composed config as YAML with references resolved, except those that read the environment, directly or through
    another key: secrets stay out."""
    secrets: set[str] = set()

    def reads_environment(raw: str, resolved: Any) -> bool:
        if "${oc.env:" in raw.replace(" ", ""):
            secrets.add(str(resolved))
            return True
        return "${" in raw and any(secret in str(resolved) for secret in secrets - {""})

    def keep_secrets(raw: Any, resolved: Any) -> Any:
        if isinstance(raw, dict):
            return {key: keep_secrets(raw[key], resolved[key]) for key in raw}
        if isinstance(raw, list):
            return [keep_secrets(a, b) for a, b in zip(raw, resolved, strict=True)]
        return raw if isinstance(raw, str) and reads_environment(raw, resolved) else resolved

    raw = OmegaConf.to_container(_ours(cfg), resolve=False)
    resolved = OmegaConf.to_container(_ours(cfg), resolve=True)
    keep_secrets(raw, resolved)  # once to learn the secrets, and once more for references that stand before them
    return OmegaConf.to_yaml(OmegaConf.create(keep_secrets(raw, resolved)))


def _ours(cfg: DictConfig) -> DictConfig:
    """The config without Hydra's own part."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def project_folder(folder: str) -> Path:
    """The project's `conf` or `data` folder: the repository's own where there is one, else the one in the package."""
    package = Path(__file__).resolve().parent
    repository = package.parent.parent
    if (repository / "pyproject.toml").is_file() and (repository / folder).is_dir():
        return repository / folder
    return package / {"conf": "conf", "data": "bundled"}[folder]


def schema_keys() -> list[str]:
    """Every key of the schema in dotted form, `measure.latency.min_calls`."""

    def below(cls: type, prefix: str) -> Iterable[str]:
        for item in fields(cls):
            key = prefix + item.name
            yield key
            inner = globals().get(str(item.type))
            if isinstance(inner, type) and is_dataclass(inner):
                yield from below(inner, key + ".")

    return list(below(ExperimentConfig, ""))


def explain(error: Exception, prefix: str = "", known: Iterable[str] = ()) -> ConfigError:
    """OmegaConf's many lines as our one: the value, its key and the way out."""
    key = str(getattr(error, "full_key", "") or "")
    full = ".".join(filter(None, [prefix, key]))
    said = str(error).splitlines()[0]
    if isinstance(error, MissingMandatoryValue):
        return ConfigError(f"'{full or said}' has no value; give it one, as in {full or 'key'}=…")
    if re.search(r"not in '\w+'", said):
        return ConfigError(unknown_key(full, [f"{prefix}.{name}" for name in known] if prefix else schema_keys()))
    if found := re.search(r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)", said):
        kind = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}.get(found[2], found[2])
        return ConfigError(f"{full}={found[1]}: not {kind}")
    if "is not a ListConfig" in said:
        return ConfigError(f"{full}: not a list, as in {full}=[1,2,4]")
    return ConfigError(f"{full or 'config'}: {said}")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """One line for a key that is not in the schema, with the nearest that is."""
    known = [name for name in known if not key.startswith(f"{name}.")]
    if key in known:
        return f"'{key}' is not in the config, though it may be: a plus in front adds it, as in +{key}=…"
    siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    ending = nearest(key, known)
    return f"there is no key '{key}'{ending if 'did you mean' in ending else nearest(key, siblings)}"
