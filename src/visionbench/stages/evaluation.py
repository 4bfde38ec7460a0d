"""Evaluation: the whole data set once through decode → preprocess → forward → postprocess, overlapped.

Loader threads decode and preprocess a bounded number of batches ahead, the calling thread runs the model, and one more
thread turns its answers into rows. Batches are made of the data set in its order and never mixed, so that neither the
number of threads nor their luck changes a prediction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

import numpy as np

from visionbench.core import (
    EVALUATION_STEPS,
    TRUTHS,
    Device,
    Evaluator,
    Example,
    Inputs,
    Picture,
    Predictions,
    Predictor,
    QualityMetric,
    Row,
    Samples,
    VisionbenchError,
    first_line,
)
from visionbench.datafiles.images import PictureError, picture_of
from visionbench.stages import answers
from visionbench.stages.context import Context, loader_count, why_not

TELL_EVERY_S = 0.5
MASKS = "truth_masks"
"""The column for which masks must be read beside the picture."""


class EvaluationError(VisionbenchError):
    """A picture without a usable prediction, where none may be left out; the message names it and the fault."""


@dataclass(frozen=True)
class Progress:
    """How many pictures are done."""

    done: int
    of: int


@dataclass(frozen=True)
class Evaluated:
    """What came of the pass: the scores of every quality metric, the predictions, and what was left out and why."""

    samples: Samples
    predictions: Predictions
    left_out: Mapping[str, str]


@dataclass
class Batch:
    """One batch on its way: what was decoded of it, its inputs, then its rows; the seconds of each step."""

    pictures: list[Picture]
    inputs: Inputs = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(EVALUATION_STEPS, 0.0))

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Book the time inside to a step."""
        start = perf_counter()
        yield
        self.seconds[step] += perf_counter() - start


def run(context: Context) -> Generator[Progress, None, Evaluated]:
    """Yield progress, and return what came of it.

    Series: each metric's own, `evaluation/<step>_s` (busy seconds of each batch), `evaluation/starved_s` (the model's
    thread waiting for a batch), `evaluation/seconds_s` of the pass, `evaluation/images_count`.
    Raises EvaluationError where a picture has no prediction and none may be left out.
    """
    import torch

    scorers = [metric for metric in context.metrics.values() if isinstance(metric, QualityMetric)]
    wanted = frozenset().union(*(metric.reads for metric in scorers))
    model = cast(Predictor, context.model)
    with torch.inference_mode():
        evaluator = model.evaluator(wanted - TRUTHS, context.classes)
    start = perf_counter()
    batches: list[Batch] = []
    starved = 0.0
    told = start
    for batch, waited in flow(context, evaluator, wanted):
        if batch.faults and context.on_error == "fail":
            name, why = next(iter(batch.faults.items()))
            raise EvaluationError(f"{name}: {why}", "data.on_error=skip would leave it out")
        batch.pictures, batch.inputs = [], {}
        batches.append(batch)
        starved += waited
        if perf_counter() - told > TELL_EVERY_S:
            told = perf_counter()
            yield Progress(sum(len(one.rows) + len(one.faults) for one in batches), len(context.examples))
    seconds = perf_counter() - start
    predictions = _joined(batches, evaluator.classes)
    left_out = {name: why for batch in batches for name, why in batch.faults.items()}
    if not predictions.ids:
        raise EvaluationError(f"no picture has a prediction; the first: {next(iter(left_out.values()))}")
    samples = Samples(
        {
            **{
                f"evaluation/{step}_s": np.array([batch.seconds[step] for batch in batches])
                for step in EVALUATION_STEPS
            },
            "evaluation/starved_s": np.array([starved]),
            "evaluation/seconds_s": np.array([seconds]),
            "evaluation/images_count": np.array([float(len(predictions.ids))]),
        }
    )
    samples = samples.merged(answers.judge(predictions))
    for metric in scorers:
        samples = samples.merged(metric.score(predictions))
    return Evaluated(samples, predictions, left_out)


def flow(context: Context, evaluator: Evaluator, wanted: frozenset[str]) -> Iterator[tuple[Batch, float]]:
    """Finished batches in order, each with the seconds that the model's thread waited for it to be loaded."""
    import torch

    size, examples = context.case.batch_size, context.examples
    workers = loader_count(context.measure.evaluation)
    parts = iter([examples[at : at + size] for at in range(0, len(examples), size)])
    loading, finishing = deque[Future[Batch]](), deque[tuple[Future[Batch], Batch, float]]()
    good: Picture | None = None

    def finished() -> tuple[Batch, float]:
        """The earliest batch that is being finished; one of its pictures is kept, as one that the model answers."""
        nonlocal good
        future, batch, waited = finishing.popleft()
        try:
            batch = future.result()
        except Exception as error:
            batch = _without_unfit(batch, evaluator, wanted, good, error, context.device)
        good = next((picture for picture in batch.pictures if picture.example.id in batch.rows), good)
        return batch, waited

    with ThreadPoolExecutor(workers, "load") as loaders, ThreadPoolExecutor(1, "finish") as finisher:
        try:
            while True:
                while len(loading) <= workers and (part := next(parts, None)) is not None:
                    loading.append(loaders.submit(_load, part, evaluator, MASKS in wanted))
                if not loading:
                    break
                start = perf_counter()
                batch = loading.popleft().result()
                waited = perf_counter() - start
                output = None
                try:
                    if batch.pictures:
                        with batch.timed("forward"), torch.inference_mode():
                            output = evaluator.forward(batch.inputs)
                except Exception as error:
                    while finishing:
                        yield finished()
                    batch = _without_unfit(batch, evaluator, wanted, good, error, context.device)
                    good = next((picture for picture in batch.pictures if picture.example.id in batch.rows), good)
                    yield batch, waited
                    continue
                finishing.append((finisher.submit(_finish, batch, output, evaluator, wanted), batch, waited))
                while len(finishing) > 2:
                    yield finished()
            while finishing:
                yield finished()
        finally:
            loaders.shutdown(cancel_futures=True)


