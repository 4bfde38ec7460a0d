"""What of a data set a quality figure stands on: pictures, captions and instances used ÷ found."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from visionbench.core import Example, MetricDeclaration, Metrics, Samples

ASKED = "segmentation/instances_count"
"""The instances that were asked for: those with a pixel."""
CLASSES, EMPTY = "data/classes_count", "data/classes_without_pictures_count"
GROUP = "data"
DECLARATIONS = (
    MetricDeclaration(
        "{pictures,captions,instances}_used_count",
        "count",
        "What the quality metrics are computed over, see [data.md](data.md#used-and-found)",
    ),
    MetricDeclaration("{pictures,captions,instances}_found_count", "count", "What the data set has"),
    MetricDeclaration("classes_count", "count", "Classes of the data, if labels are read"),
    MetricDeclaration("classes_without_pictures_count", "count", "Classes without an image that was used"),
)
"""The metrics of every quality case."""
NO_COUNT = "the data set does not say how many instances its pictures have"


def counted(
    found: Sequence[Example], taken: int, used: Collection[str], needs: Collection[str], scored: Samples
) -> Samples:
    """Series `data/<kind>_used_count` and `_found_count` of what the quality metrics need, and a flag where fewer were
    used than found, or captions have no words. Pictures that are left out have a flag of their own, which names them.

    `found` are all examples of the data set, of which `samples` took so many; `used` are the ids that have a
    prediction, and `scored` the samples of the metrics.
    """
    of_used = [example for example in found if example.id in used]
    series = {"pictures_used": len(of_used), "pictures_found": len(found)}
    missing: dict[str, str] = {}
    if "captions" in needs:
        series["captions_used"], series["captions_found"] = (
            sum(len(example.captions) for example in some) for some in (of_used, found)
        )
    if "masks" in needs:
        asked = scored.get(ASKED)
        series["instances_used"] = int(asked[0]) if len(asked) else sum(example.instances for example in of_used)
        series["instances_found"] = sum(example.instances for example in found)
        if series["instances_found"] < series["instances_used"]:
            del series["instances_found"]
            missing["data/instances_found_count"] = NO_COUNT
    counts = {f"data/{name}_count": np.array([float(count)]) for name, count in series.items()}
    flags = (
        {"sample": f"{taken} of {len(found)} pictures were taken (data.options.samples)"} if taken < len(found) else {}
    )
    if "captions" in needs:
        captions = [caption for example in of_used for caption in example.captions]
        if wordless := sum(not any(map(str.isalnum, caption)) for caption in captions):
            flags["captions_without_words"] = (
                f"{wordless} of {len(captions)} captions have no letter and no digit; correct them in the file"
            )
    for kind in ("captions", "instances"):
        of, all_ = series.get(f"{kind}_used"), series.get(f"{kind}_found")
        if of is not None and all_ is not None and of < all_:
            flags[f"{kind}_used"] = f"{of} of {all_} {kind}"
    return Samples(counts, missing, flags)


def of_classes(classes: Sequence[str], used: Sequence[Example]) -> Samples:
    """How many classes the data have, and how many of them no picture that was used; a flag names these."""
    labels = {example.label for example in used}
    empty = [name for name in classes if name not in labels]
    more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
    seen = f"{len(empty)} of {len(classes)} classes have no picture that was used: {', '.join(empty[:3])}{more}"
    return Samples(
        {CLASSES: np.array([float(len(classes))]), EMPTY: np.array([float(len(empty))])},
        flags={"classes_without_pictures": seen} if empty else {},
    )


def compute(samples: Samples) -> Metrics:
    """`pictures_used_count`, `pictures_found_count` and so on, as far as they were counted."""
    values: dict[str, float | None] = {
        name.removeprefix("data/"): float(series[0])
        for name, series in samples.series.items()
        if name.startswith("data/") and len(series)
    }
    lacking = {name.removeprefix("data/"): why for name, why in samples.missing.items() if name.startswith("data/")}
    return Metrics(values | dict.fromkeys(lacking), lacking)
