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
    Evaluator,
    Example,
    Inputs,
    Picture,
    Predictions,
    Predictor,
    QualityMetric,
    Row,
    Samples,
)
from visionbench.pictures import PictureError, decode
from visionbench.stages import answers
from visionbench.stages.context import Context, loader_count

TELL_EVERY_S = 0.5
MASKS = "truth_masks"
"""The column for which masks must be read beside the picture."""


class EvaluationError(Exception):
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
            raise EvaluationError(f"{name}: {why}; data.on_error=skip would leave it out")
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
    loading, finishing = deque[Future[Batch]](), deque[tuple[Future[Batch], float]]()
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
                if batch.pictures:
                    with batch.timed("forward"), torch.inference_mode():
                        output = evaluator.forward(batch.inputs)
                finishing.append((finisher.submit(_finish, batch, output, evaluator, wanted), waited))
                while len(finishing) > 2:
                    finished, waited = finishing.popleft()
                    yield finished.result(), waited
            for finished, waited in finishing:
                yield finished.result(), waited
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
            batch.inputs = evaluator.prepare(batch.pictures)
    return batch


def _picture(example: Example, with_masks: bool) -> Picture:
    image = decode(example.image)
    masks = example.masks() if with_masks and example.masks is not None else None
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
