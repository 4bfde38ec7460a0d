"""Karpathy's splits of COCO and Flickr30k: `dataset_coco.json`, `dataset_flickr30k.json`, by which captioning and
retrieval are usually reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from visionbench import annotation
from visionbench.core import Example
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
        annotation.at_least_one(captions_per_image=self.captions_per_image, samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures of the split in the file's order."""
        root = annotation.folder(self.root, "karpathy")
        rows = annotation.read_json(self._file, ("images",))["images"]
        with annotation.entries_of(self._file):
            chosen = [row for row in rows if row["split"] == self.split]
        if not chosen:
            raise ConfigError(f"{self._file}: no picture of data.options.split={self.split}")
        examples = []
        with annotation.entries_of(self._file):
            for row in chosen:
                name = "/".join(filter(None, [row.get("filepath"), row["filename"]]))
                said = [sentence["raw"] for sentence in row["sentences"]][: self.captions_per_image]
                examples.append(annotation.captioned(name, _picture(root, name, row["filename"]), said))
        return annotation.apart(examples)[: self.samples]

    def classes(self) -> Sequence[str]:
        """None: it has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Folder, file, split, captions taken, number of pictures and a digest of the annotations."""
        return {
            "name": "karpathy",
            "root": str(annotation.folder(self.root, "karpathy").resolve()),
            "annotations": self._file.name,
            "split": self.split,
            "captions_per_image": str(self.captions_per_image or "all"),
            "samples": str(len(self.examples())),
            "annotations_sha256": annotation.digest(self._file),
        }

    @property
    def _file(self) -> Path:
        root, name = annotation.folder(self.root, "karpathy"), Path(self.annotations).expanduser()
        if name.is_absolute() and not name.is_file():
            raise ConfigError(f"data.options.annotations={self.annotations}: there is no such file")
        places = [str(name), f"karpathy/{name}", f"annotations/{name}"]
        return name if name.is_absolute() else annotation.within(root, places, "Karpathy's file beside the pictures")


def _picture(root: Path, name: str, filename: str) -> Path:
    """Where a picture lies: of the places that users have, the first that holds it, else the first of all."""
    places = (root / name, root / "images" / name, root / filename, root / "flickr30k-images" / filename)
    return next((place for place in places if place.is_file()), places[0])
