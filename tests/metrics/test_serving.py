"""Figures of loads: MLPerf's counts of queries, upper bounds of percentiles, and the queue that grows."""

import numpy as np
import pytest
from scipy.stats import binom

from visionbench.core import Samples
from visionbench.metrics.serving import Serving, required_queries, upper_bound_rank


def load(latency_s, grows=False, bound_s=0.1, required=0.99, rate=100.0):
    latency = np.asarray(latency_s, np.float64)
    scheduled = np.arange(len(latency)) / rate
    values = {
        "scheduled_s": scheduled,
        "issued_s": scheduled + 0.001,
        "completed_s": scheduled + latency,
        "batch_size_count": [1, 1, 2, 4],
        "window_s": [len(latency) / rate],
        "utilization_fraction": [0.5],
        "answered_count": [len(latency)],
        "bound_s": [bound_s],
        "bound_fraction": [required],
        "queue_grows_count": [float(grows)],
    }
    return Samples({f"serving/{name}": np.asarray(value, np.float64) for name, value in values.items()})


@pytest.mark.parametrize(("percent", "queries"), [(90, 23_886), (95, 50_425), (99, 262_742)])
def test_the_counts_of_queries_are_those_of_mlperf(percent, queries):
    assert required_queries(percent) == queries


@pytest.mark.parametrize(("percent", "queries"), [(90, 23_886), (95, 50_425)])
def test_a_percentile_is_null_below_mlperfs_count_and_has_a_value_from_it_on(percent, queries):
    few, enough = (Serving().compute(load(np.linspace(0, 0.1, count))) for count in (queries - 1, queries))
    assert few.values[f"serving_p{percent}_ms"] is None
    assert f"{queries:,}" in few.reasons[f"serving_p{percent}_ms"]
    assert enough.values[f"serving_p{percent}_ms"] == pytest.approx(percent, abs=0.01)


@pytest.mark.parametrize("percent", [90, 95, 99])
@pytest.mark.parametrize("queries", [1000, 5000, 100_000])
def test_the_upper_bound_is_too_small_in_at_most_one_percent_of_windows(percent, queries):
    rank = upper_bound_rank(queries, percent)
    assert binom.cdf(rank, queries, 1 - percent / 100) <= 0.01 < binom.cdf(rank + 1, queries, 1 - percent / 100)


def test_few_queries_have_no_upper_bound():
    assert upper_bound_rank(661, 99) is None
    assert upper_bound_rank(662, 99) == 1
    assert Serving().compute(load(np.full(400, 0.01))).values["serving_p99_upper_ms"] is None


def test_the_upper_bound_is_that_of_the_percentile_that_is_limited():
    latency = np.random.default_rng(0).permutation(np.arange(1000) / 1e4)
    values = Serving().compute(load(latency, required=0.95)).values
    assert values["serving_p95_upper_ms"] == pytest.approx(100 - upper_bound_rank(1000, 95) / 10)
    assert values["serving_p90_upper_ms"] is None and values["serving_p99_upper_ms"] is None


def test_goodput_counts_the_queries_within_the_bound():
    values = Serving().compute(load([0.05, 0.15] * 500)).values
    assert values["serving_within_fraction"] == 0.5
    assert values["serving_within_low_fraction"] < 0.5 < values["serving_within_high_fraction"]
    assert values["serving_goodput_per_s"] == pytest.approx(50, rel=0.01)
    assert values["serving_mean_ms"] == pytest.approx(100)
    assert values["serving_answered_per_s"] == pytest.approx(100)


def test_the_sizes_of_batches_have_their_shares():
    values = Serving().compute(load(np.full(400, 0.01))).values
    assert values["serving_batch_mean_count"] == 2
    assert [values[f"serving_batch_{size}_fraction"] for size in (1, 2, 4)] == [0.5, 0.25, 0.25]


def test_a_load_whose_queue_grows_has_no_figure_that_depends_on_the_length_of_the_window():
    numbers = Serving().compute(load(np.linspace(0, 5, 1000), grows=True))
    for name in ("mean_ms", "p50_ms", "p99_ms", "p99_upper_ms", "within_fraction", "within_low_fraction"):
        assert numbers.values[f"serving_{name}"] is None
        assert "the queue grew" in numbers.reasons[f"serving_{name}"]
    assert numbers.values["serving_goodput_per_s"] is None
    assert numbers.values["serving_utilization_fraction"] == 0.5


def test_a_load_whose_queue_did_not_settle_has_no_latency():
    samples = load(np.linspace(0, 5, 1000))
    samples = samples.merged(Samples({"serving/queue_unsettled_count": np.array([1.0])}))
    numbers = Serving().compute(samples)
    for name in ("mean_ms", "p50_ms", "within_fraction", "goodput_per_s"):
        assert numbers.values[f"serving_{name}"] is None
        assert "did not settle" in numbers.reasons[f"serving_{name}"]


def test_a_query_without_an_answer_is_not_within_the_bound_and_leaves_no_latency():
    latency = np.full(1000, 0.01)
    latency[-1] = np.nan
    numbers = Serving().compute(load(latency))
    assert numbers.values["serving_mean_ms"] is None
    assert numbers.reasons["serving_mean_ms"] == "1 queries were not answered"
    assert numbers.values["serving_within_fraction"] == 0.999
    assert numbers.values["serving_unanswered_count"] == 1


def test_the_largest_load_has_the_ends_of_the_search_or_its_statement():
    series = {"serving_search/low_per_s": np.array([40.0]), "serving_search/high_per_s": np.array([45.0])}
    values = Serving().compute(Samples(series)).values
    assert values == {
        "serving_largest_load_per_s": 40.0,
        "serving_largest_load_low_per_s": 40.0,
        "serving_largest_load_high_per_s": 45.0,
    }
    numbers = Serving().compute(Samples(missing={"serving_search/low_per_s": "no load holds"}))
    assert numbers.reasons["serving_largest_load_per_s"] == "no load holds"
