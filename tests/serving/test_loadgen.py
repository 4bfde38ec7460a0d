"""MLPerf's generator. Its times are compared with its own summary and with the schedule that it was given."""

from __future__ import annotations

import re
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("mlperf_loadgen")

from visionbench.serving import loadgen
from visionbench.serving.arrivals import scheduled_times
from visionbench.serving.batching import Batcher, BatchQueue, BatchRule
from visionbench.serving.generator import Generator, Traffic


def answered(indices):
    """A function that answers each request at once, and appends its index to the list."""

    def submit(index):
        indices.append(index)
        future = Future()
        future.set_result(index)
        return future

    return submit


@pytest.mark.parametrize("scenario", [loadgen.POISSON, loadgen.CLOSED, loadgen.OFFLINE])
def test_each_request_is_sent_once_and_has_its_times_in_order(scenario):
    indices = []
    times = loadgen.generate(answered(indices), 16, 200, scenario, rate_per_s=4000.0)
    assert len(indices) == len(times.scheduled_s) == 200
    assert set(indices) <= set(range(16)) and len(set(indices)) > 4
    assert (np.diff(times.scheduled_s) >= 0).all() and times.scheduled_s[0] == 0
    assert (times.issued_s >= times.scheduled_s).all() and (times.completed_s >= times.issued_s).all()


def test_the_schedule_is_poisson_with_the_rate_and_equal_for_equal_seeds():
    runs = [loadgen.generate(answered([]), 4, 600, rate_per_s=2000.0, seed=seed).scheduled_s for seed in (5, 5, 6)]
    gaps = np.diff(runs[0])
    assert stats.kstest(gaps, "expon", args=(0, 1 / 2000.0)).pvalue > 1e-4
    np.testing.assert_allclose(runs[0], runs[1], atol=2e-6)
    assert not np.allclose(runs[0], runs[2], atol=2e-6)


def test_all_requests_of_the_offline_scenario_are_scheduled_at_once():
    times = loadgen.generate(answered([]), 4, 50, loadgen.OFFLINE)
    assert (times.scheduled_s == 0).all()


def test_the_closed_loop_sends_a_request_after_the_answer_before_it():
    times = loadgen.generate(answered([]), 4, 50, loadgen.CLOSED)
    assert (times.scheduled_s[1:] >= times.completed_s[:-1]).all()


def test_batches_form_under_load():
    batcher = Batcher(list, BatchRule(8))
    times = loadgen.generate(batcher.submit, 4, 64, loadgen.OFFLINE)
    batcher.close()
    assert sum(batch.size for batch in batcher.batches) == 64
    assert max(batch.size for batch in batcher.batches) == 8
    assert np.isfinite(times.completed_s).all()


def test_a_request_with_an_error_or_that_is_refused_has_no_completion():
    def submit(index):
        if index == 0:
            raise RuntimeError("refused")
        future = Future()
        if index == 1:
            future.set_exception(ValueError("broken"))
        else:
            future.set_result(index)
        indices.append(index)
        return future

    indices = []
    times = loadgen.generate(submit, 4, 100, loadgen.CLOSED)
    good = sum(index > 1 for index in indices)
    assert 0 < good < 100
    assert int(np.isfinite(times.completed_s).sum()) == good


def test_a_trace_without_all_requests_is_an_error():
    with pytest.raises(loadgen.LoadGenError, match="LoadGen's trace has 0 of 3 requests"):
        loadgen._parse('{"traceEvents":[]}', 3, set())


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(loadgen, "find_spec", lambda name: None)
    assert loadgen.why_unavailable() == "mlcommons-loadgen is not installed; pip install 'visionbench[loadgen]'"


# ------------------------------------------------------------------------------------------------------- agreement
PERCENTILES = {"50.00": 0.5, "90.00": 0.9, "95.00": 0.95, "99.00": 0.99}


