"""The content of a report, computed from results. The templates of the HTML page and of the Markdown file use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import visionbench
from visionbench.core import OK, PENDING, CaseResult, ConfigError, MetricDeclaration
from visionbench.records.tuning import TuneRecord
from visionbench.report import advice, precisions, published, published_table, selection, translations, tuning
from visionbench.report.translations import check, task, translate
from visionbench.results import declared, missing, relative, summary
from visionbench.results.advice import choice
from visionbench.results.advice.candidates import Bounds
from visionbench.results.advice.choice import Advice
from visionbench.results.archive import Run
from visionbench.results.doubts import Cause, Doubts
from visionbench.results.naming import Names
from visionbench.terminal.marks import MARKS
from visionbench.terminal.run_table import interval_basis, shown_rows

NO_BOUNDS = Bounds()
"""The bounds of the recommendation if none are given: only that of quality."""
MOST_VALUES = 12
MOST_LINES = 200
"""The most failures, doubts and remarks that are listed. The others are counted."""


@dataclass(frozen=True)
class Grid:
    """A table of texts. The first `names` columns and the columns of `texts` are text, the others are numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    texts: Sequence[int] = ()
    """The indices of further columns of text."""
    filters: Sequence[int] = ()
    """The indices of columns whose values the page offers as filters."""
    values: Sequence[Mapping[int, float]] = ()
    """For each row, the numbers of the columns whose text does not begin with the number, by index."""


