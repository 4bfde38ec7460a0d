"""Runs for tests that read results, built without a model and without a process."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count
from typing import Any

import numpy as np

from visionbench.core import OK, Case, CaseResult, Metrics, Reason, Samples, Validity
from visionbench.records.folder import RunFolder
from visionbench.records.record import RunRecord
from visionbench.results.archive import Run

BATCH = Case("batch-1", 1, ("warmup", "latency", "throughput", "memory"), ("latency", "throughput", "memory"))
QUALITY = Case("quality", 32, ("evaluation",), ("recall",))
_numbers = count()


def row(case=BATCH, status=OK, reason=None, verdict="valid", reasons=(), none=None, **values):
    """Return a case's row with these metrics. The metrics of `none` have no value, each with the reason."""
    none = none or {}
    validity = Validity(verdict, tuple(map(Reason.parse, reasons)))
    return CaseResult(case, status, reason, Metrics({**values, **dict.fromkeys(none)}, none), validity)


def speed(p50, **more):
    """Return a row with only a latency."""
    return row(latency_p50_ms=p50, **more)


def run_json(name="clip_tiny", kind="cpu", precision="fp32", cases=(BATCH,), **more: Any) -> dict[str, Any]:
    """Return the content of a run.json. Each run starts later than the previous run; `more` replaces or merges keys."""
    number = next(_numbers)
    content = {
        "uid": f"{number:032x}",
        "sweep": "2026-01-02_03-04-05",
        "started_at": f"2026-01-02T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000+00:00",
        "ended_at": "2026-01-03T00:00:00.000+00:00",
        "status": "finished",
        "git_commit": "a" * 40,
        "host": {"host": "box", "cpu": "a processor", "torch": "2.13.0", "transformers": "5.0.0"},
        "plan": {
            "name": f"{name} · {kind} · {precision}",
            "model": name,
            "task": "image-text retrieval",
            "device": kind,
            "precision": precision,
            "cases": [asdict(case) for case in cases],
            "protocol": "quick",
            "refused": {},
            "warnings": [],
        },
        "config": {
            "model": {
                "name": name,
                "family": "dual_encoder",
                "weights": "pretrained",
                "checkpoint": f"bundled:{name}",
                "revision": None,
                "seed": 0,
                "options": {"part": "both"},
            },
            "precision": {"dtype": "float32", "tf32": False},
            "data": {"name": "shapes", "options": {}},
            "measure": {"name": "quick", "repeats": 1, "latency": {"calls": 20}},
            "metrics": {"recall": {"ks": [1, 5]}},
        },
        "left_out": {},
        "model": {"weights": "pretrained", "checkpoint": f"bundled:{name}", "revision": None},
        "device": {"device_name": "a processor", "threads": 2},
        "data": {"name": "shapes", "split": "test", "annotations_sha256": "f00", "contents_sha256": "f00" * 9},
    }
    return _merged(content, more)


def record(*args: Any, **more: Any) -> RunRecord:
    """Return the record of `run_json`."""
    return RunRecord.from_json(run_json(*args, **more))


def run(*rows, **more) -> Run:
    """Return a run without a folder."""
    return Run(record(cases=[one.case for one in rows], **more), rows)


def processes(values, **more) -> list[Run]:
    """Return runs under equal conditions with these latencies, one process each."""
    return [run(speed(float(value)), **more) for value in values]


def save(path, *rows, across=None, calls=None, **more) -> RunFolder:
    """Write a run's folder. With `across`, which has a value of each process by metric, the run has repeats.

    `calls` has the latencies of all calls, in seconds, by the id of their case.
    """
    folder = RunFolder.create(path, "model: {name: hand}\n")
    content = run_json(cases=[one.case for one in rows], **more)
    if across:
        size = len(next(iter(across.values())))
        starts = more.get("repeats", {}).get("started_at", [content["started_at"]] * size)
        content["repeats"] = {"wanted": size, "measured": size, "order_seed": 0, "started_at": starts}
    folder.write_record(RunRecord.from_json(content))
    for one in rows:
        series = {f"across/{name}": np.array(values, np.float64) for name, values in (across or {}).items()}
        if one.case.id in (calls or {}):
            series["latency/host_s"] = calls[one.case.id]
        folder.append(one, Samples(series if one.status == OK and one.case.timed else {}))
    folder.log.touch()
    return folder


def _merged(content, more):
    both = {**content, **more}
    return both | {
        name: _merged(content[name], value)
        for name, value in more.items()
        if isinstance(value, dict) and isinstance(content.get(name), dict)
    }
