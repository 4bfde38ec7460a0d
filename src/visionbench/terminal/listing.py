"""The facts and main numbers of sweeps and runs, with all digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from visionbench.core import PENDING
from visionbench.results import summary
from visionbench.results.archive import UNKNOWN, Run
from visionbench.results.naming import Names

SCHEMA = 1
"""The version of the listing as JSON. It increases if a key is renamed, removed, or changes its meaning."""
SWEEP_FACTS = ("model", "device", "precision")


def of_sweep(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Return the facts of a sweep: its start, models and devices, and the statuses and worst verdict of its runs."""
    facts = [run.facts() for run in runs]
    rows = [row for run in runs for row in run.results]
    return {
        "sweep": name,
        "started_at": min(run.record.started_at for run in runs),
        "runs": len(runs),
        **{f"{fact}s": list(dict.fromkeys(each[fact] for each in facts)) for fact in SWEEP_FACTS},
        "statuses": dict(Counter(each["status"] for each in facts)),
        "validity": summary.verdict(rows),
        "failures": len(summary.failures(rows)),
        "pending": sum(row.status == PENDING for row in rows),
    }


def of_run(run: Run, names: Names) -> dict[str, Any]:
    """Return the name and the facts of a run, its best numbers with their batch size, its quality, and its verdict.

    Invalid cases count only if all cases are invalid. A missing number is None.
    """
    facts, best = run.facts(), summary.best(run.results)
    throughput = summary.throughput_name(run.results)
    memory = next((name for name in summary.MEMORY if f"highest_{name}" in best), None)
    size = best.get("best_throughput_batch_size")
    return {
        "run": names.name(run),
        "varied": dict(names.values(run)),
        "uid": run.record.uid,
        "folder": str(run.folder.path) if run.folder else None,
        "started_at": run.record.started_at,
        **{name: None if value == UNKNOWN else value for name, value in facts.items() if name != "validity"},
        "validity": summary.verdict(run.results),
        "batch_sizes": [row.case.batch_size for row in run.timed],
        "best_throughput_per_s": best.get(f"best_{throughput}"),
        "best_throughput_metric": throughput if f"best_{throughput}" in best else None,
        "best_throughput_batch_size": None if size is None else int(size),
        "lowest_latency_p50_ms": best.get("lowest_latency_p50_ms"),
        "peak_memory_mib": best.get(f"highest_{memory}"),
        "peak_memory_metric": memory,
        "quality": _quality(run),
        "failures": len(summary.failures(run.results)),
        "pending": sum(row.status == PENDING for row in run.results),
    }


def _quality(run: Run) -> Mapping[str, float]:
    """Return the metrics of the quality case with a value, without the speed of the evaluation."""
    values = summary.quality(run.results, run.declarations)
    groups = {name: declaration.group for name in values if (declaration := run.declarations.find(name))}
    return {name: value for name, value in values.items() if groups.get(name) != "evaluation"}
