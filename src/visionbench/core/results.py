"""The values of the results: raw samples, predictions, metrics, validity, and the row of a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionbench.core.plan import Case

EVALUATION_STEPS = ("decode", "preprocess", "forward", "postprocess")
"""The steps of the quality case, from an image file to the model's answer."""
PIPELINE_STEPS = ("read", "decode", "preprocess", "copy", "forward", "postprocess")
"""The steps of the timed pipeline. Reading the file and copying to the device are separate steps."""
WORK_UNITS = ("images", "texts", "prompts", "tokens")
"""The units that throughput counts. A run is compared by the first unit that it has."""
CAPTIONS_CUT = "captions_cut"
"""An optional column beside `caption_embeddings`: the number of an image's captions that the model truncated."""
NO_CLASS = "no_class"
"""An optional column beside `class_scores` of a model that names one class in words: whether it named none of them."""
TRUTH_BOXES = ("truth_boxes", "truth_classes", "truth_areas", "truth_crowds")
"""Columns of the annotated boxes: [K, 4] as x, y, width and height, the indices of their classes [K], their areas [K],
and whether they are crowd regions [K]."""
TRUTHS = frozenset({"references", "label", "class_map", "depth_map", "questions", *TRUTH_BOXES})
"""Columns of the predictions that come from the data set: the captions [C], the class of an image, the class and the
depth of each pixel [H, W], the questions [Q], each `{"question": text, "answers": [texts]}`, and the boxes."""

IN_PIXELS = frozenset({"truth_masks", "predicted_map", "predicted_depth", "boxes"})
"""Columns of the predictions that are computed in the pixels of the stored image."""

VALID, WARNED, INVALID = "valid", "warned", "invalid"
"""Verdicts of `Validity`."""

OK = "ok"
"""The status of a case that has numbers. The statuses of cases without numbers follow."""
FAILED = "failed"
OUT_OF_MEMORY = "out_of_memory"
SKIPPED_AFTER_OOM = "skipped_after_oom"
KILLED = "killed"
NOT_RUN = "not_run"
INTERRUPTED = "interrupted"
LOST = "lost"
"""A planned case without a row, although its run is no longer running. Readers create it; no file contains it."""
PENDING = "pending"
"""A planned case without a row while its run is running. Readers create it; no file contains it."""


@dataclass(frozen=True)
class Samples:
    """The raw measurements of a case. A series is a flat float64 array; its name ends in its unit: `latency/host_s`."""

    series: Mapping[str, np.ndarray] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    """Series that are not available, each with the reason."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Reasons to question the numbers: a flag such as `not_converged`, and its detail."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Events that make the numbers invalid: a fault such as `thermal_throttling`, and its detail."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Conditions that do not affect the validity: a label such as `software_power_cap`, and its detail."""

    def merged(self, other: Samples) -> Samples:
        """Return both together. If both have a name, the value of `other` is kept."""
        return Samples(
            {**self.series, **other.series},
            {**self.missing, **other.missing},
            {**self.flags, **other.flags},
            {**self.faults, **other.faults},
            {**self.labels, **other.labels},
        )

    def get(self, name: str) -> np.ndarray:
        """Return the series, or an empty array if it does not exist."""
        return self.series.get(name, np.empty(0))

    def why_missing(self, name: str) -> str:
        """Return the reason why a series does not exist."""
        return self.missing.get(name, f"no {name} was recorded")


@dataclass(frozen=True)
class Unanswered:
    """An image without a prediction because of its request, not because of the image. It is left out and counted."""

    reason: str


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for a data set, with the annotations that metrics compare them with."""

    ids: Sequence[str]
    """The images' ids, in the data set's order."""
    columns: Mapping[str, Sequence[Any]]
    """One entry for each image: a number, a string, a list of strings, or an array."""
    classes: Sequence[str] = ()
    """The class names, in the order of `class_scores`."""


@dataclass(frozen=True)
class Metrics:
    """Numbers computed from samples. An unavailable value is None, and `reasons` has the reason."""

    values: Mapping[str, float | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def merged(self, other: Metrics) -> Metrics:
        """Return both together. If both have a name, the value of `other` is kept."""
        return Metrics({**self.values, **other.values}, {**self.reasons, **other.reasons})


@dataclass(frozen=True)
class Contributions:
    """A quality figure as a function of sums over images. The interval of the figure is computed from it."""

    parts: Any
    """The amounts that each image adds to the sums: an array [images, sums], or a sparse array of scipy."""
    value: Callable[[np.ndarray], np.ndarray]
    """Convert sums [..., sums] to the figure [...], which is NaN or infinite if it is undefined."""
    hits: bool = False
    """Whether the sums are hits and tries, and the figure is their ratio."""
    at_most_one: bool = True
    """Whether no image can contribute more than 1 to the mean."""
    over_classes: bool = False
    """Whether the figure is a mean over classes. A bootstrap is wrong for it if a class has few images."""
    content: np.ndarray | None = None
    """A digest [images] of the results of each image, if `parts` has a one for each image, so that sums are weights."""
    pool: Callable[[Contributions], Callable[[np.ndarray], np.ndarray]] | None = None
    """With `content`: return the figure of this result and another one together, as a function of the weights [...,
    images of this one and images of the other one]."""


@dataclass(frozen=True)
class Reason:
    """One reason of a verdict: its kind, such as `run_delay`, and the detail. Its text is "kind: detail"."""

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.kind, self.detail)))

    @classmethod
    def parse(cls, text: str) -> Reason:
        """Return the reason with this text."""
        kind, _, detail = text.partition(": ")
        return cls(kind, detail)


@dataclass(frozen=True)
class Validity:
    """The verdict on a case's numbers (`valid`, `warned` or `invalid`), with the reasons."""

    verdict: str = VALID
    reasons: tuple[Reason, ...] = ()

    def with_doubt(self, doubt: Reason) -> Validity:
        """Return the validity with a further reason. A valid verdict becomes `warned`."""
        return Validity(WARNED if self.verdict == VALID else self.verdict, (*self.reasons, doubt))


@dataclass(frozen=True)
class CaseResult:
    """The result of one case, successful or not. `reason` is set if the status is not `ok`."""

    case: Case
    status: str
    reason: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    validity: Validity = field(default_factory=Validity)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Conditions of this case in addition to those of the run: protocol, distinct inputs, counts."""
