"""Two results held against each other: a verdict for each metric of each case, with the ratio and its interval.

Timings are compared by the medians of processes, never by pooled calls: Welch's interval of the logarithms, and a
practical threshold. The smallest detectable effect is half the interval's width on the log scale; where it is above the
threshold and no difference is shown, the verdict is `inconclusive` and not `same`.

Quality is compared picture by picture where both sides measured the same pictures (see `paired`), otherwise by the
intervals of both sides. A difference counts where it is beyond the threshold and its interval of 99 % or above
excludes zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import expm1, log, log1p

import numpy as np

from visionbench.core import (
    INVALID,
    MEMORY,
    OK,
    QUALITY,
    SPEED,
    VALID,
    WARNED,
    CaseResult,
    MetricDeclaration,
    Reason,
    interval_ends,
)
from visionbench.declarations import Declarations
from visionbench.registry import ConfigError, nearest
from visionbench.results import conditions, declared, paired, summary
from visionbench.results.archive import Run
from visionbench.results.declared import direction
from visionbench.statistics.resampling import Difference, Interval, apart, deciding_alpha
from visionbench.statistics.timings import welch_ratio

P10 = ", --metric latency_p10_ms, which neighbours disturb least,"
LEAST_PROCESSES = 5
"""A side, for a verdict on a timing."""
CAUTIOUS_ALPHA = 0.001
"""Of the interval that must exclude 1 where the smallest detectable effect is above the threshold."""
ACROSS = "across/"
"""Of the series that hold one value of each process."""
SAME, INCONCLUSIVE, NOT_COMPARABLE = "same", "inconclusive", "not comparable"
FAILED, FIXED = "failed", "fixed"
ONLY_IN_BASE, ONLY_IN_CANDIDATE = "only in the base", "only in the candidate"
WORDS = {
    SPEED: ("slower", "faster"),
    MEMORY: ("more memory", "less memory"),
    QUALITY: ("worse", "better"),
    "": ("worse", "better"),
}
"""The verdicts for a metric of each kind: a change for the worse, and for the better."""
REGRESSIONS = tuple(dict.fromkeys((FAILED, *(worse for worse, _ in WORDS.values()))))
IMPROVEMENTS = tuple(dict.fromkeys((FIXED, *(better for _, better in WORDS.values()))))
WITHOUT_INTERVAL = "a side has no interval, as results of older versions: the threshold alone decides"
UNDECIDED = (INCONCLUSIVE, NOT_COMPARABLE)
ORDER = (*REGRESSIONS, *UNDECIDED, ONLY_IN_BASE, ONLY_IN_CANDIDATE, *IMPROVEMENTS, SAME)
"""Of verdicts, the worst first."""


@dataclass(frozen=True)
class Rules:
    """From where on a difference counts: a factor for speed and memory; a drop for quality, relative for a score or
    rank."""

    threshold: float = 0.05
    quality_threshold: float = 0.01
    force: bool = False
    """Compare also what was measured under conditions that differ."""
    metrics: tuple[str, ...] = ()
    """The metrics to compare; the headlines where none is named."""


@dataclass(frozen=True)
class Value:
    """A metric on one side: the value, from how many processes, and the verdict of the worst of its rows."""

    value: float | None
    processes: int = 0
    validity: str = VALID


@dataclass(frozen=True)
class MetricComparison:
    """One metric of one case: what it was, what it is, and the verdict. Of a case that failed the metric is empty."""

    run: str
    model: str
    device: str
    precision: str
    case: str
    batch_size: int | None
    """None for quality."""
    metric: str
    verdict: str
    base: Value
    candidate: Value
    ratio: float | None = None
    """Candidate ÷ base."""
    interval: tuple[float, float] | None = None
    """The 95 % interval of the ratio."""
    reason: str = ""
    difference: float | None = None
    """Of quality: candidate − base."""
    difference_interval: tuple[float, float] | None = None
    """The 95 % interval of the difference."""
    detectable: float | None = None
    """Of quality: the smallest change that could be shown, as a fraction; of a score as a share of the base."""
    method: str = ""
    """How quality was compared."""


@dataclass(frozen=True)
class Comparison:
    """All rows, and what must be known to read them."""

    rules: Rules
    rows: tuple[MetricComparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each verdict was given, the worst first."""
        found = Counter(row.verdict for row in self.rows)
        return {verdict: found[verdict] for verdict in ORDER if found[verdict]}

    @property
    def regressions(self) -> list[MetricComparison]:
        """The rows on account of which a gate stays shut."""
        return [row for row in self.rows if row.verdict in REGRESSIONS]

    @property
    def undecided(self) -> list[MetricComparison]:
        """The rows that say neither yes nor no."""
        return [row for row in self.rows if row.verdict in UNDECIDED]

    @property
    def verdict(self) -> str:
        """`regression`, else `undecided` where nothing could be decided, else `no regression`."""
        decided = any(row.verdict in (SAME, *IMPROVEMENTS) for row in self.rows)
        return "regression" if self.regressions else "no regression" if decided else "undecided"


