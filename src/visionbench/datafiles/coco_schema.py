"""Check and read COCO's lists `images` and `annotations`.

If an entry has a problem but certainly belongs to one image, the problem belongs to that image only. A problem that
could mix up images (no id, a repeated id, an annotation without an image) is an error of the file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError
from visionbench.datafiles.json_file import describe_type, parse_id, parse_integer, show
from visionbench.datafiles.messages import SHOWN, list_first

Id = int | str


@dataclass(frozen=True)
class ListedImage:
    """An entry of `images`."""

    id: Id
    name: str | None
    """Its `file_name`, if that is text."""
    size: tuple[int, int] | None
    """Its height and width in pixels, if both are whole numbers of at least 1."""
    problems: tuple[str, ...]
    size_problems: tuple[str, ...]
    """The problems of height and width, which matter only for masks."""


@dataclass(frozen=True)
class Annotations:
    """The annotations of one image, in the order of their ids."""

    values: tuple[Any, ...] = ()
    problems: tuple[str, ...] = ()
    count: int = 0
    """The number of annotations, including those with a problem."""


def parse_images(path: Path, rows: Sequence[Any]) -> list[ListedImage]:
    """Return the images by rising id. Raises ConfigError if entries have no id, or the same id."""
    check_objects(path, "images", rows)
    ids = [parse_id(row.get("id")) for row in rows]
    if without := [_describe_entry("images", k, rows[k], "id") for k, id in enumerate(ids) if id is None]:
        raise ConfigError(
            f"{path}: {len(without)} of {len(rows)} entries of 'images' have no id that is a number or text: "
            f"{list_first(without)}",
            "correct them",
        )
    by_id = defaultdict(list)
    for id, row in zip(ids, rows, strict=True):
        by_id[id].append(row)
    if shared := [
        f"{show(id)} ({', '.join(show(row.get('file_name')) for row in same[:SHOWN])})"
        for id, same in by_id.items()
        if len(same) > 1
    ]:
        counted = "id is" if len(shared) == 1 else "ids are"
        raise ConfigError(
            f"{path}: {len(shared)} {counted} listed more than once in 'images', so that annotations cannot be "
            f"matched: {list_first(shared)}",
            "give each image a unique id",
        )
    images = [_parse_image(id, row) for id, (row,) in by_id.items() if id is not None]
    return sorted(images, key=lambda image: sort_key(image.id))


def parse_annotations(path: Path, rows: Sequence[Any], key: str | None, crowds: bool) -> dict[Id, Annotations]:
    """Return, by image id, the values under `key` of its annotations. Raises ConfigError if one has no image.

    Without a key, the values are the complete annotations. With `crowds`, annotations of crowds are dropped.
    """
    check_objects(path, "annotations", rows)
    images = [parse_id(row.get("image_id")) for row in rows]
    if without := [_describe_entry("annotations", k, rows[k], "image_id") for k, id in enumerate(images) if id is None]:
        raise ConfigError(
            f"{path}: {len(without)} of {len(rows)} entries of 'annotations' name no image: {list_first(without)}",
            "correct them",
        )
    ids = [parse_id(row.get("id")) for row in rows]
    times = Counter(ids)
    by_image = defaultdict(list)
    for index in sorted(range(len(rows)), key=lambda index: sort_key(ids[index])):
        by_image[images[index]].append(index)
    annotations = {}
    for image, indices in by_image.items():
        values, problems, count = [], dict[str, None](), 0
        for index in indices:
            crowd = parse_crowd(rows[index].get("iscrowd", 0)) if crowds else False
            entry_problems = _find_problems(index, rows[index], times[ids[index]], key, crowd)
            if entry_problems or not crowd:
                count += 1
                problems |= dict.fromkeys(entry_problems)
                values += [] if entry_problems else [rows[index] if key is None else rows[index][key]]
        if count and image is not None:
            annotations[image] = Annotations(tuple(values), tuple(problems), count)
    return annotations


def check_objects(path: Path, name: str, rows: Sequence[Any]) -> None:
    """Raise ConfigError if an entry of the list `name` is not an object."""
    if other_entries := [
        f"{name}[{k}] is {describe_type(row)}" for k, row in enumerate(rows) if not isinstance(row, dict)
    ]:
        raise ConfigError(
            f"{path}: not the expected annotations: {len(other_entries)} of {len(rows)} entries of '{name}' are no "
            f"objects: {list_first(other_entries)}"
        )


def sort_key(id: Id | None) -> tuple[bool, int, str]:
    """Return a key that sorts numbers by value, before texts."""
    return (True, 0, id) if isinstance(id, str) else (id is None, id or 0, "")


def show_value(row: Mapping[str, Any], name: str) -> str:
    """Return the value of a key on one line, or `missing`."""
    return show(row[name]) if name in row else "missing"


def _find_problems(index: int, row: Mapping[str, Any], times: int, key: str | None, crowd: bool | None) -> list[str]:
    """Return the problems of an annotation, whose id occurs `times` times in the list."""
    id = parse_id(row.get("id"))
    problems = []
    if id is None:
        problems.append(f"an annotation has no id: {_describe_entry('annotations', index, row, 'id')}")
    elif times > 1:
        problems.append(f"{times} annotations have the id {show(id)}")
    if crowd is None:
        problems.append(f"iscrowd of annotation {show(id)} is {show(row['iscrowd'])}, neither 0 nor 1")
    elif not crowd and key is not None and key not in row:
        problems.append(f"annotation {show(id)} has no '{key}'")
    return problems


def _parse_image(id: Id, row: Mapping[str, Any]) -> ListedImage:
    name, size_problems, sides = row.get("file_name"), [], []
    named = isinstance(name, str) and name.strip()
    problems = () if named else (f"its file_name is {show_value(row, 'file_name')}",)
    for side in ("height", "width"):
        pixels = parse_integer(row.get(side)) if not isinstance(row.get(side), str) else None
        if pixels is None or pixels < 1:
            size_problems.append(f"its {side} is {show_value(row, side)}, not a whole number of at least 1")
        else:
            sides.append(pixels)
    size = (sides[0], sides[1]) if len(sides) == 2 else None
    return ListedImage(id, name if named else None, size, problems, tuple(size_problems))


def parse_crowd(value: Any) -> bool | None:
    """Return whether `iscrowd` marks a crowd (0, 1, false or true, also as text), or None for any other value."""
    number = int(value) if isinstance(value, bool) else parse_integer(value)
    return bool(number) if number in (0, 1) else None


def _describe_entry(name: str, index: int, row: Mapping[str, Any], key: str) -> str:
    """Return the place of an entry and its value of a key: `images[3] (id null)`."""
    return f"{name}[{index}] ({key} {show_value(row, key)})"
