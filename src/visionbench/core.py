"""The frozen values that travel down the line, and the protocols of the parts. Imports nothing of visionbench.

ExperimentConfig → RunPlan (cases) → Samples → metrics → CaseResult → results.jsonl → tracker
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Inputs = Mapping[str, Any]
"""One preprocessed batch: names to tensors whose first axis is the batch."""

Row = Mapping[str, Any]
"""What a model says of one picture, or what is true of it: names to a number, a string, a list of them, or an array."""


# ---------------------------------------------------------------------------------------------------------------- data
@dataclass(frozen=True)
class Example:
    """One picture of a data set, still encoded on disk, with what is known of it."""

    id: str
    image: Path
    captions: tuple[str, ...] = ()
    label: str | None = None
    """The name of its class, one of the data set's `classes()`."""
    masks: Callable[[], np.ndarray] | None = field(default=None, compare=False)
    """Reads the masks of its instances: bool [K, H, W] in the picture's own size, crowd regions left out."""
    faults: tuple[str, ...] = ()
    """What is wrong with its annotations, a few words each; such an example is refused or left out, never mended."""
    instances: int = 0
    """How many instances `masks` gives."""
    size: tuple[int, int] | None = None
    """Height and width of its masks, where the annotations give them."""
    exif: str | None = None
    """Which pixels its masks were drawn on, where `data.exif` names them: `stored`, or `turned` as EXIF says."""

    @property
    def turned(self) -> bool:
        """Whether its picture is turned as its EXIF orientation says."""
        return self.exif != "stored"


@dataclass(frozen=True)
class Picture:
    """An example with its picture decoded, and its masks where they are asked for."""

    example: Example
    image: Image
    masks: np.ndarray | None = None
    """bool [K, H, W]."""


@dataclass(frozen=True)
class DataClass:
    """A class of a data set, with what helps to find it among a model's classes."""

    name: str
    """One of the data set's `classes()`."""
    number: str = ""
    """Its WordNet number, such as n01440764, where it has one."""
    target: str | int | None = None
    """The model's class that the config gives for it, by its name or its index."""


class DataSet(Protocol):
    """A data set: a registered dataclass whose fields are its YAML options. Building it reads nothing."""

    gives: ClassVar[frozenset[str]]
    """What its examples carry, of `captions`, `labels`, `masks`."""

    def examples(self) -> Sequence[Example]:
        """All examples in a fixed order; writes or reads files. Raises ConfigError where something is missing."""

    def classes(self) -> Sequence[str]:
        """The names of all classes in their fixed order; empty where it gives no labels."""

    def identity(self) -> Mapping[str, str]:
        """What makes this data set this one (root, split, seed, digest …), to be kept beside every result."""


@runtime_checkable
class DescribesClasses(Protocol):
    """A data set that knows more of its classes than their names."""

    def described_classes(self) -> Sequence[DataClass]:
        """Its classes in the order of `classes()`."""


@runtime_checkable
class HasDoubts(Protocol):
    """A data set that can say what of its folder may be missing in its examples."""

    def doubts(self) -> Mapping[str, str]:
        """Flags for the quality row: flag (`other_endings`) to what was seen."""


# -------------------------------------------------------------------------------------------------------------- plan
@dataclass(frozen=True)
class Case:
    """One measurement of a run: a batch size, or (`quality`) the data set once through the model."""

    id: str
    batch_size: int
    stages: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def timed(self) -> bool:
        """Whether it is a batch size to be timed, and not the quality case."""
        return "evaluation" not in self.stages


