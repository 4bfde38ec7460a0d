"""The protocols of the registered parts: data sets, devices, model families, metrics and trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from visionbench.core.data import DataClass, Example, Inputs, Picture, Row
from visionbench.core.declarations import MetricDeclaration
from visionbench.core.results import Contributions, Metrics, Predictions, Samples, Unanswered

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


# ---------------------------------------------------------------------------------------------------------------- data
LeastSize = Callable[[int, int], tuple[int, int]]
"""From the width and height of a stored image to the size, in the same order, to which the model resizes it."""


class Decoder(Protocol):
    """A way to decode image files: a registered dataclass without options. Several threads call it at once."""

    is_reference: ClassVar[bool]
    """Whether it is the reference, with which other decoders are compared."""
    reduces: ClassVar[bool]
    """Whether an image can be smaller than stored, as small as the model's processor needs it."""

    def why_unavailable(self) -> str | None:
        """Return why the decoder cannot be used on this machine, with a remedy, or None. Imports nothing large."""

    def decode(self, opened: Image, least: LeastSize | None) -> Image | None:
        """Return the pixels as stored, before a rotation by EXIF, or None to leave the file to Pillow.

        `opened` is the file as Pillow opened it, with its header read and its pixels not decoded. `least` is None if
        the decoder does not reduce images.
        """


class DataSet(Protocol):
    """A data set: a registered dataclass whose fields are its YAML options. Building it reads nothing."""

    provides: ClassVar[frozenset[str]]
    """The annotations of its examples: any of `captions`, `labels`, `masks`, `boxes`, `class_map`, `depth` and
    `questions`."""

    def examples(self) -> Sequence[Example]:
        """Return all examples in a fixed order. May read or write files. Raises ConfigError if files are missing."""

    def classes(self) -> Sequence[str]:
        """Return the names of all classes in their fixed order, or nothing if the data set has no labels."""

    def identity(self) -> Mapping[str, str]:
        """Return the facts that identify this data set (root, split, seed, digest …). They are in every run.json."""


class FetchProgress(Protocol):
    """A display of the progress of a download."""

    def line(self, text: str) -> None:
        """Print one line."""

    def show(self, name: str, done: int, total: int | None) -> None:
        """Show the progress of a file or a list. `total` is None if it is unknown."""


class FetchSource(Protocol):
    """A place from which the folder of a data set can be fetched."""

    def is_ready(self) -> bool:
        """Return whether the folder is complete."""

    def check(self, samples: int) -> None:
        """Raise ConfigError if this number of images cannot be fetched into the folder. Does not use the network."""

    def fetch(self, samples: int, progress: FetchProgress) -> None:
        """Fetch this number of images with their annotations. Raises ConfigError if they cannot be fetched."""


@runtime_checkable
class Fetchable(Protocol):
    """A data set that visionbench can download into its folder."""

    def fetch_source(self) -> FetchSource:
        """Return the source for the folder of this data set."""


@runtime_checkable
class DescribesClasses(Protocol):
    """A data set with more information about its classes than their names."""

    def described_classes(self) -> Sequence[DataClass]:
        """Return its classes in the order of `classes()`."""


@runtime_checkable
class HasBoxes(Protocol):
    """A data set whose examples have boxes of objects."""

    def box_classes(self) -> Sequence[DataClass]:
        """Return the classes of its boxes in a fixed order. Raises ConfigError if the annotations do not have them."""


@runtime_checkable
class DependsOnPredictions(Protocol):
    """A data set that gives different examples to models with different predictions."""

    def for_predictions(self, columns: frozenset[str]) -> DataSet:
        """Return the data set for a model that predicts these columns."""


@runtime_checkable
class HasClassMaps(Protocol):
    """A data set whose examples have a class for each pixel."""

    def map_classes(self) -> Sequence[DataClass]:
        """Return the classes of the pixels, by index."""


@runtime_checkable
class ReportsWarnings(Protocol):
    """A data set that warns about files of its folder that its examples may not include."""

    def warnings(self) -> Mapping[str, str]:
        """Return flags for the quality case: a flag such as `other_endings`, and its detail."""


