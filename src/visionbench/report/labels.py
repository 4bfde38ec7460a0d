"""Labels in figures: shortened names, and direct labels that overlap neither each other nor the marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

FONT_SIZE = 8
GAP = 6
"""Points between a mark and its label."""
PADDING = 1
"""Pixels of space around a label."""
MARK = 4.5
"""Half of the side of the square around a mark that no label may cover, in points."""
Position = tuple[tuple[float, float], str, str]
AROUND: Sequence[Position] = (
    ((GAP, 0), "left", "center"),
    ((-GAP, 0), "right", "center"),
    ((0, GAP), "center", "bottom"),
    ((0, -GAP), "center", "top"),
    ((GAP, GAP), "left", "bottom"),
    ((-GAP, GAP), "right", "bottom"),
    ((GAP, -GAP), "left", "top"),
    ((-GAP, -GAP), "right", "top"),
)
"""Positions of a label around its mark: the offset in points, and the alignment."""
SPREAD: Sequence[Position] = tuple(((GAP + 2, offset), "left", "center") for offset in (0, 5, -5, 10, -10, 15, -15))
"""Positions of a label to the right of the end of a line."""


@dataclass(frozen=True)
class Target:
    """A point in data coordinates, and the text and the colour of its label."""

    x: float
    y: float
    text: str
    colour: str


def shorten(name: str, most: int) -> str:
    """Return a name with at most this number of characters; the middle of a longer name is replaced by `…`."""
    if len(name) <= most:
        return name
    head = most // 2
    return f"{name[:head].rstrip(' ·')}…{name[-(most - 1 - head) :].lstrip(' ·')}"


def place(
    axes: Axes,
    targets: Sequence[Target],
    marks: Sequence[tuple[float, float]],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
    around: Sequence[Position] = AROUND,
) -> list[Annotation | None]:
    """Write the label of each target at a free position. A target without a free position gets None.

    A label stays inside the axes and covers no other label, no mark and no line. Marks and the two ends of lines are in
    data coordinates. The order of the targets is their priority. The limits of the axes must be final.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()  # the layout decides where the axes are
    side = MARK * figure.dpi / 72
    pixels: Any = axes.transData.transform(marks) if len(marks) else []
    boxes = [(x - side, y - side, x + side, y + side) for x, y in pixels]
    for ends in lines:
        start, end = axes.transData.transform(ends)
        steps = max(int(np.hypot(*(end - start)) / side), 1)
        for x, y in start + (end - start) * np.linspace(0, 1, steps + 1)[:, None]:
            boxes.append((x - 1, y - 1, x + 1, y + 1))
    occupied = np.array(boxes).reshape(-1, 4)
    placed: list[Annotation | None] = []
    for target in targets:
        annotation = axes.annotate(
            target.text,
            (target.x, target.y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=FONT_SIZE,
            color=target.colour,
        )
        annotation.set_in_layout(False)
        for offset, horizontal, vertical in around:
            annotation.set(position=offset, ha=horizontal, va=vertical)
            box = annotation.get_window_extent(renderer).padded(PADDING)
            inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            inside = inside and axes.bbox.containsy(box.y0) and axes.bbox.containsy(box.y1)
            if inside and not _overlaps(box, occupied):
                occupied = np.vstack([occupied, box.extents])
                placed.append(annotation)
                break
        else:
            annotation.remove()
            placed.append(None)
    return placed


def _overlaps(box: Bbox, occupied: np.ndarray) -> bool:
    """Return whether a box has a point in common with any of these boxes, given as rows x0, y0, x1, y1."""
    low, high = occupied[:, :2], occupied[:, 2:]
    return bool(((low <= (box.x1, box.y1)) & (high >= (box.x0, box.y0))).all(axis=1).any())


def width(axes: Axes, texts: Sequence[str]) -> float:
    """Return the width of the longest of these labels, as a share of the width of the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    widest = 0.0
    for text in texts:
        artist = axes.text(0, 0, text, fontsize=FONT_SIZE)
        widest = max(widest, artist.get_window_extent(renderer).width)
        artist.remove()
    return (widest + (GAP + 4) * figure.dpi / 72) / axes.bbox.width
