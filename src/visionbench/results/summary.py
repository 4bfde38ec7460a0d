"""The summary of a run: its best numbers, a note in Markdown, and a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten

from visionbench.core import (
    ACROSS_PROCESSES,
    INVALID,
    OK,
    PENDING,
    SERVING,
    VALID,
    WARNED,
    WITHIN_PROCESS,
    WORK_UNITS,
    CaseResult,
    MetricDeclaration,
    interval_ends,
    interval_half_width,
)
from visionbench.declarations import Declarations
from visionbench.records.record import FINISHED, RunRecord
from visionbench.results import declared, markdown
from visionbench.statistics.resampling import interval_text, value_with_interval

LATENCY = "latency_p50_ms"
SPREAD = interval_half_width(LATENCY)
MEMORY = ("memory_peak_allocated_mib", "memory_process_peak_mib")
"""The peak memory of a run: the first of these with a value."""
COST = "cost_per_1000_images"
LAUNCH_BOUND = 0.5
"""If kernels run for less than this share of a call, the host limits the device."""
LOAD_STATEMENT, LOAD_CONDITIONS, LOAD_DECISION = "load_statement", "load_conditions", "load_decision"
"""The label of the search for the largest load with its result in words, and those of a load: its conditions, and
whether it holds the bound."""
CONDITIONS_OF_A_CASE = frozenset(
    {"protocol", "distinct_inputs", "processes", "interval_over", LOAD_STATEMENT, LOAD_CONDITIONS, LOAD_DECISION}
    | {"endpoint", "requests_in_flight", "latency_includes", "currency", "prices_of"}
)
"""Labels that every case has. Other labels are remarks."""
RETRIED = "_retried"
"""Part of a label that lists the invalid attempts of a stage: `latency_retried`, `latency_retried_of_process_2`."""
QUALITY_SHOWN = 2
HEADLINE_REASON = 160
LONGEST_IDENTITY = 40

Cell = int | float | str | None


def latency_ends(across: bool) -> tuple[str, str]:
    """Return the names of the ends of the median latency's interval, across processes or within one."""
    return interval_ends(LATENCY, ACROSS_PROCESSES if across else WITHIN_PROCESS)


def throughput_name(results: Sequence[CaseResult]) -> str:
    """Return the name of the throughput of these results: that of images, or of the first unit that has a value."""
    names = [f"throughput_{unit}_per_s" for unit in WORK_UNITS]
    return next((name for name in names if any(_value(row, name) is not None for row in results)), names[0])


def verdict(results: Sequence[CaseResult]) -> str | None:
    """Return the worst verdict of the cases with numbers, or None if no case has numbers."""
    verdicts = {row.validity.verdict for row in results if row.status == OK}
    return next((worst for worst in (INVALID, WARNED, VALID) if worst in verdicts), None)


def failures(results: Sequence[CaseResult]) -> list[str]:
    """Return a line for each case without numbers: its status and the reason. A pending case has not failed."""
    return [f"{row.case.id} {row.status}: {row.reason}" for row in results if row.status not in (OK, PENDING)]


def host_names(records: Sequence[RunRecord]) -> list[str]:
    """Return the names of the machines that measured these runs, in the order of the runs."""
    return list(dict.fromkeys(record.host.name for record in records if record.host.name))


def launch_bound(results: Sequence[CaseResult]) -> str:
    """Name the batch sizes at which the device waits for the host to launch kernels; empty if there are none.

    Only `metrics=[kernels]` measures it.
    """
    shares = {row.case.batch_size: _value(row, "kernels_busy_fraction") for row in results if row.case.timed}
    idle = {size: share for size, share in shares.items() if share is not None and share < LAUNCH_BOUND}
    if not idle:
        return ""
    listed = ", ".join(f"{size} ({share:.0%})" for size, share in idle.items())
    return f"launch-bound at batch size {listed}: kernels run for this share of a call, and the host limits the rest"


def remarks(results: Sequence[CaseResult], *, with_retries: bool = True) -> list[str]:
    """Return events of the measurement that raise no doubt, such as repeated windows or a GPU at its power limit."""
    return [
        f"{row.case.id}: {label.replace('_', ' ')}, {detail}"
        for row in results
        for label, detail in row.labels.items()
        if label not in CONDITIONS_OF_A_CASE and (with_retries or RETRIED not in label)
    ]


def price_and_endpoint(record: RunRecord, results: Sequence[CaseResult]) -> list[str]:
    """Return what the batch size and the latency of a model at an endpoint are, and the currency of costs."""
    labels = next((row.labels for row in results if row.status == OK and row.case.timed), {})
    lines = []
    if record.plan.is_remote and labels:
        lines.append("batch is the number of requests in flight, each with one image")
        if includes := labels.get("latency_includes"):
            lines.append(f"a latency includes {includes}")
    if (currency := labels.get("currency")) and any(COST in row.metrics.values for row in results):
        of = f", prices of {date}" if (date := labels.get("prices_of")) else ""
        lines.append(f"cost of 1,000 images in {currency}{of}")
    return lines


