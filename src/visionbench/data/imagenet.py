"""ImageNet's validation set (ILSVRC2012), in one folder per class or in one folder with Kaggle's list of solutions."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from visionbench.core import ConfigError, DataClass, Example
from visionbench.datafiles.data_folder import check_counts, find_file, find_folder
from visionbench.datafiles.folder_listing import describe_others, list_folder
from visionbench.examples.class_mapping import find_targets, parse_mapping
from visionbench.registry import register

LAYOUT = "a folder val of images, or val/<class>/ with one folder for each class such as n01440764"
SOLUTION, SYNSETS = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
COLUMNS = ("ImageId", "PredictionString")


@register("data", "imagenet")
@dataclass(frozen=True)
class ImageNet:
    """Options: a file of `names`, one per line in the order of the classes; `samples`, the number of images, from the
    first; `follow_links` and `classes` as for `image_folder`.

    The classes are ordered by WordNet number (n01440764, …), as the 1,000 outputs of the usual models are. Their names
    are from `names`, else from `LOC_synset_mapping.txt` if it exists, else their numbers, which zero-shot
    classification cannot use.
    """

    root: str
    names: str | None = None
    samples: int | None = None
    follow_links: bool = False
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    provides: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        parse_mapping(self.class_mapping)

    def examples(self) -> Sequence[Example]:
        """Return the images in the order of their file names."""
        names = self._names_by_number()
        images = sorted(self._label_images(), key=lambda image: image[0].name)[: self.samples]
        return [
            Example(path.name, path, label=names.get(number), problems=_find_problems(number, number in names))
            for path, number in images
        ]

    def classes(self) -> Sequence[str]:
        """Return the names of the classes by rising number. A name that two classes share is followed by the number."""
        return list(self._names_by_number().values())

    def described_classes(self) -> Sequence[DataClass]:
        """Return the classes with their numbers, each with the model's class that the config gives."""
        names = self._names_by_number()
        targets = find_targets(self.class_mapping, list(names.values()))
        return [DataClass(name, number, targets.get(name)) for number, name in names.items()]

    def warnings(self) -> Mapping[str, str]:
        """Return a flag for files in the folders of classes that are neither images nor texts."""
        folder = self._find_folders()[1]
        if not _has_class_folders(folder):
            return {}
        other_files = describe_others(list_folder(folder, self.follow_links).without_texts())
        return {"other_endings": f"{other_files} were not read as images"} if other_files else {}

    def identity(self) -> Mapping[str, str]:
        """Return folder, number of classes and number of images."""
        return {
            "name": "imagenet",
            "root": str(find_folder(self.root, "imagenet").resolve()),
            "classes": str(len(self._names_by_number())),
            "samples": str(len(self.examples())),
        }

    def _label_images(self) -> list[tuple[Path, str]]:
        """Return every image with the number of its class, or '' if Kaggle's list does not contain the image."""
        folder = self._find_folders()[1]
        listing = list_folder(folder, self.follow_links)
        if _has_class_folders(folder):
            dead_links = [(folder / place, place.parts[0]) for place in listing.dead_links]
            images = [(path, place.parts[0]) for place, path in listing.images if len(place.parts) > 1]
            return [*images, *dead_links]
        numbers = self._read_solutions()
        solved = {f"{id}.JPEG" for id in numbers}
        unsolved = [path for place, path in listing.images if len(place.parts) == 1 and path.name not in solved]
        return [
            *((folder / f"{id}.JPEG", number) for id, number in numbers.items()),
            *((path, "") for path in unsolved),
        ]

    def _read_solutions(self) -> dict[str, str]:
        """Return Kaggle's list: an image's name without suffix to the number of its class. Raises ConfigError."""
        places = [SOLUTION, f"../{SOLUTION}"]
        path = find_file(self._find_folders()[0], places, f"{LAYOUT}; a flat folder needs {SOLUTION}")
        numbers: dict[str, str] = {}
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file, strict=True)
                if rows.fieldnames is None or not set(COLUMNS) <= set(rows.fieldnames):
                    raise ConfigError(f"{path}: not Kaggle's list, whose columns are {' and '.join(COLUMNS)}")
                for row in rows:
                    id, answer = ((row[column] or "").strip() for column in COLUMNS)
                    if not id or not answer:
                        raise ConfigError(f"{path}, line {rows.line_num}: it has no ImageId or no PredictionString")
                    if numbers.setdefault(id, number := answer.split()[0]) != number:
                        raise ConfigError(f"{path}, line {rows.line_num}: {id} has two classes", "keep one")
        except (UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"{path}: not a table in UTF-8 ({error})", "download it again") from None
        return numbers

    def _names_by_number(self) -> dict[str, str]:
        """Return the unique name of each class, by rising number."""
        root, folder = self._find_folders()
        mapping = next((root / place for place in (SYNSETS, f"../{SYNSETS}") if (root / place).is_file()), None)
        names: dict[str, str] = {}
        if mapping is not None:
            names = _read_synsets(mapping)
        elif _has_class_folders(folder):
            names = {number: number for number in sorted(list_folder(folder, self.follow_links).folders)}
        else:
            names = {number: number for number in sorted(set(self._read_solutions().values()))}
        if self.names is not None:
            names = dict(zip(names, self._read_names(self.names, len(names)), strict=True))
        times = Counter(names.values())
        return {number: name if times[name] == 1 else f"{name} ({number})" for number, name in names.items()}

    def _read_names(self, file: str, count: int) -> list[str]:
        path = Path(file).expanduser()
        if not path.is_file():
            raise ConfigError(f"data.options.names={file}: there is no such file")
        names = [line.strip() for line in _read_text(path).split("\n") if line.strip()]
        if len(names) != count:
            raise ConfigError(
                f"data.options.names={file}: {len(names)} names for {count} classes", "give one per class"
            )
        return names

    def _find_folders(self) -> tuple[Path, Path]:
        """Return the root, and the folder that contains images or folders of classes."""
        root = find_folder(self.root, "imagenet")
        if _has_class_folders(root):
            return root, root
        return root, find_file(root, ["val", "ILSVRC/Data/CLS-LOC/val"], LAYOUT)


def _find_problems(number: str, is_known: bool) -> tuple[str, ...]:
    if is_known:
        return ()
    return (f"an unknown class, {number}",) if number else (f"not listed in {SOLUTION}",)


def _read_synsets(path: Path) -> dict[str, str]:
    """Read lines of the form `n01440764 tench, Tinca tinca` as numbers to names. Raises ConfigError."""
    names: dict[str, str] = {}
    for line_number, line in enumerate(_read_text(path).split("\n"), start=1):
        number, _, name = line.strip().partition(" ")
        if number and names.setdefault(number, name.strip() or number) != (name.strip() or number):
            raise ConfigError(f"{path}, line {line_number}: {number} has two names", "keep one")
    return dict(sorted(names.items()))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8") from None


def _has_class_folders(folder: Path) -> bool:
    return any(path.is_dir() and path.name[:1] == "n" and path.name[1:].isdigit() for path in folder.iterdir())
