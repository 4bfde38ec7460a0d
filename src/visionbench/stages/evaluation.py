"""Evaluation: decode, preprocess, forward and postprocess all images of the data set once, with overlapping steps.

Batches follow the order of the data set, so that the number of threads and their timing do not change a prediction.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, cast

import numpy as np

from visionbench.config import MeasureConfig
from visionbench.core import (
    ARRAYS,
    EVALUATION_STEPS,
    TRUTH_BOXES,
    TRUTHS,
    Case,
    ComparesImages,
    Device,
    Evaluator,
    Example,
    Inputs,
    LoadedModel,
    Metric,
    Picture,
    Predictions,
    Predictor,
    QualityMetric,
    Row,
    Samples,
    Unanswered,
    VisionbenchError,
    first_line,
)
from visionbench.datafiles.images import PictureError
from visionbench.stages import answers
from visionbench.stages.decoding import Decoding
from visionbench.stages.heartbeat import LEAST_S as PAUSE_LEAST_S
from visionbench.stages.heartbeat import Heartbeat
from visionbench.stages.inputs import reason_for
from visionbench.stages.overlap import loader_count, overlap

PROGRESS_EVERY_S = 0.5
MASKS = "truth_masks"
"""The column that a promptable segmenter computes from the masks of the data set."""


class EvaluationError(VisionbenchError):
    """An image has no usable prediction, and no image may be left out. The message names the image and the reason."""


@dataclass(frozen=True)
class EvaluationContext:
    """The quality case, ready for the evaluation."""

    case: Case
    model: LoadedModel
    device: Device
    measure: MeasureConfig
    examples: Sequence[Example]
    metrics: Mapping[str, Metric]
    classes: Sequence[str] = ()
    """The classes of the labels or boxes, in the order of the model, if a metric reads them."""
    on_error: str = "fail"
    """Whether an image without a prediction ends the case (`fail`) or is left out and named (`skip`)."""
    decoding: Decoding = field(default_factory=Decoding)


@dataclass(frozen=True)
class Progress:
    """The number of images that are done, and the number of all images."""

    done: int
    total: int


@dataclass(frozen=True)
class Evaluation:
    """The result of the pass: the scores of every quality metric, the predictions, and the images left out."""

    samples: Samples
    predictions: Predictions
    left_out: Mapping[str, str]
    """The ids of images without a prediction, with the reason."""


@dataclass
class Batch:
    """One batch in the evaluation: its images, inputs, output and rows, and the seconds of each step."""

    pictures: list[Picture]
    inputs: Inputs = field(default_factory=dict)
    output: Any = None
    rows: dict[str, Row] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    """The ids of images without a prediction, with the reason."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """The ids of images whose request failed, with the reason. They never end the case."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(EVALUATION_STEPS, 0.0))

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of a block to a step."""
        start = perf_counter()
        yield
        self.seconds[step] += perf_counter() - start


@dataclass(frozen=True)
class Requested:
    """What the metrics of the case read."""

    columns: frozenset[str]
    """The columns of the predictions."""
    arrays: frozenset[str] = frozenset()
    """The annotations of `core.ARRAYS`."""
    comparisons: tuple[ComparesImages, ...] = ()
    """The metrics that compare each prediction with its annotation at once."""
    replaced: frozenset[str] = frozenset()
    """The columns that are dropped after the comparisons, because no other metric reads them."""

    @classmethod
    def by(cls, scorers: Sequence[QualityMetric]) -> Requested:
        """Return what these metrics read."""
        columns = frozenset().union(*(metric.reads for metric in scorers))
        needs = frozenset().union(*(metric.needs for metric in scorers), {"masks"} if MASKS in columns else ())
        comparisons = tuple(metric for metric in scorers if isinstance(metric, ComparesImages))
        kept = frozenset().union(*(metric.reads for metric in scorers if not isinstance(metric, ComparesImages)))
        replaced = frozenset().union(*(metric.replaces for metric in comparisons)) - kept
        return cls(columns, needs & ARRAYS.keys(), comparisons, replaced)


def run(context: EvaluationContext) -> Generator[Progress, None, Evaluation]:
    """Yield progress, and return the result.

    The samples hold the series of each metric, `evaluation/<step>_s` (the busy seconds of each batch),
    `evaluation/starved_s` (the seconds that the model waited for batches), `evaluation/seconds_s` (the duration of the
    pass) and `evaluation/images_count`. If the process was paused, the times are missing with this reason; the quality
    is not affected. Raises EvaluationError if an image has no prediction and no image may be left out.
    """
    import torch

    scorers = [metric for metric in context.metrics.values() if isinstance(metric, QualityMetric)]
    columns = frozenset().union(*(metric.reads for metric in scorers))
    with torch.inference_mode():
        evaluator = cast(Predictor, context.model).evaluator(columns - TRUTHS, context.classes)
    batches: list[Batch] = []
    starved = 0.0
    start = last_progress = perf_counter()
    with Heartbeat() as heartbeat:
        for batch, waited in predicted_batches(context, evaluator, Requested.by(scorers)):
            if batch.unusable and context.on_error == "fail":
                name, reason = next(iter(batch.unusable.items()))
                raise EvaluationError(f"{name}: {reason}", "data.on_error=skip would leave it out")
            batch.pictures, batch.inputs = [], {}
            batches.append(batch)
            starved += waited
            if perf_counter() - last_progress > PROGRESS_EVERY_S:
                last_progress = perf_counter()
                yield Progress(sum(map(_count, batches)), len(context.examples))
                if (parent_s := perf_counter() - last_progress) > PAUSE_LEAST_S:
                    heartbeat.paused_s += parent_s  # the parent process was paused and did not reply
        seconds = perf_counter() - start
    predictions = _join(batches, evaluator.classes)
    left_out = {id: reason for batch in batches for id, reason in (*batch.unusable.items(), *batch.unanswered.items())}
    if not predictions.ids:
        raise EvaluationError(f"no image has a prediction, the first because: {next(iter(left_out.values()))}")
    times = {f"evaluation/{step}_s": np.array([batch.seconds[step] for batch in batches]) for step in EVALUATION_STEPS}
    times["evaluation/starved_s"] = np.array([starved])
    times["evaluation/seconds_s"] = np.array([seconds])
    images = np.array([float(len(predictions.ids))])
    if paused := heartbeat.reason(f"the {seconds:.3g} s of the evaluation"):
        samples = Samples({"evaluation/images_count": images}, dict.fromkeys(times, f"paused: {paused}"))
    else:
        samples = Samples({**times, "evaluation/images_count": images})
    samples = samples.merged(answers.judge(predictions))
    for metric in scorers:
        samples = samples.merged(metric.score(predictions))
    return Evaluation(samples, predictions, left_out)


def _count(batch: Batch) -> int:
    """Return the number of images of a batch that are done."""
    return len(batch.rows) + len(batch.unusable) + len(batch.unanswered)


def predicted_batches(
    context: EvaluationContext, evaluator: Evaluator, requested: Requested
) -> Iterator[tuple[Batch, float]]:
    """Yield batches with their rows, in order, each with the seconds that the model waited for it to be loaded."""
    import torch

    size, examples = context.case.batch_size, context.examples
    working: Picture | None = None

    def forward(batch: Batch) -> None:
        if batch.pictures:
            with batch.timed("forward"), torch.inference_mode():
                batch.output = evaluator.forward(batch.inputs)

    def recover(batch: Batch, error: Exception) -> Batch:
        return _predict_without_unfit(batch, evaluator, requested, working, error, context.device)

    source = (examples[first : first + size] for first in range(0, len(examples), size))
    load = partial(_load, decoding=context.decoding, evaluator=evaluator, arrays=requested.arrays)
    finish = partial(_finish, evaluator=evaluator, requested=requested)
    for batch, waited in overlap(source, load, forward, finish, loader_count(context.measure.evaluation), recover):
        working = next((picture for picture in batch.pictures if picture.example.id in batch.rows), working)
        yield batch, waited


def _load(examples: Sequence[Example], decoding: Decoding, evaluator: Evaluator, arrays: frozenset[str]) -> Batch:
    import torch

    batch = Batch([])
    with batch.timed("decode"):
        for example in examples:
            try:
                batch.pictures.append(_decode(example, decoding, arrays))
            except PictureError as error:
                batch.unusable[example.id] = error.reason
    if batch.pictures:
        with batch.timed("preprocess"), torch.inference_mode():
            _prepare(batch, evaluator)
    return batch


def _prepare(batch: Batch, evaluator: Evaluator) -> None:
    """Set the batch's inputs. If the processor refuses the batch, leave out each image that it refuses alone.

    Raises the processor's error if it accepts each image alone but not the batch.
    """
    try:
        batch.inputs = evaluator.prepare(batch.pictures)
        return
    except MemoryError:
        raise
    except Exception as error:
        fit = []
        for picture in batch.pictures:
            try:
                evaluator.prepare([picture])
                fit.append(picture)
            except Exception as picture_error:
                batch.unusable[picture.example.id] = reason_for(picture_error)
        if len(fit) == len(batch.pictures):
            raise error
    batch.pictures = fit
    if fit:
        batch.inputs = evaluator.prepare(fit)


def _predict_without_unfit(
    batch: Batch,
    evaluator: Evaluator,
    requested: Requested,
    working: Picture | None,
    error: Exception,
    device: Device,
) -> Batch:
    """Predict a failed batch again, without the images that fail alone.

    `working` is an image that has a prediction already. Raises the error if memory is short, or if the model is the
    cause: each image works alone, or no image of the batch works and `working` fails now too. If no image has a
    prediction yet, a single failed image counts as the cause, and several failed images do not.
    """
    if device.is_out_of_memory(error):
        raise error
    reasons = {picture.example.id: _reason_alone(picture, evaluator, requested, device) for picture in batch.pictures}
    unfit = {id: reason for id, reason in reasons.items() if reason is not None}
    fit = [picture for picture in batch.pictures if picture.example.id not in unfit]
    model_fails = (
        len(unfit) > 1 if working is None else _reason_alone(working, evaluator, requested, device) is not None
    )
    if not unfit or (not fit and model_fails):
        raise error
    repeated = Batch(fit, unusable={**batch.unusable, **unfit}, seconds=batch.seconds)
    return _predict(repeated, evaluator, requested) if fit else repeated


def _reason_alone(picture: Picture, evaluator: Evaluator, requested: Requested, device: Device) -> str | None:
    """Return why an image alone has no row, or None if it has one. Raises the error if memory is short."""
    try:
        _predict(Batch([picture]), evaluator, requested)
    except Exception as error:
        if device.is_out_of_memory(error):
            raise
        return reason_for(error)
    return None


def _predict(batch: Batch, evaluator: Evaluator, requested: Requested) -> Batch:
    """Run all steps after decoding for a batch, in this thread."""
    import torch

    with torch.inference_mode():
        with batch.timed("preprocess"):
            batch.inputs = evaluator.prepare(batch.pictures)
        with batch.timed("forward"):
            batch.output = evaluator.forward(batch.inputs)
        return _finish(batch, evaluator, requested)


def _decode(example: Example, decoding: Decoding, arrays: frozenset[str]) -> Picture:
    image = decoding.decode(example)
    return Picture(example, image, **{ARRAYS[name].field: _read_array(example, name, image.size) for name in arrays})


def _read_array(example: Example, name: str, image_size: tuple[int, int]) -> np.ndarray | None:
    """Return an annotation that is an array, or None if the example does not have it. Raises PictureError.

    `image_size` is the width and the height of the image, which the array must have too.
    """
    annotation = ARRAYS[name]
    read = getattr(example, annotation.field)
    if read is None:
        return None
    try:
        array: np.ndarray = read()
    except PictureError:
        raise
    except Exception as error:
        reason = f"its {annotation.noun} cannot be read ({first_line(error)})"
        raise PictureError(example.image, reason) from error
    height, width = array.shape[-2:]
    if (width, height) != image_size:
        raise PictureError(
            example.image,
            f"its {annotation.noun} {annotation.verb} {width} × {height} pixels, the image {image_size[0]} × "
            f"{image_size[1]}",
        )
    return array


def _finish(batch: Batch, evaluator: Evaluator, requested: Requested) -> Batch:
    with batch.timed("postprocess"):
        output, batch.output = batch.output, None
        predicted = evaluator.finish(output, batch.pictures) if batch.pictures else []
        for picture, row in zip(batch.pictures, predicted, strict=True):
            if isinstance(row, Unanswered):
                batch.unanswered[picture.example.id] = row.reason
            elif column := next((name for name, value in row.items() if not _is_finite(value)), None):
                batch.unusable[picture.example.id] = f"the model's {column} holds NaN or infinity"
            else:
                truths = _truths(picture, requested.columns, evaluator.classes)
                batch.rows[picture.example.id] = _compare({**row, **truths}, requested)
    return batch


def _truths(picture: Picture, columns: frozenset[str], classes: Sequence[str]) -> Row:
    """Return the columns that come from the data set."""
    example, boxes = picture.example, picture.example.boxes
    truths: dict[str, Any] = {
        "references": list(example.captions),
        "label": example.label,
        "class_map": picture.class_map,
        "depth_map": picture.depth_map,
        "questions": [{"question": one.text, "answers": list(one.answers)} for one in example.questions],
    }
    if columns & set(TRUTH_BOXES):
        truths |= {
            "truth_boxes": np.array([(box.x, box.y, box.width, box.height) for box in boxes], float).reshape(-1, 4),
            "truth_classes": np.array([classes.index(box.name) for box in boxes], np.int64),
            "truth_areas": np.array([box.area for box in boxes], float),
            "truth_crowds": np.array([box.crowd for box in boxes], bool),
        }
    return {name: truths[name] for name in columns & TRUTHS}


def _compare(row: Row, requested: Requested) -> Row:
    """Return the row in which the results of comparisons replace the columns that are as large as the image."""
    compared = {name: value for metric in requested.comparisons for name, value in metric.compare(row).items()}
    return {**{name: value for name, value in row.items() if name not in requested.replaced}, **compared}


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float | np.ndarray) or bool(np.isfinite(value).all())


def _join(batches: Sequence[Batch], classes: Sequence[str]) -> Predictions:
    rows = {name: row for batch in batches for name, row in batch.rows.items()}
    names = next(iter(rows.values()), {})
    return Predictions(tuple(rows), {name: [row[name] for row in rows.values()] for name in names}, tuple(classes))
