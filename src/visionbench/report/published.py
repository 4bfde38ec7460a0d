"""Published figures beside the figures of a run, and the check of a figure against the limit of its device.

The figures and the peak rates of devices are in `published.csv`, each with its source.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from visionbench.core import OK, CaseResult, ConfigError
from visionbench.results.archive import Run

FILE = Path(__file__).with_name("published.csv")
SPEED, QUALITY, PEAK, SIZE = KINDS = ("speed", "quality", "peak", "size")
THROUGHPUT = "throughput_images_per_s"
WORK = "flops_per_image_gflop"
ACHIEVED, CEILING = "flops_achieved_tflop_per_s", "flops_ceiling_tflop_per_s"
PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "fp32": ("fp32",),
    "tf32": ("tf32",),
    "fp16": ("fp16", "amp_fp16", "bf16"),
    "bf16": ("bf16", "amp_fp16", "fp16"),
}
"""The precisions of published figures that a precision is compared with, the nearest first."""
DTYPES = {"amp_fp16": "fp16"}
"""The precision of the peak rate, for precisions that only a published figure has."""
PARTS = {"encoder", "image"}
"""The parts of a model that a figure for the complete model contains."""
ABOVE_LIMIT = 1.5
"""A rate above this multiple of the peak or of the measured ceiling is implausible. Convolution by Winograd's
algorithm does up to this much less work than the count of FLOPs."""
ABOVE_PUBLISHED = 10.0
"""A throughput above this multiple of the scaled published figure is implausible. A published figure can be far below
the peak rate, so that a smaller multiple is possible."""
TORCH = {"eager", "compile"}
"""The runtimes that execute a model with torch, which also measures the ceiling. On a CPU, another runtime can compute
bf16 and fp16 in fp32, at a rate above torch's ceiling for that dtype."""
SAME_WORK = 0.2
"""The largest relative difference in the work of an image for the same part of the same model."""
PEAK_RATE, MEASURED_CEILING, PUBLISHED = "peak", "ceiling", "published"
"""The limits that a figure can exceed."""


@dataclass(frozen=True)
class PublishedFigure:
    """A row of `published.csv`: a throughput, a quality figure, the peak rate of a device, or the size of a model. All
    are texts or numbers as published; an empty cell is an empty text or None."""

    kind: str
    model: str
    """The name of the configuration in `conf/model`; empty for a peak rate."""
    part: str
    """The part of the model that was executed, as in `model.options.part`; empty if the model has no such option."""
    data: str
    """The name of the configuration in `conf/data`."""
    metric: str
    value: float
    hardware: str
    """The name of the device, as its driver reports it."""
    precision: str
    batch: int | None
    pixels: int | None
    """The width and height of an input image."""
    gmacs: float | None
    """Multiply-accumulates of one image, in billions, as published."""
    images: int | None
    """The number of images that the quality is computed over."""
    software: str
    source: str
    note: str

    @property
    def gflop(self) -> float | None:
        """The work of an image. A multiply-accumulate counts as two."""
        return None if self.gmacs is None else 2 * self.gmacs


@dataclass(frozen=True)
class Comparison:
    """A figure of a run beside the nearest published figure."""

    run: Run
    row: CaseResult
    ours: float
    figure: PublishedFigure
    expected: float | None
    """The published figure, scaled to the device and the work of the run; None if it cannot be scaled."""
    part: str
    """The part of the model that the run executed."""

    @property
    def ratio(self) -> float | None:
        """Our figure divided by the scaled published figure."""
        return self.ours / self.expected if self.expected else None


@dataclass(frozen=True)
class Excess:
    """A throughput that is implausible: it is `multiple` times a limit."""

    run: Run
    row: CaseResult
    limit: str
    """PEAK_RATE, MEASURED_CEILING or PUBLISHED."""
    multiple: float


