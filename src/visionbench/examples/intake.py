"""What of a data set can be used: every picture is looked at before anything is measured with it.

Existence, size and header of all pictures are looked at, and whether masks fit the size and the EXIF orientation that
the header says; those that timed calls will use are decoded too. What shows
only later (a truncated picture, an output that is not finite) the evaluation finds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from visionbench.core import Example
from visionbench.datafiles.images import PictureError, check, header, picture_of
from visionbench.registry import ConfigError

NAMED = 3
"""So many faults are named in a line; the others are counted."""
MOST_SHOWN = 120
"""So many characters of a picture's name are shown."""


def in_frame(examples: Sequence[Example], exif: str | None) -> list[Example]:
    """The examples; those with masks have them in the frame that `data.exif` names. Others are turned as EXIF says."""
    return [example if example.masks is None else replace(example, exif=exif) for example in examples]


def faults(examples: Sequence[Example], decoded: int) -> dict[str, str]:
    """Why examples cannot be used, by their id, in their order; the first `decoded` of the others are decoded."""
    found: dict[str, str] = {}
    times = Counter(example.id for example in examples)
    by_file: dict[str, str] = {}
    for example in examples:
        first = example.id if example.faults else by_file.setdefault(os.path.normpath(example.image), example.id)
        if times[example.id] > 1:
            found[example.id] = f"{times[example.id]} pictures have this name"
        elif first != example.id:
            found[example.id] = f"its file is that of picture '{first}' too: list each file once"
        elif why := _fault(example, decode_too=decoded > 0):
            found[example.id] = why
        else:
            decoded -= 1
    return found


def usable(examples: Sequence[Example], left_out: Mapping[str, str]) -> list[Example]:
    """The examples that are not left out."""
    return [example for example in examples if example.id not in left_out]


def raise_on_faults(name: str, found: Mapping[str, str], of: int, on_error: str) -> None:
    """Raise ConfigError where there are faults and `on_error` is `fail`, or where nothing is left."""
    if not of:
        raise ConfigError(f"data={name}: there is no picture in it that could be measured; check split and annotations")
    if len(found) == of:
        raise ConfigError(f"data={name}: none of its {of} pictures can be used: {summarize_faults(found)}")
    if found and on_error == "fail":
        raise ConfigError(
            f"data={name}: {len(found)} of {of} pictures cannot be used: {summarize_faults(found)}; "
            "correct them, or leave them out with data.on_error=skip"
        )


def summarize_faults(found: Mapping[str, str]) -> str:
    """The first faults with their pictures, and how many more there are."""
    first = list(found.items())[:NAMED]
    named = [f"{id if len(id) <= MOST_SHOWN else f'{id[:MOST_SHOWN]}…'} ({why})" for id, why in first]
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return ", ".join([*named, *more])


def _fault(example: Example, decode_too: bool) -> str | None:
    if example.faults:
        more = [f"and {len(example.faults) - NAMED} more"] if len(example.faults) > NAMED else []
        return "; ".join([*example.faults[:NAMED], *more])
    try:
        check(example.image)
        if example.masks is not None and (why := _misfit(example)):
            return why
        if decode_too:
            picture_of(example)
    except PictureError as error:
        return error.reason
    return None


def _misfit(example: Example) -> str | None:
    """Why the masks of an example cannot be those of its picture, as its header says. Raises PictureError."""
    found = header(example.image)
    if found.orientation > 1 and example.exif is None:
        return (
            f"its EXIF orientation is {found.orientation}: set data.exif=stored or data.exif=turned, as its masks were "
            "drawn"
        )
    (height, width), meant = found.size(example.turned), example.size
    if meant is None or meant == (height, width):
        return None
    turned = f" {'turned' if example.turned else 'as stored'} (EXIF orientation {found.orientation})"
    return (
        f"its annotations are for {meant[1]} × {meant[0]} pixels, the picture has {width} × {height}"
        f"{turned if found.orientation > 1 else ''}"
    )
