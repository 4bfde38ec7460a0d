"""Evaluation: the whole data set once through the model, scored by the metrics that read predictions."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import cast

import numpy as np

from visionbench.core import Example, Predictions, Predictor, QualityMetric, Samples
from visionbench.pictures import decode
from visionbench.stages.context import Context, quiet


def run(context: Context) -> Samples:
    """Each quality metric's own series, and `evaluation/seconds_s`, `evaluation/images_count` of the pass."""
    size = context.case.batch_size
    start = perf_counter()
    with quiet():
        parts = [_predict(context, context.examples[at : at + size]) for at in range(0, len(context.examples), size)]
    predictions = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    samples = Samples(
        {
            "evaluation/seconds_s": np.array([perf_counter() - start]),
            "evaluation/images_count": np.array([float(len(context.examples))]),
        }
    )
    for metric in context.metrics.values():
        if isinstance(metric, QualityMetric):
            samples = samples.merged(metric.score(predictions))
    return samples


def _predict(context: Context, examples: Sequence[Example]) -> Predictions:
    model = cast(Predictor, context.model)
    return model.predict([decode(example.image) for example in examples], [e.captions for e in examples])
