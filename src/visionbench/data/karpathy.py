"""Karpathy's splits of COCO and Flickr30k: `dataset_coco.json`, `dataset_flickr30k.json`, by which captioning and
retrieval are usually reported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from visionbench.core import Example
from visionbench.datafiles import annotation_files
from visionbench.datafiles.annotation_files import printable
from visionbench.datafiles.coco_schema import first
from visionbench.datafiles.json_file import key, kind, shown
from visionbench.registry import ConfigError, nearest, register

SPLITS = ("train", "restval", "val", "test")


@register("data", "karpathy")
@dataclass(frozen=True)
class Karpathy:
    """Options: the file of `annotations`, the `split`, how many `captions_per_image` (the first; by default all), and
    `samples`, the first so many pictures.

    A picture lies below `root` as its `filepath/filename`, or in a folder of pictures as its `filename`.
    """

    root: str
    annotations: str = "dataset_coco.json"
    """Below `root`, or an absolute path."""
    split: str = "test"
    captions_per_image: int | None = None
    samples: int | None = None

    gives: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"data.options.split={self.split}: no such split{nearest(self.split, SPLITS)}")
        annotation_files.at_least_one(captions_per_image=self.captions_per_image, samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures of the split in the file's order."""
        root = annotation_files.folder(self.root, "karpathy")
        rows = annotation_files.read_json(self._file, ("images",))["images"]
        if bad := [f"images[{at}] is {kind(row)}" for at, row in enumerate(rows) if not isinstance(row, dict)]:
            raise ConfigError(
                f"{self._file}: {len(bad)} of {len(rows)} entries of 'images' are no objects: {first(bad)}"
            )
        # a split that is not known may be a damaged name of this one
        others = [split for split in SPLITS if split != self.split]
        chosen = [(at, row) for at, row in enumerate(rows) if row.get("split") not in others]
        if not any(row.get("split") == self.split for _, row in chosen):
            there = first(sorted({_value(row, "split") for row in rows}))
            raise ConfigError(f"{self._file}: no picture of data.options.split={self.split}; its splits are: {there}")
        examples = [_example(root, at, row, self.captions_per_image) for at, row in chosen]
        return annotation_files.apart(examples)[: self.samples]

    def classes(self) -> Sequence[str]:
        """None: it has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Folder, file, split, captions taken, number of pictures and a digest of the annotations."""
        return {
            "name": "karpathy",
            "root": str(annotation_files.folder(self.root, "karpathy").resolve()),
            "annotations": self._file.name,
            "split": self.split,
            "captions_per_image": str(self.captions_per_image or "all"),
            "samples": str(len(self.examples())),
            "annotations_sha256": annotation_files.digest(self._file),
        }

    @property
    def _file(self) -> Path:
        root, name = annotation_files.folder(self.root, "karpathy"), Path(self.annotations).expanduser()
        if name.is_absolute() and not name.is_file():
            raise ConfigError(f"data.options.annotations={self.annotations}: there is no such file")
        places = [str(name), f"karpathy/{name}", f"annotations/{name}"]
        return (
            name if name.is_absolute() else annotation_files.within(root, places, "Karpathy's file beside the pictures")
        )


def _example(root: Path, at: int, row: Mapping[str, Any], most: int | None) -> Example:
    """The picture of an entry with its first captions, `most` of them or all."""
    filepath, filename, sentences = row.get("filepath") or "", row.get("filename"), row.get("sentences")
    faults = []
    if row.get("split") not in SPLITS:
        faults.append(f"its split is {_value(row, 'split')}, none of {', '.join(SPLITS)}")
    if not isinstance(filename, str) or not filename.strip():
        return Example(f"images[{at}]", root, faults=(*faults, f"its filename is {_value(row, 'filename')}"))
    if not isinstance(filepath, str):
        return Example(printable(filename), root, faults=(*faults, f"its filepath is {shown(filepath)}, not text"))
    name = f"{filepath}/{filename}" if filepath else filename
    path, wrong = annotation_files.placed(name, _places(root, name, filename), root)
    id = printable(name) if wrong else os.path.normpath(name)
    if not isinstance(sentences, list):
        return Example(id, path, faults=(*faults, *wrong, f"its sentences are {_value(row, 'sentences')}, not a list"))
    said = sentences[:most]
    if any(not isinstance(sentence, dict) or "raw" not in sentence for sentence in said):
        faults.append("a sentence without 'raw'")
    sentids = Counter(key(sentence.get("sentid")) for sentence in sentences if isinstance(sentence, dict))
    if twice := [shown(id) for id, times in sentids.items() if id is not None and times > 1]:
        faults.append(f"several of its sentences have the sentid {first(twice)}")
    captions = [sentence["raw"] for sentence in said if isinstance(sentence, dict) and "raw" in sentence]
    return annotation_files.captioned(id, path, captions, (*faults, *wrong))


def _value(row: Mapping[str, Any], key: str) -> str:
    return shown(row[key]) if key in row else "missing"


def _places(root: Path, name: str, filename: str) -> tuple[Path, ...]:
    """Where users have pictures, the likeliest place first."""
    return root / name, root / "images" / name, root / filename, root / "flickr30k-images" / filename
