"""ImageNet's validation set (ILSVRC2012), in folders by class or flat with Kaggle's list of solutions."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from visionbench.core import DataClass, Example
from visionbench.datafiles import annotation_files, folders
from visionbench.examples.class_mapping import find_targets, parse_mapping
from visionbench.registry import ConfigError, register

LAYOUT = "a folder val of pictures, or val/<class>/ with one folder for each class such as n01440764"
SOLUTION, SYNSETS = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
COLUMNS = ("ImageId", "PredictionString")


@register("data", "imagenet")
@dataclass(frozen=True)
class ImageNet:
    """Options: a file of `names`, one a line in the order of the classes, `samples`, the first so many pictures, and
    `follow_links` and `classes` as for a folder of pictures.

    The classes are ordered by their number (n01440764, …), as the 1,000 outputs of the usual models are. They are named
    by `names`, else by `LOC_synset_mapping.txt` where that is there, else by their number, which zero-shot cannot read.
    """

    root: str
    names: str | None = None
    samples: int | None = None
    follow_links: bool = False
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    gives: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation_files.at_least_one(samples=self.samples)
        parse_mapping(self.class_mapping)

    def examples(self) -> Sequence[Example]:
        """The pictures in the order of their file names."""
        named = self._named()
        pictures = sorted(self._labelled(), key=lambda one: one[0].name)[: self.samples]
        return [
            Example(path.name, path, label=named.get(number), faults=_faults(number, number in named))
            for path, number in pictures
        ]

    def classes(self) -> Sequence[str]:
        """The names of the classes by rising number; a name that two classes share has its number beside it."""
        return list(self._named().values())

    def described_classes(self) -> Sequence[DataClass]:
        """The classes with their numbers, each with the class of a model that the config gives for it."""
        named = self._named()
        given = find_targets(self.class_mapping, list(named.values()))
        return [DataClass(name, number, given.get(name)) for number, name in named.items()]

    def doubts(self) -> Mapping[str, str]:
        """Files in folders of classes that have the ending of no picture, unless it is that of a text."""
        pictures = self._folders()[1]
        if not _by_folder(pictures):
            return {}
        others = folders.walk(pictures, self.follow_links).others
        for ending in folders.TEXT:
            others.pop(ending, None)
        seen = folders.other_endings(others)
        return {"other_endings": f"{seen} were not read as pictures"} if seen else {}

    def identity(self) -> Mapping[str, str]:
        """Folder, number of classes and of pictures."""
        return {
            "name": "imagenet",
            "root": str(annotation_files.folder(self.root, "imagenet").resolve()),
            "classes": str(len(self._named())),
            "samples": str(len(self.examples())),
        }

    def _labelled(self) -> list[tuple[Path, str]]:
        """Every picture with the number of its class; empty for a picture of a flat folder that Kaggle's list lacks."""
        pictures = self._folders()[1]
        found = folders.walk(pictures, self.follow_links)
        if _by_folder(pictures):
            dead = [(pictures / inside, inside.parts[0]) for inside in found.dead_links]
            inside = [(path, place.parts[0]) for place, path in found.pictures if len(place.parts) > 1]
            return [*inside, *dead]
        solved = self._solutions()
        listed = {f"{id}.JPEG" for id in solved}
        others = [path for place, path in found.pictures if len(place.parts) == 1 and path.name not in listed]
        return [*((pictures / f"{id}.JPEG", number) for id, number in solved.items()), *((path, "") for path in others)]

    def _solutions(self) -> dict[str, str]:
        """Kaggle's list: the number of the class by the picture's name without its ending. Raises ConfigError."""
        places = [SOLUTION, f"../{SOLUTION}"]
        path = annotation_files.within(self._folders()[0], places, f"{LAYOUT}; a flat folder needs {SOLUTION}")
        found: dict[str, str] = {}
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file, strict=True)
                if rows.fieldnames is None or not set(COLUMNS) <= set(rows.fieldnames):
                    raise ConfigError(f"{path}: not Kaggle's list, whose columns are {' and '.join(COLUMNS)}")
                for row in rows:
                    id, answer = ((row[column] or "").strip() for column in COLUMNS)
                    if not id or not answer:
                        raise ConfigError(f"{path}, line {rows.line_num}: it has no ImageId or no PredictionString")
                    if found.setdefault(id, number := answer.split()[0]) != number:
                        raise ConfigError(f"{path}, line {rows.line_num}: {id} has two classes; keep one")
        except (UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"{path}: not a table in UTF-8 ({error})") from None
        return found

    def _named(self) -> dict[str, str]:
        """Names by number, by rising number."""
        root, pictures = self._folders()
        mapping = next((root / place for place in (SYNSETS, f"../{SYNSETS}") if (root / place).is_file()), None)
        named: dict[str, str] = {}
        if mapping is not None:
            named = _numbers_to_names(mapping)
        elif _by_folder(pictures):
            named = {name: name for name in sorted(folders.walk(pictures, self.follow_links).folders)}
        else:
            named = {number: number for number in sorted(set(self._solutions().values()))}
        if self.names is not None:
            named = dict(zip(named, self._own_names(len(named)), strict=True))
        shared = Counter(named.values())
        return {number: name if shared[name] == 1 else f"{name} ({number})" for number, name in named.items()}

    def _own_names(self, count: int) -> list[str]:
        path = Path(self.names or "").expanduser()
        if not path.is_file():
            raise ConfigError(f"data.options.names={self.names}: there is no such file")
        names = [line.strip() for line in _text(path).split("\n") if line.strip()]
        if len(names) != count:
            raise ConfigError(f"data.options.names={self.names}: {len(names)} names for {count} classes")
        return names

    def _folders(self) -> tuple[Path, Path]:
        """The root, and the folder that holds pictures or folders of them."""
        root = annotation_files.folder(self.root, "imagenet")
        if _by_folder(root):
            return root, root
        return root, annotation_files.within(root, ["val", "ILSVRC/Data/CLS-LOC/val"], LAYOUT)


def _faults(number: str, is_known: bool) -> tuple[str, ...]:
    if is_known:
        return ()
    return (f"a class that is not known, {number}",) if number else (f"not listed in {SOLUTION}",)


def _numbers_to_names(path: Path) -> dict[str, str]:
    """The lines `n01440764 tench, Tinca tinca` of a file, by rising number. Raises ConfigError."""
    found: dict[str, str] = {}
    for at, line in enumerate(_text(path).split("\n"), start=1):
        number, _, name = line.strip().partition(" ")
        if number and found.setdefault(number, name.strip() or number) != (name.strip() or number):
            raise ConfigError(f"{path}, line {at}: {number} has two names; keep one")
    return dict(sorted(found.items()))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _by_folder(path: Path) -> bool:
    return any(inside.is_dir() and inside.name[:1] == "n" and inside.name[1:].isdigit() for inside in path.iterdir())
