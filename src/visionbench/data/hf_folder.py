"""A folder of images as the datasets library reads it: with `metadata.csv` or `.jsonl`, or a folder per class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.caption_file import CAPTION_KEYS
from visionbench.datafiles.data_folder import check_counts, digest_files, find_folder, locate_image, spell_name
from visionbench.datafiles.folder_listing import SPLITS, FolderListing, list_folder
from visionbench.datafiles.messages import escape_unprintable, quote_first
from visionbench.datafiles.metadata_file import FILES, MetadataRow, read_metadata
from visionbench.examples.annotated import (
    Annotated,
    AnnotatedData,
    Record,
    annotate,
    check_mapping,
    choose_column,
    read_names,
)
from visionbench.registry import register

LABEL_KEYS = ("label",)


@register("data", "hf_folder")
@dataclass
class HfFolder(AnnotatedData):
    """Images below `root` with the columns of the metadata files beside them; without such a file, the label of an
    image is its folder.

    Options: `split`, a subfolder; `samples`, the number of images, taken evenly from all classes; `image`, `caption`
    and `label`, the names of columns; `names`, a file with the names of the classes; `follow_links`, to follow links
    out of `root`; `classes`, the model's class for a class, by name or index.
    """

    root: str
    split: str | None = None
    samples: int | None = None
    image: str = "file_name"
    caption: str | None = None
    label: str | None = None
    names: str | None = None
    follow_links: bool = False
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        check_mapping(self.class_mapping)

    def place_of(self, kind: str) -> str:
        """Return the column with an annotation."""
        if kind == "captions":
            return f"a value in a column {self.caption or ' or '.join(CAPTION_KEYS)} of {' or '.join(FILES)}"
        return f"a folder of a class, or a value in a column {self.label or ' or '.join(LABEL_KEYS)}"

    def read(self) -> Annotated:
        """Return all images in the order of the metadata files, or of their paths."""
        folder, listing = self._find_images()
        names = read_names(self.names, None)
        files = _list_metadata(folder)
        if not files:
            if option := next((name for name in ("caption", "label") if getattr(self, name)), None):
                raise ConfigError(
                    f"data.options.{option}={getattr(self, option)}: {folder} has no {' or '.join(FILES)}", "remove it"
                )
            return annotate([_make_record_of_folder(place, path) for place, path in listing.images], names)
        return annotate(self._read_metadata(folder, files), names)

    def warnings(self) -> Mapping[str, str]:
        """Return a flag for images that no metadata file lists."""
        folder, listing = self._find_images()
        if not (files := _list_metadata(folder)):
            return {}
        listed = {os.path.normpath(record.image) for record in self._read_metadata(folder, files)}
        unlisted = [place for place, path in listing.images if os.path.normpath(path) not in listed]
        if not unlisted:
            return {}
        return {"images_without_metadata": f"{len(unlisted)} images are in no metadata file, such as {unlisted[0]}"}

    def identity(self) -> Mapping[str, str]:
        """Return the folder, the number of images, and a digest of the metadata files if there are any."""
        folder, _ = self._find_images()
        identity = {"name": "hf_folder", "root": str(folder.resolve()), "samples": str(len(self.examples()))}
        files = _list_metadata(folder)
        return {**identity, "annotations_sha256": digest_files(files)} if files else identity

    def _find_images(self) -> tuple[Path, FolderListing]:
        """Return the folder of the split and its images. Raises ConfigError."""
        folder = self._find_split()
        listing = list_folder(folder, self.follow_links)
        if not listing.images:
            raise ConfigError(f"data.root={self.root}: {folder} contains no image", "give a folder of images")
        return folder, listing

    def _find_split(self) -> Path:
        root = find_folder(self.root, "hf_folder")
        folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if self.split is not None:
            if self.split not in folders:
                raise ConfigError(
                    f"data.options.split={self.split}: {root} has no such folder",
                    f"its folders are {quote_first(folders) or 'none'}",
                )
            return root / self.split
        splits = [name for name in folders if name.lower() in SPLITS]
        if not splits or any((root / name).is_file() for name in FILES):
            return root
        if len(splits) > 1:
            raise ConfigError(
                f"data.root={self.root}: it has several splits ({quote_first(splits)})",
                f"choose one with data.options.split={splits[-1]}",
            )
        return root / splits[0]

    def _read_metadata(self, folder: Path, files: Sequence[Path]) -> list[Record]:
        """Return the images of all metadata files. Rows of one image are merged, if they have the same label."""
        records: dict[str, Record] = {}
        for file in files:
            rows = read_metadata(file)
            columns = list(dict.fromkeys(name for row in rows for name in row.values))
            image = choose_column("image", self.image, (self.image,), columns, file)
            caption = choose_column("caption", self.caption, CAPTION_KEYS, columns, file)
            label = choose_column("label", self.label, LABEL_KEYS, columns, file)
            for row in rows:
                record = _make_record(folder, file, row, image, caption, label)
                known = records.get(record.id)
                records[record.id] = record if known is None else _merge(known, record)
        return list(records.values())


def _list_metadata(folder: Path) -> list[Path]:
    """Return the metadata files of a folder and its subfolders. Raises ConfigError if one folder has two."""
    files = sorted(path for name in FILES for path in folder.rglob(name) if path.is_file())
    for first, second in zip(files, files[1:], strict=False):
        if first.parent == second.parent:
            raise ConfigError(f"{first.parent}: it has {first.name} and {second.name}", "keep one")
    return files


def _make_record(
    folder: Path, file: Path, row: MetadataRow, image: str | None, caption: str | None, label: str | None
) -> Record:
    line = f"{file.relative_to(folder)}, line {row.line}"
    if row.problem is not None:
        return Record(line, folder, problems=(row.problem,))
    name = row.values.get(image or "")
    if not isinstance(name, str) or not name.strip():
        return Record(line, folder, problems=(f"no name of an image in {image}",))
    places = [file.parent / spelling for spelling in spell_name(name.strip())]
    path, problems = locate_image(name.strip(), places, folder)
    id = escape_unprintable(name if problems else os.path.relpath(path, folder))
    return Record(id, path, row.values.get(caption or ""), row.values.get(label or ""), problems)


def _make_record_of_folder(place: Any, path: Path) -> Record:
    label = escape_unprintable(place.parts[-2]) if len(place.parts) > 1 else None
    return Record(escape_unprintable(str(place)), path, label=label)


def _merge(first: Record, second: Record) -> Record:
    """Return one record for two rows of an image, with the captions of both."""
    problems = [*first.problems, *second.problems]
    if first.label != second.label:
        problems.append("two labels")
    captions = [text for value in (first.caption, second.caption) for text in _as_list(value)]
    return Record(first.id, first.image, captions or None, first.label, tuple(problems))


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