def compare(base: Sequence[Run], candidate: Sequence[Run], rules: Rules | None = None) -> Comparison:
    """Hold the runs of two sides against each other; reads nothing but the runs and their samples.

    Runs of one side with equal conditions are taken together as so many processes. Raises ConfigError where the sides
    have no model, device and precision in common, and for a metric that cannot be compared.
    """
    rules = rules or Rules()
    declarations = declared.merged([run.declarations for run in (*candidate, *base)])
    for name in rules.metrics:
        _check(name, [*base, *candidate], declarations)
    keys = dict.fromkeys([*map(_key, base), *map(_key, candidate)])
    pairs: list[tuple[Side | None, Side | None]] = []
    said: list[str] = []
    for key in keys:
        old, new = (_sides([run for run in runs if _key(run) == key]) for runs in (base, candidate))
        pairs += _paired(old, new, said)
    if not any(old and new for old, new in pairs):
        names = [" and ".join(sorted({run.name for run in runs})) for runs in (base, candidate)]
        raise ConfigError(f"nothing to compare: the base has {names[0]}, the candidate {names[1]}")
    labels = _labels(pairs)
    rows = [
        row for pair, label in zip(pairs, labels, strict=True) for row in _of_pair(*pair, label, rules, declarations)
    ]
    for pair in pairs:
        said += _remarks(*pair, rules)
    return Comparison(rules, tuple(rows), tuple(dict.fromkeys(said)))


# --------------------------------------------------------------------------------------------------------------- pairs
@dataclass(frozen=True)
class CaseOnSide:
    """A case on one side: its rows, one a run, and beside each the samples that hold its processes' values."""

    rows: tuple[CaseResult, ...]
    series: tuple[Mapping[str, np.ndarray], ...]
    runs: tuple[Run, ...] = ()

    @property
    def validity(self) -> str:
        """The worst verdict of its rows."""
        return summary.verdict(self.rows) or VALID

    @property
    def reasons(self) -> list[Reason]:
        """Of the verdict: each kind once, as the first row had it, with how many of several rows had it."""
        seen: dict[str, Reason] = {}
        counts: Counter[str] = Counter()
        good = [row for row in self.rows if row.status == OK]
        for row in good:
            kinds = {reason.kind: reason for reason in reversed(row.validity.reasons)}
            seen = {**kinds, **seen}
            counts.update(kinds.keys())
        return [
            Reason(kind, f"{reason.detail} (in {counts[kind]} of {len(good)} runs)") if len(good) > 1 else reason
            for kind, reason in seen.items()
        ]

    def has(self, metric: str) -> bool:
        """Whether the metric was asked for, with a value or without."""
        return any(metric in row.metrics.values for row in self.rows)

    def values(self, metric: str) -> np.ndarray:
        """The metric's value in each process, of all processes that have one."""
        found = [
            series.get(ACROSS + metric, np.array([value]))
            for row, series in zip(self.rows, self.series, strict=True)
            if row.status == OK and (value := row.metrics.values.get(metric)) is not None
        ]
        return np.concatenate(found) if found else np.empty(0)

    def why_none(self, metric: str) -> str:
        """Why the metric has no value."""
        return next((row.metrics.reasons[metric] for row in self.rows if metric in row.metrics.reasons), "unknown")


