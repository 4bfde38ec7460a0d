"""The comparison of two results: a verdict for each metric of each case, with the ratio and its interval.

Timings are compared by the medians of processes, never by pooled calls: with Welch's interval of the logarithms and a
practical threshold. The smallest detectable effect is half the width of the interval on the log scale. If it is above
the threshold and no difference is shown, the verdict is `inconclusive` and not `same`.

Quality is compared image by image if both sides measured the same images (see `paired`), otherwise by the intervals of
both sides. A difference counts if it is beyond the threshold and its interval at 99 % or above excludes zero.

A comparison passes only if it decided something about each question: the speed, the memory and the quality of each pair
of runs (see `Comparison.open_questions`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    ConfigError,
    MetricDeclaration,
    interval_ends,
)
from visionbench.declarations import Declarations
from visionbench.registry import nearest
from visionbench.results import conditions, declared, missing, paired, sides, summary
from visionbench.results.archive import Run
from visionbench.results.declared import direction
from visionbench.results.sides import CaseOnSide, Pair, Side
from visionbench.statistics.resampling import Difference, Interval, deciding_alpha, independent
from visionbench.statistics.timings import welch_ratio

P10_HINT = ", --metric latency_p10_ms, which other processes disturb least,"
"""A remedy for a comparison of p50 that is inconclusive."""
MORE_PROCESSES = "more processes (measure.repeats)"
UNDETECTED = "the smallest detectable effect is above the threshold"
UNDETECTED_QUALITY = "no difference is shown, and the smallest detectable change is above the threshold"
LEAST_PROCESSES = 5
"""The processes of each side that a verdict on a timing needs."""
MOST_NAMES = 3
"""The most runs that an error message names."""
CAUTIOUS_ALPHA = 0.001
"""The level of the interval that must exclude 1 if the smallest detectable effect is above the threshold."""
SAME, INCONCLUSIVE, NOT_COMPARABLE, NOT_FINISHED = "same", "inconclusive", "not comparable", "not finished"
FAILED, FIXED = "failed", "fixed"
ONLY_IN_BASE, ONLY_IN_CANDIDATE = "only in the base", "only in the candidate"
WORDS = {
    SPEED: ("slower", "faster"),
    MEMORY: ("more memory", "less memory"),
    QUALITY: ("worse", "better"),
    "": ("worse", "better"),
}
"""The verdicts of each kind of metric: on a change for the worse, and on a change for the better."""
REGRESSIONS = tuple(dict.fromkeys((FAILED, *(worse for worse, _ in WORDS.values()))))
IMPROVEMENTS = tuple(dict.fromkeys((FIXED, *(better for _, better in WORDS.values()))))
WITHOUT_INTERVAL = "a side has no interval (results of an older version); only the threshold decides"
UNDECIDED = (INCONCLUSIVE, NOT_COMPARABLE, NOT_FINISHED)
DECIDED = (*REGRESSIONS, *IMPROVEMENTS, SAME)
ORDER = (*REGRESSIONS, *UNDECIDED, ONLY_IN_BASE, ONLY_IN_CANDIDATE, *IMPROVEMENTS, SAME)
"""All verdicts, the worst first."""
REGRESSION, NO_REGRESSION, UNDECIDED_RESULT = "regression", "no regression", "undecided"
"""The results of a comparison."""


@dataclass(frozen=True)
class Rules:
    """The thresholds above which a difference counts.

    They are a factor for speed and memory, and a drop for quality, which is relative for a score or a rank.
    """

    threshold: float = 0.05
    quality_threshold: float = 0.01
    force: bool = False
    """Whether to compare results of different conditions too."""
    metrics: tuple[str, ...] = ()
    """The metrics to compare; if empty, those that are declared to be compared."""


@dataclass(frozen=True)
class Value:
    """A metric on one side: the value, the number of processes, and the worst verdict of the rows."""

    value: float | None
    processes: int = 0
    validity: str = VALID


@dataclass(frozen=True)
class MetricComparison:
    """The comparison of one metric of one case. The metric is empty if the case failed on a side."""

    run: str
    model: str
    device: str
    precision: str
    case: str
    batch_size: int | None
    """None for quality and for loads."""
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
    """For quality: candidate − base."""
    difference_interval: tuple[float, float] | None = None
    """The 95 % interval of the difference."""
    detectable: float | None = None
    """For quality: the smallest change that could be shown; for a score or a rank, as a share of the base."""
    method: str = ""
    """The method with which quality was compared."""
    kind: str = ""
    """The kind of the metric: `speed`, `memory` or `quality`; empty for other metrics and for a case that failed."""
    different: tuple[conditions.Difference, ...] = ()
    """The conditions that make the sides not comparable, with their full values."""
    cause: str = ""
    """The reason without the numbers of this row, if the reason has some. Rows are summed up by it."""

    @property
    def unpaired(self) -> bool:
        """Whether only one side has this case."""
        return not self.metric and self.verdict in (ONLY_IN_BASE, ONLY_IN_CANDIDATE)


@dataclass(frozen=True)
class Comparison:
    """All compared metrics, and notes about the sides."""

    rules: Rules
    rows: tuple[MetricComparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of rows with each verdict, the worst verdict first."""
        counts = Counter(row.verdict for row in self.rows)
        return {verdict: counts[verdict] for verdict in ORDER if counts[verdict]}

    @property
    def regressions(self) -> list[MetricComparison]:
        """The rows that fail the gate."""
        return [row for row in self.rows if row.verdict in REGRESSIONS]

    @property
    def undecided(self) -> list[MetricComparison]:
        """The rows without a decision."""
        return [row for row in self.rows if row.verdict in UNDECIDED]

    @property
    def decided(self) -> list[MetricComparison]:
        """The rows with a decision."""
        return [row for row in self.rows if row.verdict in DECIDED]

    @property
    def open_questions(self) -> list[tuple[str, str]]:
        """The questions without an answer: the name of the pair of runs, and the kind of metric or the case.

        The speed, the memory and the quality of a pair are questions. A question is open if a metric was compared and
        no metric of its kind was decided. A case that is not finished on a side is a question too. A case that has no
        results on both sides is one only if nothing else of the pair was decided.
        """
        verdicts: dict[tuple[str, str], set[str]] = {}
        for row in self.rows:
            if row.verdict == NOT_FINISHED:
                question = f"unfinished case {row.case}"
            elif row.metric:
                question = row.kind or row.metric
            else:
                question = ""
            verdicts.setdefault((row.run, question), set()).add(row.verdict)
        decided_runs = {row.run for row in self.decided}
        return [
            (run, question or "cases")
            for (run, question), of_question in verdicts.items()
            if of_question.intersection(UNDECIDED)
            and of_question.isdisjoint(DECIDED)
            and (question or run not in decided_runs)
        ]

    @property
    def verdict(self) -> str:
        """`regression`; `undecided` if a question is open or no row was decided; else `no regression`."""
        if self.regressions:
            return REGRESSION
        return UNDECIDED_RESULT if self.open_questions or not self.decided else NO_REGRESSION


