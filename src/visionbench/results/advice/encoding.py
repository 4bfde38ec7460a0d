"""The advice as JSON, with all digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from visionbench.results import summary
from visionbench.results.advice import commands, precisions
from visionbench.results.advice.candidates import Candidate, Estimate, LeftOut
from visionbench.results.advice.choice import KNEE, Advice, Knee
from visionbench.results.naming import Names

SCHEMA = 1
"""The version of the JSON. It increases if a key is renamed, removed, or changes its meaning."""


def content(advised: Sequence[Advice], rule: str) -> dict[str, Any]:
    """Return the advice for each task. A missing number is None, and so is an infinite end of an interval."""
    return {"schema": SCHEMA, "rule": rule, "tasks": [_task(advice) for advice in advised]}


def _task(advice: Advice) -> dict[str, Any]:
    bounds, names = advice.bounds, Names.of(advice.runs)
    return {
        "task": advice.task,
        "bounds": {
            "latency_ms": bounds.latency_ms,
            "memory_mib": bounds.memory_mib,
            "quality_loss": bounds.quality_loss,
        },
        "cases": advice.cases.timed,
        "choice": _case(advice.chosen, names),
        "by": advice.by or None,
        "not_distinguishable": [_case(case, names) for case in advice.ties],
        "faster_by_p50": _case(advice.faster_by_p50, names),
        "nearest": _case(advice.nearest, names),
        "quality_known": advice.quality_known,
        "knee_share": KNEE,
        "knees": [_knee(knee, names) for knee in advice.knees],
        "best_of_batch": [
            {
                "batch_size": one.batch_size,
                "best": _case(one.best, names),
                "not_distinguishable": [_case(case, names) for case in one.ties],
            }
            for one in advice.best_of_batch
        ],
        "precisions": [_pair(pair, names) for pair in precisions.pairs(advice.runs)],
        "latency_bounds": {"by": advice.ladder_by, "cases": [_case(case, names) for case in advice.ladder]},
        "left_out": [_left_out(case, names) for case in advice.left_out],
        "next": [{"purposes": list(step.purposes), "command": step.command} for step in commands.next_steps(advice)],
    }


def _case(case: Candidate | None, names: Names) -> dict[str, Any] | None:
    if case is None:
        return None
    return {
        "run": names.name(case.run),
        "uid": case.run.record.uid,
        "model": case.run.model,
        "device": case.run.record.plan.device,
        "precision": case.run.record.plan.precision,
        "batch_size": case.batch_size,
        "throughput_metric": summary.throughput_name(case.run.timed),
        "throughput": _estimate(case.throughput),
        "latency_p50_ms": _estimate(case.p50),
        "latency_p95_ms": _estimate(case.p95),
        "latency_calls": case.calls,
        "peak_mib": case.peak_mib,
        "quality": case.quality,
        "questionable": case.questionable,
        "reasons": [str(reason) for reason in case.row.validity.reasons],
    }


def _knee(knee: Knee, names: Names) -> dict[str, Any]:
    return {
        "knee": _case(knee.case, names),
        "best": _case(knee.best, names),
        "share_of_best": knee.share,
        "possible_batch_sizes": list(knee.possible),
        "decided": knee.decided,
        "knee_is_largest_batch": knee.at_end,
    }


def _pair(pair: precisions.Pair, names: Names) -> dict[str, Any]:
    by_metric, reason = pair.quality() if pair.quality_measured else ({}, "quality was not measured on both sides")
    return {
        "run": names.name(pair.run),
        "base": names.name(pair.base),
        "throughput_ratio": {str(size): _estimate(ratio) for size, ratio in pair.speed().items()},
        "quality_difference": {
            declaration.name: {
                "value": change.value,
                "interval": list(change.interval) if change.interval else None,
                "significant": change.shown,
            }
            for declaration, change in by_metric.items()
        },
        "quality_reason": reason if not by_metric else None,
    }


def _left_out(case: LeftOut, names: Names) -> dict[str, Any]:
    return {
        "run": names.name(case.run),
        "batch_size": case.row.case.batch_size,
        "reason": case.reason,
        "detail": case.detail or case.row.reason,
        "certain": not case.open,
    }


def _estimate(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    ends = (estimate.low, estimate.high)
    low, high = (end if end is not None and math.isfinite(end) else None for end in ends)
    return {"value": estimate.value, "low": low, "high": high}