@dataclass(frozen=True)
class RunPlan:
    """One model on one device in one precision; its cases share the loaded model."""

    name: str
    model: str
    task: str
    device: str
    precision: str
    cases: tuple[Case, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    """Metric groups that cannot be had in this run, each with the reason."""
    unsuited: Mapping[str, str] = field(default_factory=dict)
    """Quality metrics of other tasks than this model's, where it has one of its own."""
    warnings: tuple[str, ...] = ()
    protocol: str = ""
    """The name of the measure config, with the keys that were set differently for this run."""


# ------------------------------------------------------------------------------------------------------------ results
@dataclass(frozen=True)
class Samples:
    """What was measured, raw. A series is a flat float64 array whose name ends in its unit, `latency/host_s` say."""

    series: Mapping[str, np.ndarray] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    """Series that cannot be had here, each with the reason."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Doubts raised while measuring: flag (`not_converged`) to what was seen."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """What makes the numbers void (`thermal_throttling`), to what was seen."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Conditions of the window that raise no doubt (`software_power_cap`), to what was seen."""

    def merged(self, other: Samples) -> Samples:
        """Both together; where a name stands in both, the other's."""
        return Samples(
            {**self.series, **other.series},
            {**self.missing, **other.missing},
            {**self.flags, **other.flags},
            {**self.faults, **other.faults},
            {**self.labels, **other.labels},
        )

    def get(self, name: str) -> np.ndarray:
        """The series, empty where there is none."""
        return self.series.get(name, np.empty(0))

    def why_missing(self, name: str) -> str:
        """The reason for a series that is not there."""
        return self.missing.get(name, f"no {name} was recorded")


@dataclass(frozen=True)
class Predictions:
    """What a model says of a data set beside what is true of it, kept so that metrics can be computed again."""

    ids: Sequence[str]
    """Of the pictures, in the data set's order."""
    columns: Mapping[str, Sequence[Any]]
    """One entry a picture: a number, a string, a list of strings, or an array."""
    classes: Sequence[str] = ()
    """The names that `class_scores` are in the order of."""


EVALUATION_STEPS = ("decode", "preprocess", "forward", "postprocess")
"""What a picture goes through for quality, from its file to the model's answer."""
PIPELINE_STEPS = ("read", "decode", "preprocess", "copy", "forward", "postprocess")
"""The same for speed, from bytes on disk, with the way to the device as a step of its own."""
CAPTIONS_CUT = "captions_cut"
"""A column that a model may give beside `caption_embeddings`: how many of a picture's captions it read only in part."""
TRUTHS = frozenset({"references", "label"})
"""Columns of the predictions that come from the data set: a picture's captions [C], and its class."""


@dataclass(frozen=True)
class Metrics:
    """Numbers computed from samples. A value that cannot be had is None, and `reasons` says why."""

    values: Mapping[str, float | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def merged(self, other: Metrics) -> Metrics:
        """Both together; where a name stands in both, the other's."""
        return Metrics({**self.values, **other.values}, {**self.reasons, **other.reasons})


@dataclass(frozen=True)
class Contributions:
    """A quality figure as a function of sums over pictures, from which its interval follows."""

    parts: Any
    """What each picture adds to the sums: an array [pictures, sums], or a sparse one of scipy."""
    value: Callable[[np.ndarray], np.ndarray]
    """Sums [..., sums] to the figure [...]; not finite where there is none."""
    hits: bool = False
    """Whether the sums are hits and tries, and the figure their ratio."""
    at_most_one: bool = True
    """Whether no picture can contribute more than 1 to the mean."""
    over_classes: bool = False
    """Whether the figure is an average over classes, which a resample gets wrong where a class has few pictures."""


QUALITY, SPEED, MEMORY = "quality", "speed", "memory"
"""Kinds of metrics. Quality is compared picture by picture; speed is slower or faster, memory is more or less."""
HIGHER, LOWER = "higher", "lower"
"""Which values of a metric are better."""
GEOMETRIC_MEAN, LARGEST, SMALLEST = "geometric mean", "largest", "smallest"
"""How the values of several processes become one."""
OVER_PICTURES, WITHIN_PROCESS, ACROSS_PROCESSES = "over_pictures", "within_process", "across_processes"
"""What an interval of a metric covers."""


@dataclass(frozen=True)
class MetricDeclaration:
    """What a metric means and how it is shown, compared and gathered; or that of a family of metrics.

    Raises ValueError for a field that has none of the values listed for it.
    """

    name: str
    """The metric's name. In a family, `{a,b}` stands for each alternative, `<k>` for a number, `<part>` for a word."""
    unit: str
    """The unit as readers see it, such as `ms` or `fraction`."""
    meaning: str = ""
    """One phrase for the documentation."""
    better: str = ""
    """`higher` or `lower`; empty if neither is better."""
    kind: str = ""
    """`quality`, `speed`, `memory`, or empty for any other."""
    title: str = ""
    """A short heading. `{0}` is the first variable part of a family's name, `{1}` the second."""
    translations: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The title in other languages, by language code."""
    table: bool = False
    """Whether the tables of the terminal and of the report have a column for it."""
    compared: bool = False
    """Whether `visionbench compare` takes it without `--metric`."""
    headline: int = 0
    """1 for the metric that models of a task are compared by, 2 for others that charts show; 0 for none of both."""
    order: int = 100
    """Position in tables and charts, lowest first."""
    unless: tuple[str, ...] = ()
    """Metrics that replace it in tables and comparisons if one of them has a value."""
    gather: str = GEOMETRIC_MEAN
    """How values of several processes become one: `geometric mean`, `largest` or `smallest`."""
    intervals: tuple[str, ...] = ()
    """The intervals that are reported with it: `over_pictures`, `within_process`, `across_processes`."""
    options: tuple[str, ...] = ()
    """Options of the metric group without which values cannot be compared."""
    group: str = ""
    """The metric group, such as `latency`; filled in when the declarations of a run are collected."""
    part_of: str = ""
    """For an end or the width of an interval: the metric that the interval belongs to."""

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("better", (self.better,), ("", HIGHER, LOWER)),
            ("kind", (self.kind,), ("", QUALITY, SPEED, MEMORY)),
            ("gather", (self.gather,), (GEOMETRIC_MEAN, LARGEST, SMALLEST)),
            ("intervals", self.intervals, (OVER_PICTURES, WITHIN_PROCESS, ACROSS_PROCESSES)),
        ):
            if wrong := [one for one in value if one not in allowed]:
                listed = ", ".join(filter(None, allowed))
                raise ValueError(f"declaration of {self.name}: {key} is '{wrong[0]}'; use one of: {listed}")


def interval_ends(metric: str, infix: str = "") -> tuple[str, str]:
    """Return the names of the lower and upper end of a metric's interval.

    They are `…_low_fraction` and `…_high_fraction` for `…_fraction`; the infix, if any, comes before `low` and `high`.
    """
    stem, unit = split_unit(metric)
    stem = "_".join(filter(None, [stem, infix]))
    return f"{stem}_low_{unit}", f"{stem}_high_{unit}"


def interval_half_width(metric: str) -> str:
    """Return the name of the half width of a metric's interval across processes, relative to its centre."""
    return f"{split_unit(metric)[0]}_{ACROSS_PROCESSES}_half_width_fraction"


def split_unit(metric: str) -> tuple[str, str]:
    """Split a metric's name into its stem and its unit: `throughput_images` and `per_s`."""
    stem, _, unit = metric.rpartition("_per_s") if metric.endswith("_per_s") else metric.rpartition("_")
    return stem, unit or "per_s"


VALID, WARNED, INVALID = "valid", "warned", "invalid"


@dataclass(frozen=True)
class Validity:
    """Whether a number is to be trusted: `valid`, `warned` or `invalid`, with the reasons."""

    verdict: str = VALID
    reasons: tuple[str, ...] = ()


OK = "ok"
"""Statuses of a case, here and below."""
FAILED = "failed"
OUT_OF_MEMORY = "out_of_memory"
SKIPPED_AFTER_OOM = "skipped_after_oom"
KILLED = "killed"
NOT_RUN = "not_run"
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class CaseResult:
    """A row: what came of a case, good or bad. `reason` is set whenever the status is not `ok`."""

    case: Case
    status: str
    reason: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    validity: Validity = field(default_factory=Validity)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Conditions of the numbers beyond the run's own: protocol, distinct inputs, counts."""


# -------------------------------------------------------------------------------------------------------------- parts
@dataclass(frozen=True)
class Precision:
    """How numbers are kept and multiplied: the torch dtype of weights and inputs, and whether TF32 may be used."""

    name: str
    dtype: str
    tf32: bool = False


@dataclass(frozen=True)
class CallTiming:
    """One call in seconds: host time to completion, device span by events, and time to enqueue (None on a CPU)."""

    host_s: float
    device_s: float | None = None
    enqueue_s: float | None = None


class Device(Protocol):
    """A device: the only place that knows how to synchronise, to time and to read memory on it."""

    kind: ClassVar[str]
    """The registered name, `cpu` or `cuda`, by which the protocol's tolerances are chosen."""
    queued: ClassVar[bool]
    """Whether one host thread feeds the device through a queue, so that calls return before their work is done."""
    probe_lag_s: ClassVar[float]
    """How far back `probe` may reach: its readings are means over at most this many seconds."""

    @property
    def id(self) -> str:
        """Torch's name of the device, `cuda:0`."""

    def why_absent(self) -> str | None:
        """Why this machine has no such device, or None where it has. Cheap, without importing torch."""

    def setup(self, precision: Precision, threads: int | None) -> None:
        """Select the device and set threads and numeric switches, once, in the measuring process."""

    def synchronize(self) -> None:
        """Return when all work issued so far is done."""

    def mark(self, name: str) -> AbstractContextManager[None]:
        """Name a stretch of work for the device's own profilers; never around a single timed call."""

    def time_call(self, call: Callable[[], object]) -> CallTiming:
        """Time one call, synchronised before and after."""

    def back_to_back(self, calls: Iterable[Callable[[], object]], in_flight: int) -> list[float]:
        """Issue the calls with at most `in_flight` unfinished; seconds from the start to each completion."""

    def profile(self, call: Callable[[], object]) -> Samples:
        """One call under a profiler, outside timed windows: series `kernels/busy_s`, `launched_count` and
        `host_waits_count`, or the reason why there is none."""

    def reset_peak_memory(self) -> None:
        """Begin a window for `peak_memory`."""

    def peak_memory(self, kept_bytes: int) -> Samples:
        """Peaks since `reset_peak_memory`, in series `memory/…_bytes`; what cannot be had is missing, with a reason.

        `kept_bytes` of host memory belong to the benchmark: where the process's peak holds them they are recorded as
        `memory/kept_inputs_bytes`, for the metric to subtract.
        """

    def memory_in_use(self) -> Samples:
        """What the process holds now, in series `memory/…_bytes`."""

    def watch(self) -> Callable[[], Samples]:
        """Begin a window: what is returned ends it, and gives as flags and faults what disturbed the device within.

        Readings before and after alone, so that they cost nothing in between.
        """

    def meter(self) -> Callable[[], Samples]:
        """Begin a window of energy: what is returned ends it, synchronised, and gives `telemetry/energy_j`, or under
        that name why it cannot be had."""

    def probe(self) -> Mapping[str, float]:
        """A reading of how hard the device works now: series of the telemetry pass (`telemetry/gpu_power_w`) to values;
        empty where there is nothing to read. Called beside the work, from a thread of its own."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the error means that this device had no room."""

    def fingerprint(self) -> Mapping[str, Any]:
        """What this device is: name, driver, clocks, limits, threads."""


@dataclass(frozen=True)
class ModelPart:
    """A part of a model's call that can be run by itself, on inputs that were made ready for it."""

    call: Callable[[], Any]
    times: int = 1
    """How often it runs within one call of the model."""


class LoadedModel(Protocol):
    """A model on its device, ready to be called."""

    module: torch.nn.Module
    dtype: torch.dtype
    """The run's dtype, which inputs are placed in. Single parameters may keep another (BLIP-2's Q-Former in fp16)."""
    identity: Mapping[str, Any]
    """What was loaded: weights, checkpoint, revision, classes of model and processor, dtype, attention."""

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Units of work that one call does, `{"images": 4, "tokens": 80}`; the first is the one to compare by."""

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Decoded pictures (and a caption each) to one batch on the host, by the model's own processor."""

    def call(self, inputs: Inputs) -> object:
        """The measured work: one batch, on the device, forward only."""

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Floating-point outputs by what they depend on (`image`, `text`): each must change where its input does."""

    def pieces(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """What `call` consists of, by name in its order (`encoder`, `decoder`): together its whole work.

        What one needs of another is computed here, once. Also for a module on the meta device, where no value is known.
        """

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """What `call` returned, as one answer for each picture: embeddings, masks, a caption, a class."""


class Evaluator(Protocol):
    """A model at work for quality: three steps of a batch, each in a thread of its own.

    Columns by name: `image_embedding` [D], `caption_embeddings` [C, D], `class_scores` [classes], `caption`, and for
    each kind of prompt `<kind>_masks` [K][3] and `<kind>_estimates` [K, 3], with `truth_masks` [K] (masks in COCO's
    compressed run lengths), `mask_size` (height, width) and `empty_masks`, a count of those that nothing can point at.
    """

    @property
    def classes(self) -> Sequence[str]:
        """The names that `class_scores` are in the order of; empty where there are none."""

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Decoded pictures to a batch on the host, by the model's own processor. Called by several threads at once."""

    def forward(self, inputs: Inputs) -> Any:
        """The model's answer to a batch, back on the host."""

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """A row for each picture: every wanted column that the model gives.

        An answer that is not finite is given as NaN, in whatever column: such a picture is left out or ends the case.
        """


class Predictor(LoadedModel, Protocol):
    """A loaded model whose adapter lists columns in `predicts`."""

    def evaluator(self, wanted: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """What gives the wanted columns. Raises ConfigError where the data set's classes are not the model's."""


class Adapter(Protocol):
    """A model family: a registered dataclass whose fields are the YAML's `model.options`. Building it loads nothing."""

    task: ClassVar[str]
    predicts: ClassVar[frozenset[str]]
    """The columns of predictions that it can give."""

    def uses(self) -> frozenset[str]:
        """What a timed call needs of the data besides pictures: `captions`, or nothing."""

    def load(self, model: Any, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load `config.ModelConfig`'s checkpoint, or its architecture with random weights, on the device."""


@runtime_checkable
class Labels(Protocol):
    """A model family whose models answer with classes of their own."""

    def labels(self, model: Any) -> Sequence[str]:
        """The names of the classes by rising index, read from the checkpoint's config before anything loads."""


class Metric(Protocol):
    """A metric group: a registered dataclass whose fields are its YAML options."""

    stages: ClassVar[tuple[str, ...]]
    """The stages that must have run."""

    def compute(self, samples: Samples) -> Metrics:
        """Samples to numbers, pure: the same samples give the same numbers again."""


@runtime_checkable
class DeclaresMetrics(Protocol):
    """A metric group that declares its metrics, so that tables, reports, charts and comparisons include them."""

    declarations: ClassVar[tuple[MetricDeclaration, ...]]
    """A declaration of each metric or family of metrics that `compute` returns."""


@runtime_checkable
class QualityMetric(Metric, Protocol):
    """A metric group that reads what a model predicts of a data set, and so needs trained weights."""

    reads: ClassVar[frozenset[str]]
    """Columns of the predictions."""
    needs: ClassVar[frozenset[str]]
    """What the data must give."""

    def score(self, predictions: Predictions) -> Samples:
        """Predictions over the whole data set to raw samples, one or more for each item."""


@runtime_checkable
class Resampled(QualityMetric, Protocol):
    """A quality metric whose figures have intervals over pictures."""

    def contributions(self, samples: Samples) -> Mapping[str, Contributions]:
        """For each figure that has an interval, by its metric's name, what each picture contributes to it.

        Pictures stand in the order of the predictions. A figure that these samples do not give is left out.
        """


class Tracker(Protocol):
    """Where results go once the run's folder has them."""

    def open(self) -> None:
        """Import what it takes and make the store ready, before anything is measured. Raises TrackingError."""

    def log(self, folder: Path) -> str:
        """Send one run's folder, whole; sending it again changes nothing. Returns where or how to see it, or ''.

        Raises TrackingError where the store does not answer.
        """

    def attach(self, folder: Path, files: Sequence[Path], again: bool = True) -> None:
        """Put these files beside what was sent of a run's folder, below `report/`: in the place of earlier ones, or
        without `again` only those that are not there.

        Raises TrackingError where the store does not answer or has no such run.
        """


class TrackingError(Exception):
    """The tracking store cannot be reached or refused; results are safe in the run's folder."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