@runtime_checkable
class HasOptionalAnnotations(Protocol):
    """A data set whose files need not have all annotations that its class `provides`."""

    def absent_annotations(self) -> Mapping[str, str]:
        """Return the kinds of annotations that no image has, each with the reason. May read or write files."""


@runtime_checkable
class HasOtherImages(Protocol):
    """A data set that can give images of the same kind that are not its examples, such as those of another split."""

    def other_images(self, count: int) -> DataSet:
        """Return a data set with at most this number of other images. Its `identity` names where they come from."""


# ------------------------------------------------------------------------------------------------------------- devices
CALIBRATED = ("int8_static",)
"""The methods of quantisation that need calibration images."""


@dataclass(frozen=True)
class Precision:
    """The number format of a run, with the keys of `precision` in the configuration."""

    name: str
    dtype: str
    """The torch dtype of weights and inputs. With `autocast`, the dtype that torch.autocast computes in."""
    tf32: bool = False
    autocast: bool = False
    quantization: str | None = None
    calibration_images: int | None = None
    """The number of images that calibrate a static quantisation."""

    @property
    def stored_dtype(self) -> str:
        """The torch dtype of weights and inputs."""
        return "float32" if self.autocast else self.dtype

    @property
    def parity_limit(self) -> str:
        """The key of `measure.parity.min_cosine` for this precision: `int8`, `fp8`, or the dtype of the products."""
        return self.quantization.partition("_")[0] if self.quantization else self.dtype

    @property
    def is_calibrated(self) -> bool:
        """Whether the quantisation reads images, to find the ranges of the values between the layers."""
        return self.quantization in CALIBRATED

    @property
    def is_fp32(self) -> bool:
        """Whether products are in IEEE fp32, so that there is nothing to compare with fp32."""
        return self.dtype == "float32" and not self.tf32 and not self.quantization

    def why_torch_only(self) -> str | None:
        """Return why only torch can compute in this precision, with a remedy, or None if other runtimes can."""
        if not self.autocast:
            return None
        return f"{self.name} is done by torch.autocast, which needs torch; use runtime=eager or runtime=compile"


@dataclass(frozen=True)
class CallTiming:
    """One call in seconds: host time to completion, device time between events, and enqueue time (None on a CPU)."""

    host_s: float
    device_s: float | None = None
    enqueue_s: float | None = None


