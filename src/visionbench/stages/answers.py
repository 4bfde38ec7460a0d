"""Check all predictions of a model for captions that were cut, and for predictions that are all empty or all equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from visionbench.core import CAPTIONS_CUT, Predictions, Samples

MUST_DIFFER = ("caption", "image_embedding", "caption_embeddings", "class_scores", "boxes", "features")
"""Columns that must not be the same for every image."""
EQUAL_WITHIN = 1e-6
"""Arrays count as equal if they differ by at most this share of the largest value."""


def judge(predictions: Predictions) -> Samples:
    """Return the flag `captions_cut` and the faults `answers_empty` and `answers_equal`, if they apply.

    With a single image, predictions are not compared.
    """
    columns, count = predictions.columns, len(predictions.ids)
    flags: dict[str, str] = {}
    if cut := sum(columns.get(CAPTIONS_CUT, ())):
        total = sum(len(captions) for captions in columns["caption_embeddings"])
        flags["captions_cut"] = f"{cut} of {total} captions have more tokens than model.options.text_tokens"
    faults: dict[str, str] = {}
    for name, plural in _empty(columns):
        faults["answers_empty"] = f"{plural} of all {count} images are empty ({name})"
    for name in MUST_DIFFER if count > 1 and not faults else ():
        if name in columns and (_all_same_boxes if name == "boxes" else _all_equal)(columns[name]):
            faults["answers_equal"] = f"the model's {name} is the same for all {count} images"
    return Samples(flags=flags, faults=faults)


def _empty(columns: Any) -> Iterator[tuple[str, str]]:
    """Yield the columns whose predictions are all empty, each with a plural noun for its values."""
    if "caption" in columns and not any(caption.strip() for caption in columns["caption"]):
        yield "caption", "the captions"
    if "boxes" in columns and not any(len(boxes) for boxes in columns["boxes"]):
        yield "boxes", "the predicted boxes"
    if any(columns.get("answers", ())) and not any(text.strip() for texts in columns["answers"] for text in texts):
        yield "answers", "the answers"
    for name, masks in columns.items():
        predicted = name.endswith("_masks") and name.replace("_masks", "_estimates") in columns
        if predicted and _all_masks_empty(masks, columns["mask_size"]):
            yield name, "the masks"


def _all_masks_empty(masks: Sequence[Any], sizes: Sequence[Any]) -> bool:
    """Return whether there are masks and none of them has a pixel."""
    from pycocotools import mask as coco

    encoded = (
        {"size": [int(side) for side in size], "counts": run_lengths}
        for instances, size in zip(masks, sizes, strict=True)
        for candidates in instances
        for run_lengths in candidates
    )
    any_mask = False
    for mask in encoded:
        if coco.area(mask):
            return False
        any_mask = True
    return any_mask


def _all_equal(entries: Sequence[Any]) -> bool:
    first = entries[0]
    if not isinstance(first, np.ndarray):
        return all(entry == first for entry in entries)
    row = first[:1] if first.ndim > 1 else first
    if not row.size:
        return False
    limit = EQUAL_WITHIN * float(np.abs(row).max())
    return all(bool((np.abs(entry - row) <= limit).all()) for entry in entries)


def _all_same_boxes(entries: Sequence[np.ndarray]) -> bool:
    """Return whether all images have the same boxes [N, 4], and at least one."""
    first = entries[0]
    limit = EQUAL_WITHIN * float(np.abs(first).max(initial=0.0))
    return len(first) > 0 and all(
        entry.shape == first.shape and bool((np.abs(entry - first) <= limit).all()) for entry in entries
    )
