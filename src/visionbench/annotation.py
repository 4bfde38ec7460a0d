"""Reading annotation files as they come from elsewhere: JSON, lines and tables, with their faults in one line."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from visionbench.core import Example
from visionbench.registry import ConfigError

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
EMPTY_CAPTION = "an empty caption"


def folder(root: str, name: str) -> Path:
    """The data set's folder. Raises ConfigError where there is none."""
    path = Path(root).expanduser()
    if not path.is_dir():
        raise ConfigError(f"data.root={root}: there is no such folder; data={name} is read from one, see docs/data.md")
    return path


def within(root: Path, candidates: Sequence[str], expected: str) -> Path:
    """The first of these paths below a folder that is there. Raises ConfigError that tells what is expected."""
    found = next((root / name for name in candidates if (root / name).exists()), None)
    if found is None:
        raise ConfigError(f"data.root={root}: {candidates[0]} is not in it; expected {expected}, see docs/data.md")
    return found


def read_json(path: Path, keys: Iterable[str]) -> Mapping[str, Any]:
    """An object that has these keys, each a list; read once as long as the file stays the same. Raises ConfigError."""
    found = _json(path, path.stat().st_mtime_ns)
    for key in keys:
        if not isinstance(found, dict) or not isinstance(found.get(key), list):
            raise ConfigError(f"{path}: not the annotations that are meant; it has no list '{key}'")
    return found  # type: ignore[no-any-return]


@lru_cache(maxsize=4)
def _json(path: Path, changed: int) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from None


@contextmanager
def entries_of(path: Path) -> Iterator[None]:
    """Within it, entries that are not of the form that is read end in a ConfigError that names the file."""
    try:
        yield
    except KeyError as error:
        raise ConfigError(f"{path}: not the annotations that are meant; an entry has no {error}") from error
    except (TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: not the annotations that are meant; an entry is of another form ({error})"
        ) from error


def apart(examples: Iterable[Example]) -> list[Example]:
    """One example for each id; one whose picture is listed more than once has that as a fault."""
    every = list(examples)
    times = Counter(example.id for example in every)
    found: dict[str, Example] = {}
    for example in every:
        if times[example.id] > 1:
            example = replace(example, faults=(*example.faults, f"listed {times[example.id]} times"))
        found.setdefault(example.id, example)
    return list(found.values())


@dataclass(frozen=True)
class CocoFiles:
    """One of COCO's annotation files and the folder of pictures that it speaks of."""

    name: str
    """Of the data set."""
    root: Path
    file: Path
    pictures: Path
    split: str

    @classmethod
    def find(cls, name: str, root: str, split: str, file: str) -> CocoFiles:
        """`file` below `root`, and the pictures in `<split>` or `images/<split>`. Raises ConfigError."""
        base, layout = folder(root, name), f"{file} and a folder {split} of pictures"
        annotations = within(base, [file], layout)
        return cls(name, base, annotations, within(base, [split, f"images/{split}", "images"], layout), split)

    def read(self) -> Mapping[str, Any]:
        """Its lists `images` and `annotations`."""
        return read_json(self.file, ("images", "annotations"))

    def listed(self) -> list[Mapping[str, Any]]:
        """The pictures by rising id."""
        with entries_of(self.file):
            return sorted(self.read()["images"], key=lambda picture: picture["id"])

    def captions(self) -> dict[int, list[Any]]:
        """By the picture's id, its captions in the order of their own ids."""
        return self._by_picture("caption")

    def regions(self) -> dict[int, list[Any]]:
        """By the picture's id, the regions of its instances in the order of their own ids, without those of crowds."""
        return self._by_picture("segmentation")

    def _by_picture(self, key: str) -> dict[int, list[Any]]:
        found: defaultdict[int, list[Any]] = defaultdict(list)
        with entries_of(self.file):
            for row in sorted(self.read()["annotations"], key=lambda row: row["id"]):
                if not row.get("iscrowd"):
                    found[row["image_id"]].append(row[key])
        return found

    def identity(self, samples: int) -> Mapping[str, str]:
        """Folder, split, number of pictures and a digest of the annotations."""
        return {
            "name": self.name,
            "root": str(self.root.resolve()),
            "split": self.split,
            "samples": str(samples),
            "annotations_sha256": digest(self.file),
        }


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_all(paths: Iterable[Path]) -> str:
    """SHA-256 of the digests of several files, in turn."""
    return hashlib.sha256("".join(digest(path) for path in paths).encode()).hexdigest()


def caption_faults(captions: Iterable[Any]) -> tuple[str, ...]:
    """Whether one of a picture's captions is no text or says nothing."""
    return (EMPTY_CAPTION,) if any(not isinstance(text, str) or not text.strip() for text in captions) else ()


def captioned(id: str, image: Path, captions: Sequence[Any], faults: Sequence[str] = ()) -> Example:
    """An example with its captions, stripped, and its faults."""
    every = (*faults, *caption_faults(captions), *([] if captions else ["no caption"]))
    return Example(id, image, captions=tuple(str(text).strip() for text in captions), faults=every)


def unlisted(id: str, root: Path) -> Example:
    """What stands for a picture that annotations speak of and no list of pictures names."""
    return Example(id, root / id, faults=("annotations for a picture that is not listed",))


def at_least_one(**options: int | None) -> None:
    """Raise ConfigError for a count below 1."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise ConfigError(f"data.options.{name}={value}: must be at least 1")
