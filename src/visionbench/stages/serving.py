"""Serving: queries of a load generator, in dynamic batches, at one load.

The measuring thread is the server. A batch of waiting queries is assembled from preprocessed inputs, copied to the
device, and executed with a synchronisation at its end. Another thread receives the queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from visionbench import weights
from visionbench.config import ServingConfig, ServingRule
from visionbench.core import INVALID, Collates, Device, Inputs, LoadedModel, Samples
from visionbench.serving import loadgen
from visionbench.serving.arrivals import CLOSED, POISSON, scheduled_times
from visionbench.serving.batching import BatchQueue, BatchRecord, BatchRule, utilization
from visionbench.serving.generator import Generated, Generator, GeneratorError, Traffic
from visionbench.serving.search import (
    CLIFF,
    LEAST_REQUESTS,
    Boundary,
    LoadSearch,
    SearchRule,
    Trial,
    rounded,
    share_within,
)
from visionbench.serving.stability import DRIFT, SETTLED, drift, is_long_at_end, queue_grows
from visionbench.stages.context import Context
from visionbench.stages.inputs import concatenate
from visionbench.stages.windows import quiet, watched

if TYPE_CHECKING:
    import torch

SETTLING = 0.1
"""The first queries of a window, as a share. They find a shorter queue than later ones and are not counted."""
SMALLER, LARGER = 24, 64
"""The search ends at the first load divided or multiplied by these."""
DRAIN_SECONDS = 10.0
"""The longest time in which the counted queries of a stable queue are answered after the last check."""
LATE_DOUBTS, LATE_INVALIDATES = 0.05, 0.2
"""Lateness of the generator (99th percentile) as a share of the bound."""
LATE_LEAST_S = 0.001
LONG_CALL, LONG_CALL_S = 10.0, 0.5
"""A call that takes more than this number of median calls of its size, and more than this number of seconds longer, may
contain a pause."""
SEARCH_SERIES = ("serving_search/low_per_s", "serving_search/high_per_s")
"""The largest load that holds and the smallest load that fails."""
INCLUDES = "queue, batching, assembling and copying inputs, call, synchronisation"
EXCLUDES = "not decoding, preprocessing or HTTP"


@dataclass(frozen=True)
class Server:
    """The loaded model as a server of queries. A query is the number of an input."""

    model: LoadedModel
    device: Device
    place: torch.device
    dtype: torch.dtype
    singles: Sequence[Inputs]

    def call(self, queries: Sequence[int]) -> None:
        """Answer the queries of one batch."""
        collate = self.model.collate if isinstance(self.model, Collates) else concatenate
        inputs = [self.singles[query % len(self.singles)] for query in queries]
        self.model.call(weights.place_inputs(collate(inputs), self.place, self.dtype))
        self.device.synchronize()

    def warm_up(self, rule: ServingRule, max_batch: int) -> dict[int, float]:
        """Call the model with each batch size that can form, and return the median seconds of a call by size."""
        share_within(np.arange(1000.0), 1.0)  # imports scipy before a window
        medians = {}
        with quiet():
            for size in range(1, max_batch + 1):
                seconds = []
                for call in range(rule.warmup_calls):
                    start = perf_counter()
                    self.call(range(call, call + size))
                    seconds.append(perf_counter() - start)
                medians[size] = float(np.median(seconds[len(seconds) // 2 :]))
        return medians


def capacity(seconds: Mapping[int, float]) -> float:
    """Return the largest rate of queries per second of calls of these sizes."""
    return max(size / value for size, value in seconds.items())


def bound_of(config: ServingConfig) -> tuple[float, float]:
    """Return the share of queries that must be within the bound, and the bound in seconds."""
    for share, bound in ((0.9, config.p90_ms), (0.95, config.p95_ms), (0.99, config.p99_ms)):
        if bound is not None:
            return share, bound / 1e3
    raise ValueError("no bound")


@dataclass
class Window:
    """The queries and the batches of one window so far. Queries are answered in the order of their arrival."""

    completed_s: list[float] = field(default_factory=list)
    batches: list[BatchRecord] = field(default_factory=list)
    start: float = 0.0

    def add(self, batch: BatchRecord) -> None:
        """Add a batch, in seconds from the begin of the window."""
        self.batches.append(batch)
        self.completed_s += [batch.end] * batch.size

    def completed(self, count: int) -> np.ndarray:
        """Return the completion times of the first queries, NaN for those without an answer."""
        times = np.full(count, np.nan)
        answered = self.completed_s[:count]
        times[: len(answered)] = answered
        return times


def run(config: ServingConfig, server: Server, load: float | None, clients: int | None, context: Context) -> Samples:
    """Return the samples of one load in requests per second, or of one number of clients in a closed loop."""
    if config.generator == loadgen.NAME:
        return _by_loadgen(config, server, load, context)
    rule = context.measure.serving
    queue: BatchQueue[int] = BatchQueue(BatchRule(config.max_batch, config.max_wait_ms / 1e3))
    window = Window()
    with Generator(Traffic(config.arrivals, load or 0.0, clients or 0, config.seed)) as generator:
        generator.wait_until_ready()
        with watched(context, "serving") as timed:
            window.start = generator.begin(queue.put, queue.close)
            serve = partial(_serve_batch, server, queue, generator, window, load is None)
            if load is None:
                end_s, grows = _closed(rule, window, serve), False
                scheduled = np.array(generator.issued_s[: len(window.completed_s)])
            else:
                scheduled, end_s, grows = _open(config, rule, load, window, serve)
        issued = np.array(generator.issued_s[: len(scheduled)])
    issued = np.pad(issued, (0, len(scheduled) - len(issued)), constant_values=np.nan)
    queries = Generated(scheduled, issued, window.completed(len(scheduled)))
    return _series(config, queries, window, end_s, grows).merged(timed.disturbances)


def _by_loadgen(config: ServingConfig, server: Server, load: float | None, context: Context) -> Samples:
    """Return the samples of one load, or of one client in a closed loop, with the queries of MLPerf's LoadGen.

    LoadGen sends a fixed number of queries from a thread of this process.
    """
    rule = context.measure.serving
    count = rule.min_queries if load is None else _query_counts(rule, load)[0]
    scenario = loadgen.SCENARIOS[config.arrivals]
    queue: BatchQueue[int] = BatchQueue(BatchRule(config.max_batch, config.max_wait_ms / 1e3))
    window, waiting = Window(), list[tuple[int, Future[None]]]()
    received = list[float]()

    def submit(index: int) -> Future[None]:
        received.append(perf_counter())
        future: Future[None] = Future()
        waiting.append((index, future))
        queue.put(len(waiting) - 1)
        return future

    with ThreadPoolExecutor(1, "loadgen") as pool, watched(context, "serving") as timed:
        sending = pool.submit(loadgen.generate, submit, len(server.singles), count, scenario, load or 1.0, config.seed)
        sending.add_done_callback(lambda _: queue.close())
        try:
            while numbers := queue.take():
                start = perf_counter()
                server.call([waiting[number][0] for number in numbers])
                window.batches.append(BatchRecord(start, perf_counter(), len(numbers)))
                for number in numbers:
                    waiting[number][1].set_result(None)
        except BaseException as error:  # LoadGen ends only if each query has ended
            queue.close()
            for number in queue.clear():
                waiting[number][1].set_exception(error)
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            raise
    queries = sending.result()
    begin = received[0] - float(queries.issued_s[0])
    batches = [BatchRecord(batch.start - begin, batch.end - begin, batch.size) for batch in window.batches]
    window = Window([float(time) for time in queries.completed_s], batches, begin)
    grows = load is not None and queue_grows(queries.scheduled_s, queries.completed_s, config.max_batch)
    return _series(config, queries, window, float(queries.completed_s.max()), grows).merged(timed.disturbances)


def _query_counts(rule: ServingRule, load: float) -> tuple[int, int]:
    """Return the least and the most queries of a window at a load, with those that are not counted."""
    most = ceil(min(rule.max_queries, rule.max_seconds * load) / (1 - SETTLING))
    return min(most, ceil(max(rule.min_queries, rule.min_seconds * load) / (1 - SETTLING))), most


def _serve_batch(server: Server, queue: BatchQueue[int], generator: Generator, window: Window, closed: bool) -> float:
    """Wait for a batch and answer it. Return its end in seconds from the begin of the window."""
    if not (queries := queue.take()):
        raise GeneratorError("the load generator ended before its window")
    start = perf_counter()
    server.call(queries)
    end = perf_counter()
    window.add(BatchRecord(start - window.start, end - window.start, len(queries)))
    if closed:
        for query in queries:
            generator.answer(query)
    return end - window.start


def _open(
    config: ServingConfig, rule: ServingRule, load: float, window: Window, serve: Callable[[], float]
) -> tuple[np.ndarray, float, bool]:
    """Serve queries until the share within the bound is decided, the queue grows, or the limit is reached.

    The first n queries are judged when all of them are answered or when the bound of the last one is over, so that
    each of them is known to be within the bound or not. n doubles from one check to the next. Return the scheduled
    times of the n queries, the end of the window, and whether the queue grew.
    """
    required, bound_s = bound_of(config)
    count, most = _query_counts(rule, load)
    scheduled = scheduled_times(config.arrivals, load, most, config.seed)
    while True:
        now = serve()
        if len(window.completed_s) < count and now < scheduled[count - 1] + bound_s:
            continue
        completed, first = window.completed(count), int(SETTLING * count)
        grows = queue_grows(scheduled[:count], completed, config.max_batch)
        share = share_within(completed[first:] - scheduled[first:count], bound_s)
        settled = drift(completed[first:] - scheduled[first:count]) < SETTLED
        if grows or count >= most or Trial(load, share, required, settled=settled).holds is not None:
            break
        count = min(most, 2 * count)
    end, limit = now, now + DRAIN_SECONDS
    while not grows and len(window.completed_s) < count and now < limit:
        now = serve()
    return scheduled[:count], end, grows


def _closed(rule: ServingRule, window: Window, serve: Callable[[], float]) -> float:
    """Serve the queries of a closed loop for the time of a window, and return its end."""
    while True:
        now = serve()
        enough = len(window.completed_s) >= rule.min_queries and now >= rule.min_seconds
        if enough or now >= rule.max_seconds or len(window.completed_s) >= rule.max_queries:
            return now


def _series(config: ServingConfig, queries: Generated, window: Window, end_s: float, grows: bool) -> Samples:
    """Return the samples of the counted queries and of the batches since the first of them."""
    first = int(SETTLING * len(queries.scheduled_s))
    start_s = float(queries.scheduled_s[first])
    batches = [batch for batch in window.batches if batch.end >= start_s and batch.start <= end_s]
    share, bound_s = bound_of(config)
    series: dict[str, Sequence[float] | np.ndarray] = {
        "scheduled_s": queries.scheduled_s[first:],
        "issued_s": queries.issued_s[first:],
        "completed_s": queries.completed_s[first:],
        "batch_size_count": [batch.size for batch in batches],
        "call_s": [batch.end - batch.start for batch in batches],
        "window_s": [end_s - start_s],
        "utilization_fraction": [utilization(batches, start_s, end_s)],
        "answered_count": [sum(start_s <= time <= end_s for time in window.completed_s)],
        "bound_s": [bound_s],
        "bound_fraction": [share],
        "queue_grows_count": [float(grows)],
        "paused_s": [_paused_s(batches)],
    }
    samples = Samples({f"serving/{name}": np.asarray(values, np.float64) for name, values in series.items()})
    return samples.merged(_settling(config, queries, grows, first)).merged(_lateness(queries, bound_s))


def _settling(config: ServingConfig, queries: Generated, grows: bool, first: int) -> Samples:
    """Return whether the latencies depend on the length of the window, as the series `queue_unsettled_count` and a
    flag. In a closed loop they do not, because the queue has at most one query of each client."""
    unsettled, flags = 0.0, {}
    ratio = drift(queries.completed_s[first:] - queries.scheduled_s[first:])
    if grows:
        detail = "the queue grew during the complete window: latencies would depend on the length of the window"
        flags["queue_grows"] = detail
    elif config.arrivals == CLOSED:
        pass
    elif is_long_at_end(queries.scheduled_s, queries.completed_s, config.max_batch):
        unsettled = 1.0
        flags["queue_unsettled"] = "the queue was long at the end of the window: latencies would depend on its length"
    elif ratio >= SETTLED:
        unsettled = 1.0
        flags["queue_unsettled"] = f"the median latencies of the halves of the window differ by a factor of {ratio:.2g}"
    elif ratio >= DRIFT:
        flags["latency_drifts"] = f"the median latencies of the halves of the window differ by {ratio - 1:.0%}"
    return Samples({"serving/queue_unsettled_count": np.array([unsettled])}, flags=flags)


def _lateness(queries: Generated, bound_s: float) -> Samples:
    """Return a flag or a fault if the generator sent queries late."""
    late = queries.issued_s - queries.scheduled_s
    late = late[~np.isnan(late)]
    if not len(late) or (value := float(np.quantile(late, 0.99))) <= max(LATE_LEAST_S, LATE_DOUBTS * bound_s):
        return Samples()
    detail = f"p99 of the lateness of the generator is {value * 1e3:.3g} ms, and the bound is {bound_s * 1e3:g} ms"
    reason = {"generator_late": detail}
    return Samples(faults=reason) if value > LATE_INVALIDATES * bound_s else Samples(flags=reason)


def _paused_s(batches: Sequence[BatchRecord]) -> float:
    """Return the seconds by which calls exceeded the median of their size, if they are as long as a pause."""
    paused = 0.0
    for size in {batch.size for batch in batches}:
        seconds = np.array([batch.end - batch.start for batch in batches if batch.size == size])
        typical = float(np.quantile(seconds, 0.5, method="lower"))
        beyond = seconds[seconds > LONG_CALL * typical] - typical
        paused += float(beyond[beyond > LONG_CALL_S].sum())
    return paused


def trial_of(samples: Samples, load: float) -> Trial:
    """Return the trial of a load for the search."""
    latency = samples.get("serving/completed_s") - samples.get("serving/scheduled_s")
    bound_s, required = float(samples.get("serving/bound_s")[0]), float(samples.get("serving/bound_fraction")[0])
    grows = bool(samples.get("serving/queue_grows_count")[0])
    settled = not samples.get("serving/queue_unsettled_count").any()
    half = share_within(latency, CLIFF * bound_s)
    return Trial(load, share_within(latency, bound_s), required, not grows, settled, half)


def decision(samples: Samples, load: float) -> str:
    """Return whether a load holds the bound, in words."""
    if samples.get("serving/queue_grows_count")[0]:
        return "fails: the queue grows"
    trial = trial_of(samples, load)
    count = len(samples.get("serving/scheduled_s"))
    if trial.holds is None and count < least_queries(trial.required):
        return f"undecided: {least_queries(trial.required)} queries are needed"
    return {True: "holds", False: "fails", None: "undecided"}[trial.holds]


def least_queries(required: float) -> int:
    """Return the least number of independent queries that can hold a bound, if each of them is within it."""
    count = LEAST_REQUESTS
    while share_within(np.zeros(count), 1.0).low < required:
        count += 1
    return count


def new_search(config: ServingConfig, rule: ServingRule, capacity_per_s: float) -> LoadSearch:
    """Return a search that begins with half of the rate of calls without a queue.

    It does not try smaller loads that get too few queries in the longest window to hold the bound.
    """
    start = rounded(capacity_per_s / 2)
    decidable = least_queries(bound_of(config)[0]) / max(rule.max_seconds, 1e-3)
    smallest = min(start, max(start / SMALLER, decidable))
    return LoadSearch(SearchRule(start, rule.precision, rule.most_loads, smallest, start * LARGER))


def describe_search(search: LoadSearch, config: ServingConfig, verdicts: Mapping[float, str]) -> Samples:
    """Return the ends of the largest load, the label with the result, and doubts about the loads that decide it."""
    result = search.result()
    required, bound_s = bound_of(config)
    low, high = result.low, result.high
    series = {
        name: np.array([value]) for name, value in zip(SEARCH_SERIES, (low, high), strict=True) if value is not None
    }
    missing = {name: result.statement for name, value in zip(SEARCH_SERIES, (low, high), strict=True) if value is None}
    ends = [load for load in (low, high) if load is not None]
    invalid = [load for load in ends if verdicts.get(load) == INVALID]
    others = [load for load, verdict in verdicts.items() if verdict == INVALID and load not in invalid]
    flags, faults = {}, {}
    if invalid:
        faults["invalid_load"] = f"the result depends on {_listed(invalid)} requests/s, and these rows are invalid"
    if others:
        flags["invalid_load"] = f"the rows of {_listed(others)} requests/s are invalid"
    if result.contradicts:
        flags["contradiction"] = "a load fails although a larger load holds"
    return Samples(series, missing, flags, faults, {"load_statement": statement(result, required, bound_s)})


def statement(result: Boundary, required: float, bound_s: float) -> str:
    """Return the result of a search as one sentence."""
    bound = f"p{required * 100:g} within {bound_s * 1e3:g} ms"
    text = ""
    if result.low is not None and result.high is not None:
        text = f"{result.low:g} requests/s hold and {result.high:g} fail"
    return f"{bound}: {'; '.join(filter(None, [text, result.statement]))}"


def _listed(loads: Sequence[float]) -> str:
    return " and ".join(f"{load:g}" for load in sorted(loads))


def conditions(config: ServingConfig) -> str:
    """Return the conditions of the row of a load, in one line."""
    required, bound_s = bound_of(config)
    closed = config.arrivals == CLOSED
    parts = [
        "closed loop: a client waits for its answer" if closed else f"{config.arrivals} arrivals",
        f"seed {config.seed}" if config.arrivals == POISSON else "",
        "sent by MLPerf's LoadGen in this process" if config.generator == loadgen.NAME else "",
        f"max_batch {config.max_batch}",
        f"max_wait {config.max_wait_ms:g} ms",
        f"bound p{required * 100:g} {bound_s * 1e3:g} ms",
        f"latency from the {'sending' if closed else 'scheduled time'} of a query: {INCLUDES}; {EXCLUDES}",
        f"without the first {SETTLING:.0%} of the queries",
    ]
    return "; ".join(filter(None, parts))