class Device(Protocol):
    """A device: the only place that synchronises, times and reads memory on it."""

    kind: ClassVar[str]
    """The registered name, `cpu` or `cuda`. The tolerances of the protocol are chosen by it."""
    queued: ClassVar[bool]
    """Whether one host thread feeds the device through a queue, so that calls return before their work is done."""
    shares_host_memory: ClassVar[bool]
    """Whether the device reads the host's memory directly, so that inputs are not copied to it."""
    copy_block_bytes: ClassVar[int]
    """The size of the block whose copies measure the memory bandwidth: larger than the device's caches."""
    probe_lag_s: ClassVar[float]
    """The longest window in seconds that a reading of `probe` averages over."""

    @property
    def id(self) -> str:
        """Torch's name of the device, such as `cuda:0`."""

    def why_absent(self) -> str | None:
        """Return why this machine has no such device, or None if it has one. Fast, and does not import torch."""

    def why_unusable(self) -> str | None:
        """Return why installed hardware of this kind cannot be used, or None if it can be used or is not installed."""

    def why_unsupported(self, precision: Precision) -> str | None:
        """Return why the device cannot compute in this precision, with a remedy, or None if it can."""

    def precision_warning(self, precision: Precision) -> str | None:
        """Return a warning if the device is slow in this precision, or None if it is not."""

    def setup(self, precision: Precision, threads: int | None) -> None:
        """Select the device, and set its threads and numeric switches. Called once in each measuring process."""

    def synchronize(self) -> None:
        """Return when all work issued so far is done."""

    def mark(self, name: str) -> AbstractContextManager[None]:
        """Name a section of work for the profilers of the device. Never used around a single timed call."""

    def time_call(self, call: Callable[[], object]) -> CallTiming:
        """Time one call, synchronised before and after."""

    def back_to_back(self, calls: Iterable[Callable[[], object]], in_flight: int) -> list[float]:
        """Issue the calls with at most `in_flight` unfinished; return seconds from the start to each completion."""

    def profile(self, call: Callable[[], object]) -> Samples:
        """Run one call under a profiler, outside timed windows.

        Return the series `kernels/busy_s`, `launched_count` and `host_waits_count`, or the reason why they are missing.
        """

    def reset_peak_memory(self) -> None:
        """Begin a window for `peak_memory`."""

    def peak_memory(self, kept_bytes: int) -> Samples:
        """Return the peaks since `reset_peak_memory` in series `memory/…_bytes`, and the reason for each missing one.

        `kept_bytes` of host memory belong to the benchmark. If the process's peak includes them, they are recorded as
        `memory/kept_inputs_bytes`, and the metric subtracts them.
        """

    def memory_in_use(self) -> Samples:
        """Return the memory that the process holds now, in series `memory/…_bytes`."""

    def watch(self) -> Callable[[], Samples]:
        """Begin a window. The returned function ends it and returns its disturbances as flags and faults.

        All readings are before and after the window, so that the window is not slowed down.
        """

    def meter(self) -> Callable[[], Samples]:
        """Begin an energy window. The returned function synchronises and ends the window.

        It returns the series `telemetry/energy_j`, or the reason why it is missing.
        """

    def probe(self) -> Mapping[str, float]:
        """Return the current readings of the device's load by the name of their series (`telemetry/gpu_power_w`).

        Empty if the device has no readings. Called during the work, from a separate thread.
        """

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether the error means that this device ran out of memory."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the facts that identify this device: name, driver, clocks, limits, threads."""


@runtime_checkable
class Counted(Protocol):
    """A device of which a machine may have several. Only one run at a time may use each of them."""

    def count(self) -> int:
        """Return the number of such devices that this process can use."""


@dataclass(frozen=True)
class MemoryLimit:
    """The memory that a process can use."""

    bytes: float
    source: str
    """Where the limit comes from, such as `free memory of the machine`."""


@runtime_checkable
class LimitsMemory(Protocol):
    """A device whose memory is known, so that batch=auto can search for the largest batch size."""

    def memory_limit(self) -> MemoryLimit:
        """Return the memory that this process can use, including what it uses now. Called after `setup`."""

    def limited_peak(self, peaks: Samples) -> float | None:
        """Return the peak that the limit applies to, from the samples of `peak_memory`; None if it is missing."""


# -------------------------------------------------------------------------------------------------------------- models
@dataclass(frozen=True)
class ModelPart:
    """A part of a model's call that can run by itself, on inputs prepared for it."""

    call: Callable[[], Any]
    times: int = 1
    """The number of times it runs within one call of the model."""


class LoadedModel(Protocol):
    """A model on its device, ready to be called."""

    module: torch.nn.Module
    dtype: torch.dtype
    """The run's dtype. Inputs are converted to it; some parameters may have another (BLIP-2's Q-Former in fp16)."""
    identity: Mapping[str, Any]
    """The identity of the model: weights, checkpoint, revision, classes of model and processor, dtype, attention."""

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Return the units of work of one call, `{"images": 4, "tokens": 80}`. Runs are compared by the first unit."""

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Convert decoded images, with one caption each, to one batch on the host with the model's processor."""

    def call(self, inputs: Inputs) -> object:
        """Run the measured work: one batch, on the device, forward only."""

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Return floating-point outputs by the input they depend on (`image`, `text`). Each must follow its input."""

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """Return the parts of `call` by name, in order (`encoder`, `decoder`). Together they do all its work.

        If the input of a part is the output of another part, it is computed here, once. The method also works for a
        module on the meta device, which has no values.
        """

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Convert the return value of `call` to one answer for each image: embeddings, masks, a caption, a class."""


