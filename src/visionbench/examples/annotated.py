"""Data sets whose images come with columns: captions and labels of shards, metadata files and Parquet files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from visionbench.core import ConfigError, DataClass, Example
from visionbench.datafiles.captions import make_captioned
from visionbench.datafiles.json_file import describe_type, parse_integer
from visionbench.datafiles.messages import escape_unprintable
from visionbench.datafiles.text_file import read_text, split_lines
from visionbench.examples.class_mapping import find_targets, parse_mapping
from visionbench.examples.sampling import sample_evenly
from visionbench.registry import nearest


@dataclass(frozen=True)
class Record:
    """An image with the values of its columns as they are stored. A value that is None is missing."""

    id: str
    image: Path
    caption: Any = None
    """A text or a list of texts."""
    label: Any = None
    """The number of a class, or its name."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotated:
    """The examples of a data set, its classes, and the annotations that no image has."""

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    absent: frozenset[str]


class AnnotatedData:
    """The methods of a data set that are the same for all columns. A data set adds `read` and its fields."""

    samples: int | None
    class_mapping: Any

    provides: ClassVar[frozenset[str]] = frozenset({"captions", "labels"})

    def read(self) -> Annotated:
        """Return all examples and classes. Raises ConfigError if the files do not have the expected format."""
        raise NotImplementedError

    def place_of(self, kind: str) -> str:
        """Return where the files have an annotation, `captions` or `labels`: `a member .txt`."""
        raise NotImplementedError

    def examples(self) -> Sequence[Example]:
        """Return the examples in the order of the files, `samples` of them evenly from all classes."""
        return sample_evenly(self.read().examples, self.samples)

    def classes(self) -> Sequence[str]:
        """Return the names of the classes in the order of their numbers, or nothing if no image has a label."""
        return self.read().classes

    def described_classes(self) -> Sequence[DataClass]:
        """Return the classes, each with the model's class that the config gives."""
        names = self.read().classes
        targets = find_targets(self.class_mapping, names)
        return [DataClass(name, target=targets.get(name)) for name in names]

    def absent_annotations(self) -> Mapping[str, str]:
        """Return the annotations that no image has, each with the reason."""
        return {kind: f"it has no {kind}: no image has {self.place_of(kind)}" for kind in sorted(self.read().absent)}


def check_mapping(mapping: Any) -> None:
    """Raise ConfigError if the option `classes` has another form."""
    parse_mapping(mapping)


def read_names(option: str | None, file: Path | None) -> tuple[str, ...]:
    """Return the names of classes in a file, one per line in the order of their numbers, or nothing without a file.

    `option` is the value of `data.options.names`, which replaces `file`. Raises ConfigError.
    """
    path = Path(option).expanduser() if option is not None else file
    if path is None:
        return ()
    if not path.is_file():
        raise ConfigError(f"data.options.names={option}: there is no such file", "give a file with one name per line")
    lines = [line.strip() for line in split_lines(read_text(path))]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line:
            raise ConfigError(f"{path}, line {number}: it has no name", "give one name per line")
    if repeated := next((name for name in lines if lines.count(name) > 1), None):
        first = lines.index(repeated)
        raise ConfigError(
            f"{path}: '{repeated}' is the name of the classes {first} and {lines.index(repeated, first + 1)}",
            "give each class another name",
        )
    return tuple(map(escape_unprintable, lines))


def annotate(records: Sequence[Record], names: Sequence[str] = ()) -> Annotated:
    """Return the examples of records. `names` are the names of the classes by number; without them, the classes are the
    labels.

    If no record has a caption, captions are absent; otherwise a record without one has a problem. The same holds for
    labels, whose absence is a problem only for metrics that read them.
    """
    has_captions = any(not _is_missing(record.caption) for record in records)
    labels = [None if record.problems else _read_label(record.label, names) for record in records]
    examples = []
    for record, label in zip(records, labels, strict=True):
        name, problem = label if label is not None else (None, None)
        problems = (*record.problems, *([problem] if problem else []))
        if has_captions and not record.problems:
            value = record.caption
            captions = [] if _is_missing(value) else value if isinstance(value, list) else [value]
            example = make_captioned(record.id, record.image, captions, problems)
        else:
            example = Example(record.id, record.image, problems=problems)
        examples.append(replace(example, label=name))
    used = {example.label for example in examples if example.label is not None}
    has_labels = any(not _is_missing(record.label) for record in records)
    absent = {kind for kind, has in (("captions", has_captions), ("labels", has_labels)) if not has}
    classes = tuple(names) if names and has_labels else _sorted_labels(used)
    return Annotated(tuple(examples), classes, frozenset(absent))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == []


def _read_label(value: Any, names: Sequence[str]) -> tuple[str | None, str | None] | None:
    """Return the class of a label and its problem, one of which is None. Return None if the label is missing."""
    if _is_missing(value):
        return None
    if isinstance(value, list | dict | bool):
        return None, f"a label that is {describe_type(value)}, not a number or a name"
    number = parse_integer(value.strip() if isinstance(value, str) else value)
    if number is None and not isinstance(value, str):
        return None, f"a label that is {value}, not a whole number"
    if not names:
        text = str(number) if number is not None else escape_unprintable(value.strip())
        return (text, None) if text else (None, "an empty label")
    if number is not None:
        if 0 <= number < len(names):
            return names[number], None
        return None, f"the label {number}, but the classes are numbered 0 to {len(names) - 1}"
    text = escape_unprintable(value.strip())
    return (text, None) if text in names else (None, f"the label '{text}', which is not among the names of the classes")


def _sorted_labels(labels: set[str]) -> tuple[str, ...]:
    """Return labels in the order of their numbers if all are numbers, else sorted."""
    if all(parse_integer(label) is not None for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def choose_column(
    role: str, option: str | None, known: Sequence[str], columns: Sequence[str], file: Path
) -> str | None:
    """Return the column for a role: that of the option, or the one of `known` that exists, or None.

    Raises ConfigError if the column of the option does not exist, or if several are possible.
    """
    if option is not None:
        if option not in columns:
            raise ConfigError(
                f"data.options.{role}={option}: {file} has no such column{nearest(option, columns)}",
                "" if columns else "give another file",
            )
        return option
    matches = [name for name in known if name in columns]
    if len(matches) > 1:
        raise ConfigError(
            f"{file}: {' and '.join(matches)} may both be the {role}", f"choose with data.options.{role}={matches[0]}"
        )
    return matches[0] if matches else None
