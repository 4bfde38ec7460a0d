"""Images that calibrate a quantisation: images like those of a run, but none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionbench.core import ConfigError, DataSet, Example, HasOtherImages
from visionbench.examples.content_digest import digest_files
from visionbench.examples.sampling import list_all_examples, sample_evenly
from visionbench.examples.screening import find_problems, usable_examples

SPARE = 2
"""More images are examined than are used, by this factor, because some may be damaged."""
REST = "images of the data that the run does not use"


@dataclass(frozen=True)
class CalibrationImages:
    """The images of a calibration, and where they come from."""

    examples: Sequence[Example]
    source: str


def choose_images(name: str, data: DataSet, count: int) -> CalibrationImages:
    """Return at most `count` images that are none of the data set's examples, neither by name nor by content.

    They come from another split, if the data set has one here, or are images that the option `samples` leaves out.
    Raises ConfigError if there is no such image. `name` is the data set's name in the configuration.
    """
    used = data.examples()
    others = _of_other_split(data, count) or CalibrationImages(list_all_examples(data), REST)
    names = {example.id for example in used} if others.source == REST else set()
    files = {example.image for example in used}
    rest = [example for example in others.examples if example.id not in names and example.image not in files]
    candidates = sample_evenly(rest, count * SPARE)
    candidates = usable_examples(candidates, find_problems(candidates, len(candidates)))
    contents = set(digest_files([example.image for example in used]).values())
    digests = digest_files([example.image for example in candidates])
    chosen = sample_evenly([example for example in candidates if digests[example.image] not in contents], count)
    if not chosen:
        raise ConfigError(
            f"data={name}: the run uses all of its {len(used)} images, and none is left for the calibration",
            f"use fewer images, as in data.options.samples={max(1, len(used) * 4 // 5)}, or another precision",
        )
    return CalibrationImages(chosen, others.source)


def _of_other_split(data: DataSet, count: int) -> CalibrationImages | None:
    """Return images of another split, or None if the data set has none here."""
    if not isinstance(data, HasOtherImages):
        return None
    try:
        others = data.other_images(count * SPARE)
        examples, identity = others.examples(), others.identity()
    except ConfigError:
        return None
    present = [example for example in examples if not example.problems and example.image.is_file()]
    return CalibrationImages(present, f"{identity['name']}, split {identity['split']}") if present else None
