"""The conditions of a run: those that two runs must share to be compared, and those that are only reported.

A condition that only one side has (an older schema, a run that failed before its device was read) is no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from visionbench.core import MetricDeclaration
from visionbench.results.archive import Run

NEUTRAL = ("name", "repeats", "order_seed", "retries", "retry_pause_seconds")
"""Keys of `measure` that change how often a run is measured, but not how it is measured."""
SNAPSHOTS = ("clock_sm_mhz", "clock_memory_mhz")
"""Properties of a device that change from moment to moment."""
DEVICE_CONDITIONS = {"device_name": "device", "driver": "driver", "cuda": "CUDA", "threads": "threads"}
LONGEST_DIGEST = 12
"""Digits of a digest that are shown and compared."""
DIGEST = "names, labels, captions and images of the data"
MODEL_CONDITIONS = ("weights", "checkpoint", "revision", "image_size")


def binding(run: Run) -> dict[str, str]:
    """Return the conditions that must be equal: device, processor, threads, data, protocol, weights, model options."""
    record, settings = run.record, run.record.settings
    known = {
        **{words: record.device.values.get(name) for name, words in DEVICE_CONDITIONS.items()},
        "processor": record.host.cpu,
        **{name: record.loaded_or_configured(name) for name in MODEL_CONDITIONS},
        **_flatten("model.options", settings.model.options),
        **_data(run),
        **{
            name: value
            for name, value in _flatten("measure", settings.measure).items()
            if name.removeprefix("measure.") not in NEUTRAL
        },
    }
    return _as_text(known)


def defining(run: Run, declaration: MetricDeclaration) -> dict[str, str]:
    """Return the options of a metric that must be equal for its values to be compared."""
    options = run.record.settings.options_of(declaration.group)
    return _as_text({f"metrics.{declaration.group}.{name}": options.get(name) for name in declaration.options})


def remarked(run: Run) -> dict[str, str]:
    """Return the conditions that are only reported: commit, versions, host, and options of model and metrics."""
    record, settings = run.record, run.record.settings
    known = {
        "git commit": record.git_commit,
        **{name: value for name, value in record.host.values.items() if name != "cpu"},
        **{
            name: value
            for name, value in record.device.values.items()
            if name not in DEVICE_CONDITIONS and name not in SNAPSHOTS
        },
        **{f"model.{name}": settings.model.values.get(name) for name in ("family", "seed")},
        "model.attention": record.loaded_or_configured("attention"),
        **{name: record.model.values.get(name) for name in ("model_class", "image_processor", "tokenizer", "dtype")},
        **_flatten("metrics", settings.metrics),
    }
    return _as_text(known)


def differences(base: Mapping[str, str], candidate: Mapping[str, str]) -> list[str]:
    """Return a line such as `threads: 2 in the base, 4 in the candidate` for each condition that differs."""
    return [
        f"{name}: {base[name]} in the base, {candidate[name]} in the candidate"
        for name in base
        if name in candidate and base[name] != candidate[name]
    ]


def _data(run: Run) -> dict[str, Any]:
    """Return the identity of the data, without the folder if the annotations have a digest."""
    record = run.record
    identity = dict(record.data.values or {"name": record.settings.data.name})
    if any(name.endswith("_sha256") for name in identity):
        identity.pop("root", None)
    contents = identity.pop("contents_sha256", None)
    known: dict[str, Any] = {f"data.{name}": value for name, value in identity.items()}
    known[DIGEST] = contents and f"digest {contents[:LONGEST_DIGEST]}"
    if record.left_out is not None:
        known["images left out"] = ", ".join(sorted(record.left_out)) or "none"
    return known


def _flatten(path: str, value: Any) -> dict[str, Any]:
    return dict(_leaves(path, value))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(f"{path}.{name}", part)
    else:
        yield path, "null" if value is None and path.startswith("measure.") else value


def _as_text(known: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in known.items() if value is not None}
