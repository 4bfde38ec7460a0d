"""Check the data of all runs of a sweep before the first run is measured. Each data set is read once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from visionbench.config import DataConfig, ExperimentConfig, to_yaml
from visionbench.core import DataSet, Example, HasOptionalAnnotations, RunPlan
from visionbench.examples import screening
from visionbench.examples.calibration import choose_images
from visionbench.examples.labelling import BOXES, CLASS_MAP, LABELS, find_label_mismatch, resolve_labelling
from visionbench.parts import build_parts
from visionbench.statistics.resampling import read_clusters

NO_LABELS = "it has no labels, because data.root has no folder of a class"


def unavailable_annotations(configs: Sequence[ExperimentConfig], may_write: bool = True) -> list[dict[str, str]]:
    """Return for each run the annotations that its data set class declares but cannot give here, with the reasons.

    Without `may_write`, archives are not extracted, and all their annotations count as available.
    """
    absent: dict[tuple[str, frozenset[str]], Mapping[str, str]] = {}
    unavailable: list[dict[str, str]] = []
    for config in configs:
        parts = build_parts(config)
        needed = parts.adapter.uses().union(*(getattr(metric, "needs", ()) for metric in parts.metrics.values()))
        needed &= parts.data.provides
        key = to_yaml(config.data), needed
        if key not in absent:
            absent[key] = _find_absent(parts.data, needed, may_write)
        reasons = dict(absent[key])
        for annotation in (LABELS, CLASS_MAP):
            if annotation in needed and annotation not in reasons:
                mismatch = find_label_mismatch(config, parts, annotation)
                reasons |= {annotation: mismatch} if mismatch else {}
        if BOXES in needed & parts.adapter.predicts:
            mismatch = find_label_mismatch(config, parts, BOXES)
            reasons |= {BOXES: mismatch} if mismatch else {}
        unavailable.append(reasons)
    return unavailable


def is_archive(data: DataSet) -> bool:
    """Return whether the images of a data set are extracted into a cache when they are read first."""
    return isinstance(data, HasOptionalAnnotations) and hasattr(data, "cache_dir") and hasattr(data, "root")


def _find_absent(data: DataSet, needed: Collection[str], may_write: bool) -> Mapping[str, str]:
    """Return the needed annotations that the files of a data set do not have, although its class provides them."""
    if not may_write and is_archive(data):
        return {}
    if needed and isinstance(data, HasOptionalAnnotations):
        return {kind: reason for kind, reason in data.absent_annotations().items() if kind in needed}
    return {"labels": NO_LABELS} if "labels" in needed and not data.classes() else {}


def unusable_examples(runs: Sequence[tuple[ExperimentConfig, RunPlan]]) -> list[dict[str, str]]:
    """Return for each run the ids of the examples that it cannot use, with the reasons.

    For metrics of labels, an example whose class is unknown to the model is unusable too. Raises ConfigError if
    `data.on_error=fail` and an example is unusable, or if a run needs images for a calibration and there are none.
    """
    checked: dict[tuple[str, type], tuple[Sequence[Example], Mapping[str, str]]] = {}
    unusable: list[dict[str, str]] = []
    calibrated: set[tuple[str, type]] = set()
    for config, plan in runs:
        data = build_parts(config).data
        key = to_yaml(config.data), type(data)  # a data set may depend on the predictions of the model
        if key not in checked:
            read = screening.with_mask_frame(data.examples(), config.data.exif)
            checked[key] = read, screening.find_problems(read, config.measure.inputs.distinct_samples)
            _raise_on_problems(config.data, checked[key][1], read)
        if config.precision.calibration_images is not None and key not in calibrated:
            calibrated.add(key)
            choose_images(config.data.name, data, config.precision.calibration_images)
        examples, problems = checked[key]
        labelling = resolve_labelling(config, build_parts(config), plan.cases)
        reasons = {**labelling.find_problems(examples), **problems}
        _raise_on_problems(config.data, reasons, examples)
        if config.data.clusters is not None:
            read_clusters(config.data.clusters, [example.id for example in examples if example.id not in reasons])
        unusable.append({example.id: reasons[example.id] for example in examples if example.id in reasons})
    return unusable


def _raise_on_problems(data: DataConfig, problems: Mapping[str, str], examples: Sequence[Example]) -> None:
    screening.raise_on_problems(data.name, problems, len({example.id for example in examples}), data.on_error)
