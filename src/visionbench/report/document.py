"""The content of a report, computed from results. The templates of the HTML page and of the Markdown file use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import visionbench
from visionbench.core import OK, CaseResult, ConfigError, MetricDeclaration
from visionbench.report import advice, precisions
from visionbench.report.translations import check, task, translate
from visionbench.results import declared, relative, summary
from visionbench.results.advice import choice
from visionbench.results.advice.candidates import Bounds
from visionbench.results.archive import Run
from visionbench.terminal import table

NO_BOUNDS = Bounds()
"""The bounds of the recommendation if none are given: only that of quality."""
MOST_VALUES = 12


@dataclass(frozen=True)
class Grid:
    """A table of texts. The first `names` columns are text, the other columns are numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1


@dataclass(frozen=True)
class Report:
    """The parts of a report in their order; any of them may be empty."""

    language: str
    title: str
    subtitle: str
    request: Sequence[tuple[str, str]]
    machine: Sequence[tuple[str, str]]
    remarks: Sequence[str]
    rule: str
    choices: Sequence[tuple[str, Sequence[str]]]
    """For each task, the recommendation and its reasons."""
    next_commands: Sequence[str]
    """The commands that would make the recommendations firmer, with their purposes."""
    summary: Grid
    relative: Grid | None
    relative_notes: Sequence[str]
    quality: Grid | None
    """Every quality metric with its interval."""
    quality_notes: Sequence[str]
    """The loss of quality of each precision against fp32."""
    doubts: Sequence[str]
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
    pairs = relative.relative(runs, baseline) if baseline else []
    advised = list(choice.advise(runs, bounds))
    sweeps = ", ".join(dict.fromkeys(run.sweep for run in runs))
    return Report(
        language=language,
        title=translate("title", language),
        subtitle=f"{sweeps} · {', '.join(dict.fromkeys(run.model for run in runs))}",
        request=list(_request(runs)),
        machine=list(_machine(runs)),
        remarks=list(_remarks(runs, language)),
        rule=advice.method(advised, bounds, language),
        choices=[(task(one.task, language), advice.report_lines(one, language)) for one in advised],
        next_commands=advice.command_lines(advised, language),
        summary=_summary(runs, language),
        relative=_relative(pairs, language) if pairs else None,
        relative_notes=list(_relative_notes(pairs, language)),
        quality=_quality(runs, language),
        quality_notes=list(precisions.costs(runs, language)),
        doubts=list(_doubts(runs)),
        failures=list(_failures(runs, language)),
        conditions=_conditions(runs),
        colophon=translate("printed", language, version=visionbench.__version__, sweep=sweeps),
    )


