"""Shards of a webdataset: tar files with an image, captions and a label for each sample, as in CLIP_benchmark."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.data_folder import check_counts, find_folder
from visionbench.datafiles.extraction import Row, extract
from visionbench.datafiles.messages import list_first, quote_first
from visionbench.datafiles.tar_shard import SUFFIXES, is_shard, read_shard
from visionbench.datafiles.text_file import read_text
from visionbench.examples.annotated import Annotated, AnnotatedData, Record, annotate, check_mapping, read_names
from visionbench.examples.content_digest import digest_files
from visionbench.registry import register

NAMES, COUNT = "classnames.txt", "nshards.txt"
"""Files that CLIP_benchmark writes: the names of the classes, and the number of shards."""
MEMBER = re.compile(r"\w[\w.-]*")


@register("data", "webdataset")
@dataclass
class WebDataset(AnnotatedData):
    """Images in tar files below `root`, extracted into `cache_dir` at first use.

    Options: `split`, a subfolder; `samples`, the number of images, taken evenly from all classes; `image`, `caption`
    and `label`, the suffix of the member, or `json.KEY` for a key of the `.json` member; `names`, a file with the names
    of the classes; `classes`, the model's class for a class, by name or index. Each line of a text is one caption.
    """

    root: str
    split: str | None = None
    samples: int | None = None
    image: str | None = None
    caption: str = "txt"
    label: str = "cls"
    names: str | None = None
    cache_dir: str = "data/cache"
    class_mapping: Any = field(default=None, metadata={"option": "classes"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        check_mapping(self.class_mapping)
        for name in ("image", "caption", "label"):
            value = getattr(self, name)
            if value is not None and not MEMBER.fullmatch(str(value)):
                raise ConfigError(
                    f"data.options.{name}={value}: not the suffix of a member", "give one such as txt, or json.caption"
                )

    def place_of(self, kind: str) -> str:
        """Return the member with an annotation."""
        option = self.caption if kind == "captions" else self.label
        if option.startswith("json."):
            return f"a key '{option.removeprefix('json.')}' in its member .json"
        return f"a member .{option}"

    def read(self) -> Annotated:
        """Return all samples of all shards. The first call extracts the shards."""
        folder, shards = self._find_shards()
        digests = digest_files(shards, Path(self.cache_dir) / "contents")
        records = []
        for shard in shards:
            extracted, rows = extract(shard, digests[shard], self.cache_dir, read_shard)
            records += [self._make_record(shard, extracted, row) for row in rows]
        if not records:
            raise ConfigError(f"data.root={self.root}: its {len(shards)} shards have no sample", "give other shards")
        places = (folder / NAMES, Path(self.root).expanduser() / NAMES, folder.parent / NAMES)
        file = next((place for place in places if place.is_file()), None)
        return annotate(records, read_names(self.names, file))

    def identity(self) -> Mapping[str, str]:
        """Return the folder, the number of shards and of images, and a digest of the shards."""
        folder, shards = self._find_shards()
        digests = digest_files(shards, Path(self.cache_dir) / "contents")
        return {
            "name": "webdataset",
            "root": str(folder.resolve()),
            "shards": str(len(shards)),
            "samples": str(len(self.examples())),
            "annotations_sha256": hashlib.sha256("".join(digests[shard] for shard in shards).encode()).hexdigest(),
        }

    def _make_record(self, shard: Path, folder: Path, row: Row) -> Record:
        problems = list(row["problems"])
        images = row["images"]
        suffix = self.image.lower() if self.image else next(iter(images), None)
        if suffix not in images:
            problems.append(f"no member .{suffix}" if self.image else "no image")
        elif self.image is None and len(images) > 1:
            problems.append(f"several images ({list_first(images)}): choose one with data.options.image={suffix}")
        image = folder / images[suffix] if suffix in images else folder
        caption, label = (_find_value(row["texts"], name) for name in (self.caption, self.label))
        if isinstance(caption, str):
            caption = [line for line in re.split(r"\r?\n", caption) if line.strip()]
        return Record(f"{shard.name}/{row['key']}", image, caption, label, tuple(problems))

    def _find_shards(self) -> tuple[Path, list[Path]]:
        """Return the folder with the shards, and the shards in the order of their numbers. Raises ConfigError."""
        root = find_folder(self.root, "webdataset")
        folder = root if self.split is None else root / self.split
        if self.split is not None and not folder.is_dir():
            raise ConfigError(
                f"data.options.split={self.split}: {root} has no such folder",
                f"its folders are {_quote(_folders(root))}",
            )
        shards = _list_shards(folder)
        if not shards and self.split is None:
            splits = [name for name in _folders(root) if _list_shards(root / name)]
            if len(splits) > 1:
                raise ConfigError(
                    f"data.root={self.root}: its folders {_quote(splits)} have shards",
                    f"choose one with data.options.split={splits[-1]}",
                )
            folder = root / splits[0] if splits else folder
            shards = _list_shards(folder)
        if not shards:
            raise ConfigError(
                f"data.root={self.root}: {folder} has no shard ({', '.join(SUFFIXES)})", "give the folder of the shards"
            )
        _check_count(folder, shards)
        return folder, shards


def _list_shards(folder: Path) -> list[Path]:
    shards = [path for path in folder.iterdir() if path.is_file() and is_shard(path)]
    return sorted(shards, key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path.name)])


def _parts(name: str) -> list[str]:
    """Return the texts and numbers of a name, which alternate, beginning with a text."""
    return re.split(r"([0-9]+)", name)


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _quote(names: Sequence[str]) -> str:
    return quote_first(names) or "none"


def _check_count(folder: Path, shards: Sequence[Path]) -> None:
    """Raise ConfigError if there are not as many shards as the file with their number has."""
    path = folder / COUNT
    if not path.is_file():
        return
    text = read_text(path).strip()
    if text != str(len(shards)):
        raise ConfigError(
            f"{path}: it gives {text[:20]} shards, but the folder has {len(shards)}", "download the missing shards"
        )


def _find_value(texts: Mapping[str, Any], option: str) -> Any:
    """Return the value of a member, or of a key of the `.json` member, or None if it is missing."""
    if option.startswith("json."):
        content = texts.get("json")
        return content.get(option.removeprefix("json.")) if isinstance(content, dict) else None
    value = texts.get(option.lower())
    return None if isinstance(value, dict) or not str(value or "").strip() else value