@dataclass(frozen=True)
class Search:
    """A search of `visionbench tune`: its result, its tables with their headings, and notes."""

    result: str
    lines: Sequence[str]
    tables: Sequence[tuple[str, Grid]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Report:
    """The parts of a report in their order; any of them may be empty."""

    language: str
    title: str
    subtitle: str
    request: Sequence[tuple[str, str]]
    machine: Sequence[tuple[str, str]]
    verdict: str
    """One sentence about all cases if some are questionable or invalid, with the next step."""
    remarks: Sequence[str]
    rule: str
    searches: Sequence[Search]
    """The searches of `visionbench tune` whose runs are reported."""
    choices: Sequence[tuple[str, Sequence[tuple[str, Sequence[str]]]]]
    """For each task, the recommendation and then its reasons, as headings with their lines."""
    next_commands: Sequence[str]
    """The commands that would make the recommendations firmer, with their purposes."""
    summary: Grid
    relative: Grid | None
    relative_notes: Sequence[str]
    quality: Grid | None
    """Every quality metric with its interval."""
    quality_notes: Sequence[str]
    """The loss of quality of each precision against fp32."""
    loads: Grid | None
    """The figures of each load."""
    load_lines: Sequence[str]
    """The largest load of each run within its bound."""
    published: Grid | None
    """The figures that have a published figure of the same model beside them."""
    published_sources: Sequence[str]
    """The addresses of these published figures, with their numbers in the table."""
    causes: Grid | None
    """The causes of doubt with the number of cases of each."""
    doubts: Sequence[str]
    """The reasons of each case."""
    failures: Sequence[str]
    conditions: Grid
    colophon: str


def compose(
    runs: Sequence[Run],
    language: str = "en",
    baseline: Mapping[str, str] | None = None,
    bounds: Bounds = NO_BOUNDS,
) -> Report:
    """Return the report of these runs. Raises ConfigError for an unknown language or baseline."""
    check(language, "report.language")
    if not runs:
        raise ConfigError("no run to report on", "measure something first: visionbench run")
    names = Names.of(runs)
    pairs = relative.relative(runs, baseline) if baseline else []
    advised = list(choice.advise(runs, bounds))
    sweeps = _listed(run.sweep for run in runs)
    listed = selection.listed(runs)
    pairs = [pair for pair in pairs if any(pair.run is run for run in listed)]
    compared = list(published.comparisons(listed))
    excesses = list(published.excesses(runs, compared))
    rows, sources = published_table.rows(compared, names, language)
    return Report(
        language=language,
        title=translate("title", language),
        subtitle=f"{sweeps} · {_listed(run.model for run in runs)}",
        request=list(_request(runs)),
        machine=list(_machine(runs)),
        verdict=translations.doubts(Doubts.of([row for run in runs for row in run.results]), language),
        remarks=[
            *_limited(published_table.doubts(excesses, names, language), language),
            *_selection(listed, runs, language),
            *_limited(_remarks(runs, language), language),
        ],
        searches=[_search(record, language) for record in tuning.records(runs)],
        rule=advice.method(advised, bounds, language),
        choices=[(task(one.task, language), _choice(one, language)) for one in advised],
        next_commands=advice.command_lines(advised, language),
        summary=_summary(listed, names, language),
        relative=_relative(pairs, names, language) if pairs else None,
        relative_notes=list(_relative_notes(pairs, language)),
        quality=_quality(listed, names, language),
        quality_notes=list(precisions.costs(runs, language)),
        loads=_loads(listed, names, language),
        load_lines=_limited(_load_lines(listed, names), language),
        published=_published(rows, names, language) if rows else None,
        published_sources=sources,
        causes=_causes(runs, names, language),
        doubts=_limited(_doubts(listed, names), language),
        failures=_limited(_failures(runs, names, language), language),
        conditions=_conditions(listed, names),
        colophon=translate("printed", language, version=visionbench.__version__, sweep=sweeps),
    )


def _search(record: TuneRecord, language: str) -> Search:
    """Return the result of a search, and its tables: finals, Pareto front, and each configuration."""
    words = tuning.result(record, language, every=True)
    tables = [
        (table.title, Grid(table.headings, table.rows, names=1, texts=table.text_columns)) for table in words.tables
    ]
    return Search(words.title, words.lines, tables, [*words.notes, translate("tuning advice", language)])


def _selection(listed: Sequence[Run], runs: Sequence[Run], language: str) -> Iterator[str]:
    """Yield the sentence about the runs and cases that the tables leave out, if there are any."""
    rows, cases = (sum(len(run.results) for run in each) for each in (listed, runs))
    timed = max((len(run.timed) for run in listed), default=0)
    if len(listed) < len(runs) or timed > selection.MOST_ROWS:
        rows = min(rows, selection.MOST_ROWS) if timed > selection.MOST_ROWS else rows
        yield translate("listed", language, shown=len(listed), all=len(runs), rows=rows, cases=cases)


def _limited(lines: Iterator[str], language: str) -> list[str]:
    """Return the first MOST_LINES lines, and the number of the others."""
    every = list(lines)
    more = len(every) - MOST_LINES
    return [*every[:MOST_LINES], *([translate("more lines", language, count=more)] if more > 0 else [])]


def _choice(advised: Advice, language: str) -> list[tuple[str, Sequence[str]]]:
    return [(translate(section.key, language), section.lines) for section in advice.sections(advised, language)]


def _request(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    facts = [run.facts() for run in runs]
    for name in ("model", "task", "weights", "device", "precision", "data", "protocol"):
        yield name, _listed(fact[name] for fact in facts)
    yield "batch sizes", _listed(str(size) for size in sorted({row.case.batch_size for r in runs for row in r.timed}))
    yield "processes", _listed(str(run.record.processes) for run in runs)


def _machine(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    local = [run for run in runs if not run.record.plan.is_remote]
    facts = [run.record.facts() for run in local or runs]
    yield "device", _listed(str(name) for run in runs if (name := run.record.facts()["device_name"]))
    if not local:
        yield "requests sent from", _listed(str(each["host"]) for each in facts)
        return
    for name, key in (
        ("driver", "driver"),
        ("CUDA", "cuda"),
        ("threads", "threads"),
        ("processor", "host_cpu"),
        ("cores", "host_cpu_cores"),
        ("memory, MiB", "host_memory_mib"),
        ("system", "host_system"),
        ("host", "host"),
        ("python", "version_python"),
        ("torch", "version_torch"),
        ("transformers", "version_transformers"),
    ):
        if values := _listed(str(each[key]) for each in facts if each[key] not in (None, "")):
            yield name, values


def _remarks(runs: Sequence[Run], language: str) -> Iterator[str]:
    """Yield the warnings about the complete report."""
    yield from (translations.gap(gap, language) for gap in missing.gaps(runs))
    protocols = dict.fromkeys(run.record.plan.protocol for run in runs)
    yield from (translate("quick", language, protocol=name) for name in protocols if name != "standard")
    if len(hosts := summary.host_names([run.record for run in runs])) > 1:
        yield translate("hosts", language, hosts=", ".join(hosts))
    random_models = _listed(run.model for run in runs if run.record.settings.model.weights == "random")
    if random_models:
        yield f"{random_models}: {translate('random', language)}"
    yield from dict.fromkeys(
        f"{run.model}: {line}" for run in runs for line in summary.price_and_endpoint(run.record, run.results)
    )
    yield from dict.fromkeys(warning for run in runs for warning in run.record.plan.warnings)


# --------------------------------------------------------------------------------------------------------------- tables
def _summary(runs: Sequence[Run], names: Names, language: str) -> Grid:
    """Return the table of all cases. The verdict comes before the numbers, so that a narrow screen shows it."""
    keys = ("batch", "verdict", "p50", "p95", "throughput", "peak", "quality")
    heads = _head_titles(names, language)
    verdict_column, quality_column = len(heads) + keys.index("verdict"), len(heads) + keys.index("quality")
    rows: list[list[str]] = []
    numbers: list[Mapping[int, float]] = []
    extra = _extra(runs)
    for run in runs:
        headline = advice.headline(run)
        unit = summary.throughput_name(run.timed)
        quality = f"{headline[0].heading(language)} {summary.text(headline[1])}" if headline else "–"
        for row in shown_rows(run)[: selection.MOST_ROWS]:
            batch = row.case.size if row.case.timed else "–"
            values = row.metrics.values
            if row.status != OK:
                rows.append([*_head(run, names), batch, row.status, *["–"] * (5 + len(extra))])
                numbers.append({})
                continue
            spread = values.get(summary.SPREAD)
            p50 = summary.text(values.get(summary.LATENCY)) + (f" ±{spread:.1%}" if spread is not None else "")
            speed, unit_text = values.get(unit), summary.unit(unit)
            rows.append(
                [
                    *_head(run, names),
                    batch,
                    _verdict(row, language),
                    p50,
                    summary.text(values.get("latency_p95_ms")),
                    f"{summary.text(speed)} {unit_text}" if speed is not None else "–",
                    _rounded(advice.peak(row)),
                    quality,
                    *(summary.text(values.get(declaration.name)) for declaration in extra),
                ]
            )
            numbers.append({quality_column: headline[1]} if headline else {})
    return Grid(
        [
            *heads,
            *(translate(key, language) for key in keys),
            *(declaration.heading(language) for declaration in extra),
        ],
        rows,
        names=len(heads),
        texts=(verdict_column,),
        filters=(*range(len(heads) + 1), verdict_column),
        values=numbers,
    )


def _head_titles(names: Names, language: str) -> list[str]:
    """Return the headings of the columns that name a run: model, device, precision, and what else differs."""
    return [*(translate(key, language) for key in ("model", "device", "precision")), *names.columns]


def _head(run: Run, names: Names) -> list[str]:
    """Return the cells that name a run, for `_head_titles`."""
    plan, values = run.record.plan, names.values(run)
    return [run.model, plan.device, plan.precision, *(values[column] for column in names.columns)]


def _extra(runs: Sequence[Run]) -> list[MetricDeclaration]:
    """Return the metrics of timed cases that tables show, of the metric groups without a fixed column in the report."""
    usual = {summary.LATENCY, *summary.MEMORY, *(summary.throughput_name(run.timed) for run in runs)}
    shown = dict.fromkeys(declaration for run in runs for declaration in declared.timed(run.declarations, run.timed))
    usual_groups = {declaration.group for declaration in shown if declaration.name in usual}
    return sorted(
        (declaration for declaration in shown if declaration.group not in usual_groups),
        key=lambda declaration: declaration.order,
    )


def _quality(runs: Sequence[Run], names: Names, language: str) -> Grid | None:
    """Return the quality metrics of every run with their intervals, and the units that the intervals are over."""
    heads = [*_head_titles(names, language), translate("figure", language)]
    rows = []
    for run in runs:
        row = run.quality
        if row is None or row.status != OK:
            continue
        for declaration in declared.quality(run.declarations, row):
            mark = MARKS[row.validity.verdict]
            value = _quality_text(run, declaration.name) + mark
            rows.append([*_head(run, names), declaration.heading(language), value, interval_basis(row)])
    titles = [*heads, *(translate(key, language) for key in ("quality with interval", "interval over"))]
    over, filters = (len(heads) + 1,), range(len(heads))
    return Grid(titles, rows, names=len(heads), texts=over, filters=filters) if rows else None


def _loads(runs: Sequence[Run], names: Names, language: str) -> Grid | None:
    """Return the table of all loads of these runs, or None if there are none. Metrics without a value have a dash."""
    loads = [(run, row) for run in runs for row in run.loads]
    if not loads:
        return None
    metrics = dict.fromkeys(metric for run in runs for metric in declared.timed(run.declarations, run.loads))
    valued = {name for _, row in loads for name, value in row.metrics.values.items() if value is not None}
    columns = sorted((metric for metric in metrics if metric.name in valued), key=lambda metric: metric.order)
    heads = _head_titles(names, language)
    rows = []
    for run, row in loads[: selection.MOST_ROWS]:
        known = row.metrics.values
        values = [summary.text(known.get(metric.name)) for metric in columns]
        verdict = _verdict(row, language) if row.status == OK else row.status
        decision = row.labels.get(summary.LOAD_DECISION, "–")
        rows.append([*_head(run, names), f"{row.case.offered:.4g}", verdict, decision, *values])
    kinds = {"clients" if row.case.clients is not None else "load" for _, row in loads}
    load = ", ".join(translate(f"{kind} column", language) for kind in sorted(kinds))
    texts = (len(heads) + 1, len(heads) + 2)
    titles = [*heads, load, *(translate(key, language) for key in ("verdict", "bound"))]
    titles += [metric.heading(language) for metric in columns]
    return Grid(titles, rows, names=len(heads), texts=texts, filters=(*range(len(heads)), *texts))


def _load_lines(runs: Sequence[Run], names: Names) -> Iterator[str]:
    """Yield the result of the search for the largest load of each run."""
    for run in runs:
        if run.load_search and (sentence := summary.load_sentence(run.results, run.declarations)):
            yield f"{names.name(run)}: {sentence} {MARKS[run.load_search.validity.verdict]}".rstrip()


def _published(rows: Sequence[Sequence[str]], names: Names, language: str) -> Grid:
    heads = _head_titles(names, language)
    titles = [*heads, *(translate(key, language) for key in published_table.COLUMNS)]
    texts = [len(heads) + published_table.COLUMNS.index(key) for key in published_table.TEXTS]
    return Grid(titles, rows, names=len(heads), texts=texts, filters=range(len(heads)))


def _quality_text(run: Run, metric: str) -> str:
    return summary.quality_text(metric, run.quality.metrics.values) if run.quality else "–"


def _relative(pairs: Sequence[relative.Relative], names: Names, language: str) -> Grid:
    keys = ("batch", "verdict", "ratio of throughput", "ratio of latency")
    heads = _head_titles(names, language)
    rows = []
    for pair in pairs:
        head = _head(pair.run, names)
        head[1] = pair.run.facts()["device_name"]
        batch, verdict = str(pair.row.case.batch_size), _verdict(pair.row, language)
        rows.append([*head, batch, verdict, _ratio(pair.throughput), _ratio(pair.latency)])
    verdict_column = len(heads) + 1
    filters = (*range(len(heads) + 1), verdict_column)
    titles = [*heads, *(translate(key, language) for key in keys)]
    return Grid(titles, rows, names=len(heads), texts=(verdict_column,), filters=filters)


def _verdict(row: CaseResult, language: str) -> str:
    verdict = row.validity.verdict
    return f"{MARKS[verdict]} {translate(f'is {verdict}', language)}".strip()


def _ratio(ratio: relative.Ratio | None) -> str:
    if ratio is None:
        return "–"
    bounds = f" [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low is not None and ratio.high is not None else ""
    return f"{ratio.value:.3f}{bounds}"


def _relative_notes(pairs: Sequence[relative.Relative], language: str) -> Iterator[str]:
    for name in dict.fromkeys(f"{pair.baseline.name}, {pair.baseline.facts()['device_name']}" for pair in pairs):
        yield translate("baseline", language, name=name)
    for across in sorted({pair.across for pair in pairs}):
        yield "[ ]: " + translate("interval across" if across else "interval within", language)


def _conditions(runs: Sequence[Run], names: Names) -> Grid:
    rows = []
    for run in runs:
        record, model = run.record, run.record.settings.model
        checkpoint = record.model.checkpoint or model.checkpoint or "–"
        revision = record.model.revision or model.revision or "–"
        attention = str(record.model.values.get("attention") or "–")
        seconds = sum(record.seconds.values())
        fields = [model.weights, checkpoint, revision[:12], attention]
        started = f"{datetime.fromisoformat(record.started_at).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        took = "–" if record.ended_at is None else f"{seconds:.0f} s"
        commit = record.git_commit or "–"
        commit = commit[:10] + "+" * commit.endswith("+")
        rows.append([names.name(run), *fields, started if run.has_record else "–", took, commit])
    return Grid(["run", "weights", "checkpoint", "revision", "attention", "started", "took", "commit"], rows, names=8)


# ------------------------------------------------------------------------------------------------- doubts and failures
def _causes(runs: Sequence[Run], names: Names, language: str) -> Grid | None:
    """Return the causes of doubt, the main one first: the number of cases, the next step and one example."""
    rows = []
    for cause, count in Doubts.of([row for run in runs for row in run.results]).causes:
        text, remedy = translations.cause(cause, language)
        rows.append([text, str(count), remedy, next(_examples(runs, names, cause), "–")])
    titles = [translate(key, language) for key in ("cause", "number of cases", "what to do", "for example")]
    return Grid(titles, rows, texts=(2, 3)) if rows else None


def _examples(runs: Sequence[Run], names: Names, cause: Cause) -> Iterator[str]:
    """Yield the reasons that have this cause, each with its run and its case."""
    for run in runs:
        for row in run.results:
            for reason in row.validity.reasons if row.status == OK else ():
                if reason.kind in cause.kinds:
                    yield f"{names.name(run)}, {row.case.id}: {reason}"


def _doubts(runs: Sequence[Run], names: Names) -> Iterator[str]:
    for run in runs:
        name = names.name(run)
        for row in run.results:
            if row.status == OK and row.validity.reasons:
                mark = MARKS[row.validity.verdict]
                yield f"{mark} {name}, {row.case.id}: {'; '.join(map(str, row.validity.reasons))}"
        if bound := summary.launch_bound(run.results):
            yield f"{name}: {bound}"
        yield from (f"{name}, {remark}" for remark in summary.remarks(run.results))


def _failures(runs: Sequence[Run], names: Names, language: str) -> Iterator[str]:
    for run in runs:
        for row in run.results:
            if row.status not in (OK, PENDING):
                keys = advice.remedies(run, row)
                remedies = "; ".join(translate(key, language, command=missing.resume_command(run)) for key in keys)
                failure = f"{names.name(run)}, {row.case.id}: {row.status}, {translations.reason(row.reason, language)}"
                yield f"{failure} · {translate('try', language)}: {remedies}"
        for name, reason in run.record.plan.refused.items():
            yield f"{names.name(run)}: {name}, {reason}"


# -------------------------------------------------------------------------------------------------------------- details
def _listed(values: Any) -> str:
    """Return the distinct values in order, up to MOST_VALUES."""
    different = list(dict.fromkeys(values))
    more = [f"… ({len(different)})"] if len(different) > MOST_VALUES else []
    return ", ".join([*different[:MOST_VALUES], *more])


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
