"""Write the table of docs/quality.md from the published figures: python scripts/published_quality.py."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import yaml

from visionbench.report.published import QUALITY, PublishedFigure, figures

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "quality.md"
HEADER = ("model (checkpoint)", "data", "metric", "figure", "source")
DATA = {"coco_karpathy": "COCO, Karpathy's 5,000", "flickr30k": "Flickr30k, Karpathy's 1,000"}
METRICS = {
    "recall_i2t": "image to text R@1 / 5 / 10",
    "recall_t2i": "text to image R@1 / 5 / 10",
    "captioning": "CIDEr / BLEU-4",
}
"""The metrics of a row, by the beginning of their names."""


def written(page: str) -> str:
    """Return the page with its first table written from the published figures."""
    quality = [one for one in figures() if one.kind == QUALITY]
    rows = [_row(list(group)) for _, group in groupby(quality, key=lambda one: (one.model, one.data, _group(one)))]
    table = "\n".join([_line(HEADER), f"|{'---|' * len(HEADER)}", *rows])
    return re.sub(r"^\|.*\n(?:\|.*\n)*", lambda _: f"{table}\n", page, count=1, flags=re.MULTILINE)


def _group(figure: PublishedFigure) -> str:
    return next(beginning for beginning in METRICS if figure.metric.startswith(beginning))


def _row(group: list[PublishedFigure]) -> str:
    first = group[0]
    model = yaml.safe_load((ROOT / "conf" / "model" / f"{first.model}.yaml").read_text("utf-8"))
    values = " / ".join(f"{100 * one.value:.1f}" for one in group)
    unit = " %" if first.metric.startswith("recall") else ""
    note = f"; {first.note}" if first.note else ""
    source = f"[{first.software}]({first.source}){note}"
    name = f"{first.model} (`{model['checkpoint']}`)"
    return _line((name, DATA[first.data], METRICS[_group(first)], values + unit, source))


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
