"""Depth: absolute relative error, root mean square error, and shares of pixels within a ratio of the true depth.

Each image is aligned and scored alone, over its pixels with a true depth in the range of the options; a figure is the
mean over images. The alignment is one of these:

`least_squares`: the scale and the shift that minimise the squared error over the pixels of the image, of the inverse
depth for a model that predicts inverse depth, else of the depth. This is the evaluation of MiDaS (Ranftl et al. 2020)
and of Depth Anything (Yang et al. 2024) for relative depth.
`median`: the ratio of the medians of true and predicted depth (Zhou et al. 2017).
`none`: the prediction in metres, as for a model of metric depth.

The aligned inverse depth is converted to depth. A predicted depth outside the range is set to its nearest end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    HIGHER,
    LOWER,
    OVER_PICTURES,
    QUALITY,
    ConfigError,
    Contributions,
    MetricDeclaration,
    Metrics,
    Predictions,
    Row,
    Samples,
)
from visionbench.registry import nearest, register
from visionbench.statistics.resampling import mean_of, with_intervals

ALIGNMENTS = ("least_squares", "median", "none")
THRESHOLD = 1.25
FIGURES = ("abs_rel_ratio", "rmse_m", "delta_1_fraction", "delta_2_fraction", "delta_3_fraction")
OTHERS = ("pixels_count", "outside_count", "scale_value")
"""The other numbers of an image: its scored pixels, its pixels with a true depth outside the range, and the scale of
its alignment, NaN if it could not be aligned."""
OPTIONS = ("alignment", "min_depth", "max_depth")


def _declare(name: str, unit: str, better: str, meaning: str, title: str, zh: str, **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(
        name,
        unit,
        meaning,
        better,
        QUALITY,
        title=title,
        translations={"zh": zh} if zh else {},
        intervals=(OVER_PICTURES,),
        options=OPTIONS,
        **fields,
    )


@register("metrics", "depth")
@dataclass(frozen=True)
class Depth:
    """Options: the `alignment`, and `min_depth` and `max_depth`, the range of true depths in metres that are scored."""

    alignment: str = "least_squares"
    min_depth: float = 0.001
    max_depth: float = 80.0

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset({"predicted_depth", "inverse_depth", "depth_map"})
    needs: ClassVar[frozenset[str]] = frozenset({"depth"})
    replaces: ClassVar[frozenset[str]] = frozenset({"predicted_depth", "depth_map"})

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _declare(
            "depth_abs_rel_ratio",
            "ratio",
            LOWER,
            "Absolute error ÷ true depth, mean over pixels, then over images",
            "AbsRel",
            "",
            table=True,
            compared=True,
            headline=2,
            order=80,
        ),
        _declare(
            "depth_delta_1_fraction",
            "fraction",
            HIGHER,
            "Pixels whose predicted and true depth differ by a factor below 1.25, mean over images",
            "δ1",
            "",
            table=True,
            compared=True,
            headline=1,
            order=81,
        ),
        _declare(
            "depth_rmse_m",
            "m",
            LOWER,
            "Root of the mean squared error of the depth of an image, mean over images",
            "RMSE m",
            "",
            table=True,
            compared=True,
            order=82,
        ),
        _declare("depth_delta_2_fraction", "fraction", HIGHER, "The same with a factor below 1.25²", "", ""),
        _declare("depth_delta_3_fraction", "fraction", HIGHER, "The same with a factor below 1.25³", "", ""),
        MetricDeclaration("depth_pixels_count", "count", "Pixels that were scored"),
        MetricDeclaration("depth_scored_pictures_count", "count", "Images that were scored"),
    )

    def __post_init__(self) -> None:
        """Raise ConfigError for an option out of range."""
        if self.alignment not in ALIGNMENTS:
            raise ConfigError(
                f"metrics.depth.alignment={self.alignment}: no such alignment{nearest(self.alignment, ALIGNMENTS)}"
            )
        if not 0 < self.min_depth < self.max_depth < float("inf"):
            raise ConfigError(
                f"metrics.depth.min_depth={self.min_depth}, max_depth={self.max_depth}: not a range of depths",
                "give two numbers in metres above 0, the smaller one first",
            )

    def compare(self, row: Row) -> Row:
        """Return `depth_errors` [8] of an image: its figures, then the numbers of `OTHERS`.

        The figures are NaN for an image without a true depth in the range.
        """
        true, predicted = row["depth_map"].astype(np.float64), row["predicted_depth"].astype(np.float64)
        measured = np.isfinite(true) & (true > 0)
        counted = measured & (true >= self.min_depth) & (true <= self.max_depth)
        pixels, outside = int(counted.sum()), int((measured & ~counted).sum())
        if not pixels:
            return {"depth_errors": np.array([np.nan] * len(FIGURES) + [0.0, outside, np.nan])}
        true = true[counted]
        depth, scale = align(
            predicted[counted], true, bool(row["inverse_depth"]), self.alignment, self.min_depth, self.max_depth
        )
        return {"depth_errors": np.array([*errors(depth, true), pixels, outside, scale])}

    def score(self, predictions: Predictions) -> Samples:
        """Return the figures of each image, with flags for images that could not be aligned or have other depths."""
        table = np.stack(predictions.columns["depth_errors"])
        series = {f"depth/{name}": table[:, index] for index, name in enumerate((*FIGURES, *OTHERS))}
        scored = series["depth/pixels_count"] > 0
        outside, scale = series["depth/outside_count"], series["depth/scale_value"]
        measured = float(series["depth/pixels_count"].sum() + outside.sum())
        images = f"{len(table)} images"
        flags: dict[str, str] = {}
        if outside.any():
            flags["depth_out_of_range"] = (
                f"{outside.sum() / measured:.2%} of the measured pixels are outside {self.min_depth} to "
                f"{self.max_depth} m and not scored"
            )
        if count := int((~scored).sum()):
            flags["pictures_without_depth"] = f"{count} of {images} have no measured pixel in this range"
        if count := int((scored & np.isnan(scale)).sum()):
            flags["depth_not_aligned"] = f"{count} of {images} have a prediction that cannot be aligned"
        if count := int((scale < 0).sum()):
            flags["depth_reversed"] = (
                f"{count} of {images} have a negative scale: check model.options.output, which is the kind of the "
                "prediction"
            )
        faults = {}
        if len(table) > 1 and scored.any() and not scale[scored].any():
            faults["answers_equal"] = f"the model predicts one depth for all pixels of each of {images}"
        return Samples(series, flags=flags, faults=faults)

    def compute(self, samples: Samples) -> Metrics:
        """Compute the mean of each figure over images, intervals, and the numbers of images and pixels."""
        contributions = self.contributions(samples)
        pixels = samples.get("depth/pixels_count")
        values: dict[str, float | None] = {}
        reasons: dict[str, str] = {}
        for name in FIGURES:
            figures = samples.get(f"depth/{name}")
            figures = figures[pixels > 0] if len(figures) == len(pixels) else figures
            values[f"depth_{name}"] = float(figures.mean()) if len(figures) else None
            if not len(figures):
                reasons[f"depth_{name}"] = (
                    "no image has a measured pixel in the range"
                    if len(pixels)
                    else samples.why_missing(f"depth/{name}")
                )
        names = list(values)
        values["depth_pixels_count"] = float(pixels.sum()) if len(pixels) else None
        values["depth_scored_pictures_count"] = float((pixels > 0).sum()) if len(pixels) else None
        if not len(pixels):
            missing = samples.why_missing("depth/pixels_count")
            reasons |= dict.fromkeys(("depth_pixels_count", "depth_scored_pictures_count"), missing)
        return with_intervals(Metrics(values, reasons), names, contributions, samples)

    def contributions(self, samples: Samples) -> Mapping[str, Contributions]:
        """Return for each image its figure, and whether it was scored."""
        pixels = samples.get("depth/pixels_count")
        if not (pixels > 0).any():
            return {}
        scored = (pixels > 0).astype(np.float64)
        return {
            f"depth_{name}": mean_of(
                np.nan_to_num(samples.get(f"depth/{name}")), scored, at_most_one=name.endswith("_fraction")
            )
            for name in FIGURES
        }


def align(
    predicted: np.ndarray, true: np.ndarray, inverse: bool, alignment: str, low: float, high: float
) -> tuple[np.ndarray, float]:
    """Return predictions as depths in metres from `low` to `high`, and the scale of the alignment.

    The scale is NaN if the median of the predictions is not a depth; they are then not aligned.
    """
    if alignment == "least_squares":
        scale, shift = fit(predicted, 1 / true if inverse else true)
        aligned = scale * predicted + shift
        return (1 / np.clip(aligned, 1 / high, 1 / low) if inverse else np.clip(aligned, low, high)), scale
    depth = np.divide(1, predicted, out=np.full_like(predicted, np.inf), where=predicted > 0) if inverse else predicted
    scale = float(np.median(true) / np.median(depth)) if alignment == "median" and np.median(depth) > 0 else np.nan
    if alignment == "none":
        scale = 1.0
    if not scale > 0:
        return np.clip(depth, low, high), np.nan
    return np.clip(depth * scale, low, high), scale


def fit(predicted: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return the scale and the shift with the least squared error. Equal predictions have a scale of 0."""
    deviations = predicted - predicted.mean()
    spread = float((deviations**2).sum())
    limit = len(predicted) * (1e-7 * float(np.abs(predicted).max())) ** 2
    scale = float((deviations * (target - target.mean())).sum()) / spread if spread > limit else 0.0
    return scale, float(target.mean() - scale * predicted.mean())


def errors(depth: np.ndarray, true: np.ndarray) -> tuple[float, ...]:
    """Return the figures of `FIGURES` for the pixels of one image."""
    ratio = np.maximum(depth / true, true / depth)
    return (
        float(np.mean(np.abs(depth - true) / true)),
        float(np.sqrt(np.mean((depth - true) ** 2))),
        *(float(np.mean(ratio < THRESHOLD**power)) for power in (1, 2, 3)),
    )