def summary(results: Sequence[CaseResult]) -> dict[str, float]:
    """Return `best` rounded to five significant digits, so that runs can be compared at a glance."""
    return {name: float(f"{value:.5g}") for name, value in best(results).items()}


def best(results: Sequence[CaseResult]) -> dict[str, float]:
    """Return the best numbers of a run over its batch sizes; invalid cases count only if all cases are invalid."""
    timed = [row for row in results if row.case.timed and row.status == OK]
    trusted = [row for row in timed if row.validity.verdict != INVALID] or timed
    throughput = throughput_name(trusted)
    numbers: dict[str, float] = {}
    if speeds := _values(trusted, throughput):
        fastest = max(speeds, key=lambda batch_size: speeds[batch_size])
        numbers |= {f"best_{throughput}": speeds[fastest], "best_throughput_batch_size": float(fastest)}
    for name, metric, choose in (
        ("lowest_latency_p50_ms", LATENCY, min),
        ("lowest_latency_p95_ms", "latency_p95_ms", min),
        *((f"highest_{name}", name, max) for name in MEMORY),
    ):
        if values := _values(trusted, metric):
            numbers[name] = choose(values.values())
    if timed:
        numbers["largest_batch_size"] = float(max(row.case.batch_size for row in timed))
    return numbers


def note(record: RunRecord, results: Sequence[CaseResult]) -> str:
    """Return Markdown. Its first line has the main numbers, because a tracker may show only a few lines."""
    parts = [
        _headline(record, results),
        _markdown(table(results)),
        _items("Doubts", [*_doubts(results), *filter(None, [launch_bound(results)])]),
        _items("Remarks", remarks(results)),
        _items("Without numbers", failures(results)),
        _items("Conditions", _conditions(record)),
        _items("Refused", _pairs(record.plan.refused)),
        _items("Warnings", record.plan.warnings),
        _items("Missing", _missing(results, declared.of_record(record))),
    ]
    return "\n\n".join(filter(None, parts))


def table(results: Sequence[CaseResult]) -> list[dict[str, Cell]]:
    """Return one row per batch size with the main numbers; a missing number is None.

    MLflow's page of tables groups by the first column and compares the second.
    """
    timed = [row for row in results if row.case.timed]
    memory = next((name for name in MEMORY if _values(timed, name)), MEMORY[-1])
    throughput = throughput_name(timed)
    shown = {
        unit(throughput): throughput,
        "p50 ms": LATENCY,
        "p95 ms": "latency_p95_ms",
        f"{'allocated' if memory == MEMORY[0] else 'process'} peak MiB": memory,
    }
    return [
        {
            "batch": row.case.batch_size,
            **{heading: _value(row, name) for heading, name in shown.items()},
            "verdict": row.validity.verdict if row.status == OK else row.status,
        }
        for row in timed
    ]


def load_figures(results: Sequence[CaseResult], declarations: Declarations) -> list[MetricDeclaration]:
    """Return the metrics of the search for the largest load that tables show."""
    return declared.timed(declarations, [row for row in results if row.case.id == SERVING and row.status == OK])


def load_sentence(results: Sequence[CaseResult], declarations: Declarations) -> str:
    """Return the result of the search for the largest load, with its intervals; empty without a search."""
    row = next((row for row in results if row.case.id == SERVING and row.status == OK), None)
    if row is None:
        return ""
    parts = []
    for metric in load_figures(results, declarations):
        ends = [row.metrics.values.get(end) for end in interval_ends(metric.name)]
        interval = f" [{', '.join(map(text, ends))}]" if any(end is not None for end in ends) else ""
        parts.append(f"{metric.heading()} {text(row.metrics.values.get(metric.name))}{interval}")
    return ", ".join(filter(None, [*parts, row.labels.get(LOAD_STATEMENT, "")]))


def quality(results: Sequence[CaseResult], declarations: Declarations) -> dict[str, float]:
    """Return the metrics of the quality case that have a value, without the ends of intervals."""
    rows = [row for row in results if row.case.is_quality and row.status == OK]
    return {
        name: value
        for row in rows
        for name, value in row.metrics.values.items()
        if value is not None and not _is_end(name, declarations)
    }


def quality_text(metric: str, values: Mapping[str, float | None]) -> str:
    """Return a quality metric as text, with its interval if it has one."""
    estimate = value_with_interval(metric, values)
    return interval_text(*estimate) if estimate and estimate[1] else text(values.get(metric))


def words(metric: str) -> str:
    """Return the name of a metric in readable form, such as `recall i2t@1`."""
    return metric.removesuffix("_fraction").replace("_at_", "@").replace("_", " ")


def text(cell: Cell) -> str:
    """Return a cell as text: four significant digits, a comma after thousands, a dash for None."""
    if cell is None:
        return "–"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"