@dataclass(frozen=True)
class Side:
    """Runs of one model, device and precision under equal conditions, in the order they began."""

    runs: tuple[Run, ...]

    @property
    def binding(self) -> Mapping[str, str]:
        """What the other side must share."""
        return {name: value for run in reversed(self.runs) for name, value in conditions.binding(run).items()}

    @property
    def remarked(self) -> Mapping[str, str]:
        """What is told where the other side differs."""
        return {name: value for run in reversed(self.runs) for name, value in conditions.remarked(run).items()}

    @property
    def cases(self) -> dict[str, CaseResult]:
        """A row of each case, by its id."""
        return {row.case.id: row for run in self.runs for row in run.results}

    @property
    def starts(self) -> list[str]:
        """When each process began."""
        return sorted(start for run in self.runs for start in run.record.starts)

    def measured(self, case: str) -> CaseOnSide:
        """What its runs found for a case."""
        found = [(row, run) for run in self.runs for row in run.results if row.case.id == case]
        rows, runs = tuple(row for row, _ in found), tuple(run for _, run in found)
        return CaseOnSide(rows, tuple(_processes(run, row) for row, run in found), runs)


def _key(run: Run) -> tuple[str, str, str]:
    plan = run.record.plan
    return plan.model, plan.device.partition(":")[0], plan.precision


def _sides(runs: Sequence[Run]) -> list[Side]:
    """Runs grouped by what is known of their conditions, the group that began last at the end."""
    groups: list[list[Run]] = []
    known: list[dict[str, str]] = []
    for run in sorted(runs, key=lambda run: run.record.started_at):
        facts = {**conditions.remarked(run), **conditions.binding(run)}
        same = (at for at, of_group in enumerate(known) if not conditions.differences(of_group, facts))
        if (at := next(same, None)) is None:
            groups.append([run])
            known.append(facts)
        else:
            groups[at].append(run)
            known[at] |= facts
    return [Side(tuple(group)) for group in groups]


def _paired(base: list[Side], candidate: list[Side], said: list[str]) -> Iterator[tuple[Side | None, Side | None]]:
    """The newest sides of equal conditions with each other, then what is left over, the newest first."""
    if len(base) == len(candidate) == 1:
        yield base[0], candidate[0]
        return
    bases, candidates = (_newest(sides, name, said) for sides, name in ((base, "base"), (candidate, "candidate")))
    for old in list(bases):
        for new in candidates:
            if not conditions.differences(old.binding, new.binding):
                yield old, new
                bases.remove(old)
                candidates.remove(new)
                break
    yield from zip_longest(bases, candidates)


def _newest(sides: list[Side], name: str, said: list[str]) -> list[Side]:
    """Of sides that differ in nothing that binds (but in commit or versions) the newest; the others are told."""
    kept: list[Side] = []
    for side in reversed(sides):
        newer = next((one for one in kept if not conditions.differences(one.binding, side.binding)), None)
        if newer is None:
            kept.append(side)
            continue
        what = [line.partition(":")[0] for line in conditions.differences(side.remarked, newer.remarked)]
        said.append(
            f"{side.runs[0].name}: the {name} has older runs that differ in {', '.join(what)}; "
            f"those of {newer.runs[-1].record.started_at} are compared"
        )
    return kept


def _labels(pairs: Sequence[tuple[Side | None, Side | None]]) -> list[str]:
    """A run's name, and where several pairs share it what tells them apart."""
    sides = [[side for side in pair if side][0] for pair in pairs]
    names = [side.runs[0].name for side in sides]
    labels = []
    for name, side in zip(names, sides, strict=True):
        others = [one.binding for other, one in zip(names, sides, strict=True) if other == name]
        own = side.binding
        apart = [key for key in own if any(own[key] != other.get(key) for other in others)]
        labels.append(", ".join([name, *(f"{key} {own[key]}" for key in apart)]))
    return labels


def _processes(run: Run, row: CaseResult) -> Mapping[str, np.ndarray]:
    if run.folder is None or run.record.repeats is None or row.status != OK:
        return {}
    return run.folder.samples(row.case.id).series


# ---------------------------------------------------------------------------------------------------------------- rows
def _of_pair(
    base: Side | None, candidate: Side | None, label: str, rules: Rules, declarations: Declarations
) -> Iterator[MetricComparison]:
    """Every case of both sides, in the order of batch sizes."""
    either = candidate or base
    assert either is not None
    cases = {**(base.cases if base else {}), **(candidate.cases if candidate else {})}
    apart = conditions.differences(base.binding, candidate.binding) if base and candidate else []
    for row in sorted(cases.values(), key=lambda row: (not row.case.timed, row.case.batch_size)):
        place = (label, *_key(either.runs[0]), row.case.id, row.case.batch_size if row.case.timed else None)
        old = base.measured(row.case.id) if base else CaseOnSide((), ())
        new = candidate.measured(row.case.id) if candidate else CaseOnSide((), ())
        yield from _of_case(place, old, new, "" if rules.force else "; ".join(apart), rules, declarations)


