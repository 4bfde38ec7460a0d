"""Karpathy's splits of COCO and Flickr30k (`dataset_coco.json`, `dataset_flickr30k.json`), on which captioning and
retrieval are usually reported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from visionbench.core import ConfigError, Example
from visionbench.datafiles.captions import make_captioned
from visionbench.datafiles.coco_files import merge_repeated, read_lists
from visionbench.datafiles.coco_schema import check_objects, show_value
from visionbench.datafiles.data_folder import check_counts, digest_file, find_file, find_folder, locate_image
from visionbench.datafiles.json_file import parse_id, show
from visionbench.datafiles.messages import escape_unprintable, list_first
from visionbench.registry import nearest, register

SPLITS = ("train", "restval", "val", "test")


@register("data", "karpathy")
@dataclass(frozen=True)
class Karpathy:
    """Options: the annotation file `annotations`, the `split`, `captions_per_image` (the first captions; by default
    all), and `samples`, the number of images, from the first.

    The path of an image is `filepath/filename` below `root`, or `filename` in a folder of images.
    """

    root: str
    annotations: str = "dataset_coco.json"
    """Path below `root`, or an absolute path."""
    split: str = "test"
    captions_per_image: int | None = None
    samples: int | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"data.options.split={self.split}: no such split{nearest(self.split, SPLITS)}")
        check_counts(captions_per_image=self.captions_per_image, samples=self.samples)

    def other_images(self, count: int) -> Karpathy:
        """Return images of the validation split, or of the test split if these are images of the validation split."""
        return replace(self, split="test" if self.split == "val" else "val", samples=count)

    def examples(self) -> Sequence[Example]:
        """Return the images of the split in the order of the file."""
        root = find_folder(self.root, "karpathy")
        rows = read_lists(self._file, ("images",))["images"]
        check_objects(self._file, "images", rows)
        # an unknown split may be a damaged name of this split, and is a problem of its example
        other_splits = [split for split in SPLITS if split != self.split]
        chosen = [(index, row) for index, row in enumerate(rows) if row.get("split") not in other_splits]
        if not any(row.get("split") == self.split for _, row in chosen):
            splits = list_first(sorted({show_value(row, "split") for row in rows}))
            raise ConfigError(f"{self._file}: no image of data.options.split={self.split}", f"its splits are: {splits}")
        examples = [_make_example(root, index, row, self.captions_per_image) for index, row in chosen]
        return merge_repeated(examples)[: self.samples]

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: the data set has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Return folder, file, split, captions per image, number of images and a digest of the annotations."""
        return {
            "name": "karpathy",
            "root": str(find_folder(self.root, "karpathy").resolve()),
            "annotations": self._file.name,
            "split": self.split,
            "captions_per_image": str(self.captions_per_image or "all"),
            "samples": str(len(self.examples())),
            "annotations_sha256": digest_file(self._file),
        }

    @property
    def _file(self) -> Path:
        root, name = find_folder(self.root, "karpathy"), Path(self.annotations).expanduser()
        if not name.is_absolute():
            places = [str(name), f"karpathy/{name}", f"annotations/{name}"]
            return find_file(root, places, "Karpathy's file beside the images")
        if not name.is_file():
            raise ConfigError(f"data.options.annotations={self.annotations}: there is no such file")
        return name


def _make_example(root: Path, index: int, row: Mapping[str, Any], most: int | None) -> Example:
    """Return the example of an entry with its first captions, `most` of them or all."""
    filepath, filename, sentences = row.get("filepath") or "", row.get("filename"), row.get("sentences")
    problems = []
    if row.get("split") not in SPLITS:
        problems.append(f"its split is {show_value(row, 'split')}, none of {', '.join(SPLITS)}")
    if not isinstance(filename, str) or not filename.strip():
        problems.append(f"its filename is {show_value(row, 'filename')}")
        return Example(f"images[{index}]", root, problems=tuple(problems))
    if not isinstance(filepath, str):
        problems.append(f"its filepath is {show(filepath)}, not text")
        return Example(escape_unprintable(filename), root, problems=tuple(problems))
    name = f"{filepath}/{filename}" if filepath else filename
    path, name_problems = locate_image(name, _list_places(root, name, filename), root)
    id = escape_unprintable(name) if name_problems else os.path.normpath(name)
    if not isinstance(sentences, list):
        problems += [*name_problems, f"its sentences are {show_value(row, 'sentences')}, not a list"]
        return Example(id, path, problems=tuple(problems))
    chosen = sentences[:most]
    if any(not isinstance(sentence, dict) or "raw" not in sentence for sentence in chosen):
        problems.append("a sentence without 'raw'")
    times = Counter(parse_id(sentence.get("sentid")) for sentence in sentences if isinstance(sentence, dict))
    if repeated := [show(id) for id, count in times.items() if id is not None and count > 1]:
        problems.append(f"several of its sentences have the sentid {list_first(repeated)}")
    captions = [sentence["raw"] for sentence in chosen if isinstance(sentence, dict) and "raw" in sentence]
    return make_captioned(id, path, captions, (*problems, *name_problems))


def _list_places(root: Path, name: str, filename: str) -> tuple[Path, ...]:
    """Return the places in which users keep the images, the most common first."""
    return root / name, root / "images" / name, root / filename, root / "flickr30k-images" / filename