def _request(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    facts = [run.facts() for run in runs]
    for name in ("model", "task", "weights", "device", "precision", "data", "protocol"):
        yield name, _listed(fact[name] for fact in facts)
    yield "batch sizes", _listed(str(size) for size in sorted({row.case.batch_size for r in runs for row in r.timed}))
    yield "processes", _listed(str(run.record.processes) for run in runs)


def _machine(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    facts = [run.record.facts() for run in runs]
    for name, key in (
        ("device", "device_name"),
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
    protocols = dict.fromkeys(run.record.plan.protocol for run in runs)
    yield from (translate("quick", language, protocol=name) for name in protocols if name != "standard")
    random_models = _listed(run.model for run in runs if run.record.settings.model.weights == "random")
    if random_models:
        yield f"{random_models}: {translate('random', language)}"
    yield from dict.fromkeys(warning for run in runs for warning in run.record.plan.warnings)


# --------------------------------------------------------------------------------------------------------------- tables
def _summary(runs: Sequence[Run], language: str) -> Grid:
    """Return the table of all cases. The verdict comes before the numbers, so that a narrow screen shows it."""
    keys = ("model", "device", "precision", "batch", "verdict", "p50", "p95", "throughput", "peak", "quality")
    rows, extra = [], _extra(runs)
    for run in runs:
        plan, headline = run.record.plan, advice.headline(run)
        unit = summary.throughput_name(run.timed)
        quality = f"{headline[0].heading(language)} {summary.text(headline[1])}" if headline else "–"
        for row in run.timed or run.results:
            head = [run.model, plan.device, plan.precision]
            batch = str(row.case.batch_size) if row.case.timed else "–"
            values = row.metrics.values
            if row.status != OK:
                rows.append([*head, batch, row.status, *["–"] * (5 + len(extra))])
                continue
            spread = values.get(summary.SPREAD)
            p50 = summary.text(values.get(summary.LATENCY)) + (f" ±{spread:.1%}" if spread is not None else "")
            speed, unit_text = values.get(unit), summary.unit(unit)
            rows.append(
                [
                    *head,
                    batch,
                    _verdict(row),
                    p50,
                    summary.text(values.get("latency_p95_ms")),
                    f"{summary.text(speed)} {unit_text}" if speed is not None else "–",
                    _rounded(advice.peak(row)),
                    quality,
                    *(summary.text(values.get(declaration.name)) for declaration in extra),
                ]
            )
    return Grid(
        [*(translate(key, language) for key in keys), *(declaration.heading(language) for declaration in extra)],
        rows,
        names=3,
    )


def _extra(runs: Sequence[Run]) -> list[MetricDeclaration]:
    """Return the metrics of timed cases that tables show, of the metric groups without a fixed column in the report."""
    usual = {summary.LATENCY, *summary.MEMORY, *(summary.throughput_name(run.timed) for run in runs)}
    shown = dict.fromkeys(declaration for run in runs for declaration in declared.timed(run.declarations, run.timed))
    usual_groups = {declaration.group for declaration in shown if declaration.name in usual}
    return sorted(
        (declaration for declaration in shown if declaration.group not in usual_groups),
        key=lambda declaration: declaration.order,
    )


def _quality(runs: Sequence[Run], language: str) -> Grid | None:
    """Return the quality metrics of every run with their intervals, and the units that the intervals are over."""
    keys = ("model", "device", "precision", "figure", "quality with interval", "interval over")
    rows = []
    for run in runs:
        row, plan = run.quality, run.record.plan
        if row is None or row.status != OK:
            continue
        for declaration in declared.quality(run.declarations, row):
            head = [run.model, plan.device, plan.precision, declaration.heading(language)]
            mark = table.MARKS[row.validity.verdict]
            rows.append([*head, _quality_text(run, declaration.name) + mark, table.interval_basis(row)])
    return Grid([translate(key, language) for key in keys], rows, names=4) if rows else None


def _quality_text(run: Run, metric: str) -> str:
    return summary.quality_text(metric, run.quality.metrics.values) if run.quality else "–"


def _relative(pairs: Sequence[relative.Relative], language: str) -> Grid:
    keys = ("model", "device", "precision", "batch", "verdict", "ratio of throughput", "ratio of latency")
    rows = [
        [
            pair.run.model,
            pair.run.facts()["device_name"],
            pair.run.record.plan.precision,
            str(pair.row.case.batch_size),
            _verdict(pair.row),
            _ratio(pair.throughput),
            _ratio(pair.latency),
        ]
        for pair in pairs
    ]
    return Grid([translate(key, language) for key in keys], rows, names=3)


def _verdict(row: CaseResult) -> str:
    return f"{table.MARKS[row.validity.verdict]} {row.validity.verdict}".strip()


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


def _conditions(runs: Sequence[Run]) -> Grid:
    rows = []
    for run in runs:
        record, model = run.record, run.record.settings.model
        checkpoint = record.model.checkpoint or model.checkpoint or "–"
        revision = record.model.revision or model.revision or "–"
        attention = str(record.model.values.get("attention") or "–")
        seconds = sum(record.seconds.values())
        fields = [model.weights, checkpoint, revision[:12], attention]
        started = record.started_at[:19].replace("T", " ") + " UTC"
        commit = record.git_commit or "–"
        rows.append(
            [run.name, *fields, started, f"{seconds:.0f} s", commit[:10] + ("+" if commit.endswith("+") else "")]
        )
    return Grid(["run", "weights", "checkpoint", "revision", "attention", "started", "took", "commit"], rows, names=8)


# ------------------------------------------------------------------------------------------------- doubts and failures
def _doubts(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        for row in run.results:
            if row.status == OK and row.validity.reasons:
                mark = table.MARKS[row.validity.verdict]
                yield f"{mark} {run.name}, {row.case.id}: {'; '.join(map(str, row.validity.reasons))}"
        if bound := summary.launch_bound(run.results):
            yield f"{run.name}: {bound}"
        yield from (f"{run.name}, {remark}" for remark in summary.remarks(run.results))


def _failures(runs: Sequence[Run], language: str) -> Iterator[str]:
    for run in runs:
        for row in run.results:
            if row.status != OK:
                remedies = "; ".join(translate(key, language) for key in advice.remedies(run, row))
                failure = f"{run.name}, {row.case.id}: {row.status}, {row.reason}"
                yield f"{failure} · {translate('try', language)}: {remedies}"
        for name, reason in run.record.plan.refused.items():
            yield f"{run.name}: {name}, {reason}"


# -------------------------------------------------------------------------------------------------------------- details
def _listed(values: Any) -> str:
    """Return the distinct values in order, up to MOST_VALUES."""
    different = list(dict.fromkeys(values))
    more = [f"… ({len(different)})"] if len(different) > MOST_VALUES else []
    return ", ".join([*different[:MOST_VALUES], *more])


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
