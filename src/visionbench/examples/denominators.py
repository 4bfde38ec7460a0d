"""The denominators of quality metrics: the numbers of images, captions, questions, instances and classes, used and
found."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from visionbench.core import Example, MetricDeclaration, Metrics, Samples

PROMPTED = "segmentation/instances_count"
"""Series of the segmentation metrics: the number of instances with at least one pixel, which are prompted for."""
CLASSES, EMPTY = "data/classes_count", "data/classes_without_pictures_count"
CLASSES_SHOWN = 3
GROUP = "data"
DECLARATIONS = (
    MetricDeclaration(
        "{pictures,captions,questions,instances}_used_count",
        "count",
        "Items that the quality metrics are computed over, see [data.md](data.md#used-and-found)",
    ),
    MetricDeclaration("{pictures,captions,questions,instances}_found_count", "count", "Items of the data set"),
    MetricDeclaration("classes_count", "count", "Classes of the data, if labels are read"),
    MetricDeclaration("classes_without_pictures_count", "count", "Classes without an image that was used"),
)
"""The metrics of every quality case."""
NO_COUNT = "the data set does not give the number of instances of its images"


def count_used(
    examples: Sequence[Example], sampled: int, used: Collection[str], needs: Collection[str], scored: Samples
) -> Samples:
    """Return the series `data/<kind>_used_count` and `data/<kind>_found_count` that the quality metrics need.

    A flag reports a sample, captions without words, and captions, questions or instances that were not used. (Images
    that were left out are reported by another flag, with their names.) `examples` are all examples of the data set,
    from which `sampled` were taken by the option `samples`; `used` are the ids with a prediction; `scored` are the
    samples of the metrics.
    """
    used_examples = [example for example in examples if example.id in used]
    counts = {"pictures_used": len(used_examples), "pictures_found": len(examples)}
    missing: dict[str, str] = {}
    flags: dict[str, str] = {}
    if sampled < len(examples):
        flags["sample"] = f"{sampled} of {len(examples)} images were taken (data.options.samples)"
    if "captions" in needs:
        captions = [caption for example in used_examples for caption in example.captions]
        counts["captions_used"] = len(captions)
        counts["captions_found"] = sum(len(example.captions) for example in examples)
        if wordless := sum(not any(map(str.isalnum, caption)) for caption in captions):
            flags["captions_without_words"] = (
                f"{wordless} of {len(captions)} captions contain no letter and no digit; correct them in the file"
            )
    if "boxes" in needs:
        for kind, counted in (("used", used_examples), ("found", examples)):
            counts[f"instances_{kind}"] = sum(not box.crowd for example in counted for box in example.boxes)
    if "questions" in needs:
        counts["questions_used"] = sum(len(example.questions) for example in used_examples)
        counts["questions_found"] = sum(len(example.questions) for example in examples)
    if "masks" in needs:
        prompted = scored.get(PROMPTED)
        described = sum(example.instances for example in used_examples)
        counts["instances_used"] = int(prompted[0]) if len(prompted) else described
        counts["instances_found"] = sum(example.instances for example in examples)
        if counts["instances_found"] < counts["instances_used"]:
            del counts["instances_found"]
            missing["data/instances_found_count"] = NO_COUNT
    for kind in ("captions", "questions", "instances"):
        used_count, found_count = counts.get(f"{kind}_used"), counts.get(f"{kind}_found")
        if used_count is not None and found_count is not None and used_count < found_count:
            flags[f"{kind}_used"] = f"{used_count} of {found_count} {kind}"
    series = {f"data/{name}_count": np.array([float(count)]) for name, count in counts.items()}
    return Samples(series, missing, flags)


def count_classes(classes: Sequence[str], used: Sequence[Example]) -> Samples:
    """Return the number of classes of the data, and of those without a used image; a flag names the latter."""
    labels = {example.label for example in used}
    empty = [name for name in classes if name not in labels]
    more = f" and {len(empty) - CLASSES_SHOWN} more" if len(empty) > CLASSES_SHOWN else ""
    named = f"{', '.join(empty[:CLASSES_SHOWN])}{more}"
    reason = f"{len(empty)} of {len(classes)} classes have no image that was used: {named}"
    return Samples(
        {CLASSES: np.array([float(len(classes))]), EMPTY: np.array([float(len(empty))])},
        flags={"classes_without_pictures": reason} if empty else {},
    )


def compute_metrics(samples: Samples) -> Metrics:
    """Return `pictures_used_count`, `pictures_found_count` and the other counts that were recorded."""
    values: dict[str, float | None] = {
        name.removeprefix("data/"): float(series[0])
        for name, series in samples.series.items()
        if name.startswith("data/") and len(series)
    }
    reasons = {
        name.removeprefix("data/"): reason for name, reason in samples.missing.items() if name.startswith("data/")
    }
    return Metrics(values | dict.fromkeys(reasons), reasons)
