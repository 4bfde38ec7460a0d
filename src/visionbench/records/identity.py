"""The identity of a case: a digest of everything that can change its numbers, and the facts behind the digest.

settings    the configuration of a run that matters: model, device, precision, data and protocol
conditions  what the machine and the code add: versions, weights, data contents, device, driver, host
case        both together with the batch size, the stages and the metrics of the case

A run of an older version did not store every condition. A condition that only one side has is not compared.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import visionbench
from visionbench import variation
from visionbench.config import RENAMED
from visionbench.core import Case, RunPlan
from visionbench.machine import library_version
from visionbench.records.record import RunRecord

NEUTRAL_OF_MEASURE = ("name", "repeats", "order_seed", "retries", "retry_pause_seconds", "processes_within", "parity")
"""Keys and sections of `measure` that change how often a run is measured, but not how it is measured."""
NEUTRAL_OF_REMOTE = (
    *("base_url", "key_env", "timeout_seconds", "max_retries", "max_wait_seconds", "max_requests", "max_cost"),
    *("max_error_share", "seed"),
)
"""Keys of `remote` that change when a run ends, but not what is measured. The address is a condition of the device."""
NEUTRAL = (
    *("batch", "metrics", "device.name", "device.index"),
    *(f"measure.{name}" for name in NEUTRAL_OF_MEASURE),
    *(f"remote.{name}" for name in NEUTRAL_OF_REMOTE),
    *RENAMED,
)
"""Keys and sections that are not settings of a run. Cases have their own batch size and metrics. The plan has the
device."""
LIBRARIES = ("torch", "transformers", "numpy", "pillow", "pandas", "nvidia-ml-py")
"""The libraries of the host's fingerprint that can change numbers."""
MORE_LIBRARIES = (
    *(
        "onnx",
        "onnxruntime",
        "openvino",
        "safetensors",
        "scipy",
        "simplejpeg",
        "timm",
        "tokenizers",
        "torchao",
        "torchvision",
    ),
)
"""Libraries that are not in the host's fingerprint."""
HOST = ("host", "system", "cpu", "cpu_cores", "memory_mib", "python", *LIBRARIES)
MOMENTARY = ("clock_sm_mhz", "clock_memory_mhz", "cores", "cores_usable")
"""Properties of a device that change from moment to moment or from run to run."""
DIGEST = re.compile(r"(sha256:)?[0-9a-f]{24,}\+?")
SHORT_DIGEST = 10
"""The characters of a digest that are shown."""
ABSENT = variation.ABSENT


@dataclass(frozen=True)
class Difference:
    """A setting or a condition that has changed."""

    name: str
    before: str
    now: str
    is_setting: bool = False
    """Whether the configuration changed, and not the machine or the code."""

    def __str__(self) -> str:
        """Return a text such as `torch 2.12.0 → 2.13.0`."""
        return f"{self.name} {_shown(self.before)} → {_shown(self.now)}"


@dataclass(frozen=True)
class Identity:
    """The facts that the digests of a run's cases are computed from."""

    settings: Mapping[str, str]
    conditions: Mapping[str, str]
    metrics: Mapping[str, Any]
    """The options of each metric group."""

    @classmethod
    def of_record(cls, record: RunRecord) -> Identity:
        """Return the identity of a measured run."""
        conditions = of_machine(record.host.values, record.device.values, record.data.values, record.identity)
        if "code" not in conditions and record.git_commit:
            conditions["git commit"] = record.git_commit
        if "weights.revision" not in conditions and record.model.revision:
            conditions["weights.revision"] = str(record.model.revision)
        return cls.of_config(record.config, record.plan, conditions)

    @classmethod
    def of_config(
        cls, config: Mapping[str, Any], plan: RunPlan, conditions: Mapping[str, str] | None = None
    ) -> Identity:
        """Return the identity of a planned run under these conditions."""
        return cls(_settings(config, plan), conditions or {}, config.get("metrics") or {})

    def digest(self, case: Case) -> str:
        """Return the SHA-256 of a case. It does not depend on the order of keys or of metrics."""
        return _digest([self.settings, self.conditions, self.content(case)])

    def content(self, case: Case) -> str:
        """Return the case itself as canonical JSON: batch size, stages, and metrics with their options."""
        metrics = {name: self.metrics.get(name) or {} for name in case.metrics}
        return _canonical([case.id, case.batch_size, sorted(case.stages), metrics])

    @property
    def key(self) -> str:
        """The digest of the settings, by which runs of two commands are matched."""
        return _digest(self.settings)

    def changes(self, now: Identity) -> list[Difference]:
        """Return what differs now: settings first, then the conditions that both identities have."""
        names = dict.fromkeys([*self.settings, *now.settings])
        pairs = [(name, self.settings.get(name, ABSENT), now.settings.get(name, ABSENT), True) for name in names]
        shared = [name for name in self.conditions if name in now.conditions]
        pairs += [(name, self.conditions[name], now.conditions[name], False) for name in shared]
        return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def _settings(config: Mapping[str, Any], plan: RunPlan) -> dict[str, str]:
    """Return the settings of a run as text by their keys, sorted."""
    flat = variation.flatten(config)
    settings = {key: value for key, value in flat.items() if not _is_neutral(key)}
    return dict(sorted({**settings, "device": plan.device}.items()))


def of_machine(
    host: Mapping[str, Any], device: Mapping[str, Any], data: Mapping[str, Any], stored: Mapping[str, Any]
) -> dict[str, str]:
    """Return the conditions of a run as text. `stored` is `identity` of run.json: code, libraries and weights."""
    known = {
        **{name: stored[name] for name in ("visionbench", "code") if name in stored},
        **{name: host.get(name) for name in HOST},
        **(stored.get("libraries") or {}),
        **{f"weights.{name}": value for name, value in (stored.get("weights") or {}).items()},
        **{f"device.{name}": value for name, value in device.items() if name not in MOMENTARY},
        **{f"data.{name}": value for name, value in data.items()},
    }
    return {name: _text(value) for name, value in known.items() if value is not None}


def to_store(weights: Mapping[str, Any], parts: Iterable[Path]) -> dict[str, Any]:
    """Return `identity` of run.json: the code, the libraries and the weights that a run uses.

    `parts` are source files of parts that are not in this package.
    """
    versions = {name: library_version(name) for name in MORE_LIBRARIES}
    return {
        "visionbench": visionbench.__version__,
        "code": code_digest(tuple(sorted(parts))),
        "libraries": {name: version for name, version in versions.items() if version is not None},
        "weights": dict(weights),
    }


@cache
def code_digest(more: tuple[Path, ...] = ()) -> str:
    """Return the SHA-256 of the source files of this package and of these files."""
    package = Path(visionbench.__file__).parent
    digest = hashlib.sha256()
    for path in [*sorted(package.rglob("*.py")), *more]:
        name = path.relative_to(package).as_posix() if path.is_relative_to(package) else path.name
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _is_neutral(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in NEUTRAL)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _canonical(value)


def _shown(text: str) -> str:
    return text[:SHORT_DIGEST] + "…" if DIGEST.fullmatch(text) else variation.shortened(text, 40)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()
