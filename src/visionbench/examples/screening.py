"""Find the examples of a data set that cannot be used, before anything is measured.

The existence, size and header of every image are checked, and whether its masks, boxes and maps fit the size and EXIF
orientation in the header. The images of timed calls are also decoded, with their maps. The evaluation detects other
problems later, such as a truncated image or an output that is not finite.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from visionbench.core import ConfigError, Example
from visionbench.datafiles.images import PictureError, check_file, decode_example, read_header

PROBLEMS_SHOWN = 3
"""Number of problems that a message names; the others are counted."""
NAME_SHOWN = 120
"""Number of characters that are shown of an image's name."""


def with_mask_frame(examples: Sequence[Example], exif: str | None) -> list[Example]:
    """Return the examples; those with masks, boxes or maps have `exif` set to the value of `data.exif`."""
    return [replace(example, exif=exif) if example.drawn else example for example in examples]


def find_problems(examples: Sequence[Example], decoded: int) -> dict[str, str]:
    """Return, by id and in order, why examples cannot be used. The first `decoded` of the others are decoded."""
    problems: dict[str, str] = {}
    times = Counter(example.id for example in examples)
    first_by_file: dict[str, str] = {}
    for example in examples:
        first = example.id
        if not example.problems:
            first = first_by_file.setdefault(os.path.normpath(example.image), example.id)
        if times[example.id] > 1:
            problems[example.id] = f"{times[example.id]} images have this name"
        elif first != example.id:
            problems[example.id] = f"its file is also that of image '{first}': list each file once"
        elif problem := _find_problem(example, decode=decoded > 0):
            problems[example.id] = problem
        else:
            decoded -= 1
    return problems


def usable_examples(examples: Sequence[Example], left_out: Mapping[str, str]) -> list[Example]:
    """Return the examples that are not left out."""
    return [example for example in examples if example.id not in left_out]


def raise_on_problems(name: str, problems: Mapping[str, str], total: int, on_error: str) -> None:
    """Raise ConfigError if there are problems and `on_error` is `fail`, or if no example remains.

    `name` is the data set's, and `total` the number of its examples.
    """
    if not total:
        raise ConfigError(f"data={name}: it has no image to measure with", "check split and annotations")
    if len(problems) == total:
        raise ConfigError(
            f"data={name}: none of its {total} images can be used: {summarize_problems(problems)}", "correct them"
        )
    if problems and on_error == "fail":
        raise ConfigError(
            f"data={name}: {len(problems)} of {total} images cannot be used: {summarize_problems(problems)}",
            "correct them, or leave them out with data.on_error=skip",
        )


def summarize_problems(problems: Mapping[str, str]) -> str:
    """Return the first problems with the names of their images, and the number of the others."""
    named = [
        f"{id if len(id) <= NAME_SHOWN else f'{id[:NAME_SHOWN]}…'} ({problem})"
        for id, problem in list(problems.items())[:PROBLEMS_SHOWN]
    ]
    return ", ".join([*named, *_count_more(problems)])


def _count_more(problems: Mapping[str, str] | Sequence[str]) -> list[str]:
    return [f"and {len(problems) - PROBLEMS_SHOWN} more"] if len(problems) > PROBLEMS_SHOWN else []


def _find_problem(example: Example, decode: bool) -> str | None:
    if example.problems:
        return "; ".join([*example.problems[:PROBLEMS_SHOWN], *_count_more(example.problems)])
    try:
        check_file(example.image)
        if example.drawn and (problem := _find_mask_problem(example)):
            return problem
        if decode:
            decode_example(example)
            for read in (example.class_map, example.depth_map):
                if read is not None:
                    read()
    except PictureError as error:
        return error.reason
    return None


def _find_mask_problem(example: Example) -> str | None:
    """Return why masks, boxes or maps of an example do not fit its image, according to the image's header.

    Raises PictureError.
    """
    image = read_header(example.image)
    if image.orientation > 1 and example.exif is None:
        return (
            f"its EXIF orientation is {image.orientation}: set data.exif=stored or data.exif=turned, as its "
            f"{'boxes' if example.masks is None else 'masks'} were drawn"
        )
    height, width = image.size(example.turned)
    if example.size is None or example.size == (height, width):
        return None
    frame = f" {'turned' if example.turned else 'as stored'} (EXIF orientation {image.orientation})"
    return (
        f"its annotations are for {example.size[1]} × {example.size[0]} pixels, the image has {width} × {height}"
        f"{frame if image.orientation > 1 else ''}"
    )