@pytest.fixture
def summary(monkeypatch):
    """The summary that LoadGen writes, as a dictionary from its words to its numbers."""
    numbers = {}

    class Kept(TemporaryDirectory):
        def __exit__(self, *error):
            lines = (Path(self.name) / "mlperf_log_summary.txt").read_text().splitlines()
            numbers.update(line.split(":")[::1] for line in lines if line.count(":") == 1)
            super().__exit__(*error)

    monkeypatch.setattr(loadgen, "TemporaryDirectory", Kept)
    return lambda words: next(float(value) for name, value in numbers.items() if name.strip() == words)


@pytest.mark.parametrize("scenario", [loadgen.POISSON, loadgen.CLOSED, loadgen.OFFLINE])
def test_the_figures_that_we_compute_from_a_run_of_loadgen_are_those_of_its_summary(scenario, summary):
    batcher = Batcher(list, BatchRule(4))
    times = loadgen.generate(batcher.submit, 16, 1000, scenario, rate_per_s=5000.0)
    batcher.close()
    latency_ns = (times.completed_s - times.scheduled_s) * 1e9
    assert latency_ns.mean() == pytest.approx(summary("Mean latency (ns)"), abs=2.0)
    assert latency_ns.max() == pytest.approx(summary("Max latency (ns)"), abs=2.0)
    ordered = np.sort(latency_ns)
    for name, share in PERCENTILES.items():
        rank = int(share * len(ordered))
        reported = summary(f"{name} percentile latency (ns)")
        assert ordered[rank - 2] - 2 <= reported <= ordered[min(rank + 1, len(ordered) - 1)] + 2


def test_the_scheduled_rate_that_we_compute_is_that_of_the_summary(summary):
    times = loadgen.generate(answered([]), 4, 1000, rate_per_s=4000.0)
    rate = (len(times.scheduled_s) - 1) / times.scheduled_s[-1]
    assert rate == pytest.approx(summary("Scheduled samples per second"), rel=5e-3)


def test_both_generators_have_the_distribution_of_gaps_of_the_same_poisson_process():
    theirs = np.diff(loadgen.generate(answered([]), 4, 1500, rate_per_s=5000.0).scheduled_s)
    ours = np.diff(scheduled_times("poisson", 5000.0, 1500, 0))
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-4


def ours(traffic, count, rule):
    """Answer the first queries of our generator by the rule, and return the sizes of the batches."""
    queue, sizes = BatchQueue(rule), []
    with Generator(traffic) as generator:
        generator.wait_until_ready()
        generator.begin(queue.put, queue.close)
        while sum(sizes) < count:
            batch = queue.take()
            sizes.append(len(batch))
            if traffic.pattern == "closed":
                for query in batch:
                    generator.answer(query)
    return sizes


@pytest.mark.parametrize(
    ("scenario", "traffic", "rule", "sizes"),
    [
        (loadgen.OFFLINE, Traffic("constant", 1e6), BatchRule(8, 60.0), {8}),
        (loadgen.POISSON, Traffic("poisson", 5000.0), BatchRule(4, 60.0), {4}),
        (loadgen.CLOSED, Traffic("closed", clients=1), BatchRule(8, 0.0), {1}),
    ],
)
def test_a_server_forms_the_same_batches_with_both_generators(scenario, traffic, rule, sizes):
    batcher = Batcher(list, rule)
    loadgen.generate(batcher.submit, 4, 80, scenario, rate_per_s=5000.0)
    batcher.close()
    assert {batch.size for batch in batcher.batches} == set(ours(traffic, 80, rule)) == sizes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["serving.generator=loadgen", "serving.arrivals=constant"], "LoadGen has poisson arrivals, or one client"),
        (["serving.generator=loadgen", "serving.arrivals=closed"], r"serving.clients=\[1,2,4\]: LoadGen has"),
        (["serving.generator=other"], "serving.generator=other: no such value"),
    ],
)
def test_a_generator_that_cannot_send_the_load_is_refused_in_one_line(refusal, overrides, message):
    assert re.search(message, refusal("metrics=[serving]", *overrides))
