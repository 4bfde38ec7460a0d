"""Parquet files with embedded images, as the datasets library and the Hugging Face Hub write them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.caption_file import CAPTION_KEYS
from visionbench.datafiles.data_folder import check_counts, find_folder, locate_image
from visionbench.datafiles.extraction import Row, extract
from visionbench.datafiles.folder_listing import SPLITS, is_ignored
from visionbench.datafiles.messages import list_first, quote_first
from visionbench.datafiles.parquet_file import ParquetSchema, read_rows, read_schema
from visionbench.examples.annotated import (
    Annotated,
    AnnotatedData,
    Record,
    annotate,
    check_mapping,
    choose_column,
    read_names,
)
from visionbench.examples.content_digest import digest_files
from visionbench.registry import register

LABEL_KEYS = ("label",)
NUMBERED = re.compile(r"(?P<split>[^/]+?)-\d{5}-of-(?P<count>\d{5})(?:-[0-9a-f]+)?\.parquet")
"""A file of a data set on the Hub, such as `test-00000-of-00002.parquet`."""


@register("data", "parquet")
@dataclass
class Parquet(AnnotatedData):
    """Images in the Parquet files below `root`, extracted into `cache_dir` at first use.

    Options: `split`, the start of the names of the files, or their folder; `samples`, the number of images, taken
    evenly from all classes; `image`, `caption` and `label`, the names of columns; `names`, a file with the names of the
    classes, instead of those in the files; `classes`, the model's class for a class, by name or index.
    """

    root: str
    split: str | None = None
    samples: int | None = None
    image: str | None = None
    caption: str | None = None
    label: str | None = None
    names: str | None = None
    cache_dir: str = "data/cache"
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        check_mapping(self.class_mapping)

    def place_of(self, kind: str) -> str:
        """Return the column with an annotation."""
        option, known = (self.caption, CAPTION_KEYS) if kind == "captions" else (self.label, LABEL_KEYS)
        return f"a value in a column {option or ' or '.join(known)}"

    def read(self) -> Annotated:
        """Return all rows of all files in their order. The first call extracts the images."""
        root = find_folder(self.root, "parquet")
        files = self._find_files(root)
        digests = digest_files(files, Path(self.cache_dir) / "contents")
        records: list[Record] = []
        names: tuple[str, ...] | None = None
        for file in files:
            schema = read_schema(file)
            image = self._choose_image(schema, file)
            caption = choose_column("caption", self.caption, CAPTION_KEYS, schema.values, file)
            label = choose_column("label", self.label, LABEL_KEYS, schema.values, file)
            columns = [name for name in dict.fromkeys((caption, label)) if name is not None]
            own_names = schema.class_names.get(label or "", ())
            if names is not None and names != own_names:
                raise ConfigError(
                    f"{file}: the names of its classes differ from those of {files[0].name}", "choose one"
                )
            names = own_names
            digest = hashlib.sha256(f"{digests[file]} {[image, *columns]}".encode()).hexdigest()
            folder, rows = extract(file, digest, self.cache_dir, partial(read_rows, image=image, columns=columns))
            records += [
                _make_record(root, file, folder, number, row, caption, label) for number, row in enumerate(rows)
            ]
        if not records:
            raise ConfigError(f"data.root={self.root}: its {len(files)} files have no row", "give other files")
        return annotate(records, read_names(self.names, None) or names or ())

    def identity(self) -> Mapping[str, str]:
        """Return the folder, the number of images, and a digest of the files."""
        root = find_folder(self.root, "parquet")
        files = self._find_files(root)
        digests = digest_files(files, Path(self.cache_dir) / "contents")
        return {
            "name": "parquet",
            "root": str(root.resolve()),
            "files": ", ".join(file.name for file in files[:3]) + (", …" if len(files) > 3 else ""),
            "samples": str(len(self.examples())),
            "annotations_sha256": hashlib.sha256("".join(digests[file] for file in files).encode()).hexdigest(),
        }

    def _choose_image(self, schema: ParquetSchema, file: Path) -> str:
        image = choose_column("image", self.image, schema.images, schema.images, file)
        if image is None:
            raise ConfigError(
                f"{file}: no column has images (bytes, or a struct of bytes and path)", "give other files"
            )
        return image

    def _find_files(self, root: Path) -> list[Path]:
        """Return the files of the split in the order of their paths. Raises ConfigError."""
        by_split: dict[str, list[Path]] = {}
        for path in sorted(root.rglob("*.parquet")):
            place = path.relative_to(root)
            if path.is_file() and not any(map(is_ignored, place.parts)):
                by_split.setdefault(_name_split(place), []).append(path)
        if not by_split:
            raise ConfigError(f"data.root={self.root}: it has no file .parquet", "give the folder of the files")
        split = self.split
        if split is None:
            if len(by_split) > 1:
                raise ConfigError(
                    f"data.root={self.root}: it has several splits ({quote_first(by_split)})",
                    f"choose one with data.options.split={list(by_split)[-1]}",
                )
            (split,) = by_split
        if split not in by_split:
            raise ConfigError(
                f"data.options.split={split}: {root} has no such split", f"its splits are {quote_first(by_split)}"
            )
        _check_count(by_split[split])
        return by_split[split]


def _name_split(place: Path) -> str:
    """Return the split of a file from its name or its folder, or the name of the file if neither names a split."""
    if match := NUMBERED.fullmatch(place.name):
        return match["split"]
    folder = next((part for part in reversed(place.parts[:-1]) if part.lower() in SPLITS), None)
    return folder or place.stem


def _check_count(files: list[Path]) -> None:
    """Raise ConfigError if the names of the files give a number of files, and some are missing."""
    counts = {int(match["count"]) for file in files if (match := NUMBERED.fullmatch(file.name))}
    if counts and counts != {len(files)}:
        listed = list_first([file.name for file in files])
        raise ConfigError(
            f"{files[0].parent}: it has {len(files)} of {max(counts)} files of the split ({listed})",
            "download the missing files",
        )


def _make_record(
    root: Path, file: Path, folder: Path, number: int, row: Row, caption: str | None, label: str | None
) -> Record:
    id, problems, stored = f"{file.name}/{number}", tuple(row["problems"]), row["path"]
    image = folder
    if row["image"] is not None:
        image = folder / row["image"]
    elif stored and not problems:
        image, problems = locate_image(stored, [file.parent / stored, root / stored], root)
    values = row["values"]
    return Record(id, image, values.get(caption or ""), values.get(label or ""), problems)
