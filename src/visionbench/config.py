"""The schema: every key that a YAML may hold, and the way from Hydra's DictConfig to plain dataclasses.

Values are checked here by name and type, and in `plan.py` by meaning. A DictConfig never leaves this file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
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
    fallback: str | None = None
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

    enabled: bool | None = None
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


RENAMED = {"data.otherwise": "data.fallback", "report.make": "report.enabled"}
"""Keys of earlier versions, with their present names. An old key is refused; result folders may still hold it."""


@dataclass(frozen=True)
class ComposedConfig:
    """A run's configuration as Hydra composed it. Hydra's own type stays in here."""

    values: ExperimentConfig
    _composed: DictConfig = field(repr=False)

    @classmethod
    def of(cls, cfg: DictConfig) -> ComposedConfig:
        """Check a composed configuration. Raises ConfigError for an unknown key, a wrong type or a missing value."""
        return cls(from_hydra(cfg), cfg)

    def with_changes(self, changes: Mapping[str, Any]) -> ComposedConfig:
        """Return a copy in which these keys, in dotted form, have other values."""
        return ComposedConfig.of(with_changes(self._composed, changes)) if changes else self

    def to_yaml(self) -> str:
        """Return the YAML that is saved with the results, without secrets."""
        return to_safe_yaml(self._composed)


def from_hydra(cfg: DictConfig) -> ExperimentConfig:
    """Return plain dataclasses; raise ConfigError for an unknown key, a wrong type or a missing value."""
    try:
        plain = OmegaConf.to_container(_without_hydra(cfg), resolve=True, throw_on_missing=True)
        merged = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), plain)
        config = OmegaConf.to_object(merged)
    except (ConfigKeyError, ConfigAttributeError) as error:
        key = str(error.full_key)
        value = OmegaConf.select(cfg, key) if key in RENAMED else None
        raise ConfigError(unknown_key(key, schema_keys(), value)) from error
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


def options_of_group(group: str, config_dir: Path | None = None) -> dict[str, Path]:
    """Return the YAML files of a group by their names, bundled and the user's; the user's file wins."""
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
    """Return every model by the name of its YAML file, bundled and the user's; the user's file wins."""
    return {
        name: _read_option(ModelConfig, "model", path) for name, path in options_of_group("model", config_dir).items()
    }


def data_option(name: str, config_dir: Path | None = None) -> DataConfig:
    """Return the data set that `data=name` chooses. Raises ConfigError if there is none."""
    options = options_of_group("data", config_dir)
    if name not in options:
        raise ConfigError(f"data.fallback={name}: no such option of data{nearest(name, options)}")
    return _read_option(DataConfig, "data", options[name])


def _read_option(cls: type[T], group: str, path: Path) -> T:
    """Read the YAML file of one option. Raises ConfigError that names the file."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        if isinstance(content, dict):
            content.pop("defaults", None)  # Hydra's list of defaults is not part of the schema
        option = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), content))
    except (ConfigKeyError, ConfigAttributeError) as error:
        known = [f"{group}.{item.name}" for item in fields(cls)]  # type: ignore[arg-type]
        value = content.get(str(error.key)) if isinstance(content, dict) else None
        raise ConfigError(f"{path}: {unknown_key(f'{group}.{error.full_key}', known, value)}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {explain(error, group)}") from error
    except YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    assert isinstance(option, cls)
    return option


def to_yaml(section: Any) -> str:
    """Return the YAML of a section of the configuration."""
    return OmegaConf.to_yaml(OmegaConf.structured(section))


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

    raw = OmegaConf.to_container(_without_hydra(cfg), resolve=False)
    resolved = OmegaConf.to_container(_without_hydra(cfg), resolve=True)
    keep_secrets(raw, resolved)  # once to learn the secrets, and once more for references that stand before them
    return OmegaConf.to_yaml(OmegaConf.create(keep_secrets(raw, resolved)))


def _without_hydra(cfg: DictConfig) -> DictConfig:
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
    """Return OmegaConf's exception as one line that names the key, the value and a remedy.

    `prefix` is the key under which the value is in the configuration, and `known` are the valid names below it.
    """
    key = str(getattr(error, "full_key", "") or "")
    full = ".".join(filter(None, [prefix, key]))
    if isinstance(error, MissingMandatoryValue):
        return ConfigError(f"'{full or 'config'}' has no value; give it one, as in {full or 'key'}=…")
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return ConfigError(unknown_key(full, [f"{prefix}.{name}" for name in known] if prefix else schema_keys()))
    if isinstance(error, ValidationError) and (expected := _expected_type(error)) is not None:
        if get_origin(expected) is list:
            return ConfigError(f"{full}: not a list, as in {full}=[1,2,4]")
        return ConfigError(f"{full}={error.value}: not {TYPES.get(expected, expected.__name__)}")
    return ConfigError(f"{full or 'config'}: {str(error).splitlines()[0]}")


TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _expected_type(error: ValidationError) -> type | None:
    """Return the type that the schema gives to the key of an error, without `None`; None if it gives no type."""
    parent, key = error.object_type, error.key
    if is_dataclass(parent):
        expected = get_type_hints(parent).get(str(key))
    else:  # an entry of a list or a dictionary
        expected = next(iter(get_args(error.ref_type)[-1:]), None)
    if get_origin(expected) in (Union, UnionType):
        expected = next(kind for kind in get_args(expected) if kind is not NoneType)
    return expected if get_origin(expected) is list or expected in TYPES else None


def unknown_key(key: str, known: Iterable[str], value: Any = None) -> str:
    """Return one line for a key that is not in the schema, with its present name or the nearest key."""
    if new := RENAMED.get(key):
        text = str(value).lower() if isinstance(value, bool) else value
        return f"{key} was renamed to {new}; use {new}={'…' if text is None else text}"
    known = [name for name in known if not key.startswith(f"{name}.")]
    if key in known:
        return f"'{key}' is not in the config yet; add it with a plus in front, as in +{key}=…"
    siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    ending = nearest(key, known)
    return f"there is no key '{key}'{ending if 'did you mean' in ending else nearest(key, siblings)}"