def _load(examples: Sequence[Example], evaluator: Evaluator, with_masks: bool) -> Batch:
    import torch

    batch = Batch([])
    with batch.timed("decode"):
        for example in examples:
            try:
                batch.pictures.append(_picture(example, with_masks))
            except PictureError as error:
                batch.faults[example.id] = error.reason
    if batch.pictures:
        with batch.timed("preprocess"), torch.inference_mode():
            _prepare(batch, evaluator)
    return batch


def _prepare(batch: Batch, evaluator: Evaluator) -> None:
    """Fill in the batch's inputs; pictures that the processor cannot take alone either are its faults.

    Raises the processor's error where it takes each picture alone and not the batch.
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
            except Exception as own:
                batch.faults[picture.example.id] = why_not(own)
        if len(fit) == len(batch.pictures):
            raise error
    batch.pictures = fit
    if fit:
        batch.inputs = evaluator.prepare(fit)


def _without_unfit(
    batch: Batch, evaluator: Evaluator, wanted: frozenset[str], good: Picture | None, error: Exception, device: Device
) -> Batch:
    """A batch that ended in an error, answered again without the pictures that end in one by themselves too.

    Raises the error where it is the model's and no picture's: where each picture is answered by itself, or none is,
    nor is `good`, which was answered before; and where there is no room. One picture alone, before any was answered, is
    taken to be at fault.
    """
    if device.is_out_of_memory(error):
        raise error
    found = {picture.example.id: _why_unanswered(picture, evaluator, wanted, device) for picture in batch.pictures}
    unfit = {id: why for id, why in found.items() if why is not None}
    rest = [picture for picture in batch.pictures if picture.example.id not in unfit]
    of_model = len(unfit) > 1 if good is None else _why_unanswered(good, evaluator, wanted, device) is not None
    if not unfit or (not rest and of_model):
        raise error
    again = Batch(rest, faults={**batch.faults, **unfit}, seconds=batch.seconds)
    return _answered(again, evaluator, wanted) if rest else again


def _why_unanswered(picture: Picture, evaluator: Evaluator, wanted: frozenset[str], device: Device) -> str | None:
    """Why the model has no answer to a picture by itself, or None where it has one. Raises where there is no room."""
    try:
        _answered(Batch([picture]), evaluator, wanted)
    except Exception as error:
        if device.is_out_of_memory(error):
            raise
        return why_not(error)
    return None


def _answered(batch: Batch, evaluator: Evaluator, wanted: frozenset[str]) -> Batch:
    """A batch's decoded pictures through all further steps, in this thread."""
    import torch

    with torch.inference_mode():
        with batch.timed("preprocess"):
            batch.inputs = evaluator.prepare(batch.pictures)
        with batch.timed("forward"):
            output = evaluator.forward(batch.inputs)
        return _finish(batch, output, evaluator, wanted)


def _picture(example: Example, with_masks: bool) -> Picture:
    image = picture_of(example)
    masks = None
    if with_masks and example.masks is not None:
        try:
            masks = example.masks()
        except PictureError:
            raise
        except Exception as error:
            raise PictureError(example.image, f"its masks cannot be read ({first_line(error)})") from error
    if masks is not None and masks.shape[1:] != (image.height, image.width):
        height, width = masks.shape[1:]
        raise PictureError(
            example.image, f"its masks are {width} × {height} pixels, the picture {image.width} × {image.height}"
        )
    return Picture(example, image, masks)


def _finish(batch: Batch, output: Any, evaluator: Evaluator, wanted: frozenset[str]) -> Batch:
    with batch.timed("postprocess"):
        given = evaluator.finish(output, batch.pictures) if batch.pictures else []
        for picture, answer in zip(batch.pictures, given, strict=True):
            truths = {"references": list(picture.example.captions), "label": picture.example.label}
            if wrong := next((name for name, value in answer.items() if not _finite(value)), None):
                batch.faults[picture.example.id] = f"the model's {wrong} holds NaN or infinity"
            else:
                batch.rows[picture.example.id] = {**answer, **{name: truths[name] for name in wanted & TRUTHS}}
    return batch


def _finite(value: Any) -> bool:
    return not isinstance(value, float | np.ndarray) or bool(np.isfinite(value).all())


def _joined(batches: Sequence[Batch], classes: Sequence[str]) -> Predictions:
    rows = {name: row for batch in batches for name, row in batch.rows.items()}
    names = next(iter(rows.values()), {})
    return Predictions(tuple(rows), {name: [row[name] for row in rows.values()] for name in names}, tuple(classes))
