"""ImageNet's validation set (ILSVRC2012), in folders by class or flat with Kaggle's list of solutions."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from visionbench import annotation
from visionbench.core import Example
from visionbench.registry import ConfigError, register

LAYOUT = "a folder val of pictures, or val/<class>/ with one folder for each class such as n01440764"
SOLUTION, SYNSETS = "LOC_val_solution.csv", "LOC_synset_mapping.txt"


@register("data", "imagenet")
@dataclass(frozen=True)
class ImageNet:
    """Options: a file of `names`, one a line in the order of the classes, and `samples`, the first so many pictures.

    The classes are ordered by their number (n01440764, …), as the 1,000 outputs of the usual models are. They are named
    by `names`, else by `LOC_synset_mapping.txt` where that is there, else by their number, which zero-shot cannot read.
    """

    root: str
    names: str | None = None
    samples: int | None = None

    gives: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation.at_least_one(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures in the order of their file names."""
        named = self._named()
        pictures = sorted(self._labelled(), key=lambda pair: pair[0].name)[: self.samples]
        return [
            Example(
                path.name,
                path,
                label=named.get(number),
                faults=() if number in named else (f"a class that is not known, {number}",),
            )
            for path, number in pictures
        ]

    def classes(self) -> Sequence[str]:
        """The names of the classes by rising number; a name that two classes share has its number beside it."""
        return list(self._named().values())

    def identity(self) -> Mapping[str, str]:
        """Folder, number of classes and of pictures."""
        return {
            "name": "imagenet",
            "root": str(annotation.folder(self.root, "imagenet").resolve()),
            "classes": str(len(self._named())),
            "samples": str(len(self.examples())),
        }

    def _labelled(self) -> list[tuple[Path, str]]:
        """Every picture with the number of its class."""
        root, pictures = self._folders()
        if self._by_folder(pictures):
            found = [path for path in pictures.glob("*/*") if path.suffix.lower() in annotation.PICTURE_SUFFIXES]
            return [(path, path.parent.name) for path in found]
        solutions = annotation.within(root, [SOLUTION, f"../{SOLUTION}"], f"{LAYOUT}; a flat folder needs {SOLUTION}")
        with solutions.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and not {"ImageId", "PredictionString"} <= set(rows[0]):
            raise ConfigError(f"{solutions}: not Kaggle's list, whose columns are ImageId and PredictionString")
        return [(pictures / f"{row['ImageId']}.JPEG", row["PredictionString"].partition(" ")[0]) for row in rows]

    def _named(self) -> dict[str, str]:
        """Names by number, by rising number."""
        root, pictures = self._folders()
        mapping = next((root / place for place in (SYNSETS, f"../{SYNSETS}") if (root / place).is_file()), None)
        named: dict[str, str] = {}
        if mapping is not None:
            lines = [line.partition(" ") for line in mapping.read_text().splitlines() if line.strip()]
            named = {number: name.strip() for number, _, name in sorted(lines)}
        elif self._by_folder(pictures):
            named = {path.name: path.name for path in sorted(pictures.iterdir()) if path.is_dir()}
        else:
            named = {number: number for number in sorted({number for _, number in self._labelled()})}
        if self.names is not None:
            named = dict(zip(named, self._own_names(len(named)), strict=True))
        shared = Counter(named.values())
        return {number: name if shared[name] == 1 else f"{name} ({number})" for number, name in named.items()}

    def _own_names(self, count: int) -> list[str]:
        path = Path(self.names or "").expanduser()
        if not path.is_file():
            raise ConfigError(f"data.options.names={self.names}: there is no such file")
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        if len(names) != count:
            raise ConfigError(f"data.options.names={self.names}: {len(names)} names for {count} classes")
        return names

    def _folders(self) -> tuple[Path, Path]:
        """The root, and the folder that holds pictures or folders of them."""
        root = annotation.folder(self.root, "imagenet")
        if self._by_folder(root):
            return root, root
        return root, annotation.within(root, ["val", "ILSVRC/Data/CLS-LOC/val"], LAYOUT)

    def _by_folder(self, path: Path) -> bool:
        return any(
            inside.is_dir() and inside.name[:1] == "n" and inside.name[1:].isdigit() for inside in path.iterdir()
        )
