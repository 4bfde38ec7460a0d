"""The loss of quality of each precision: the difference from fp32 on the same images, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visionbench.core import OK, VALID
from visionbench.report.translations import translate
from visionbench.results import conditions, declared, paired
from visionbench.results.archive import Run
from visionbench.statistics.resampling import Difference, interval_text
from visionbench.terminal import table

FULL = "fp32"
VARYING = ("precision", "dtype", "tf32")
"""Conditions that may differ between the two runs."""


def costs(runs: Sequence[Run], language: str) -> Iterator[str]:
    """Yield a line for each run in another precision than fp32 that has an fp32 run under equal conditions."""
    for run in runs:
        if run.record.plan.precision == FULL or not _has_quality(run):
            continue
        base = next((other for other in reversed(runs) if _is_base(other, run)), None)
        if base is not None:
            yield _cost_line(base, run, language)


def _is_base(base: Run, run: Run) -> bool:
    if base.record.plan.precision != FULL or base.model != run.model or not _has_quality(base):
        return False
    facts = [
        {name: value for name, value in conditions.binding(each).items() if name not in VARYING} for each in (base, run)
    ]
    return not conditions.differences(*facts)


def _has_quality(run: Run) -> bool:
    return run.quality is not None and run.quality.status == OK


def _cost_line(base: Run, run: Run, language: str) -> str:
    shown = {declaration.name for declaration in declared.quality(base.declarations, base.quality)}
    columns = {
        declaration.name: declaration.heading(language)
        for declaration in declared.quality(run.declarations, run.quality)
        if declaration.name in shown
    }
    changes = paired.differences([base], [run], list(columns))
    changed = {title: changes.by_metric[name] for name, title in columns.items() if name in changes.by_metric}
    parts = [_cost_text(title, change, language) for title, change in changed.items() if change.differing]
    if unchanged := [title for title, change in changed.items() if not change.differing]:
        parts.append(translate("no picture differs", language, titles=", ".join(unchanged)))
    text = "; ".join(parts) or translate("not paired", language, why=changes.reason)
    verdicts = [each.quality.validity.verdict for each in (base, run) if each.quality]
    marks = "".join(sorted({table.MARKS[verdict] for verdict in verdicts if verdict != VALID}))
    return f"{translate('against', language, name=run.name, base=FULL)}: {text} {marks}".strip()


def _cost_text(title: str, change: Difference, language: str) -> str:
    """Return a text such as `costs 0.0010 ±0.0020 R@1: not significant`."""
    key = "costs" if change.value <= 0 else "gains"
    interval = change.interval
    if key == "costs" and interval:
        interval = -interval[1], -interval[0]
    amount = interval_text(abs(change.value), interval, digits=4)
    shown = translate("significant" if change.shown else "not significant", language)
    return f"{translate(key, language, amount=amount, title=title)}: {shown}"
