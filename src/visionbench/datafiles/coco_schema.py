"""What COCO's lists `images` and `annotations` must be like, and what of them is at fault.

A fault that leaves a picture's annotations certain to be its own belongs to that picture alone. What would mix up
pictures (no id, one id twice, an annotation that names no picture) is a fault of the file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench.datafiles.json_file import key, kind, shown, whole
from visionbench.registry import ConfigError

Id = int | str
NAMED = 3
"""So many offenders are named in a line; the others are counted."""


@dataclass(frozen=True)
class ListedPicture:
    """An entry of `images`."""

    id: Id
    name: str | None
    """Its `file_name`, where that is text."""
    size: tuple[int, int] | None
    """Its height and width in pixels, where both are whole numbers of at least 1."""
    faults: tuple[str, ...]
    size_faults: tuple[str, ...]
    """What is wrong with height and width: a fault only where masks are to fit them."""


@dataclass(frozen=True)
class Described:
    """What `annotations` has of one picture, in the order of the annotations' ids."""

    values: tuple[Any, ...] = ()
    faults: tuple[str, ...] = ()
    count: int = 0
    """How many annotations there are, those with a fault too."""


def listed(path: Path, rows: Sequence[Any]) -> list[ListedPicture]:
    """The pictures by rising id. Raises ConfigError where entries have no id, or several have one."""
    _refuse_others(path, "images", rows)
    ids = [key(row.get("id")) for row in rows]
    if bad := [_entry("images", at, rows[at], "id") for at, id in enumerate(ids) if id is None]:
        raise ConfigError(
            f"{path}: {len(bad)} of {len(rows)} entries of 'images' have no id that is a number or text: {first(bad)}"
        )
    by_id = defaultdict(list)
    for id, row in zip(ids, rows, strict=True):
        by_id[id].append(row)
    if shared := [
        f"{shown(id)} ({', '.join(shown(row.get('file_name')) for row in same[:NAMED])})"
        for id, same in by_id.items()
        if len(same) > 1
    ]:
        many = "id stands" if len(shared) == 1 else "ids stand"
        raise ConfigError(
            f"{path}: {len(shared)} {many} more than once in 'images': {first(shared)}; annotations cannot be matched "
            "to pictures: give each picture an id of its own"
        )
    return sorted((_picture(id, row) for id, (row,) in by_id.items() if id is not None), key=lambda one: order(one.id))


def described(path: Path, rows: Sequence[Any], wanted: str, crowds: bool) -> dict[Id, Described]:
    """By the picture's id, what its annotations have under the key `wanted`; with `crowds`, those that are a crowd are
    dropped. Raises ConfigError where an annotation names no picture.
    """
    _refuse_others(path, "annotations", rows)
    pictures = [key(row.get("image_id")) for row in rows]
    if bad := [_entry("annotations", at, rows[at], "image_id") for at, id in enumerate(pictures) if id is None]:
        raise ConfigError(f"{path}: {len(bad)} of {len(rows)} entries of 'annotations' name no picture: {first(bad)}")
    ids = [key(row.get("id")) for row in rows]
    times = Counter(ids)
    grouped = defaultdict(list)
    for at in sorted(range(len(rows)), key=lambda at: order(ids[at])):
        grouped[pictures[at]].append(at)
    found = {}
    for picture, places in grouped.items():
        values, faults, count = [], dict[str, None](), 0
        for at in places:
            crowd = _crowd(rows[at].get("iscrowd", 0)) if crowds else False
            wrong = _faults(at, rows[at], times[ids[at]], wanted, crowd)
            if wrong or not crowd:
                count += 1
                faults |= dict.fromkeys(wrong)
                values += [] if wrong else [rows[at][wanted]]
        if count and picture is not None:
            found[picture] = Described(tuple(values), tuple(faults), count)
    return found


def _faults(at: int, row: Mapping[str, Any], times: int, wanted: str, crowd: bool | None) -> list[str]:
    """What is wrong with an annotation, whose id stands so many times in the list."""
    id = key(row.get("id"))
    found = []
    if id is None:
        found.append(f"an annotation has no id: {_entry('annotations', at, row, 'id')}")
    elif times > 1:
        found.append(f"{times} annotations have the id {shown(id)}")
    if crowd is None:
        found.append(f"iscrowd of annotation {shown(id)} is {shown(row['iscrowd'])}, neither 0 nor 1")
    elif not crowd and wanted not in row:
        found.append(f"annotation {shown(id)} has no '{wanted}'")
    return found


def order(id: Id | None) -> tuple[bool, int, str]:
    """Numbers by size, then texts."""
    return (True, 0, id) if isinstance(id, str) else (id is None, id or 0, "")


def first(offenders: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = [f"and {len(offenders) - NAMED} more"] if len(offenders) > NAMED else []
    return ", ".join([*offenders[:NAMED], *more])


def _picture(id: Id, row: Mapping[str, Any]) -> ListedPicture:
    name, size_faults, sides = row.get("file_name"), [], []
    named = isinstance(name, str) and name.strip()
    faults = () if named else (f"its file_name is {_value(row, 'file_name')}",)
    for side in ("height", "width"):
        pixels = whole(row.get(side)) if not isinstance(row.get(side), str) else None
        if pixels is None or pixels < 1:
            size_faults.append(f"its {side} is {_value(row, side)}, not a whole number of at least 1")
        else:
            sides.append(pixels)
    size = (sides[0], sides[1]) if len(sides) == 2 else None
    return ListedPicture(id, name if named else None, size, faults, tuple(size_faults))


def _crowd(value: Any) -> bool | None:
    """Whether `iscrowd` means a crowd: 0, 1, false and true, also as text; None for anything else."""
    number = int(value) if isinstance(value, bool) else whole(value)
    return bool(number) if number in (0, 1) else None


def _refuse_others(path: Path, name: str, rows: Sequence[Any]) -> None:
    if bad := [f"{name}[{at}] is {kind(row)}" for at, row in enumerate(rows) if not isinstance(row, dict)]:
        raise ConfigError(
            f"{path}: not the annotations that are meant; {len(bad)} of {len(rows)} entries of '{name}' are no "
            f"objects: {first(bad)}"
        )


def _entry(name: str, at: int, row: Mapping[str, Any], what: str) -> str:
    """The place of an entry and what it has under a key: `images[3] (id null)`."""
    return f"{name}[{at}] ({what} {_value(row, what)})"


def _value(row: Mapping[str, Any], name: str) -> str:
    return shown(row[name]) if name in row else "missing"