def _of_case(
    place: tuple[str, str, str, str, str, int | None],
    old: CaseOnSide,
    new: CaseOnSide,
    apart: str,
    rules: Rules,
    declarations: Declarations,
) -> Iterator[MetricComparison]:
    bad = [_failure(side) for side in (old, new)]
    nothing = Value(None)
    if not old.rows or not new.rows:
        yield MetricComparison(*place, "", ONLY_IN_CANDIDATE if new.rows else ONLY_IN_BASE, nothing, nothing)
    elif apart and any(bad):
        yield MetricComparison(*place, "", NOT_COMPARABLE, nothing, nothing, reason=apart)
    elif any(bad):
        verdict = INCONCLUSIVE if all(bad) else FAILED if bad[1] else FIXED
        told = (f"{side} {why}" for side, why in zip(("base", "candidate"), bad, strict=True) if why)
        yield MetricComparison(*place, "", verdict, nothing, nothing, reason="; ".join(told))
    else:
        metrics = list(_chosen(old, new, rules, declarations))
        wanted = [one.name for one in metrics if one.kind == QUALITY]
        found = paired.differences(old.runs, new.runs, wanted) if wanted and not apart else paired.Paired()
        for metric in metrics:
            yield _judged(place, metric, old, new, apart, rules, found, len(wanted))


def _failure(side: CaseOnSide) -> str:
    """Why a case has no numbers; empty where any of its rows has."""
    if not side.rows or any(row.status == OK for row in side.rows):
        return ""
    return f"{side.rows[-1].status}: {side.rows[-1].reason}"


def _chosen(old: CaseOnSide, new: CaseOnSide, rules: Rules, declarations: Declarations) -> Iterator[MetricDeclaration]:
    """Yield the metrics of a case that are compared: those that the rules name, or those declared to be compared."""
    rows = [*old.rows, *new.rows]
    names = list(dict.fromkeys(name for row in rows for name in row.metrics.values))
    if rules.metrics:
        yield from (one for name in rules.metrics if name in names and (one := declarations.find(name)))
        return
    valued = {name for row in rows for name, value in row.metrics.values.items() if value is not None}
    known = [one for name in names if name in valued and (one := declarations.find(name))]
    compared = [one for one in known if one.compared and valued.isdisjoint(one.unless)]
    yield from sorted(compared, key=lambda one: one.order)


def _judged(
    place: tuple[str, str, str, str, str, int | None],
    one: MetricDeclaration,
    old: CaseOnSide,
    new: CaseOnSide,
    apart: str,
    rules: Rules,
    found: paired.Paired,
    figures: int,
) -> MetricComparison:
    metric, quality = one.name, one.kind == QUALITY
    values = old.values(metric), new.values(metric)
    base, candidate = (
        Value(_centre(of_side), len(of_side), side.validity) for of_side, side in zip(values, (old, new), strict=True)
    )

    def row(verdict: str, reason: str = "", ratio: tuple[float, float, float] | None = None) -> MetricComparison:
        interval = (ratio[1], ratio[2]) if ratio and min(map(len, values)) > 1 and not quality else None
        return MetricComparison(*place, metric, verdict, base, candidate, ratio[0] if ratio else None, interval, reason)

    if not old.has(metric) or not new.has(metric):
        return row(ONLY_IN_CANDIDATE if new.has(metric) else ONLY_IN_BASE)
    if apart:
        return row(NOT_COMPARABLE, apart)
    if not rules.force and (defined := _defined_otherwise(one, old, new)):
        return row(NOT_COMPARABLE, defined)
    for side, of_side, name in ((old, values[0], "base"), (new, values[1], "candidate")):
        if not len(of_side):
            return row(INCONCLUSIVE, f"the {name} has no value: {side.why_none(metric)}")
    ratio = welch_ratio(*values) or _plain(*values)
    for side, name in ((old, "base"), (new, "candidate")):
        if side.validity == INVALID:
            return row(INCONCLUSIVE, f"the {name} is invalid: {'; '.join(map(str, side.reasons))}", ratio)
    if quality:
        changed = found.of.get(metric) or _unpaired(metric, old, new, found.why_not, deciding_alpha(figures))
        verdict, reason = quality_verdict(
            one, base.value or 0.0, candidate.value or 0.0, changed, rules.quality_threshold
        )
        detectable = _detectable(one, base.value or 0.0, changed)
        return replace(
            row(verdict, reason, ratio),
            difference=changed.value,
            difference_interval=changed.interval,
            detectable=detectable,
            method=changed.method,
        )
    if ratio is None:
        same = np.unique(np.concatenate(values)).size == 1
        return row(SAME) if same else row(INCONCLUSIVE, "a value that is not above zero has no ratio")
    sizes = min(map(len, values))
    if one.kind != MEMORY and sizes < LEAST_PROCESSES:
        return row(INCONCLUSIVE, _too_few(place[-1], len(values[0]), len(values[1])), ratio)
    cautious = welch_ratio(*values, alpha=CAUTIOUS_ALPHA) or ratio
    return row(*_by_ratio(one, ratio, cautious, rules.threshold), ratio)


