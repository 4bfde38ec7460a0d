"""The window of a load: when it ends, which queries are counted, and its faults, with a simulated server."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from visionbench import validity
from visionbench.config import ServingConfig, ServingRule
from visionbench.core import INVALID, VALID, WARNED, Samples
from visionbench.serving.arrivals import poisson_times
from visionbench.serving.batching import BatchRecord, BatchRule
from visionbench.serving.generator import Generated
from visionbench.serving.search import LoadSearch, SearchRule, Share, Trial
from visionbench.serving.virtual import simulate
from visionbench.stages import serving

CONFIG = ServingConfig(max_batch=1, max_wait_ms=0, p99_ms=100.0)
RULE = ServingRule(min_queries=900, min_seconds=0, max_seconds=1000, max_queries=9000)
SERVICE_S = 0.01


def simulated(load, config=CONFIG, service=lambda size: SERVICE_S, queries=20_000):
    """A window, and a function that serves the next batch of a simulated server of constant time."""
    arrived = poisson_times(load, queries, config.seed)
    batches = iter(simulate(arrived, BatchRule(config.max_batch, config.max_wait_ms / 1e3), service).batches)
    window = serving.Window()

    def serve():
        batch = next(batches)
        window.add(batch)
        return batch.end

    return window, serve


def opened(load, rule=RULE, config=CONFIG, **options):
    window, serve = simulated(load, config, **options)
    return window, *serving._open(config, rule, load, window, serve)


def test_a_load_that_is_clearly_within_the_bound_ends_at_the_least_number_of_queries():
    window, scheduled, end, grows = opened(30.0)
    assert len(scheduled) == 1000  # 900 without the first tenth
    assert not grows and len(window.completed_s) >= 1000
    assert end >= scheduled[-1]


def test_the_window_lasts_for_its_least_time():
    _, scheduled, _, _ = opened(30.0, replace(RULE, min_seconds=90.0))
    assert len(scheduled) == 3000


def test_the_queries_double_until_the_load_is_decided_or_their_limit_is_reached():
    config = replace(CONFIG, p99_ms=50.0)
    _, scheduled, _, _ = opened(60.0, config=config)
    assert len(scheduled) == 8000


def test_the_longest_time_limits_the_queries():
    _, scheduled, _, _ = opened(30.0, replace(RULE, max_seconds=9.0))
    assert len(scheduled) == 300


def test_a_load_above_the_capacity_is_a_queue_that_grows_and_ends_soon():
    window, scheduled, end, grows = opened(200.0)
    assert grows and len(scheduled) == 1000
    assert end <= scheduled[-1] + 0.1 + SERVICE_S  # it does not wait for the queue
    assert len(window.completed_s) < 1000


def test_a_query_counts_as_late_only_after_its_bound():
    """At the end of the window, each query is answered or was scheduled longer ago than the bound."""
    window, scheduled, end, _ = opened(200.0)
    answered = len(window.completed_s)
    assert (end - scheduled[answered:] >= 0.1 - 1e-9).all()


def samples_of(load, config=CONFIG, **options):
    window, scheduled, end, grows = opened(load, config=config, **options)
    queries = Generated(scheduled, scheduled + 1e-4, window.completed(len(scheduled)))
    return serving._series(config, queries, window, end, grows)


def test_the_first_tenth_of_the_queries_is_not_counted():
    samples = samples_of(30.0)
    assert len(samples.get("serving/scheduled_s")) == 900
    assert samples.get("serving/utilization_fraction")[0] == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(("load", "decision"), [(30.0, "holds"), (200.0, "fails: the queue grows")])
def test_the_decision_about_a_load_is_stated(load, decision):
    assert serving.decision(samples_of(load), load) == decision


@pytest.mark.parametrize(
    ("latency", "kind"),
    [
        (np.full(1000, 0.01), None),
        (np.repeat([0.01, 0.014], 500), "latency_drifts"),
        (np.repeat([0.01, 0.03], 500), "queue_unsettled"),
        (np.repeat([0.01, 9.0], [900, 100]), "queue_unsettled"),
    ],
)
def test_latencies_that_depend_on_the_window_are_questionable(latency, kind):
    scheduled = np.arange(1000) / 100.0
    samples = serving._settling(CONFIG, Generated(scheduled, scheduled, scheduled + latency), False, 100)
    assert [reason.kind for reason in validity.judge(samples).reasons] == ([kind] if kind else [])
    assert samples.get("serving/queue_unsettled_count")[0] == (kind == "queue_unsettled")


def test_a_load_whose_queue_did_not_settle_is_undecided_although_each_query_is_within_the_bound():
    settled = samples_of(30.0)
    assert serving.decision(settled, 30.0) == "holds"
    unsettled = Samples({"serving/queue_unsettled_count": np.array([1.0])})
    assert serving.decision(settled.merged(unsettled), 30.0) == "undecided"


def test_a_load_whose_queue_grows_is_questionable_and_names_the_reason():
    judged = validity.judge(samples_of(200.0))
    assert judged.verdict == WARNED and judged.reasons[0].kind == "queue_grows"


@pytest.mark.parametrize(("late_s", "verdict"), [(0.0005, VALID), (0.01, WARNED), (0.05, INVALID)])
def test_queries_that_were_sent_late_are_a_doubt_or_a_fault(late_s, verdict):
    scheduled = np.arange(1000) / 30.0
    queries = Generated(scheduled, scheduled + late_s, scheduled + 0.06)
    assert validity.judge(serving._lateness(queries, 0.1)).verdict == verdict


def test_a_call_that_is_much_longer_than_others_of_its_size_is_a_pause():
    calls = [BatchRecord(float(start), start + 0.01 * size, size) for start, size in enumerate([1, 8, 1, 8, 1, 8])]
    assert serving._paused_s(calls) == 0
    paused = [*calls, BatchRecord(10.0, 12.01, 1)]
    assert serving._paused_s(paused) == pytest.approx(2.0)
    samples = samples_of(30.0)
    samples.series["serving/paused_s"][0] = 5.0
    assert validity.judge(samples).verdict == INVALID


def closed(rule):
    window, serve = simulated(90.0)
    return window, serving._closed(rule, window, serve)


def test_a_closed_loop_lasts_until_it_has_its_queries_and_its_time():
    window, end = closed(replace(RULE, min_queries=100, min_seconds=5.0))
    assert end >= 5.0 and len(window.completed_s) >= 100
    window, end = closed(replace(RULE, min_queries=100, min_seconds=0.0))
    assert len(window.completed_s) == 100
    window, end = closed(replace(RULE, max_seconds=2.0))
    assert 2.0 <= end < 2.1


def test_a_search_in_virtual_time_encloses_the_capacity():
    """M/D/1 with a bound far above the service time: the limit is close to the rate of the server."""
    search = serving.new_search(CONFIG, ServingRule(precision=0.1, most_loads=20), 100.0)
    while (load := search.next_load()) is not None:
        search.add(serving.trial_of(samples_of(load), load))
    result = search.result()
    assert 50 < result.low < 100 and result.low < result.high <= 120


GOOD, BAD = Share(0.999, 0.995, 1.0), Share(0.5, 0.4, 0.6)


@pytest.fixture
def searched():
    search = LoadSearch(SearchRule(10.0))
    for load, share in ((10.0, GOOD), (20.0, BAD), (14.0, GOOD)):
        search.add(Trial(load, share, 0.99))
    return search


def test_the_row_of_the_search_has_both_ends_and_a_sentence(searched):
    samples = serving.describe_search(searched, CONFIG, {10.0: VALID, 20.0: VALID, 14.0: VALID})
    assert (samples.get("serving_search/low_per_s")[0], samples.get("serving_search/high_per_s")[0]) == (14.0, 20.0)
    assert samples.labels["load_statement"] == "p99 within 100 ms: 14 requests/s hold and 20 fail"
    assert validity.judge(samples).verdict == VALID


@pytest.mark.parametrize(("invalid", "verdict"), [(10.0, WARNED), (14.0, INVALID), (20.0, INVALID)])
def test_the_search_is_invalid_if_a_load_that_decides_it_is_invalid(searched, invalid, verdict):
    verdicts = {load: INVALID if load == invalid else VALID for load in (10.0, 14.0, 20.0)}
    judged = validity.judge(serving.describe_search(searched, CONFIG, verdicts))
    assert judged.verdict == verdict and f"{invalid:g} requests/s" in str(judged.reasons[0])


def test_a_search_without_a_load_that_holds_states_it():
    search = LoadSearch(SearchRule(10.0))
    search.add(Trial(10.0, BAD, 0.99))
    samples = serving.describe_search(search, CONFIG, {10.0: VALID})
    assert "no load that was tried holds" in samples.missing["serving_search/low_per_s"]
    assert "serving_search/high_per_s" in samples.series


def test_the_conditions_of_a_load_name_what_a_latency_includes():
    text = serving.conditions(CONFIG)
    for part in ("poisson arrivals", "seed 0", "max_batch 1", "max_wait 0 ms", "p99 100 ms", "queue", "not decoding"):
        assert part in text
    assert "closed loop" in serving.conditions(replace(CONFIG, arrivals="closed"))
    assert "seed" not in serving.conditions(replace(CONFIG, arrivals="constant"))


def test_the_server_assembles_the_inputs_of_the_queries_in_their_order():
    import torch

    calls = []
    model = SimpleNamespace(call=lambda batch: calls.append(batch["x"].flatten().tolist()))
    device = SimpleNamespace(synchronize=lambda: None)
    singles = [{"x": torch.tensor([[float(index)]])} for index in range(3)]
    server = serving.Server(model, device, torch.device("cpu"), torch.float32, singles)
    server.call([4, 0, 2])
    assert calls == [[1.0, 0.0, 2.0]]
    medians = server.warm_up(ServingRule(warmup_calls=2), 3)
    assert [len(call) for call in calls[1:]] == [1, 1, 2, 2, 3, 3]
    assert list(medians) == [1, 2, 3]
    assert serving.capacity({1: 0.1, 2: 0.1}) == 20


def test_a_search_does_not_try_loads_with_too_few_queries_for_a_decision():
    least = serving.least_queries(0.99)
    assert 400 < least < 450
    search = serving.new_search(CONFIG, ServingRule(max_seconds=10.0), 400.0)
    assert search.rule.smallest == least / 10
    assert serving.new_search(CONFIG, ServingRule(max_seconds=1.0), 400.0).rule.smallest == 200.0


def test_a_load_with_too_few_queries_is_undecided_and_the_number_is_stated():
    samples = samples_of(30.0)
    few = {name: values[:300] if len(values) > 300 else values for name, values in samples.series.items()}
    decision = serving.decision(replace(samples, series=few), 30.0)
    assert decision == f"undecided: {serving.least_queries(0.99)} queries are needed"
