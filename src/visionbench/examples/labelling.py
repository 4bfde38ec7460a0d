"""What the labels of a data set mean to a model, settled from config files and folders before anything loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from visionbench import weights
from visionbench.config import ExperimentConfig
from visionbench.core import Case, DataClass, DescribesClasses, Example, Labels, QualityMetric
from visionbench.examples import classes
from visionbench.parts import Parts
from visionbench.registry import ConfigError

NO_CLASS = "no class: it lies in no folder of a class"


@dataclass(frozen=True)
class Labelling:
    """The classes that a model scores, and which of them each label of the data is."""

    classes: tuple[str, ...] = ()
    """As the model orders them, each by a name of its own; empty where no metric reads labels."""
    names: Mapping[str, str] = field(default_factory=dict)
    """By the name of a data class, its name in `classes`."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """What is assumed of the classes."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Data classes whose pictures cannot be used, each with the reason."""

    def faults(self, examples: Sequence[Example]) -> dict[str, str]:
        """Why examples cannot be used, by their id: they have no label, or one that the model does not know."""
        if not self.classes:
            return {}
        whys = {example.id: self._fault(example) for example in examples if not example.faults}
        return {id: why for id, why in whys.items() if why is not None}

    def relabelled(self, examples: Sequence[Example]) -> list[Example]:
        """The examples, each labelled by the name of its class in `classes`."""
        return [replace(example, label=self.names.get(example.label or "", example.label)) for example in examples]

    def _fault(self, example: Example) -> str | None:
        return NO_CLASS if example.label is None else self.unknown.get(example.label)


def labelling(config: ExperimentConfig, run: Parts, cases: Sequence[Case]) -> Labelling:
    """Settle the labels for the cases of a run. Raises ConfigError where they cannot be settled.

    With `data.on_error=skip`, classes that the model does not know are left out as long as one is known.
    """
    asked = [run.metrics[name] for case in cases for name in case.metrics]
    if not any(isinstance(metric, QualityMetric) and "labels" in metric.needs for metric in asked):
        return Labelling()
    described = _described(run)
    if isinstance(run.adapter, Labels):
        return _by_label(config, run.adapter.labels(config.model), described)
    names = {one.name: one.target if isinstance(one.target, str) else one.name for one in described}
    classes.check_distinct(names)
    flags = _check_words(list(names.values())) if getattr(run.adapter, "names_classes", False) else {}
    if indices := [one.name for one in described if isinstance(one.target, int)]:
        flags["class_indices_unused"] = (
            f"{classes.MAPPING} has an index for {classes.quoted(indices)}, and this model needs names: the index is "
            "ignored and the folder's name is used"
        )
    return Labelling(tuple(names.values()), names, flags)


def why_none(config: ExperimentConfig, run: Parts) -> str | None:
    """Why the labels of data that are read from no folder are of no use to the model; None where they are.

    Such data stand in where one has none of one's own, so that speed is measured all the same. Raises ConfigError where
    the checkpoint's classes cannot be read.
    """
    if config.data.root is not None or not isinstance(run.adapter, Labels):
        return None
    if config.model.weights != "pretrained" or weights.present(config.model) is None:
        return None
    own, described = run.adapter.labels(config.model), _described(run)
    try:
        found = classes.match(own, described)
    except ConfigError as error:
        return str(error)
    if not found.unknown:
        return None
    return (
        f"its labels are not the model's: {len(found.unknown)} of its {len(described)} classes are unknown to the "
        f"model, such as '{found.unknown[0]}'; choose data with the model's classes, data=image_folder data.root=…"
    )


def _described(run: Parts) -> list[DataClass]:
    if isinstance(run.data, DescribesClasses):
        return list(run.data.described_classes())
    return [DataClass(name) for name in run.data.classes()]


def _by_label(config: ExperimentConfig, own: Sequence[str], described: Sequence[DataClass]) -> Labelling:
    """Labels as classes of a model that has its own."""
    try:
        found = classes.match(own, described)
        if found.unknown and (config.data.on_error == "fail" or not found.indices):
            raise ConfigError(classes.refusal(found.unknown, len(described), own))
    except ConfigError as error:
        raise ConfigError(f"data={config.data.name}, model={config.model.name}: {error}") from None
    names = classes.unique(own)
    return Labelling(
        tuple(names),
        {name: names[at] for name, at in found.indices.items()},
        found.assumed,
        {name: f"the model does not know its class '{name}'" for name in found.unknown},
    )


def _check_words(names: Sequence[str]) -> dict[str, str]:
    """Flags for classes whose text is a number or begins with one. Raises ConfigError for numbers that no text can
    explain."""
    if wordless := [name for name in names if classes.is_wordless(name)]:
        raise ConfigError(
            f"{len(wordless)} of the data's {len(names)} classes are numbers, such as '{wordless[0]}', and a text "
            f"cannot show what they mean: give names with {classes.MAPPING}={{{wordless[0]}: NAME}}, "
            "for ImageNet also with data.options.names, or leave out metrics that read labels"
        )
    flags = {}
    if digits := [name for name in names if name.strip().isdigit()]:
        flags["classes_are_numbers"] = (
            f"{len(digits)} of {len(names)} classes are named by a number, which stands in the text as it is"
        )
    if len(numbered := [name for name in names if classes.begins_with_number(name)]) > len(names) / 2:
        flags["classes_begin_with_numbers"] = (
            f"the names of {len(numbered)} of {len(names)} classes begin with a number, such as '{numbered[0]}', and "
            f"it stands in the text too; give names without it with {classes.MAPPING}"
        )
    return flags
