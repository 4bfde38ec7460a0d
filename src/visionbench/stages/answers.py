"""Doubts about all answers of a model: texts that it read only in part, answers that are all empty or all equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from visionbench.core import CAPTIONS_CUT, Predictions, Samples

COMPARED = ("caption", "image_embedding", "caption_embeddings", "class_scores")
"""Columns that must not be the same for every picture."""
SAME_WITHIN = 1e-6
"""Of the largest value: arrays that differ by less are equal."""


def judge(predictions: Predictions) -> Samples:
    """Flag `captions_cut`, and faults `answers_empty` and `answers_equal`, over predictions of two pictures or more."""
    columns, count = predictions.columns, len(predictions.ids)
    flags: dict[str, str] = {}
    if cut := sum(columns.get(CAPTIONS_CUT, ())):
        every = sum(len(captions) for captions in columns["caption_embeddings"])
        flags["captions_cut"] = f"{cut} of {every} captions have more tokens than model.options.text_tokens"
    faults: dict[str, str] = {}
    for name, what in _empty(columns):
        faults["answers_empty"] = f"{what} of all {count} pictures are empty ({name})"
    for name in COMPARED if count > 1 and not faults else ():
        if name in columns and _all_equal(columns[name]):
            faults["answers_equal"] = f"the model's {name} is the same for all {count} pictures"
    return Samples(flags=flags, faults=faults)


def _empty(columns: Any) -> Iterator[tuple[str, str]]:
    if "caption" in columns and not any(caption.strip() for caption in columns["caption"]):
        yield "caption", "the captions"
    for name, masks in columns.items():
        answered = name.replace("_masks", "_estimates") in columns and name.endswith("_masks")
        if answered and _all_masks_empty(masks, columns["mask_size"]):
            yield name, "the masks"


def _all_masks_empty(masks: Sequence[Any], sizes: Sequence[Any]) -> bool:
    """Whether no mask of any picture has a pixel. Looks no further than the first that has one."""
    from pycocotools import mask as coco

    every = (
        {"size": [int(side) for side in size], "counts": run_lengths}
        for of_picture, size in zip(masks, sizes, strict=True)
        for of_instance in of_picture
        for run_lengths in of_instance
    )
    seen = False
    for one in every:
        if coco.area(one):
            return False
        seen = True
    return seen


def _all_equal(entries: Sequence[Any]) -> bool:
    first = entries[0]
    if not isinstance(first, np.ndarray):
        return all(entry == first for entry in entries)
    row = first[:1] if first.ndim > 1 else first
    if not row.size:
        return False
    limit = SAME_WITHIN * float(np.abs(row).max())
    return all(bool((np.abs(entry - row) <= limit).all()) for entry in entries)