@runtime_checkable
class PadsImages(Protocol):
    """A loaded model whose image processor gives images of several sizes, which a batch pads to one size."""

    def pad(self, singles: Sequence[Inputs]) -> tuple[list[Inputs], str]:
        """Return the inputs of one image each in one common size, and a description of the padding, or ''."""


@runtime_checkable
class Collates(Protocol):
    """A loaded model whose inputs of single images cannot be concatenated, such as texts of several lengths."""

    def collate(self, inputs: Sequence[Inputs]) -> Inputs:
        """Return one batch from the inputs of single images. `preprocess` gives the same for these images together."""


@runtime_checkable
class DescribesInputs(Protocol):
    """A loaded model whose speed depends on properties of its inputs that images of several sizes change."""

    def describe_inputs(self, inputs: Sequence[Inputs]) -> Mapping[str, str]:
        """Return these properties over the inputs of single images, as labels of timed cases."""


@runtime_checkable
class NeedsValues(Protocol):
    """A loaded model for which the values of some inputs determine the shapes of the computation."""

    host_inputs: ClassVar[frozenset[str]]
    """The names of these inputs. They keep their values when `parts` is called for a module without values."""


@runtime_checkable
class HasGraphs(Protocol):
    """A loaded model with parts that a runtime can execute. A call of the model is one call of each part, in order."""

    def graphs(self) -> Mapping[str, torch.nn.Module]:
        """Return the parts by name (`image`). Each takes tensors with a batch axis, and returns a tensor or a tuple."""

    def graph_inputs(self, part: str, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """Return the tensors of a part for this batch. An output of an earlier part is computed by torch."""

    def with_graphs(self, executed: Mapping[str, Callable[..., Any]]) -> LoadedModel:
        """Return the model in which these functions replace its parts, for timed calls and for quality."""

    def other_work(self) -> str:
        """Return the names of the work of a call that is in no graph, such as `decode`, or an empty text."""


@dataclass(frozen=True)
class ExecutedGraph:
    """A part of a model that a runtime executes."""

    call: Callable[..., Any]
    """It takes the tensors of the part, and returns what the part returns, on the same device and in the same dtype."""
    export_s: float | None = None
    """The seconds of converting the part to a file; None if it was not converted now."""
    compile_s: float | None = None
    """The seconds of preparing the execution."""
    file_bytes: int | None = None
    """The size of the converted part."""
    quantize_s: float | None = None
    """The seconds of quantising the part; None if it was not quantised now."""
    facts: Mapping[str, str | int] = field(default_factory=dict)
    """Further facts for run.json, such as the precision that the runtime computes in. Numbers are added over parts."""


class Runtime(Protocol):
    """A library that executes the parts of a loaded model: a registered dataclass with the keys of `runtime`."""

    replaces_eager: ClassVar[bool]
    """Whether parts are executed by this runtime, and not by torch as the model calls it."""
    keeps_layout: ClassVar[bool]
    """Whether torch computes with the memory format of the weights, so that `model.channels_last` has an effect."""
    compiles_each_size: ClassVar[bool]
    """Whether the first call at a new batch size compiles. `reset` is then called before each batch size."""

    def why_unavailable(self) -> str | None:
        """Return why the runtime cannot be used on this machine, with a remedy, or None. Imports nothing large."""

    def why_unsupported(self, device: str, precision: Precision) -> str | None:
        """Return why it cannot execute on this kind of device or in this precision, with a remedy, or None."""

    def execute(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Prepare the execution of a part. `inputs` are example tensors with a batch of two.

        Raises ConfigError if the runtime cannot execute the part.
        """

    def reset(self) -> None:
        """Forget what was compiled for other batch sizes."""


@dataclass(frozen=True)
class Calibration:
    """Inputs of a part that calibrate its static quantisation. Their images are not evaluated."""

    batches: Callable[[], Iterable[tuple[torch.Tensor, ...]]]
    """Compute the inputs, as batches of tensors on the host."""
    count: int
    """The number of batches."""
    digest: str
    """A digest of the preprocessed images and captions."""


@runtime_checkable
class Quantizes(Runtime, Protocol):
    """A runtime that quantises the parts with its own library. Another runtime executes what torchao has quantised."""

    quantizations: ClassVar[tuple[str, ...]]
    """The methods, such as `int8_dynamic`."""

    def why_no_quantization(self, method: str) -> str | None:
        """Return which package is missing for a method, with the command that installs it, or None."""

    def execute_quantized(
        self,
        graph: torch.nn.Module,
        inputs: tuple[torch.Tensor, ...],
        precision: Precision,
        calibration: Calibration | None,
    ) -> ExecutedGraph:
        """Quantise a part by the method of the precision, and prepare its execution as `execute` does.

        A method of `CALIBRATED` has a calibration. The facts of the result have `quantized_layers`, `linear_layers`,
        `quantized_parameters` and the version of the library. Raises ConfigError if no layer is quantised.
        """


@dataclass(frozen=True)
class Writing:
    """How a loaded model writes a text about an image."""

    reads_prompts: bool
    """Whether the text of a user can be part of its prompt."""
    tokens: int
    """The maximum length of a text in tokens, unless another is given."""
    beams: int = 1
    end_tokens: frozenset[int] = frozenset()
    """The tokens that end a text."""
    positions: int | None = None
    """The maximum number of tokens of a prompt and its text together, or None if there is no maximum."""
    counts_prompt: bool = True
    """Whether the prompt uses positions."""
    joins_words: bool = False
    """Whether the last word of a text may change with the next token, as with word pieces."""


Watch = Callable[[Any], Any]
"""From the new tokens [B, L] after each step of greedy decoding to whether each text is complete: bool [B]."""


@runtime_checkable
class WritesText(Protocol):
    """A loaded model that writes a text about an image with a prompt that may differ in each batch."""

    writing: Writing

    def prepare_request(self, image: Image, prompt: str) -> Inputs:
        """Return the inputs of one image on the host. An empty prompt is that of the options.

        Raises ValueError if the prompt is too long. Several threads call it at once.
        """

    def write(self, inputs: Inputs, most: int, watch: Watch | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return at most this number of new tokens [B, L], and whether any logit of each text was NaN [B]."""

    def to_texts(self, tokens: torch.Tensor) -> list[str]:
        """Return new tokens [B, L] as texts."""


class Evaluator(Protocol):
    """A model that predicts for quality metrics, in three steps for each batch. Each step runs in its own thread.

    Columns by name: `image_embedding` [D], `caption_embeddings` [C, D], `class_scores` [classes], `caption`,
    `features` [D], `answers` [Q] to the questions about an image, and for each kind of prompt `<kind>_masks` [K][3] and
    `<kind>_estimates` [K, 3], with `truth_masks` [K] (masks in COCO's compressed run lengths), `mask_size` (height,
    width) and `empty_masks`, the number of masks without a pixel. `predicted_map` [H, W] holds the class of each pixel
    as an index into `classes`, or their number for another class of the model. `predicted_depth` [H, W] holds the
    depth of each pixel, or its inverse if `inverse_depth` is true.
    `boxes` [N, 4] (x, y, width and height in pixels of the image), `box_scores` [N] and `box_classes` [N], the index in
    `classes`, are those of a detector.
    """

    @property
    def classes(self) -> Sequence[str]:
        """The class names by index, in the order of `class_scores`, or nothing if there are no classes."""

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Convert images to a batch on the host with the model's processor. Several threads call it at once."""

    def forward(self, inputs: Inputs) -> Any:
        """Return the model's output for a batch, copied to the host."""

    def finish(self, output: Any, pictures: Sequence[Picture]) -> Sequence[Row | Unanswered]:
        """Return one row for each image, with every requested column that the model provides.

        A row may hold NaN or infinity, in any column. Its image is then left out, or ends the case.
        """


class Predictor(LoadedModel, Protocol):
    """A loaded model whose adapter lists columns in `predicts`."""

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return the evaluator for these columns. Raises ConfigError if the model does not have these classes."""


class Adapter(Protocol):
    """A model family: a registered dataclass whose fields are the YAML's `model.options`. Building it loads nothing."""

    task: ClassVar[str]
    predicts: ClassVar[frozenset[str]]
    """The columns of predictions that the family provides."""

    def uses(self) -> frozenset[str]:
        """Return what a timed call needs from the data in addition to images: `captions`, or nothing."""

    def load(self, model: Any, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load the checkpoint of a `config.ModelConfig`, or its architecture with random weights, on the device."""


@runtime_checkable
class NamesGraphs(Protocol):
    """A model family whose loaded models have parts that a runtime can execute; see `HasGraphs`."""

    def graph_names(self) -> tuple[str, ...]:
        """Return the names of the parts that are executed in a timed call."""


@runtime_checkable
class HasClassNames(Protocol):
    """A model family whose models have a fixed list of classes."""

    def class_names(self, model: Any) -> Sequence[str]:
        """Return the class names by index, read from the checkpoint's config before the model is loaded."""


# ------------------------------------------------------------------------------------------------------------- metrics
class Metric(Protocol):
    """A metric group: a registered dataclass whose fields are its YAML options."""

    stages: ClassVar[tuple[str, ...]]
    """The stages whose samples it needs."""

    def compute(self, samples: Samples) -> Metrics:
        """Compute numbers from samples. A pure function: the same samples give the same numbers."""


@runtime_checkable
class NeedsPrice(Metric, Protocol):
    """A metric group that a run has only if a price is given."""

    needs_price: ClassVar[bool]


@runtime_checkable
class DeclaresMetrics(Protocol):
    """A metric group that declares its metrics, so that tables, reports, charts and comparisons include them."""

    declarations: ClassVar[tuple[MetricDeclaration, ...]]
    """A declaration of each metric or family of metrics that `compute` returns."""


@runtime_checkable
class QualityMetric(Metric, Protocol):
    """A metric group that reads a model's predictions for a data set, and so needs trained weights."""

    reads: ClassVar[frozenset[str]]
    """The columns of the predictions that it reads."""
    needs: ClassVar[frozenset[str]]
    """The annotations that the data set must have."""

    def score(self, predictions: Predictions) -> Samples:
        """Compute raw samples from the predictions of the complete data set, one or more for each item."""


@runtime_checkable
class ComparesImages(QualityMetric, Protocol):
    """A quality metric that compares each prediction with its annotation at once, because both are as large as the
    image and are not kept."""

    replaces: ClassVar[frozenset[str]]
    """The columns that are dropped after the comparison."""

    def compare(self, row: Row) -> Row:
        """Return the columns that replace them, for one image. Several threads call it at once."""


@runtime_checkable
class Resampled(QualityMetric, Protocol):
    """A quality metric whose figures have intervals over images."""

    def contributions(self, samples: Samples) -> Mapping[str, Contributions]:
        """Return the contributions of each image to each figure with an interval, by the metric's name.

        Images are in the order of the predictions. A figure that these samples do not have is left out.
        """


# ------------------------------------------------------------------------------------------------------------ trackers
class Tracker(Protocol):
    """A store that receives results after the run's folder has them."""

    def open(self) -> None:
        """Import the store's client and prepare the store, before anything is measured. Raises TrackingError."""

    def log(self, folder: Path, figures: bool = True) -> str:
        """Send a run's folder, and return the address or the command to view it, or ''. Sending again changes nothing.

        While a sweep is measured, runs are sent without `figures`. At its end, another call for each run sends them.
        Raises TrackingError if the store does not answer.
        """

    def attach(self, folder: Path, files: Sequence[Path], again: bool = True) -> None:
        """Add files below `report/` to a run that was sent. With `again`, replace files that the run has already.

        Raises TrackingError if the store does not answer or has no such run.
        """