def _defined_otherwise(one: MetricDeclaration, old: CaseOnSide, new: CaseOnSide) -> str:
    """The options by which a quality figure is another figure on each side; empty where there are none."""
    sides = [
        {name: value for run in side.runs for name, value in conditions.defining(run, one).items()}
        for side in (old, new)
    ]
    return "; ".join(conditions.differences(*sides))


def _by_ratio(
    one: MetricDeclaration,
    ratio: tuple[float, float, float],
    cautious: tuple[float, float, float],
    threshold: float,
) -> tuple[str, str]:
    """The verdict on a ratio with its intervals, which for single values are the ratio itself; and why there is none.

    Processes that differ too much for the threshold to be detected must show more: the cautious interval decides.
    """
    effect, low, high = (log(value) for value in ratio)
    worse, improved = WORDS[one.kind]
    limit, detectable = log1p(threshold), (high - low) / 2
    low, high = (log(value) for value in cautious[1:]) if detectable > limit else (low, high)
    if abs(effect) > limit and (low > 0 or high < 0):
        return (worse if effect * direction(one) < 0 else improved), ""
    if detectable > limit:
        return INCONCLUSIVE, (
            f"the smallest detectable effect is {expm1(detectable):.1%}, above the threshold of {threshold:.1%}: "
            f"more processes (measure.repeats){P10 * (one.name == summary.LATENCY)} or a quieter machine"
        )
    return SAME, ""


def quality_verdict(
    one: MetricDeclaration, base: float, candidate: float, changed: Difference, threshold: float
) -> tuple[str, str]:
    """The verdict, and why there is none: by the difference of fractions, and of scores and ranks the difference ÷ the
    base.

    Without an interval the threshold alone decides, as it must for results of older versions.
    """
    gain = _gain(one, base, candidate - base)
    worse, improved = WORDS[QUALITY]
    rounding = 1e-9  # so that 0.84 − 0.83 is not beyond 0.01
    beyond = worse if gain < -threshold - rounding else improved if gain > threshold + rounding else SAME
    if changed.deciding is None and not changed.method:
        return beyond, WITHOUT_INTERVAL
    if not changed.differing and changed.of:
        return SAME, "no picture differs"
    if beyond != SAME and changed.shown:
        return beyond, ""
    detectable = _detectable(one, base, changed)
    if beyond == SAME and detectable is not None and detectable <= threshold:
        return SAME, ""
    told = "not known" if detectable is None else f"{detectable:.3f}"
    return INCONCLUSIVE, (
        f"no difference is shown, and the smallest detectable change is {told} against the threshold of "
        f"{threshold:g} ({changed.method}): more pictures"
    )


def _gain(one: MetricDeclaration, base: float, change: float) -> float:
    """A change of a fraction, and of a score or a rank its share of the base; more is better."""
    gain = change * direction(one)
    if one.unit != "fraction":
        gain = gain / abs(base) if base else (1.0 if gain > 0 else -1.0 if gain < 0 else 0.0)
    return gain


def _detectable(one: MetricDeclaration, base: float, changed: Difference) -> float | None:
    """Half the width of the interval that must exclude zero."""
    if changed.deciding is None:
        return None
    return abs(_gain(one, base, (changed.deciding[1] - changed.deciding[0]) / 2))


