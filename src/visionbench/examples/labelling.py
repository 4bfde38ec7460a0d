"""The meaning of a data set's labels for a model, resolved from config files and folders before anything loads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from visionbench import weights
from visionbench.config import ExperimentConfig
from visionbench.core import (
    Case,
    ConfigError,
    DataClass,
    DescribesClasses,
    Example,
    HasBoxes,
    HasClassMaps,
    HasClassNames,
    QualityMetric,
)
from visionbench.examples import class_names
from visionbench.examples.class_matching import ClassMatches, describe_unknown, match_classes, use_synonyms
from visionbench.examples.class_names import MAPPING
from visionbench.parts import Parts

UNNAMED = re.compile(r"LABEL_\d+")
"""The names that transformers gives to classes without names."""
NO_CLASS = "no class: it is not in the folder of a class"
LABELS, BOXES, CLASS_MAP = "labels", "boxes", "class_map"
"""The annotations that need the classes of a model."""
OTHER_DATA = {LABELS: "image_folder", BOXES: "coco_instances", CLASS_MAP: "semantic_folder"}
"""The data set of a folder of the user, by annotation."""


@dataclass(frozen=True)
class Labelling:
    """The classes that a model scores, and the class that each label or box of the data belongs to.

    For the classes of pixels, `classes` has the order of the data: the model's name of each class of the data.
    """

    classes: tuple[str, ...] = ()
    """Unique names in the model's order; empty if no metric reads labels or boxes."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Name of a data class to its name in `classes`."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Assumptions about the classes."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Data classes whose images cannot be used, each with the reason."""
    annotation: str = LABELS
    """The annotation whose classes these are: `labels` of images, `boxes`, or `class_map` of pixels."""

    def find_problems(self, examples: Sequence[Example]) -> dict[str, str]:
        """Return, by id, why examples cannot be used: they have no label, or a class that the model does not have."""
        if not self.classes or self.annotation == CLASS_MAP:
            return {}
        problems = {example.id: self._find_problem(example) for example in examples if not example.problems}
        return {id: problem for id, problem in problems.items() if problem is not None}

    def relabel(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples, whose labels or boxes have the names of their classes in `classes`."""
        if self.annotation == CLASS_MAP:
            return list(examples)
        if self.annotation == BOXES:
            return [
                replace(
                    example,
                    boxes=tuple(replace(box, name=self.names.get(box.name, box.name)) for box in example.boxes),
                )
                for example in examples
            ]
        return [replace(example, label=self.names.get(example.label or "", example.label)) for example in examples]

    def _find_problem(self, example: Example) -> str | None:
        if self.annotation == BOXES:
            return next((self.unknown[box.name] for box in example.boxes if box.name in self.unknown), None)
        return NO_CLASS if example.label is None else self.unknown.get(example.label)


def resolve_labelling(config: ExperimentConfig, run: Parts, cases: Sequence[Case]) -> Labelling:
    """Return the labelling for the cases of a run. Raises ConfigError if the labels do not fit the model.

    With `data.on_error=skip`, classes that the model does not have are left out, if it has at least one of the others.
    """
    metrics = [run.metrics[name] for case in cases for name in case.metrics]
    needs = frozenset().union(*(metric.needs for metric in metrics if isinstance(metric, QualityMetric)))
    if CLASS_MAP in needs:
        return _label_pixels(config, run)
    annotation = next((name for name in (LABELS, BOXES) if name in needs), None)
    if annotation is None:
        return Labelling()
    described = _describe_classes(run, annotation)
    if isinstance(run.adapter, HasClassNames):
        labelling = _label_by_class(config, run.adapter.class_names(config.model), described, annotation)
        return replace(labelling, annotation=annotation)
    names = {one.name: one.target if isinstance(one.target, str) else one.name for one in described}
    class_names.check_distinct(names)
    flags = _check_words(list(names.values())) if getattr(run.adapter, "names_classes", False) else {}
    if indices := [one.name for one in described if isinstance(one.target, int)]:
        flags["class_indices_unused"] = (
            f"{MAPPING} has an index for {class_names.quote(indices)}, but this model needs names: the index is "
            "ignored and the folder's name is used"
        )
    return Labelling(tuple(names.values()), names, flags, annotation=annotation)


def find_label_mismatch(config: ExperimentConfig, run: Parts, annotation: str = LABELS) -> str | None:
    """Return why the classes of data without a folder do not fit the model, or None if they fit.

    Such data replace missing data of the user's own, so that speed can be measured without them. Raises ConfigError if
    the checkpoint's classes cannot be read.
    """
    if config.data.root is not None or not isinstance(run.adapter, HasClassNames):
        return None
    if config.model.weights != "pretrained" or weights.find_checkpoint(config.model) is None:
        return None
    model_names, described = run.adapter.class_names(config.model), _describe_classes(run, annotation)
    try:
        matches = _match(model_names, described, annotation)
    except ConfigError as error:
        return str(error)
    if not matches.unknown or (annotation != CLASS_MAP and config.data.on_error == "skip" and matches.indices):
        return None
    subject = {LABELS: "labels", BOXES: "classes of boxes", CLASS_MAP: "classes of pixels"}[annotation]
    remedy = f"choose data with the model's classes, data={OTHER_DATA[annotation]} data.root=…"
    if all(UNNAMED.fullmatch(name) for name in model_names):
        return (
            f"its {subject} are not the model's: the checkpoint has no names for its classes, only '{model_names[0]}' "
            f"and so on; write the names into id2label of its config.json, and {remedy}"
        )
    return (
        f"its {subject} are not the model's: the model does not have {len(matches.unknown)} of its {len(described)} "
        f"classes, such as '{matches.unknown[0]}'; {remedy}"
    )


def _label_pixels(config: ExperimentConfig, run: Parts) -> Labelling:
    """Return the labelling for classes of pixels. Raises ConfigError if the model does not have one of them."""
    described = _describe_classes(run, CLASS_MAP)
    if not isinstance(run.adapter, HasClassNames):
        names = {one.name: one.target if isinstance(one.target, str) else one.name for one in described}
        return Labelling(tuple(names.values()), names, annotation=CLASS_MAP)
    model_names = run.adapter.class_names(config.model)
    try:
        matches = match_classes(model_names, described)
        if matches.unknown:
            raise ConfigError(describe_unknown(matches.unknown, len(described), model_names))
    except ConfigError as error:
        raise ConfigError(f"data={config.data.name}, model={config.model.name}: {error}") from None
    unique = class_names.make_unique(model_names)
    names = {one.name: unique[matches.indices[one.name]] for one in described}
    return Labelling(tuple(names.values()), names, matches.assumed, annotation=CLASS_MAP)


def _describe_classes(run: Parts, annotation: str) -> list[DataClass]:
    """Return the classes of the data that an annotation refers to."""
    if annotation == CLASS_MAP:
        return list(run.data.map_classes()) if isinstance(run.data, HasClassMaps) else []
    if annotation == BOXES:
        return list(run.data.box_classes()) if isinstance(run.data, HasBoxes) else []
    if isinstance(run.data, DescribesClasses):
        return list(run.data.described_classes())
    return [DataClass(name) for name in run.data.classes()]


def _match(model_names: Sequence[str], described: Sequence[DataClass], annotation: str) -> ClassMatches:
    """Return the matches of classes. For boxes, both names of a category of COCO count as the same."""
    return match_classes(model_names, use_synonyms(model_names, described) if annotation == BOXES else described)


def _label_by_class(
    config: ExperimentConfig, model_names: Sequence[str], described: Sequence[DataClass], annotation: str
) -> Labelling:
    """Return the labelling for a model that has its own classes."""
    try:
        matches = _match(model_names, described, annotation)
        if matches.unknown and (config.data.on_error == "fail" or not matches.indices):
            raise ConfigError(describe_unknown(matches.unknown, len(described), model_names))
    except ConfigError as error:
        raise ConfigError(f"data={config.data.name}, model={config.model.name}: {error}") from None
    names = class_names.make_unique(model_names)
    return Labelling(
        tuple(names),
        {name: names[index] for name, index in matches.indices.items()},
        matches.assumed,
        {name: f"the model does not have its class '{name}'" for name in matches.unknown},
    )


def _check_words(names: Sequence[str]) -> dict[str, str]:
    """Return flags for classes whose text is, or begins with, a number. Raises ConfigError for WordNet numbers and
    numbered labels, which mean nothing as text."""
    if wordless := [name for name in names if class_names.is_only_number(name)]:
        raise ConfigError(
            f"{len(wordless)} of the data's {len(names)} classes are numbers, such as '{wordless[0]}', which mean "
            f"nothing in a text: give names with {MAPPING}={{{wordless[0]}: NAME}}, for ImageNet also with "
            "data.options.names, or leave out metrics that read labels"
        )
    flags = {}
    if digits := [name for name in names if name.strip().isdigit()]:
        flags["classes_are_numbers"] = (
            f"{len(digits)} of {len(names)} classes are named by a number, which is used in the text unchanged"
        )
    if len(numbered := [name for name in names if class_names.begins_with_number(name)]) > len(names) / 2:
        flags["classes_begin_with_numbers"] = (
            f"the names of {len(numbered)} of {len(names)} classes begin with a number, such as '{numbered[0]}', which "
            f"is used in the text; give names without it with {MAPPING}"
        )
    return flags