@cache
def figures(path: Path = FILE) -> tuple[PublishedFigure, ...]:
    """Read the file. Raises ConfigError that names the line of a row that cannot be read."""
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        names = [field.name for field in fields(PublishedFigure)]
        if reader.fieldnames != names:
            raise ConfigError(f"{path}: the columns are not {', '.join(names)}", "restore the file of this version")
        return tuple(_figure(cells, f"{path}:{reader.line_num}") for cells in reader)


def _figure(cells: Mapping[str, Any], place: str) -> PublishedFigure:
    numbers: dict[str, type] = {"value": float, "batch": int, "pixels": int, "gmacs": float, "images": int}
    values: dict[str, Any] = dict(cells)
    for name, number in numbers.items():
        try:
            values[name] = number(cells[name]) if cells[name] else None
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{place}: {name} is not a number: {cells[name]!r}", "correct the cell") from error
    value = values["value"]
    if values["kind"] not in KINDS:
        raise ConfigError(f"{place}: kind is {values['kind']!r}", f"use one of {', '.join(KINDS)}")
    if value is None or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{place}: value is not a positive number: {cells['value']!r}", "correct the cell")
    return PublishedFigure(**values)


def peak(hardware: str, precision: str) -> float | None:
    """Return the peak rate of dense matrix products in TFLOP/s, or None if the file has none for this device."""
    dtype = DTYPES.get(precision, precision)
    matches = (one for one in figures() if one.kind == PEAK and (one.hardware, one.precision) == (hardware, dtype))
    return next((one.value for one in matches), None)


def comparisons(runs: Sequence[Run]) -> Iterator[Comparison]:
    """Yield each throughput and each quality figure that a published figure can be compared with."""
    for run in runs:
        for row in run.timed:
            if row.status == OK and (comparison := nearest(run, row)):
                yield comparison
        yield from _quality(run)


def nearest(run: Run, row: CaseResult) -> Comparison | None:
    """Return the throughput of a case beside the nearest published throughput of the same model, if there is one.

    The nearest figure is for the same part of the model, then for the same device, then for the nearest precision,
    then for the nearest batch size, then for the device with the nearest peak rate. Figures for another image size or
    another work of an image, and figures that cannot be scaled to this device and to this part, are left out.
    """
    ours = row.metrics.values.get(THROUGHPUT)
    device, precision = run.facts()["device_name"], run.record.plan.precision
    part, pixels = _part(run), _pixels(run)
    accepted = PRECISIONS.get(precision, ())
    ranked: list[tuple[tuple[Any, ...], int, Comparison]] = []
    for figure in figures():
        if not ours or figure.kind != SPEED or figure.model != run.model or figure.precision not in accepted:
            continue
        expected = _expected(figure, device, precision, part, row)
        if expected is None or (pixels and figure.pixels and pixels != figure.pixels) or _other_work(figure, part, row):
            continue
        rank = (
            figure.part != part,
            figure.hardware != device,
            accepted.index(figure.precision),
            abs(math.log2((figure.batch or 1) / row.case.batch_size)),
            _distance(figure, device, precision),
        )
        ranked.append((rank, len(ranked), Comparison(run, row, ours, figure, expected, part)))
    return min(ranked)[2] if ranked else None


def excesses(runs: Sequence[Run], compared: Sequence[Comparison]) -> Iterator[Excess]:
    """Yield each throughput that is implausible, with the limit that it exceeds by the largest multiple.

    Precisions without a stated peak rate are not checked.
    """
    by_row = {id(one.row): one for one in compared if one.figure.kind == SPEED}
    for run in runs:
        if run.record.plan.precision not in PRECISIONS:
            continue
        for row in run.timed:
            if row.status != OK:
                continue
            shares = [(multiple, limit) for limit, multiple, most in _multiples(run, row) if multiple > most]
            ratio = by_row[id(row)].ratio if id(row) in by_row else None
            if ratio is not None and ratio > ABOVE_PUBLISHED:
                shares.append((ratio, PUBLISHED))
            if shares:
                multiple, limit = max(shares)
                yield Excess(run, row, limit, multiple)


