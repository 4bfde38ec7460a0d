"""MLPerf's generator of loads (LoadGen, the package `mlcommons-loadgen`), as an alternative to our generator.

LoadGen runs in a thread of this process, and writes the times of each request to its trace, from which they are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from visionbench.core import VisionbenchError
from visionbench.serving.generator import Generated

NAME = "loadgen"
"""The value of `serving.generator`."""
POISSON, CLOSED, OFFLINE = "Server", "SingleStream", "Offline"
"""LoadGen's scenarios: Poisson arrivals, one client that sends the next request after each answer, and all requests at
once."""
SCENARIOS = {"poisson": POISSON, "closed": CLOSED, "offline": OFFLINE}
"""The scenarios by the pattern of arrivals. `offline` is only for benchmarks/load_generators.py."""
SAMPLE = re.compile(
    r'"name":"Sample".*?"ph":"b".*?"ts":(?P<scheduled_us>[\d.]+),.*?"sample_seq":(?P<number>\d+),'
    r'.*?"issue_start_ns":(?P<issued_ns>\d+),"complete_ns":(?P<completed_ns>\d+)'
)
"""A line of the trace: when a request was scheduled, and how long after it was sent and answered."""
LONG_NS = int(1e15)
"""A bound of latency that no request reaches: LoadGen then sends all requests."""


class LoadGenError(VisionbenchError):
    """LoadGen did not measure the requests that it was asked for."""


def why_unavailable() -> str | None:
    """Return that the package is missing, with the remedy, or None. Does not import it."""
    if find_spec("mlperf_loadgen") is None:
        return "mlcommons-loadgen is not installed; pip install 'visionbench[loadgen]'"
    return None


def generate(
    submit: Callable[[int], Future[Any]],
    samples: int,
    requests: int,
    scenario: str = POISSON,
    rate_per_s: float = 1.0,
    seed: int = 0,
) -> Generated:
    """Send requests by LoadGen, and return their times when all have ended.

    `submit` receives the index of one of the `samples`. A request whose future has an error, or that `submit` refuses,
    has no completion. `rate_per_s` is used by the scenario `Server`. Raises LoadGenError if LoadGen sent another number
    of requests.
    """
    import mlperf_loadgen

    failed: set[int] = set()
    order: dict[int, int] = {}

    def complete(request: int, succeeded: bool) -> None:
        if not succeeded:
            failed.add(order[request])
        mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(request, 0, 0)])

    def ended(request: int, future: Future[Any]) -> None:
        complete(request, _has_result(future))

    def issue(queries: list[Any]) -> None:
        for query in queries:
            order[query.id] = len(order)
            try:
                future = submit(query.index)
            except Exception:  # an exception in this thread of LoadGen would end the process
                complete(query.id, False)
                continue
            future.add_done_callback(partial(ended, query.id))

    settings = _settings(mlperf_loadgen, scenario, requests, rate_per_s, seed)
    system = mlperf_loadgen.ConstructSUT(issue, _ignore)
    library = mlperf_loadgen.ConstructQSL(samples, samples, _ignore, _ignore)
    try:
        with TemporaryDirectory(prefix="visionbench-loadgen-") as folder:
            mlperf_loadgen.StartTestWithLogSettings(system, library, settings, _logging(mlperf_loadgen, folder), "")
            trace = (Path(folder) / "mlperf_log_trace.json").read_text("utf-8")
    finally:
        mlperf_loadgen.DestroyQSL(library)
        mlperf_loadgen.DestroySUT(system)
    return _parse(trace, requests, failed)


def _settings(mlperf_loadgen: Any, scenario: str, requests: int, rate_per_s: float, seed: int) -> Any:
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = getattr(mlperf_loadgen.TestScenario, scenario)
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = requests
    settings.min_duration_ms = settings.max_duration_ms = 0
    settings.server_target_qps = rate_per_s
    settings.server_target_latency_ns = LONG_NS
    settings.offline_expected_qps = 1.0
    settings.qsl_rng_seed, settings.sample_index_rng_seed, settings.schedule_rng_seed = seed, seed + 1, seed + 2
    return settings


def _logging(mlperf_loadgen: Any, folder: str) -> Any:
    output = mlperf_loadgen.LogOutputSettings()
    output.outdir = folder
    output.copy_summary_to_stdout = output.copy_detail_to_stdout = False
    settings = mlperf_loadgen.LogSettings()
    settings.log_output = output
    settings.enable_trace = True
    return settings


def _parse(trace: str, requests: int, failed: set[int]) -> Generated:
    """Return the times of the requests in a trace, in the order of their numbers."""
    rows = {int(match["number"]): match for match in SAMPLE.finditer(trace)}
    if sorted(rows) != list(range(requests)):
        raise LoadGenError(
            f"LoadGen's trace has {len(rows)} of {requests} requests", "use serving.generator=visionbench"
        )
    ordered = [rows[number] for number in range(requests)]
    scheduled = np.array([float(row["scheduled_us"]) for row in ordered]) * 1e-6
    start = scheduled.min(initial=np.inf)
    issued = scheduled + np.array([float(row["issued_ns"]) for row in ordered]) * 1e-9
    completed = scheduled + np.array([float(row["completed_ns"]) for row in ordered]) * 1e-9
    completed[sorted(failed)] = np.nan
    return Generated(scheduled - start, issued - start, completed - start)


def _has_result(future: Future[Any]) -> bool:
    return not future.cancelled() and future.exception() is None


def _ignore(*_: Any) -> None:
    """Do nothing: the samples are in memory, and no request is kept back."""