def _headline(record: RunRecord, results: Sequence[CaseResult]) -> str:
    """Return one line with the failure, the best numbers, and their verdict."""
    status, lines = record.status, failures(results)
    causes = [line for line in lines if " not_run: " not in line] or lines
    worst, numbers, name = verdict(results), summary(results), throughput_name(results)
    failed = status != FINISHED
    parts = (
        [f"**{status}**: {markdown.escaped(_short(causes[0] if causes else 'the reason is unknown', HEADLINE_REASON))}"]
        if failed
        else []
    )
    if f"best_{name}" in numbers:
        speed, batch = text(numbers[f"best_{name}"]), f"batch size {numbers['best_throughput_batch_size']:.0f}"
        parts.append(f"**{speed} {unit(name)}** at {batch}")
    if "lowest_latency_p50_ms" in numbers:
        parts.append(f"lowest p50 **{text(numbers['lowest_latency_p50_ms'])} ms**")
    parts.append(load_sentence(results, declared.of_record(record)))
    values = {name: value for row in results if row.case.is_quality for name, value in row.metrics.values.items()}
    for metric in list(quality(results, declared.of_record(record)))[:QUALITY_SHOWN]:
        parts.append(f"{words(metric)} **{quality_text(metric, values)}**")
    parts.append(f"**{worst}** (see the doubts)" if worst in (WARNED, INVALID) else "")
    parts += [f"{len(lines)} without numbers"] if lines and not failed else []
    return " · ".join(filter(None, parts))


def unit(throughput: str) -> str:
    """Return the unit of a throughput from its name, such as `images/s`."""
    return throughput.removeprefix("throughput_").replace("_per_", "/")


def _conditions(record: RunRecord) -> Iterator[str]:
    plan, device, host = record.plan, record.device, record.host
    yield f"{plan.model} ({plan.task}), {record.loaded_or_configured('weights')} weights"
    threads = [f"{device.threads} threads"] if device.threads else []
    driver = [f"driver {device.driver}"] if device.driver else []
    yield ", ".join([f"{plan.device}: {device.device_name or 'unknown'}", plan.precision, *threads, *driver])
    yield f"protocol {plan.protocol}"
    if repeats := record.repeats:
        yield f"{repeats.measured} fresh processes, order seed {repeats.order_seed}; intervals across processes"
    versions = [f"{name} {host.version(name)}" for name in ("torch", "transformers", "python") if host.version(name)]
    if versions:
        yield ", ".join([*versions, f"on {host.name or 'an unknown host'}"])
    if data := record.data.values:
        yield "data: " + ", ".join(f"{name} {str(value)[:LONGEST_IDENTITY]}" for name, value in data.items())


def _doubts(results: Sequence[CaseResult]) -> list[str]:
    return [
        f"{row.case.id} is {row.validity.verdict}: {'; '.join(map(str, row.validity.reasons))}"
        for row in results
        if row.status == OK and row.validity.verdict != VALID
    ]


def _missing(results: Sequence[CaseResult], declarations: Declarations) -> list[str]:
    """List the metrics without a value by reason; the ends of their intervals are left out."""
    names: dict[str, dict[str, None]] = {}
    for row in results:
        for name, reason in row.metrics.reasons.items():
            declaration = declarations.find(name)
            if declaration is None or declaration.part_of not in row.metrics.reasons:
                names.setdefault(reason, {})[name] = None
    return [f"{', '.join(missing)}: {reason}" for reason, missing in names.items()]


def _is_end(metric: str, declarations: Declarations) -> bool:
    declaration = declarations.find(metric)
    return declaration is not None and bool(declaration.part_of)


def _pairs(reasons: Mapping[str, str]) -> list[str]:
    return [f"{name}: {reason}" for name, reason in reasons.items()]


def _markdown(rows: Sequence[Mapping[str, Cell]]) -> str:
    if not rows:
        return ""
    headings = [f"{name}&emsp;" for name in rows[0]]  # without the space, MLflow shows the columns without a gap
    cells = [[text(cell) for cell in row.values()] for row in rows]
    lines = [headings, ["---:"] * (len(headings) - 1) + ["---"], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _items(title: str, lines: Sequence[str] | Iterator[str]) -> str:
    items = [f"- {markdown.item(_short(line))}" for line in lines]
    return "\n".join([f"**{title}**", "", *items]) if items else ""


def _short(line: str, width: int = 400) -> str:
    return shorten(line, width, placeholder=" …")


def _values(results: Sequence[CaseResult], name: str) -> dict[int, float]:
    """Return the values by batch size."""
    values = {row.case.batch_size: _value(row, name) for row in results if row.case.timed}
    return {batch_size: value for batch_size, value in values.items() if value is not None}


def _value(row: CaseResult, name: str) -> float | None:
    return row.metrics.values.get(name) if row.status == OK else None
