"""COCO's boxes: the categories of a file, and the boxes of an image with their problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from visionbench.core import Box, ConfigError, Example
from visionbench.datafiles.coco_schema import Annotations, Id, ListedImage, check_objects, parse_crowd
from visionbench.datafiles.json_file import parse_id, show
from visionbench.datafiles.messages import list_first

TOLERANCE = 1.0
"""Number of pixels by which a box may exceed the image. COCO's boxes touch the edge."""


@dataclass(frozen=True)
class Categories:
    """The names of the categories of a file."""

    names: Mapping[Id, str] = field(default_factory=dict)
    """The names by id, in the order of the ids."""


def parse_categories(path: Path, rows: Sequence[Any]) -> Categories:
    """Return the categories by rising id. Raises ConfigError if an id or a name is missing or is listed twice."""
    check_objects(path, "categories", rows)
    if wrong := [f"categories[{index}]" for index, row in enumerate(rows) if not _is_named(row)]:
        raise ConfigError(
            f"{path}: {len(wrong)} of {len(rows)} entries of 'categories' have no id or no name: {list_first(wrong)}",
            "correct them",
        )
    named = [(parse_id(row["id"]), str(row["name"])) for row in rows]
    for kind, values in (("id", [show(id) for id, _ in named]), ("name", [name for _, name in named])):
        if repeated := [value for value, times in Counter(values).items() if times > 1]:
            raise ConfigError(
                f"{path}: {len(repeated)} {kind}s are listed more than once in 'categories': {list_first(repeated)}",
                f"give each category a unique {kind}",
            )
    if not named:
        raise ConfigError(f"{path}: its list 'categories' is empty, so boxes have no classes", "add the categories")
    ordered = sorted(named, key=lambda entry: (isinstance(entry[0], str), entry[0]))
    return Categories({id: name for id, name in ordered if id is not None})


def add_boxes(example: Example, image: ListedImage, annotations: Annotations, categories: Categories) -> Example:
    """Return the example with its boxes. `annotations` holds the annotations of the image, crowd regions included.

    An annotation without an area has the area of its box. Boxes with problems are left out, and the problems are those
    of the example.
    """
    problems = [*annotations.problems, *image.size_problems]
    boxes: list[Box] = []
    if image.size is not None:
        for row in annotations.values:
            own = list(_find_problems(row, image.size, categories))
            problems += own
            if not own:
                boxes.append(_make_box(row, categories))
        if boxes and max(image.size) > 2 and all(max(box.x, box.y, box.width, box.height) <= 1 for box in boxes):
            problems.append(
                "boxes that are all within one pixel: boxes are in pixels, not fractions of the image's sides"
            )
    return replace(
        example,
        problems=tuple(dict.fromkeys([*example.problems, *problems])),
        boxes=tuple(boxes),
        instances=sum(not box.crowd for box in boxes),
        size=image.size,
    )


def _is_named(row: Mapping[str, Any]) -> bool:
    name = row.get("name")
    return parse_id(row.get("id")) is not None and isinstance(name, str) and bool(name.strip())


def _make_box(row: Mapping[str, Any], categories: Categories) -> Box:
    x, y, width, height = map(float, row["bbox"])
    area = row.get("area")
    return Box(
        categories.names[parse_id(row["category_id"])],  # type: ignore[index]
        x,
        y,
        width,
        height,
        width * height if area is None else float(area),
        bool(parse_crowd(row.get("iscrowd", 0))),
    )


def _find_problems(row: Mapping[str, Any], size: tuple[int, int], categories: Categories) -> Iterator[str]:
    """Yield the problems of an annotation in an image of this height and width."""
    name = f"annotation {show(row.get('id'))}"
    box, area, (height, width) = row.get("bbox"), row.get("area"), size
    if parse_id(row.get("category_id")) not in categories.names:
        yield f"category_id of {name} is {show(row.get('category_id'))}, which is not in 'categories'"
    if parse_crowd(row.get("iscrowd", 0)) is None:
        yield f"iscrowd of {name} is {show(row['iscrowd'])}, neither 0 nor 1"
    if area is not None and not (_is_number(area) and area >= 0):
        yield f"area of {name} is {show(area)}, not a number of at least 0"
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        yield f"bbox of {name} is {show(box)}, not four numbers"
    elif min(box[2:]) < 0:
        yield f"bbox of {name} has a negative width or height"
    elif min(box[:2]) < -TOLERANCE or box[0] + box[2] > width + TOLERANCE or box[1] + box[3] > height + TOLERANCE:
        yield f"bbox of {name} is {show(box)}, outside its image of {width} × {height} (x, y, width, height)"


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number larger than every float
        return False