def _multiples(run: Run, row: CaseResult) -> Iterator[tuple[str, float, float]]:
    """Yield each limit of the device that is known, the achieved rate ÷ this limit, and the largest accepted value."""
    values = row.metrics.values
    achieved, ceiling = values.get(ACHIEVED), values.get(CEILING)
    if achieved and ceiling and (run.facts()["runtime"] in TORCH or run.record.plan.precision == "fp32"):
        yield MEASURED_CEILING, achieved / ceiling, ABOVE_LIMIT
    share = share_of_peak(run, row)
    if share is not None:
        yield PEAK_RATE, share, ABOVE_LIMIT


def share_of_peak(run: Run, row: CaseResult) -> float | None:
    """Return throughput × work of an image ÷ peak rate of the device, or None if one of them is not known."""
    speed, work = row.metrics.values.get(THROUGHPUT), row.metrics.values.get(WORK)
    limit = peak(run.facts()["device_name"], run.record.plan.precision)
    return speed * work / (limit * 1e3) if speed and work and limit else None


def _expected(figure: PublishedFigure, device: str, precision: str, part: str, row: CaseResult) -> float | None:
    """Return the published throughput × the ratio of the peak rates × the ratio of the work, if both are known.

    The work matters only if the run executed more of the model than the published figure.
    """
    scale = 1.0
    if figure.hardware != device or DTYPES.get(figure.precision, figure.precision) != precision:
        here, there = peak(device, precision), peak(figure.hardware, figure.precision)
        if figure.hardware == device and (here is None or there is None):
            here = there = 1.0
        if here is None or there is None:
            return None
        scale = here / there
    if figure.part != part:
        work = row.metrics.values.get(WORK)
        if figure.part not in PARTS or part != "both" or not work or not figure.gflop:
            return None
        scale *= figure.gflop / work
    return figure.value * scale


def _other_work(figure: PublishedFigure, part: str, row: CaseResult) -> bool:
    """Return whether the work of an image shows that the model is another one, such as one with fewer layers."""
    work = row.metrics.values.get(WORK)
    if figure.part != part or not work or not figure.gflop:
        return False
    return abs(work / figure.gflop - 1) > SAME_WORK


def _distance(figure: PublishedFigure, device: str, precision: str) -> float:
    here, there = peak(device, precision), peak(figure.hardware, figure.precision)
    return abs(math.log2(here / there)) if here and there else 0.0


def _quality(run: Run) -> Iterator[Comparison]:
    """Yield the quality figures of pretrained weights over the complete published data set."""
    row, settings = run.quality, run.record.settings
    if row is None or row.status != OK or settings.model.weights != "pretrained":
        return
    values = row.metrics.values
    used, available = values.get("pictures_used_count"), values.get("pictures_found_count")
    for figure in figures():
        ours = values.get(figure.metric)
        if figure.kind != QUALITY or figure.model != run.model or ours is None:
            continue
        if used == available == figure.images and _annotations(run, figure.data):
            yield Comparison(run, row, ours, figure, figure.value, _part(run))


def _annotations(run: Run, data: str) -> bool:
    """Return whether the annotation file of the run is that of this configuration in `conf/data`."""
    name = {"coco_karpathy": "dataset_coco", "flickr30k": "dataset_flickr30k"}[data]
    options = run.record.settings.data.options
    return any(name in str(value) for value in options.values())


def _part(run: Run) -> str:
    """Return the part of the model that a timed call executes, or an empty text if the model has no such option."""
    return str(run.record.settings.model.options.get("part") or "")


def _pixels(run: Run) -> int | None:
    """Return the size of an input image in the configuration of the architecture, if it is there."""
    architecture = run.record.settings.model.values.get("architecture")
    if not isinstance(architecture, Mapping):
        return None
    vision = architecture.get("vision_config")
    size = (vision if isinstance(vision, Mapping) else architecture).get("image_size")
    return size if isinstance(size, int) else None
