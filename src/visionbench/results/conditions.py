"""The conditions of a run: those that two runs must share to be compared, and those that are only reported.

A condition that only one side has (an older schema, a run that failed before its device was read) is no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionbench.core import MetricDeclaration
from visionbench.records.identity import NEUTRAL_OF_MEASURE
from visionbench.results import summary
from visionbench.results.archive import Run

SNAPSHOTS = ("clock_sm_mhz", "clock_memory_mhz", "cores")
"""Properties of a device that change from moment to moment."""
DEVICE_CONDITIONS = {"device_name": "device", "driver": "driver", "cuda": "CUDA", "threads": "threads"}
LONGEST_DIGEST = 12
"""Digits of a digest that are compared."""
SHORT_COMMIT = 10
"""Digits of a commit that are shown."""
DIGEST = "names, labels, captions and images of the data"
COMMIT = "git commit"
LEFT_OUT = "images left out"
MODEL_CONDITIONS = ("weights", "checkpoint", "revision", "image_size")
REPORTED_OF_MODEL = (
    *("model_class", "image_processor", "tokenizer", "dtype"),
    *("autocast", "quantization", "quantized_layers", "linear_layers", "quantized_parameters", "torchao"),
    *("torchao_kernels_missing", "nncf", "onnxruntime", "openvino"),
    *("calibration_images", "calibration_source", "calibration_sha256"),
)
RESOLVED_BY_LOADING = ("attention", "image_size", "revision")
"""Conditions whose configured value, such as `auto` or the name of a branch, is replaced when the model is loaded."""
SENTENCES = {
    DIGEST: "the images differ, or their names, labels or captions",
    "data.annotations_sha256": "the annotations of the data differ",
    "revision": "the revisions of the checkpoint differ",
}
"""The text of a difference whose values are digests, which a reader cannot compare."""
HEXADECIMAL = re.compile(r"(digest |sha256:)?[0-9a-f]{12,}\+?")
"""A digest of a file, or the id of a commit."""
SETTINGS = ("model.", "metrics.")
"""The beginnings of the names of reported conditions that the user sets."""
CONTENT = ("batch.", "data.root", "metrics")
"""The beginnings of keys that select cases, metrics or a folder, and do not change the conditions of a case."""


@dataclass(frozen=True)
class Difference:
    """A condition that has different values on the two sides."""

    condition: str
    base: str
    candidate: str

    def __str__(self) -> str:
        """Return a sentence such as `threads: 2 in the base, 4 in the candidate`. It contains no digest."""
        values = [self.base, self.candidate]
        if self.condition == COMMIT:
            values = [value[:SHORT_COMMIT] + "+" * value.endswith("+") for value in values]
        elif self.condition == LEFT_OUT:
            values = [str(len(value.split(", "))) if value != "none" else value for value in values]
            if values[0] == values[1]:
                return f"{LEFT_OUT}: {values[0]} in both, but not the same images"
        elif self.condition in SENTENCES:
            return SENTENCES[self.condition]
        elif any(HEXADECIMAL.fullmatch(value) for value in values):
            return f"{self.condition.removesuffix('_sha256')}: the values differ"
        return f"{self.condition}: {values[0]} in the base, {values[1]} in the candidate"


PRICES = "model.options.prices"
"""The prices of an endpoint, which change a cost but no other figure."""
CURRENCY = "currency"
"""The label with the currency of a cost."""


def binding(run: Run) -> dict[str, str]:
    """Return the conditions that must be equal: device, processor, threads, data, protocol, weights, model options."""
    record, settings = run.record, run.record.settings
    options = _flatten("model.options", settings.model.options)
    known = {
        **{words: record.device.values.get(name) for name, words in DEVICE_CONDITIONS.items()},
        "processor": None if record.plan.is_remote else record.host.cpu,
        "runtime": record.plan.runtime,
        "decoder": record.plan.decoder,
        "preprocess": record.plan.preprocess,
        "other runs": record.plan.beside or "none",
        **{name: _of_model(run, name) for name in MODEL_CONDITIONS},
        **{name: value for name, value in options.items() if not name.startswith(PRICES)},
        **_data(run),
        **{name: value for name, value in _flatten("measure", settings.measure).items() if not _is_neutral(name)},
    }
    return _as_text(known)


def _is_neutral(key: str) -> bool:
    """Return whether a key of the configuration changes only how often a run is measured, or is in such a section."""
    return key.removeprefix("measure.").partition(".")[0] in NEUTRAL_OF_MEASURE


def defining(run: Run, declaration: MetricDeclaration) -> dict[str, str]:
    """Return the options of a metric, and the currency of a cost, that must be equal to compare its values."""
    options = run.record.settings.options_of(declaration.group)
    known = {f"metrics.{declaration.group}.{name}": options.get(name) for name in declaration.options}
    if declaration.name == summary.COST:
        known["currency"] = next((row.labels[CURRENCY] for row in run.results if CURRENCY in row.labels), None)
    return _as_text(known)


def remarked(run: Run) -> dict[str, str]:
    """Return the conditions that are only reported: commit, versions, host, and options of model and metrics."""
    record, settings = run.record, run.record.settings
    known = {
        COMMIT: record.git_commit,
        **{name: value for name, value in record.host.values.items() if name != "cpu"},
        **{
            name: value
            for name, value in record.device.values.items()
            if name not in DEVICE_CONDITIONS and name not in SNAPSHOTS
        },
        **{f"model.{name}": settings.model.values.get(name) for name in ("family", "seed")},
        "model.attention": _of_model(run, "attention"),
        **{name: record.model.values.get(name) for name in REPORTED_OF_MODEL},
        **_flatten("metrics", settings.metrics),
    }
    return _as_text(known)


def settings(run: Run) -> dict[str, str]:
    """Return the conditions that the user sets: those of the reported ones, and the keys that vary in the sweep."""
    reported = {name: value for name, value in remarked(run).items() if name.startswith(SETTINGS)}
    varied = {
        name: value
        for name, value in run.record.plan.varied.items()
        if "." in name and not name.startswith(CONTENT) and not _is_neutral(name)
    }
    return {**reported, **varied}


def differences(base: Mapping[str, str], candidate: Mapping[str, str]) -> list[Difference]:
    """Return each condition that both sides have with different values."""
    return [
        Difference(name, base[name], candidate[name])
        for name in base
        if name in candidate and base[name] != candidate[name]
    ]


def sentences(different: Sequence[Difference]) -> str:
    """Return the differences as one text without digests, or an empty text if there are none."""
    return "; ".join(map(str, different))


def _of_model(run: Run, name: str) -> Any:
    """Return a condition of the model. It is unknown if only loading could have replaced the configured value."""
    if name in RESOLVED_BY_LOADING and not run.record.model.values:
        return None
    return run.record.loaded_or_configured(name)


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
        known[LEFT_OUT] = ", ".join(sorted(record.left_out)) or "none"
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
