"""The words of a search of `visionbench tune`, for the terminal and for the report: tables, the front, the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from visionbench.core import INVALID, OK, ConfigError
from visionbench.records.tuning import BROKEN, FINISHED, OPEN, Figure, Measurement, Tried, TuneRecord
from visionbench.report.translations import translate
from visionbench.results import summary
from visionbench.results.archive import Run
from visionbench.terminal.marks import MARKS
from visionbench.terminal.tuning_view import Table, Words

THROUGHPUT = "throughput"
DEFAULTS = {"attention": "auto", "threads": "null", "channels_last": "false"}
"""The values that the name of a configuration does not show."""
TITLES = {"throughput": "throughput", "latency_p50": "median latency", "latency_p95": "p95 latency"}
NONE = "–"
UNITS = ("images/s", "p50 ms", "p95 ms", "MiB")


def plan(record: TuneRecord, resumed: bool) -> Words:
    """Return what is searched, and what is left out."""
    lines = [f"{name}: {', '.join(values)}" for name, values in record.searched.items()]
    lines.append(f"{record.space} combinations with a batch size; at most {record.limit} are measured")
    if record.bounds:
        lines.append("bounds: " + ", ".join(f"{name}={value:g}" for name, value in record.bounds.items()))
    if resumed:
        lines.append(f"continues the search {record.id}: {record.trials} trials are measured already")
    title = f"tune {record.model} · objective {TITLES[record.objective]}"
    return Words(title, lines, notes=[f"left out: {line}" for line in left_out(record.left_out)])


def left_out(reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield each reason with the configurations that it excludes."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    yield from (f"{', '.join(members)}: {reason}" for reason, members in names.items())


def records(runs: Sequence[Run]) -> list[TuneRecord]:
    """Return the records of the searches to which these runs belong. A record that cannot be read is left out."""
    folders = dict.fromkeys(run.folder.path.parent for run in runs if run.folder is not None)
    known = []
    for folder in folders:
        with suppress(ConfigError):
            if (record := TuneRecord.read(folder)) is not None:
                known.append(record)
    return known


def result(record: TuneRecord, language: str = "en", every: bool = False) -> Words:
    """Return the tables of what was tried, of the front and of the finals, and the result.

    With `every`, the table also has the configurations that were not measured, and is the last one.
    """
    tables = [tried(record, language, every), front_table(record, language)]
    if record.finalists:
        tables.append(finals(record, language))
    tables = tables[::-1] if every else tables
    return Words(
        headline(record), list(sentences(record)), [table for table in tables if table.rows], list(notes(record))
    )


def headline(record: TuneRecord) -> str:
    """Return the result in one sentence."""
    if record.state != FINISHED:
        return f"the search has not ended: {record.trials} of at most {record.limit} trials are measured"
    if record.best is None:
        return "no configuration is valid and holds all bounds"
    best = record.finalists[record.best]
    mark = "questionable: " if best.questionable else ""
    return f"best: {mark}{name(best.combination)}, batch size {best.measurement.batch_size}"


def sentences(record: TuneRecord) -> Iterator[str]:
    """Yield the figures of the best configuration, and its ratio to the baseline."""
    if record.best is None or not record.finalists:
        yield from record.notes
        return
    best, base = record.finalists[record.best], record.finalists[0]
    one = best.measurement
    parts = [f"{interval(one.throughput)} images/s"]
    parts += [f"{key} {number(value)} ms" for key, value in (("p50", one.p50), ("p95", one.p95)) if value]
    if one.peak_mib is not None:
        parts.append(f"peak {one.peak_mib:,.0f} MiB")
    yield " · ".join(parts)
    if best.ratio is not None and record.best != 0:
        baseline = f"the baseline ({name(base.combination)}, batch size {base.measurement.batch_size})"
        yield f"{TITLES[record.objective]} ÷ that of {baseline}: {interval(best.ratio, 3)}"
    if best.quality is not None and best.quality.ratio is not None:
        reason = f" ({best.quality.reason})" if best.quality.reason else ""
        yield f"{best.quality.metric} ÷ that of eager fp32: {interval(best.quality.ratio, 4)}{reason}"
    yield from record.notes


def notes(record: TuneRecord) -> Iterator[str]:
    """Yield how to read the tables."""
    yield "[ ] 95 % intervals across processes   ? questionable   ! invalid   > above a bound   ~ bound not decided"
    trials = [each for one in record.tried for each in one.measured]
    if invalid := sum(each.status == OK and each.verdict == INVALID for each in trials):
        yield f"{invalid} of {len(trials)} trials are invalid, so they cannot win; measure again on a quiet machine"
    unmeasured = Counter(_kind(one.reason) for one in record.tried if not one.measured)
    for reason, count in unmeasured.most_common():
        yield f"not measured: {count} × {reason}"
    missing = record.space // max(1, len(record.searched.get("batch size", ()))) - len(record.tried)
    if record.state == FINISHED and missing > 0:
        yield f"not tried, because the trials were used: {missing} configurations"


def _kind(reason: str) -> str:
    """Return a reason without its figures, so that equal reasons are counted together."""
    return "cannot win with other threads, attention or memory format" if reason.startswith("cannot win") else reason


# --------------------------------------------------------------------------------------------------------------- tables
def tried(record: TuneRecord, language: str = "en", every: bool = False) -> Table:
    """Return a row for each configuration that was measured, the best first, or for all."""
    rows = []
    for one in sorted(record.tried, key=lambda one: _rank(one, record)):
        best = best_of(one, record)
        if not one.measured and not every:
            continue
        outcome = ": ".join(filter(None, (one.outcome, one.reason)))
        sizes = ",".join(str(each.batch_size) for each in one.measured) or NONE
        rows.append([name(one.combination), sizes, *_figures(best), quality(one), outcome])
    names = ("configuration", "sizes", "batch"), ("quality", "outcome")
    first, last = ([translate(key, language) for key in keys] for keys in names)
    return Table(translate("tuning tried", language), [*first, *UNITS, *last], rows)


def finals(record: TuneRecord, language: str = "en") -> Table:
    """Return a row for each finalist, the baseline first."""
    rows = []
    for index, one in enumerate(record.finalists):
        outcome = "best" if index == record.best else one.excluded or ""
        label = name(one.combination) + (" (baseline)" if one.baseline else "")
        share = one.quality.ratio if one.quality else None
        ratios = [interval(each, 3) for each in (share, one.ratio, one.to_best)]
        rows.append([label, *_figures(one.measurement), *ratios, outcome])
    names = ("configuration", "batch"), ("quality", "÷ baseline", "÷ best", "tuning result")
    first, last = ([translate(key, language) for key in keys] for keys in names)
    return Table(translate("tuning finals", language), [*first, *UNITS, *last], rows, 1)


def front_table(record: TuneRecord, language: str = "en") -> Table:
    """Return the Pareto front: no other measurement has both more throughput and less latency."""
    rows = [[name(combination), *_figures(one)] for combination, one in front(record)]
    first = [translate(key, language) for key in ("configuration", "batch")]
    return Table(translate("tuning pareto", language), [*first, *UNITS], rows, 1, ends_in_text=False)


def front(record: TuneRecord) -> list[tuple[Mapping[str, str], Measurement]]:
    """Return the measurements of the search that no other one dominates in throughput and in latency p50."""
    points = measured(record)
    return [
        (combination, one)
        for combination, one in points
        if not any(_dominates(other, one) for _, other in points if other is not one)
    ]


def measured(record: TuneRecord) -> list[tuple[Mapping[str, str], Measurement]]:
    """Return all measurements of the search with throughput and latency that are not invalid, by their latency."""
    points = [
        (one.combination, each)
        for one in record.tried
        for each in one.measured
        if each.status == OK and each.verdict != INVALID and each.throughput and each.p50
    ]
    return sorted(points, key=lambda point: point[1].p50.value if point[1].p50 else 0.0)


def _dominates(other: Measurement, one: Measurement) -> bool:
    assert other.throughput and one.throughput and other.p50 and one.p50
    speeds, latencies = (other.throughput.value, one.throughput.value), (other.p50.value, one.p50.value)
    at_least = speeds[0] >= speeds[1] and latencies[0] <= latencies[1]
    return at_least and (speeds[0] > speeds[1] or latencies[0] < latencies[1])


def _figures(one: Measurement | None) -> list[str]:
    """Return batch size, throughput, p50, p95 and memory of a measurement."""
    if one is None:
        return [NONE] * 5
    if one.status != OK:
        return [str(one.batch_size), one.status, NONE, NONE, NONE]
    mark = f" {MARKS[one.verdict]}".rstrip()
    bound = {BROKEN: " >", OPEN: " ~"}.get(one.bounds, "")
    peak = NONE if one.peak_mib is None else f"{one.peak_mib:,.0f}"
    return [str(one.batch_size), f"{number(one.throughput)}{mark}", number(one.p50), f"{number(one.p95)}{bound}", peak]


def best_of(one: Tried, record: TuneRecord) -> Measurement | None:
    """Return the best size of a configuration: of those that are not invalid and break no bound, or of all."""
    timed = [each for each in one.measured if each.status == OK and figure(each, record.objective) is not None]
    able = [each for each in timed if each.verdict != INVALID and each.bounds != BROKEN]
    sign = -1 if record.objective == THROUGHPUT else 1
    pool = able or timed
    return min(pool, key=lambda each: sign * _value(each, record.objective)) if pool else next(iter(one.measured), None)


def figure(one: Measurement, objective: str) -> Figure | None:
    """Return the figure of the objective."""
    return {THROUGHPUT: one.throughput, "latency_p50": one.p50, "latency_p95": one.p95}[objective]


def _value(one: Measurement, objective: str) -> float:
    known = figure(one, objective)
    return known.value if known else 0.0


def _rank(one: Tried, record: TuneRecord) -> tuple[bool, bool, float]:
    best = best_of(one, record)
    known = None if best is None else figure(best, record.objective)
    sign = -1 if record.objective == THROUGHPUT else 1
    out = best is None or best.verdict == INVALID or best.bounds == BROKEN
    return known is None, out, sign * known.value if known else 0.0


# ---------------------------------------------------------------------------------------------------------------- texts
def name(combination: Mapping[str, str]) -> str:
    """Return a text such as `bf16 · openvino · threads 1`."""
    others = [f"{key} {value}" for key, value in combination.items() if key in DEFAULTS and value != DEFAULTS[key]]
    return " · ".join([combination["precision"], combination["runtime"], *others])


def quality(one: Tried) -> str:
    """Return the quality of a configuration ÷ that of eager fp32."""
    return NONE if one.quality is None else interval(one.quality.ratio, 3)


def number(figure: Figure | None) -> str:
    """Return a value with few digits."""
    return NONE if figure is None else summary.text(figure.value)


def interval(figure: Figure | None, digits: int | None = None) -> str:
    """Return a value with its interval, if it has one."""
    if figure is None:
        return NONE

    def text(value: float) -> str:
        return summary.text(value) if digits is None else f"{value:.{digits}f}"

    if figure.low is None or figure.high is None:
        return text(figure.value)
    return f"{text(figure.value)} [{text(figure.low)}, {text(figure.high)}]"