def compare(base: Sequence[Run], candidate: Sequence[Run], rules: Rules | None = None) -> Comparison:
    """Compare the runs of two sides from their rows and samples.

    Runs of one side with equal conditions count as processes of one run. Raises ConfigError if the sides have no model,
    device and precision in common, and for a metric that cannot be compared.
    """
    rules = rules or Rules()
    declarations = declared.merged([run.declarations for run in (*candidate, *base)])
    for name in rules.metrics:
        _check_metric(name, [*base, *candidate], declarations)
    groups: dict[tuple[str, str, str], tuple[list[Run], list[Run]]] = {}
    for number, runs in enumerate((base, candidate)):
        for run in runs:
            groups.setdefault(sides.key(run), ([], []))[number].append(run)
    pairs: list[Pair] = []
    notes: list[str] = []
    for base_group, candidate_group in groups.values():
        pairs += sides.pairs(sides.sides(base_group), sides.sides(candidate_group), notes, rules.force)
    if not any((pair.base and pair.candidate) or pair.reason for pair in pairs):
        names = [_list_names(runs) for runs in (base, candidate)]
        raise ConfigError(
            f"nothing to compare: the base has {names[0]}, the candidate {names[1]}",
            "both sides need runs of the same model, kind of device and precision",
        )
    labels = sides.labels(pairs)
    rows = [
        row
        for pair, label in zip(pairs, labels, strict=True)
        for row in _compare_pair(pair, label, rules, declarations)
    ]
    return Comparison(rules, tuple(rows), (*dict.fromkeys(notes), *_notes(pairs, labels, rules, base, candidate)))