def _unpaired(metric: str, old: CaseOnSide, new: CaseOnSide, why: str, level: float) -> Difference:
    """The difference of two results that are not known to be of the same pictures, from the interval of each."""
    sides = [_with_interval(metric, side) for side in (old, new)]
    base, candidate = sides
    if base is None or candidate is None:
        values = [_centre(side.values(metric)) or 0.0 for side in (old, new)]
        return Difference(values[1] - values[0], None, None, False, 0, 0, "")
    interval, deciding = apart(base, candidate), apart(base, candidate, level)
    shown = deciding[0] > 0 or deciding[1] < 0
    return Difference(candidate[0] - base[0], interval, deciding, shown, 1, 0, f"not paired, since {why}")


def _with_interval(metric: str, side: CaseOnSide) -> tuple[float, Interval] | None:
    """The value and the interval of the first run that has both."""
    for row in side.rows:
        value, low, high = (row.metrics.values.get(name) for name in (metric, *interval_ends(metric)))
        if row.status == OK and value is not None and low is not None and high is not None:
            return value, (low, high)
    return None


def _too_few(batch_size: int | None, base: int, candidate: int) -> str:
    counted = f"{base} process{'es' * (base > 1)}"
    found = f"{counted} a side" if base == candidate else f"{counted} in the base, {candidate} in the candidate"
    if batch_size is None:
        return f"{found}, since with repeats the first process alone evaluates"
    return f"{found}; measure.repeats={LEAST_PROCESSES} wants {LEAST_PROCESSES}"


def _plain(base: np.ndarray, candidate: np.ndarray) -> tuple[float, float, float] | None:
    """The ratio of centres, for which there is no interval."""
    if not all(len(side) and (side > 0).all() for side in (base, candidate)):
        return None
    ratio = (_centre(candidate) or 0.0) / (_centre(base) or 1.0)
    return ratio, ratio, ratio


def _centre(values: np.ndarray) -> float | None:
    """The geometric mean over processes; the mean where a value is not above zero; None of nothing."""
    if not len(values):
        return None
    if values.min() == values.max():
        return float(values[0])
    return float(np.exp(np.log(values).mean()) if (values > 0).all() else values.mean())


def _check(name: str, runs: Sequence[Run], declarations: Declarations) -> None:
    """Raise ConfigError if no run has the metric, or if no direction is declared for it."""
    known = {metric for run in runs for row in run.results for metric in row.metrics.values}
    if name not in known:
        directed = [metric for metric in known if direction(declarations.find(metric))]
        raise ConfigError(f"--metric {name}: no run has it{nearest(name, directed)}")
    one = declarations.find(name)
    if one is None:
        raise ConfigError(
            f"--metric {name}: its metric group declares no direction, so it has no verdict",
            "declare the metric with better='higher' or 'lower', see docs/extending.md",
        )
    if not direction(one):
        raise ConfigError(f"--metric {name}: neither more nor less of it is better, so it has no verdict")


# --------------------------------------------------------------------------------------------------------------- notes
def _remarks(base: Side | None, candidate: Side | None, rules: Rules) -> Iterator[str]:
    """What the rows of a pair do not say of themselves."""
    for side, name in ((base, "base"), (candidate, "candidate")):
        if side and len(side.runs) > 1:
            yield f"{side.runs[0].name}: {len(side.runs)} runs of the {name} are taken together, each a process or more"
        yield from _doubts(side, name) if side else ()
    if not base or not candidate:
        return
    name = candidate.runs[0].name
    if rules.force and (apart := conditions.differences(base.binding, candidate.binding)):
        yield f"{name}: compared by --force under conditions that differ: {'; '.join(apart)}"
    yield from conditions.differences(base.remarked, candidate.remarked)
    olds, news = base.starts, candidate.starts
    if min(len(olds), len(news)) > 1 and (olds[-1] < news[0] or news[-1] < olds[0]):
        yield (
            f"{name}: one side was measured after the other and not in turns, so a machine that drifts looks like a "
            "difference"
        )


def _doubts(side: Side, name: str) -> Iterator[str]:
    """The kinds of doubt on one side, each once with the number of cases."""
    cases = [side.measured(case) for case in side.cases]
    kinds = Counter(
        kind for case in cases if case.validity == WARNED for kind in {reason.kind for reason in case.reasons}
    )
    if kinds:
        said = ", ".join(f"{kind} in {count} of {len(cases)} cases" for kind, count in kinds.items())
        yield f"{side.runs[0].name}: to be doubted in the {name}: {said}"
