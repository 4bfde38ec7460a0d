"""What each precision gains and costs against fp32, in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from visionbench.core import VALID, WARNED
from visionbench.report.translations import translate
from visionbench.results.advice import precisions
from visionbench.results.advice.candidates import Estimate
from visionbench.results.advice.precisions import FULL, Pair
from visionbench.results.archive import Run
from visionbench.results.naming import Names
from visionbench.statistics.resampling import Difference, interval_text
from visionbench.terminal.marks import MARKS

__all__ = ["FULL", "costs", "lines"]

MOST_RATIOS = 4
"""The most batch sizes whose ratio is listed."""
MOST_PAIRS = 24
"""The most runs that are compared with fp32: the first ones of each precision in turn. The others are counted."""


def lines(runs: Sequence[Run], names: Names, language: str) -> Iterator[str]:
    """Yield for each precision the ratio of throughput and the difference in quality, each with its interval."""
    compared = [pair for pair in precisions.pairs(runs) if pair.has_speed or pair.quality_measured]
    for pair in _first_of_each(compared):
        ratios = pair.speed()
        if not ratios and not pair.quality_measured:
            continue
        mark = f" {MARKS[WARNED]}" if ratios and pair.doubtful else ""
        name = translate("against", language, name=names.short(pair.run), base=FULL)
        yield f"{name}: {_speed_text(ratios, language)}{mark}; {_quality_text(pair, language, brief=True)}"
    yield from _further(compared, language)


def costs(runs: Sequence[Run], language: str) -> Iterator[str]:
    """Yield the loss of quality of each run in another precision, if both runs have a quality."""
    compared = [pair for pair in precisions.pairs(runs) if pair.quality_measured]
    for pair in _first_of_each(compared):
        name = translate("against", language, name=pair.run.name, base=FULL)
        yield f"{name}: {_quality_text(pair, language)}"
    yield from _further(compared, language)


def _first_of_each(compared: Sequence[Pair]) -> list[Pair]:
    """Return at most MOST_PAIRS pairs: the first of each precision, then the second of each, and so on, in order."""
    if len(compared) <= MOST_PAIRS:
        return list(compared)
    counts: Counter[str] = Counter()
    ranks = []
    for number, pair in enumerate(compared):
        ranks.append((counts[pair.run.record.plan.precision], number))
        counts[pair.run.record.plan.precision] += 1
    return [compared[number] for number in sorted(number for _, number in sorted(ranks)[:MOST_PAIRS])]


def _further(compared: Sequence[Pair], language: str) -> Iterator[str]:
    """Yield the number of pairs that are not listed, if there are any."""
    if len(compared) > MOST_PAIRS:
        yield translate("more precisions", language, count=len(compared) - MOST_PAIRS)


def _speed_text(ratios: Mapping[int, Estimate], language: str) -> str:
    if not ratios:
        return translate("no ratio", language)
    if len(ratios) <= MOST_RATIOS:
        listed = [translate("ratio at", language, ratio=_ratio(one), batch=size) for size, one in ratios.items()]
        return translate("speed ratio", language, ratios=", ".join(listed))
    low, high = (choose(ratios.values(), key=lambda one: one.value) for choose in (min, max))
    sizes = list(ratios)
    text = translate("ratio range", language, low=_ratio(low), high=_ratio(high), first=sizes[0], last=sizes[-1])
    return translate("speed ratio", language, ratios=text)


def _ratio(ratio: Estimate) -> str:
    """Return a text such as `1.31× [1.22, 1.40]`."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}×"
    high = "∞" if math.isinf(ratio.high) else f"{ratio.high:.2f}"
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {high}]"


def _quality_text(pair: Pair, language: str, brief: bool = False) -> str:
    """Return the difference of each metric. With `brief`, the main metric and those that differ significantly."""
    if not pair.quality_measured:
        random = pair.run.record.settings.model.weights == "random"
        return translate("quality not known random" if random else "quality not known", language)
    by_metric, reason = pair.quality()
    if brief:
        by_metric = {one: change for one, change in by_metric.items() if one.headline == 1 or change.shown}
    changed = {declaration.heading(language): change for declaration, change in by_metric.items()}
    parts = [_cost_text(title, change, language) for title, change in changed.items() if change.differing]
    if unchanged := [title for title, change in changed.items() if not change.differing]:
        parts.append(translate("no picture differs", language, titles=", ".join(unchanged)))
    text = "; ".join(parts) or translate("not paired", language, why=reason)
    verdicts = [each.quality.validity.verdict for each in (pair.base, pair.run) if each.quality]
    marks = "".join(sorted({MARKS[verdict] for verdict in verdicts if verdict != VALID}))
    return f"{text} {marks}".strip()


def _cost_text(title: str, change: Difference, language: str) -> str:
    """Return a text such as `costs 0.0010 ±0.0020 R@1: not significant`."""
    key = "costs" if change.value <= 0 else "gains"
    interval = change.interval
    if key == "costs" and interval:
        interval = -interval[1], -interval[0]
    amount = interval_text(abs(change.value), interval, digits=4)
    shown = translate("significant" if change.shown else "not significant", language)
    return f"{translate(key, language, amount=amount, title=title)}: {shown}"
