"""A folder of images, and a folder with one other file of the same name for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from visionbench.core import ConfigError
from visionbench.datafiles.folder_listing import COMMON_SUFFIXES, is_ignored, list_folder
from visionbench.datafiles.messages import escape_unprintable, list_first


@dataclass(frozen=True)
class Pair:
    """An image and its other file, such as its mask."""

    name: str
    """The path of the image below the folder of images."""
    image: Path
    other: Path
    """The path of the other file, which may not exist."""
    other_name: str
    """The path of the other file below the data set's folder, for messages."""
    problems: tuple[str, ...] = ()


def pair_files(root: Path, images: str, others: str, option: str, suffixes: Sequence[str]) -> list[Pair]:
    """Return the images below `root/images`, each with the file of the same name below `root/others`.

    The suffix of that file is the first of `suffixes` for which it exists. A file without an image, and an image whose
    file belongs to another image too, have a problem. Raises ConfigError if a folder does not exist or has no image.
    `option` is the option of the data set for `others`.
    """
    image_root, other_root = _find(root, images, "images"), _find(root, others, option)
    listed = list_folder(image_root).images
    if not listed:
        raise ConfigError(
            f"data.root={root}: {images}/ contains no image ({', '.join(COMMON_SUFFIXES)} or another suffix that "
            "Pillow can decode)",
            "give another folder with data.options.images",
        )
    by_stem: defaultdict[PurePath, list[PurePath]] = defaultdict(list)
    for place, _ in listed:
        by_stem[place.with_suffix("")].append(place)
    pairs = []
    for place, path in listed:
        stem = place.with_suffix("")
        candidates = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        existing = [one for one in candidates if (other_root / one).is_file()]
        other = (existing or candidates)[0]
        problems = []
        if len(by_stem[stem]) > 1:
            problems.append(f"{len(by_stem[stem])} images belong to {others}/{other}")
        if len(existing) > 1:
            problems.append(f"it has {len(existing)} files: {list_first([f'{others}/{one}' for one in existing])}")
        name = escape_unprintable(str(place))
        pairs.append(Pair(name, path, other_root / other, escape_unprintable(f"{others}/{other}"), tuple(problems)))
    return pairs + _without_image(other_root, others, suffixes, set(by_stem))


def _without_image(other_root: Path, others: str, suffixes: Sequence[str], stems: set[PurePath]) -> list[Pair]:
    """Return a pair with a problem for each file without an image."""
    files = sorted(path for path in other_root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    pairs = []
    for path in files:
        place = path.relative_to(other_root)
        if place.with_suffix("") in stems or any(is_ignored(part) for part in place.parts):
            continue
        name = escape_unprintable(f"{others}/{place}")
        pairs.append(Pair(name, path, path, name, ("there is no image of this name",)))
    return pairs


def _find(root: Path, folder: str, option: str) -> Path:
    path = root / folder
    if not path.is_dir():
        raise ConfigError(
            f"data.root={root}: {folder}/ is not in it", f"give another folder with data.options.{option}"
        )
    return path
