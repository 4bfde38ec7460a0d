"""The record of a run, which is the content of run.json: model, device, data, versions, conditions and status.

Only this module defines the keys of run.json. Each section stores the complete object in `values`, so that keys of a
newer version and of a user's part stay available.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from visionbench.core import ConfigError, RunPlan
from visionbench.machine import LIBRARIES
from visionbench.records import typed_json
from visionbench.records.process import ProcessIdentity
from visionbench.records.typed_json import ALL_KEYS, KEY, OTHER_KEYS

SCHEMA_VERSION = 1
"""The version of run.json and of a row in results.jsonl. Increase it if older readers would misread the files."""
RUNNING, FINISHED, STOPPED, UNSUCCESSFUL = "running", "finished", "interrupted", "failed"
"""Statuses of a run."""
LOST, PENDING = "lost", "pending"
"""Statuses of a run. `lost` and `pending` are in no run.json; readers create them. A run is `lost` if the process that
measured it has ended without an end of the run, and `pending` if a running sweep has not started it yet."""
EAGER_RUNTIME: Mapping[str, Any] = {"name": "eager", "mode": None, "dynamic": None, "fullgraph": None, "options": {}}
"""The runtime of runs of earlier versions, which had no other."""
REFERENCE_INPUTS: Mapping[str, Any] = {"decoder": "pillow", "preprocess": "transformers"}
"""The keys of `data` of runs of earlier versions, which had no other input pipeline."""
LEFT_OUT_IF_EMPTY = ("case_seconds", "identity", "sessions")
"""The keys of run.json that are left out if they are empty."""
VERSIONS = ("python", *LIBRARIES)
"""The keys of the host that are versions."""


@dataclass(frozen=True)
class Host:
    """The machine and the versions of the libraries."""

    name: str | None = field(default=None, metadata={KEY: "host"})
    system: str | None = None
    cpu: str | None = None
    cpu_cores: int | None = None
    memory_mib: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict, metadata=ALL_KEYS)

    @classmethod
    def from_fingerprint(cls, values: Mapping[str, Any]) -> Host:
        """Return the host of `machine.fingerprint`. Raises ConfigError that names a key of a wrong type."""
        return typed_json.read(cls, dict(values), "run.json.host")

    def version(self, name: str) -> str | None:
        """Return the version of Python or of a library, or None if it is unknown."""
        version = self.values.get(name)
        return None if version is None else str(version)


@dataclass(frozen=True)
class DeviceIdentity:
    """The identity of the device, as the device reported it."""

    device_name: str | None = None
    driver: str | None = None
    cuda: str | None = None
    threads: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict, metadata=ALL_KEYS)


@dataclass(frozen=True)
class ModelIdentity:
    """The identity of the loaded model. A user's model family may add any keys."""

    weights: str | None = None
    checkpoint: str | None = None
    revision: str | None = None
    dtype: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict, metadata=ALL_KEYS)


@dataclass(frozen=True)
class DataIdentity:
    """The identity of the data set, with the digests of its annotations and contents."""

    name: str | None = None
    annotations_sha256: str | None = None
    contents_sha256: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict, metadata=ALL_KEYS)


@dataclass(frozen=True)
class Repeats:
    """The processes that measured a run, if there were several."""

    planned: int = field(metadata={KEY: "wanted"})
    measured: int
    order_seed: int
    started_at: tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """A process that measured cases of a run. A resumed run has several sessions, under equal conditions."""

    started_at: str
    cases: tuple[str, ...]
    """The ids of the cases that the session measured."""
    ended_at: str | None = None
    host: str | None = None


@dataclass(frozen=True)
class ModelSettings:
    """The key `model` of the configuration."""

    family: str
    weights: str
    checkpoint: str | None = None
    revision: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict, metadata=ALL_KEYS)


@dataclass(frozen=True)
class PrecisionSettings:
    """The key `precision` of the configuration."""

    dtype: str | None = None
    tf32: bool | None = None
    autocast: bool | None = None
    quantization: str | None = None