# ---------------------------------------------------------------------------------------------------------------- rows
def _list_names(runs: Sequence[Run]) -> str:
    """Return the names of the first runs, and the number of the others."""
    names = sorted({run.name for run in runs})
    more = [f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return ", ".join([*names[:MOST_NAMES], *more])


def _compare_pair(pair: Pair, label: str, rules: Rules, declarations: Declarations) -> Iterator[MetricComparison]:
    """Compare every case of both sides, in the order of batch sizes."""
    base, candidate = pair.base, pair.candidate
    either = candidate or base
    assert either is not None
    if pair.reason:
        key = sides.key(either.runs[0])
        yield MetricComparison(
            label, *key, "all", None, "", NOT_COMPARABLE, Value(None), Value(None), reason=pair.reason
        )
        return
    cases = {**(base.cases if base else {}), **(candidate.cases if candidate else {})}
    different = conditions.differences(base.binding, candidate.binding) if base and candidate else []
    for row in sorted(cases.values(), key=lambda row: row.case.order):
        place = (label, *sides.key(either.runs[0]), row.case.id, row.case.batch_size if row.case.timed else None)
        old = base.measured(row.case.id) if base else CaseOnSide((), ())
        new = candidate.measured(row.case.id) if candidate else CaseOnSide((), ())
        yield from _compare_case(place, old, new, () if rules.force else tuple(different), rules, declarations)


def _compare_case(
    place: tuple[str, str, str, str, str, int | None],
    old: CaseOnSide,
    new: CaseOnSide,
    different: tuple[conditions.Difference, ...],
    rules: Rules,
    declarations: Declarations,
) -> Iterator[MetricComparison]:
    failures = [side.failure for side in (old, new)]
    no_value = Value(None)
    if not old.rows or not new.rows:
        yield MetricComparison(*place, "", ONLY_IN_CANDIDATE if new.rows else ONLY_IN_BASE, no_value, no_value)
    elif different and any(failures):
        reason = conditions.sentences(different)
        yield MetricComparison(*place, "", NOT_COMPARABLE, no_value, no_value, reason=reason, different=different)
    elif any(failures):
        if old.unfinished or new.unfinished:
            verdict = NOT_FINISHED
        else:
            verdict = INCONCLUSIVE if all(failures) else FAILED if failures[1] else FIXED
        reasons = (
            f"{side} {failure}" for side, failure in zip(("base", "candidate"), failures, strict=True) if failure
        )
        yield MetricComparison(*place, "", verdict, no_value, no_value, reason="; ".join(reasons))
    else:
        metrics = list(_select_metrics(old, new, rules, declarations))
        quality = [declaration.name for declaration in metrics if declaration.kind == QUALITY]
        changes = paired.differences(old.runs, new.runs, quality) if quality and not different else paired.Paired()
        for metric in metrics:
            yield _compare_metric(place, metric, old, new, different, rules, changes, len(quality))


def _select_metrics(
    old: CaseOnSide, new: CaseOnSide, rules: Rules, declarations: Declarations
) -> Iterator[MetricDeclaration]:
    """Yield the metrics of a case that are compared: those that the rules name, or those declared to be compared."""
    rows = [*old.rows, *new.rows]
    names = list(dict.fromkeys(name for row in rows for name in row.metrics.values))
    if rules.metrics:
        yield from (declaration for name in rules.metrics if name in names and (declaration := declarations.find(name)))
        return
    valued = {name for row in rows for name, value in row.metrics.values.items() if value is not None}
    known = [declaration for name in names if name in valued and (declaration := declarations.find(name))]
    compared = [
        declaration
        for declaration in known
        if declaration.compared and valued.isdisjoint((*declaration.unless, *declaration.compared_unless))
    ]
    yield from sorted(compared, key=lambda declaration: declaration.order)


def _compare_metric(
    place: tuple[str, str, str, str, str, int | None],
    declaration: MetricDeclaration,
    old: CaseOnSide,
    new: CaseOnSide,
    different: tuple[conditions.Difference, ...],
    rules: Rules,
    changes: paired.Paired,
    figures: int,
) -> MetricComparison:
    metric, quality = declaration.name, declaration.kind == QUALITY
    values = old.values(metric), new.values(metric)
    base, candidate = (
        Value(_centre(numbers), len(numbers), side.validity) for numbers, side in zip(values, (old, new), strict=True)
    )

    def row(
        verdict: str, reason: str = "", ratio: tuple[float, float, float] | None = None, cause: str = ""
    ) -> MetricComparison:
        interval = (ratio[1], ratio[2]) if ratio and min(map(len, values)) > 1 and not quality else None
        return MetricComparison(
            *(*place, metric, verdict, base, candidate, ratio[0] if ratio else None, interval, reason),
            kind=declaration.kind,
            cause=cause,
        )

    if not old.has(metric) or not new.has(metric):
        return row(ONLY_IN_CANDIDATE if new.has(metric) else ONLY_IN_BASE)
    if not rules.force:
        different = different or _option_differences(declaration, old, new)
    if different:
        return replace(row(NOT_COMPARABLE, conditions.sentences(different)), different=different)
    for side, numbers, name in ((old, values[0], "base"), (new, values[1], "candidate")):
        if not len(numbers):
            return row(INCONCLUSIVE, f"the {name} has no value: {side.reason_without_value(metric)}")
    ratio = welch_ratio(*values) or _ratio_without_interval(*values)
    for side, name in ((old, "base"), (new, "candidate")):
        if side.validity == INVALID:
            kinds = ", ".join(reason.kind for reason in side.reasons)
            reason = f"the {name} is invalid: {'; '.join(map(str, side.reasons))}"
            return row(
                INCONCLUSIVE, reason, ratio, f"the {name} is invalid ({kinds}); visionbench doctor checks this machine"
            )
    if quality:
        changed = changes.by_metric.get(metric) or _unpaired(metric, old, new, changes.reason, deciding_alpha(figures))
        verdict, reason = quality_verdict(
            declaration, base.value or 0.0, candidate.value or 0.0, changed, rules.quality_threshold
        )
        cause = (
            f"{UNDETECTED_QUALITY} of {rules.quality_threshold:g}; use more images" if verdict == INCONCLUSIVE else ""
        )
        detectable = _detectable(declaration, base.value or 0.0, changed)
        return replace(
            row(verdict, reason, ratio, cause),
            difference=changed.value,
            difference_interval=changed.interval,
            detectable=detectable,
            method=changed.method,
        )
    if ratio is None:
        same = np.unique(np.concatenate(values)).size == 1
        return row(SAME) if same else row(INCONCLUSIVE, "a value that is not above zero has no ratio")
    sizes = min(map(len, values))
    if declaration.kind != MEMORY and sizes < LEAST_PROCESSES:
        return row(INCONCLUSIVE, _too_few(place[-2], len(values[0]), len(values[1])), ratio)
    cautious = welch_ratio(*values, alpha=CAUTIOUS_ALPHA) or ratio
    verdict, reason = _ratio_verdict(declaration, ratio, cautious, rules.threshold)
    remedy = f"{MORE_PROCESSES}{P10_HINT * (metric == summary.LATENCY)} or a quieter machine"
    cause = f"{UNDETECTED} of {rules.threshold:.1%}: {remedy}" if verdict == INCONCLUSIVE else ""
    return row(verdict, reason, ratio, cause)


def _option_differences(
    declaration: MetricDeclaration, old: CaseOnSide, new: CaseOnSide
) -> tuple[conditions.Difference, ...]:
    """Return the options that change the meaning of the metric between the sides."""
    options = [
        {name: value for run in side.runs for name, value in conditions.defining(run, declaration).items()}
        for side in (old, new)
    ]
    return tuple(conditions.differences(*options))


def _ratio_verdict(
    declaration: MetricDeclaration,
    ratio: tuple[float, float, float],
    cautious: tuple[float, float, float],
    threshold: float,
) -> tuple[str, str]:
    """Return the verdict on a ratio with its intervals, and the reason if it is inconclusive.

    If processes differ too much to detect the threshold, the cautious interval decides. The intervals of single values
    are the ratio itself.
    """
    effect, low, high = (log(value) for value in ratio)
    worse, improved = WORDS[declaration.kind]
    limit, detectable = log1p(threshold), (high - low) / 2
    low, high = (log(value) for value in cautious[1:]) if detectable > limit else (low, high)
    if abs(effect) > limit and (low > 0 or high < 0):
        return (worse if effect * direction(declaration) < 0 else improved), ""
    if detectable > limit:
        return INCONCLUSIVE, (
            f"the smallest detectable effect is {expm1(detectable):.1%}, above the threshold of {threshold:.1%}: "
            f"{MORE_PROCESSES}{P10_HINT * (declaration.name == summary.LATENCY)} or a quieter machine"
        )
    return SAME, ""


def quality_verdict(
    declaration: MetricDeclaration, base: float, candidate: float, changed: Difference, threshold: float
) -> tuple[str, str]:
    """Return the verdict on the difference of a quality metric, and the reason if it is inconclusive.

    The difference of a score or a rank is divided by the base. Without an interval, as in results of older versions,
    only the threshold decides.
    """
    gain = _gain(declaration, base, candidate - base)
    worse, improved = WORDS[QUALITY]
    rounding = 1e-9  # so that 0.84 − 0.83 is not beyond 0.01
    beyond = worse if gain < -threshold - rounding else improved if gain > threshold + rounding else SAME
    if changed.deciding is None and not changed.method:
        return beyond, WITHOUT_INTERVAL
    if not changed.differing and changed.count:
        return SAME, "no image differs"
    if beyond != SAME and changed.shown:
        return beyond, ""
    detectable = _detectable(declaration, base, changed)
    if beyond == SAME and detectable is not None and detectable <= threshold:
        return SAME, ""
    smallest = "unknown" if detectable is None else f"{detectable:.3f}"
    return INCONCLUSIVE, (
        f"no difference is shown, and the smallest detectable change is {smallest}, with a threshold of "
        f"{threshold:g} ({changed.method}); use more images"
    )


def _gain(declaration: MetricDeclaration, base: float, change: float) -> float:
    """Return a change that is positive for an improvement. That of a score or a rank is divided by the base."""
    gain = change * direction(declaration)
    if declaration.unit != "fraction":
        gain = gain / abs(base) if base else (1.0 if gain > 0 else -1.0 if gain < 0 else 0.0)
    return gain


def _detectable(declaration: MetricDeclaration, base: float, changed: Difference) -> float | None:
    """Return the smallest detectable change: half the width of the interval that must exclude zero."""
    if changed.deciding is None:
        return None
    return abs(_gain(declaration, base, (changed.deciding[1] - changed.deciding[0]) / 2))


def _unpaired(metric: str, old: CaseOnSide, new: CaseOnSide, reason: str, level: float) -> Difference:
    """Return the difference of results that may have different images, from the interval of each side."""
    base, candidate = (_with_interval(metric, side) for side in (old, new))
    if base is None or candidate is None:
        values = [_centre(side.values(metric)) or 0.0 for side in (old, new)]
        return Difference(values[1] - values[0], None, None, False, 0, 0, "")
    interval, deciding = independent(base, candidate), independent(base, candidate, level)
    shown = deciding[0] > 0 or deciding[1] < 0
    return Difference(candidate[0] - base[0], interval, deciding, shown, 1, 0, f"not paired, because {reason}")


def _with_interval(metric: str, side: CaseOnSide) -> tuple[float, Interval] | None:
    """Return the value and the interval of the first run that has both."""
    for row in side.rows:
        value, low, high = (row.metrics.values.get(name) for name in (metric, *interval_ends(metric)))
        if row.status == OK and value is not None and low is not None and high is not None:
            return value, (low, high)
    return None


def _too_few(case: str, base: int, candidate: int) -> str:
    counted = f"{base} process{'es' * (base > 1)}"
    counts = f"{counted} per side" if base == candidate else f"{counted} in the base, {candidate} in the candidate"
    if case == "quality":
        return f"{counts}, because with repeats only the first process evaluates"
    return f"{counts}; use at least {LEAST_PROCESSES} (measure.repeats={LEAST_PROCESSES})"


def _ratio_without_interval(base: np.ndarray, candidate: np.ndarray) -> tuple[float, float, float] | None:
    """Return the ratio of centres without an interval, as a ratio with equal ends."""
    if not all(len(side) and (side > 0).all() for side in (base, candidate)):
        return None
    ratio = (_centre(candidate) or 0.0) / (_centre(base) or 1.0)
    return ratio, ratio, ratio


def _centre(values: np.ndarray) -> float | None:
    """Return the geometric mean over processes, the mean if a value is zero or less, or None without values."""
    if not len(values):
        return None
    if values.min() == values.max():
        return float(values[0])
    return float(np.exp(np.log(values).mean()) if (values > 0).all() else values.mean())


def _check_metric(name: str, runs: Sequence[Run], declarations: Declarations) -> None:
    """Raise ConfigError if no run has the metric, or if no direction is declared for it."""
    known = {metric for run in runs for row in run.results for metric in row.metrics.values}
    if name not in known:
        directed = [metric for metric in known if direction(declarations.find(metric))]
        raise ConfigError(f"--metric {name}: no run has it{nearest(name, directed)}")
    declaration = declarations.find(name)
    if declaration is None:
        raise ConfigError(
            f"--metric {name}: its metric group declares no direction, so it has no verdict",
            "declare the metric with better='higher' or 'lower', see visionbench docs extending",
        )
    if not direction(declaration):
        raise ConfigError(f"--metric {name}: neither more nor less of it is better, so it has no verdict")


# --------------------------------------------------------------------------------------------------------------- notes
def _notes(
    pairs: Sequence[Pair], labels: Sequence[str], rules: Rules, base: Sequence[Run], candidate: Sequence[Run]
) -> Iterator[str]:
    """Yield the notes on all pairs with a candidate. A note on several pairs appears once, with their number."""
    compared = [(pair, label) for pair, label in zip(pairs, labels, strict=True) if pair.candidate]
    by_text: dict[str, list[str]] = {}
    for pair, label in compared:
        for note in _notes_on_pair(pair, rules):
            by_text.setdefault(note, []).append(label)
    for note, names in by_text.items():
        yield f"{names[0] if len(names) == 1 else f'{len(names)} pairs of runs'}: {note}"
    different: dict[str, None] = {}
    for pair, _ in compared:
        if pair.base and pair.candidate:
            different |= dict.fromkeys(map(str, conditions.differences(pair.base.remarked, pair.candidate.remarked)))
    yield from different
    for side, name in zip((base, candidate), ("base", "candidate"), strict=True):
        yield from (f"{name}: {sentence}" for sentence in missing.sentences(side))
    yield from _notes_on_doubts([pair.base for pair, _ in compared if pair.base], "base")
    yield from _notes_on_doubts([pair.candidate for pair, _ in compared if pair.candidate], "candidate")


def _notes_on_pair(pair: Pair, rules: Rules) -> Iterator[str]:
    """Yield the notes on a pair: combined runs, different conditions, and sides that were not measured in turns."""
    base, candidate = pair.base, pair.candidate
    for side, name in ((base, "base"), (candidate, "candidate")):
        if side and len(side.runs) > 1:
            yield f"{len(side.runs)} runs of the {name} are combined as processes"
    if not base or not candidate:
        return
    if rules.force and (different := conditions.differences(base.binding, candidate.binding)):
        yield f"compared by --force under different conditions: {conditions.sentences(different)}"
    base_starts, candidate_starts = base.starts, candidate.starts
    if min(len(base_starts), len(candidate_starts)) > 1 and (
        base_starts[-1] < candidate_starts[0] or candidate_starts[-1] < base_starts[0]
    ):
        yield (
            "one side was measured after the other and not in turns, so a drift of the machine looks like a difference"
        )


def _notes_on_doubts(side_list: Sequence[Side], name: str) -> Iterator[str]:
    """Yield a note with the kinds of doubt on one side, each with the number of cases."""
    cases = [side.measured(case) for side in side_list for case in side.cases]
    kinds = Counter(
        kind for case in cases if case.validity == WARNED for kind in {reason.kind for reason in case.reasons}
    )
    if kinds:
        listed = ", ".join(f"{kind} in {count} of {len(cases)} cases" for kind, count in kinds.most_common())
        yield f"questionable in the {name}: {listed}"
