"""Samples about the data behind quality figures: images used and left out, classes without images, and clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from visionbench.config import ExperimentConfig
from visionbench.core import DataSet, Example, Metric, Predictions, QualityMetric, ReportsWarnings, Samples
from visionbench.examples import denominators
from visionbench.examples.sampling import list_all_examples
from visionbench.examples.screening import summarize_problems
from visionbench.stages.evaluation import Evaluation
from visionbench.statistics.resampling import CLUSTER, read_clusters


def count_left_out(left_out: Mapping[str, str], total: int) -> Samples:
    """Return the series `evaluation/left_out_count`, and the flag `pictures_left_out` if images were left out."""
    flags = {}
    if left_out:
        flags["pictures_left_out"] = f"{len(left_out)} of {total}: {summarize_problems(left_out)}"
    return Samples({"evaluation/left_out_count": np.array([float(len(left_out))])}, flags=flags)


def count_used(data: DataSet, metrics: Sequence[Metric], sampled: int, evaluated: Evaluation) -> Samples:
    """Count the images and annotations that the figures of these metrics are based on, and those of the data set.

    `sampled` is the number of images that the run reads. The warnings of the data set become flags.
    """
    needs = frozenset().union(*(metric.needs for metric in metrics if isinstance(metric, QualityMetric)))
    examples = list_all_examples(data)
    ids = set(evaluated.predictions.ids)
    samples = denominators.count_used(examples, sampled, ids, needs, evaluated.samples)
    if "labels" in needs:
        used = [example for example in examples if example.id in ids]
        samples = samples.merged(denominators.count_classes(data.classes(), used))
    return samples.merged(Samples(flags=data.warnings())) if isinstance(data, ReportsWarnings) else samples


def find_clusters(config: ExperimentConfig, examples: Sequence[Example]) -> dict[str, float]:
    """Return the cluster of each example by its id, or nothing if `data.clusters` names no file."""
    ids = [example.id for example in examples]
    path = config.data.clusters
    return dict(zip(ids, map(float, read_clusters(path, ids)), strict=True)) if path else {}


def number_clusters(clusters: Mapping[str, float], predictions: Predictions) -> Samples:
    """Return the cluster of each image with a prediction, numbered from 0 without gaps; nothing without clusters."""
    if not clusters:
        return Samples()
    _, numbers = np.unique([clusters[name] for name in predictions.ids], return_inverse=True)
    return Samples({CLUSTER: numbers.astype(np.float64)})