@dataclass(frozen=True)
class DataSettings:
    """The key `data` of the configuration."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """The sections of the composed configuration that readers use."""

    model: ModelSettings
    data: DataSettings
    precision: PrecisionSettings = PrecisionSettings()
    measure: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)

    def options_of(self, metric: str) -> Mapping[str, Any]:
        """Return the options of a metric group."""
        return self.metrics.get(metric) or {}


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json. `model`, `device` and `data` have no values until the model is loaded."""

    uid: str
    sweep: str
    started_at: str
    status: str
    host: Host
    plan: RunPlan
    config: Mapping[str, Any]
    """The composed configuration without secrets. `settings` gives the sections that readers use, with types."""
    git_commit: str | None = None
    left_out: Mapping[str, str] | None = None
    """The ids of the examples that cannot be used, each with the reason."""
    declarations: Any = None
    """The declarations of the metrics, see `declarations.Declarations`."""
    model: ModelIdentity = ModelIdentity()
    device: DeviceIdentity = DeviceIdentity()
    data: DataIdentity = DataIdentity()
    ended_at: str | None = None
    process: ProcessIdentity | None = None
    """The process that writes the run's files; None in records of older versions."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """The time spent in each stage, in seconds."""
    case_seconds: Mapping[str, float] = field(default_factory=dict)
    """The time spent in each case, in seconds. The empty name is the time before the first case."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What can change the numbers and is not in another key, see `records.identity`."""
    sessions: tuple[Session, ...] = ()
    """The sessions of a run that was resumed; empty if one session measured all cases."""
    repeats: Repeats | None = None
    schema: int = SCHEMA_VERSION
    more: Mapping[str, Any] = field(default_factory=dict, metadata=OTHER_KEYS)
    """Keys that this version does not define."""

    @classmethod
    def from_json(cls, content: Any, place: str = "run.json") -> RunRecord:
        """Return the record of this JSON content. Errors name `place` as its origin.

        Raises ConfigError that names the place and the key if a key is missing or has another type, or if a newer
        version wrote it.
        """
        if isinstance(content, Mapping):
            refuse_newer(content.get("schema"), place)
            if isinstance(config := content.get("config"), Mapping):
                content = {**content, "config": _with_later_keys(config)}
            if "declarations" in content:
                content = {**content, "declarations": _shared(content["declarations"])}
        record = typed_json.read(cls, content, place)
        typed_json.read(Settings, record.config, f"{place}.config")
        return record

    def to_json(self) -> dict[str, Any]:
        """Return the content of run.json. Values that are not known yet are left out.

        Raises ConfigError that names the key of a value whose type JSON does not have.
        """
        known = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("schema", "more")}
        unknown = (None, ModelIdentity(), DeviceIdentity(), DataIdentity())
        present = {name: value for name, value in known.items() if value not in unknown or name == "git_commit"}
        present = {name: value for name, value in present.items() if value or name not in LEFT_OUT_IF_EMPTY}
        content: dict[str, Any] = typed_json.write({"schema": self.schema, **present, **self.more}, "run.json")
        return content

    def with_identities(
        self,
        model: Mapping[str, Any],
        device: Mapping[str, Any],
        data: Mapping[str, Any],
        left_out: Mapping[str, str],
    ) -> RunRecord:
        """Return the record with the identities, which are known once the model is loaded.

        Raises ConfigError that names a key whose value has a wrong type.
        """
        return replace(
            self,
            model=typed_json.read(ModelIdentity, dict(model), "run.json.model"),
            device=typed_json.read(DeviceIdentity, dict(device), "run.json.device"),
            data=typed_json.read(DataIdentity, dict(data), "run.json.data"),
            left_out=left_out,
        )

    def resumed(self, now: RunRecord) -> RunRecord:
        """Return the record of a run that a later session continues: `now` is the record of that session alone.

        The uid, the sweep and the start are those of the run. Planned cases are those of both.
        """
        ids = {case.id for case in now.plan.cases}
        earlier = [case for case in self.plan.cases if case.id not in ids]
        cases = sorted([*now.plan.cases, *earlier], key=lambda case: case.order)
        return replace(
            now,
            uid=self.uid,
            sweep=self.sweep,
            started_at=self.started_at,
            plan=replace(
                now.plan,
                name=self.plan.name,
                varied=self.plan.varied,
                cases=tuple(cases),
                batch_search=now.plan.batch_search or self.plan.batch_search,
            ),
            model=self.model,
            device=self.device,
            data=self.data,
            sessions=self.all_sessions,
            more=self.more,
        )

    @property
    def all_sessions(self) -> tuple[Session, ...]:
        """The sessions of the run; one with all planned cases if the run was not resumed."""
        cases = tuple(case.id for case in self.plan.cases)
        return self.sessions or (Session(self.started_at, cases, self.ended_at, self.host.name),)

    @cached_property
    def settings(self) -> Settings:
        """The sections of the configuration that readers use, with their types. Raises ConfigError for a wrong type."""
        return typed_json.read(Settings, self.config, "run.json.config")

    @property
    def processes(self) -> int:
        """The number of processes that measured the run."""
        return self.repeats.measured if self.repeats else 1

    @property
    def starts(self) -> tuple[str, ...]:
        """The time at which each process started."""
        return (self.repeats.started_at if self.repeats else ()) or (self.started_at,)

    def loaded_or_configured(self, name: str) -> Any:
        """Return a value of the loaded model, such as `checkpoint`, or the configured value if no model was loaded."""
        if name in self.model.values:
            return self.model.values[name]
        return self.settings.model.values.get(name)

    def facts(self) -> dict[str, Any]:
        """Return the facts of a run by the names of the columns in docs/results.md. An unknown fact is None."""
        return dict(self._facts)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        settings, host, device = self.settings, self.host, self.device
        return {
            "uid": self.uid,
            "sweep": self.sweep,
            "run": self.plan.name,
            "run_status": self.status,
            "model": self.plan.model,
            "task": self.plan.task,
            "family": settings.model.family,
            "weights": settings.model.weights,
            "checkpoint": self.loaded_or_configured("checkpoint"),
            "revision": self.loaded_or_configured("revision"),
            "device": self.plan.device,
            "device_name": device.device_name,
            "driver": device.driver,
            "cuda": device.cuda,
            "threads": device.threads,
            "precision": self.plan.precision,
            "runtime": self.plan.runtime,
            "decoder": self.plan.decoder,
            "preprocess": self.plan.preprocess,
            "dtype": self.model.dtype or settings.precision.dtype,
            "protocol": self.plan.protocol,
            "data": settings.data.name,
            "data_digest": self.data.annotations_sha256,
            "started_at": self.started_at,
            "git_commit": self.git_commit,
            "host": host.name,
            "host_system": host.system,
            "host_cpu": host.cpu,
            "host_cpu_cores": host.cpu_cores,
            "host_memory_mib": host.memory_mib,
            **{f"version_{name.replace('-', '_')}": host.version(name) for name in VERSIONS},
        }


def _with_later_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a composed configuration with the keys that an earlier version did not have."""
    data = config.get("data")
    later = {"data": {**REFERENCE_INPUTS, **data}} if isinstance(data, Mapping) else {}
    return {"runtime": dict(EAGER_RUNTIME), **config, **later}


_latest: deque[Any] = deque(maxlen=8)
"""The declarations that were read last. Most runs have the same ones, which need most of the memory of a record."""


def _shared(content: Any) -> Any:
    """Return the equal content that was read before, or the content itself."""
    for known in _latest:
        if known == content:
            return known
    _latest.appendleft(content)
    return content


def refuse_newer(schema: Any, place: str, version: int = SCHEMA_VERSION) -> None:
    """Raise ConfigError if a newer visionbench wrote this schema, one above `version`."""
    if isinstance(schema, int) and schema > version:
        raise ConfigError(f"{place}: written by a newer visionbench (schema {schema})", "update to read it")
