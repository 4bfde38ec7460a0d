"""The comparison of two results on the same images, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from visionbench.config import build_metric
from visionbench.core import OK, CaseResult, ConfigError, Contributions, Resampled, Samples
from visionbench.results import conditions
from visionbench.results.archive import Run
from visionbench.statistics.resampling import Difference, clusters, deciding_alpha, difference


@dataclass(frozen=True)
class Paired:
    """The differences by metric, or the reason why the sides cannot be paired."""

    by_metric: Mapping[str, Difference] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Scored:
    """The quality case of a run: its images in order, their clusters, and their contributions to each metric."""

    ids: Sequence[str]
    clusters: np.ndarray | None
    contributions: Mapping[str, Contributions]


def differences(base: Sequence[Run], candidate: Sequence[Run], metrics: Sequence[str]) -> Paired:
    """Return candidate − base of each metric if both sides measured the same data and the same images.

    The contributions of several runs of one side are averaged.
    """
    sides = []
    for runs, name in ((base, "base"), (candidate, "candidate")):
        scored_runs = [scored for run in runs if (scored := read(run)) is not None]
        if not scored_runs:
            return Paired(reason=f"the {name} has no results of single images")
        sides.append(scored_runs)
    facts = [_data_conditions(base[0]), _data_conditions(candidate[0])]
    if conditions.differences(*facts):
        return Paired(reason="the data differ")
    first = sides[0][0]
    if any(sorted(one.ids) != sorted(first.ids) for one in (*sides[0], *sides[1])):
        return Paired(reason="the sides measured different images")
    if any(not _equal_clusters(one.clusters, first.clusters) for one in (*sides[0], *sides[1])):
        return Paired(reason="the images are in different clusters")
    level = deciding_alpha(len(metrics))
    olds, news = ([_ordered(one, first.ids) for one in side] for side in sides)
    return Paired(
        {
            name: difference(_averaged(olds, name), _averaged(news, name), first.clusters, level)
            for name in metrics
            if all(name in one for one in (*olds, *news))
            and _can_be_averaged(olds, name)
            and _can_be_averaged(news, name)
        },
        "the samples of one side have no results of single images",
    )


def read(run: Run) -> Scored | None:
    """Return the contributions of each image of a run, or None if the folder of the run does not have them."""
    row = run.quality
    if run.folder is None or row is None or row.status != OK:
        return None
    ids, samples = run.picture_ids(), run.samples_of_first_process(row.case.id)
    try:
        contributions = contributions_of(row, run.record.settings.metrics, samples)
    except (OSError, ValueError, KeyError, ConfigError):
        return None
    contributions = {name: one for name, one in contributions.items() if one.parts.shape[0] == len(ids)}
    return Scored(ids, clusters(samples), contributions) if ids and contributions else None


def contributions_of(row: CaseResult, options: Mapping[str, Any], samples: Samples) -> dict[str, Contributions]:
    """Return the contributions to every metric of a case, with each metric group built from its options."""
    contributions: dict[str, Contributions] = {}
    for name in row.case.metrics:
        metric = build_metric(name, options.get(name))
        if isinstance(metric, Resampled):
            contributions |= metric.contributions(samples)
    return contributions


def _ordered(scored: Scored, ids: Sequence[str]) -> dict[str, Contributions]:
    """Return the contributions with the images in this order."""
    if list(scored.ids) == list(ids):
        return dict(scored.contributions)
    positions = {name: index for index, name in enumerate(scored.ids)}
    order = np.array([positions[name] for name in ids])
    return {
        name: replace(one, parts=one.parts[order], content=None if one.content is None else one.content[order])
        for name, one in scored.contributions.items()
    }


def _can_be_averaged(runs: Sequence[Mapping[str, Contributions]], name: str) -> bool:
    """Return whether several runs have mean contributions. Rankings of boxes only have them if they are equal."""
    contents = [run[name].content for run in runs]
    first = contents[0]
    return first is None or all(content is not None and np.array_equal(content, first) for content in contents)


def _averaged(runs: Sequence[Mapping[str, Contributions]], name: str) -> Contributions:
    """Return the mean contributions of several runs."""
    parts = [run[name].parts for run in runs]
    return replace(runs[0][name], parts=parts[0] if len(parts) == 1 else sum(parts[1:], parts[0]) / len(parts))


def _equal_clusters(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is second or (first is not None and second is not None and np.array_equal(first, second))


def _data_conditions(run: Run) -> dict[str, str]:
    return {
        name: value
        for name, value in conditions.binding(run).items()
        if name.startswith("data.") or name == conditions.DIGEST
    }
