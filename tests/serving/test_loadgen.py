"""MLPerf's generator. Its times are compared with its own summary and with the schedule that it was given."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("mlperf_loadgen")

from visionbench.serving import loadgen
from visionbench.serving.batching import Batcher, BatchRule


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
