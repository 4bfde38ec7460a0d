"""Write the tables of metrics in docs/results.md from the declarations: python scripts/metric_tables.py."""

from __future__ import annotations

import re
from pathlib import Path

from visionbench.core import (
    ACROSS_PROCESSES,
    BETWEEN_LOADS,
    OVER_PICTURES,
    OVER_QUERIES,
    WITHIN_PROCESS,
    MetricDeclaration,
)
from visionbench.examples import denominators
from visionbench.results.declared import bundled

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
HEADINGS = {denominators.GROUP: "every quality row"}
"""The headings of groups that cannot be chosen by name."""
INTERVALS = {
    OVER_PICTURES: "images",
    WITHIN_PROCESS: "within",
    ACROSS_PROCESSES: "across",
    OVER_QUERIES: "queries",
    BETWEEN_LOADS: "loads",
}
HEADER = ("metric", "unit", "better", "interval", "meaning")


def written(page: str) -> str:
    """Return the page with the first table below the heading of each group written from the declarations."""
    groups: dict[str, list[MetricDeclaration]] = {}
    for one in bundled().listed:
        groups.setdefault(one.group, []).append(one)
    for group, metrics in groups.items():
        heading = f"\n### {HEADINGS.get(group, group)}\n"
        before, title, after = page.partition(heading)
        if not title:
            raise SystemExit(f"docs/results.md has no heading '{heading.strip()}'; add it")
        table = "\n".join([_row(HEADER), f"|{'---|' * len(HEADER)}", *map(_of_metric, metrics)])
        after = re.sub(r"^\|.*\n(?:\|.*\n)*", lambda _, table=table: f"{table}\n", after, count=1, flags=re.MULTILINE)
        page = before + title + after
    return page


def _of_metric(one: MetricDeclaration) -> str:
    intervals = ", ".join(INTERVALS[interval] for interval in one.intervals)
    meaning = one.meaning[:1].lower() + one.meaning[1:] if one.meaning[1:2].islower() else one.meaning
    return _row([f"`{one.name}`", one.unit, one.better, intervals, meaning])


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
