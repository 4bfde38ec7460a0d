"""Requests as samples and as figures: what counts in the latency, and when a row is questionable or invalid."""

from __future__ import annotations

import numpy as np
import pytest

from visionbench import validity
from visionbench.config import MeasureConfig, RequestsConfig
from visionbench.core import Attempt, Prices, Samples
from visionbench.core.remote import FAILURES, KINDS
from visionbench.metrics.cost import Cost
from visionbench.metrics.endpoint import Endpoint
from visionbench.remote.budget import Budget
from visionbench.remote.requests import Outcome, Requests, TimedAttempt
from visionbench.stages.remote import attempts, window
from visionbench.stages.remote.window import Images

PRICES = Prices(input_per_million_tokens=10, output_per_million_tokens=100, currency="EUR")


def outcome(*kinds: str, start: float = 0.0, stopped: str = "", **fields) -> Outcome:
    """Return a request whose attempts have these kinds and take a second each."""
    counted = {"input_tokens": 100, "output_tokens": 10, "sent_bytes": 1000, "received_bytes": 300}
    status = {"answered": 200, "refused": 200, "rate_limited": 429, "server_error": 500, "bad_request": 400}
    listed = [
        TimedAttempt(
            Attempt(kind, 1.0, status.get(kind), **({**counted, **fields} if kind == "answered" else {})),
            start + 2 * index,
            index + 1,
        )
        for index, kind in enumerate(kinds)
    ]
    return Outcome(tuple(listed), max(0.0, 2.0 * len(kinds) - 1), start + 2.0 * len(kinds) - 1, stopped)


def judge(outcomes, planned=None, stopped="", share=0.01, prices=None):
    return attempts.judge(outcomes, planned or len(outcomes), stopped, share, prices)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_share_of_failures_above_the_limit_is_a_doubt_and_half_of_them_a_fault(kind):
    few = judge([outcome("answered")] * 199 + [outcome(kind)])
    assert few.labels["requests_failed"] == f"1 of 200 requests have no answer: {kind} 1"
    assert not few.flags and not few.faults
    some = judge([outcome("answered")] * 97 + [outcome(kind)] * 3)
    assert some.flags["requests_failed"].endswith(f"{kind} 3") and not some.faults
    most = judge([outcome("answered")] * 4 + [outcome(kind)] * 6)
    assert most.faults["requests_failed"].startswith("6 of 10")


def test_repeated_attempts_truncated_answers_and_missing_counts_are_labels():
    labels = judge(
        [outcome("rate_limited", "timeout", "answered"), outcome("answered", truncated=True, output_tokens=None)]
    ).labels
    assert labels["requests_repeated"] == "2 attempts were repeated: rate_limited 1, timeout 1"
    assert labels["answers_truncated"] == "1 of 2 answers end at the limit of their tokens"
    assert labels["tokens_uncounted"] == "1 of 2 answers have no count of their tokens"


def test_requests_that_were_not_sent_are_a_doubt_with_the_reason():
    flags = judge([outcome("answered"), outcome(stopped="the limit")], 5, "the limit").flags
    assert flags["requests_not_sent"] == "4 of 5 requests were not sent: the limit"


def test_attempts_of_unknown_cost_are_a_doubt_if_there_are_prices():
    outcomes = [outcome("timeout", "answered"), outcome("server_error", "answered")]
    assert judge(outcomes, prices=PRICES).flags["cost_incomplete"].startswith("the cost of 1 of 4 attempts")
    assert "cost_incomplete" not in judge(outcomes).flags


def compute(*outcomes: Outcome):
    samples = attempts.series(outcomes, PRICES)
    return Endpoint().compute(samples).merged(Cost().compute(samples))


def test_failures_and_repeated_attempts_are_counted_by_kind():
    values = compute(
        outcome("rate_limited", "server_error", "answered"), outcome("timeout", "timeout"), outcome("refused")
    ).values
    assert (values["endpoint_requests_count"], values["endpoint_attempts_count"]) == (3, 6)
    assert values["endpoint_success_fraction"] == pytest.approx(1 / 3)
    assert values["endpoint_failed_timeout_count"] == values["endpoint_failed_refused_count"] == 1
    assert values["endpoint_repeated_timeout_count"] == values["endpoint_repeated_rate_limited_count"] == 1
    total = sum(values[f"endpoint_failed_{kind}_count"] for kind in FAILURES)
    assert total == values["endpoint_failed_fraction"] * 3


def test_the_cost_of_an_image_includes_failed_attempts_and_is_per_answer():
    answered = PRICES.cost(100, 10)
    values = compute(outcome("rate_limited", "answered"), outcome("answered"), outcome("bad_request")).values
    assert values["cost_per_1000_images"] == pytest.approx(1000 * answered)
    uncounted = compute(outcome("answered", input_tokens=None))
    assert uncounted.values["cost_per_1000_images"] is None
    assert "does not count" in uncounted.reasons["cost_per_1000_images"]


def test_without_an_answer_every_figure_of_answers_is_null_with_a_reason():
    metrics = compute(outcome("timeout"), outcome("refused"))
    for name in ("first_token_p50_ms", "sent_per_image_bytes", "output_tokens_per_s", "with_retries_p50_ms"):
        assert metrics.values[f"endpoint_{name}"] is None
        assert metrics.reasons[f"endpoint_{name}"] == "no request has an answer"


def test_times_of_streamed_answers():
    streamed = [outcome("answered", first_token_s=0.1 + index / 1000) for index in range(100)]
    values = compute(*streamed).values
    assert values["endpoint_first_token_p50_ms"] == pytest.approx(149.5)
    assert values["endpoint_per_output_token_p50_ms"] == pytest.approx((1000 - 149.5) / 9)
    few = compute(*streamed[:10])
    assert (
        few.values["endpoint_first_token_p95_ms"] is None and "p95 needs" in few.reasons["endpoint_first_token_p95_ms"]
    )


def test_the_series_have_one_entry_for_each_attempt_and_nan_for_what_is_unknown():
    series = attempts.series([outcome("timeout", "answered")], None).series
    assert list(series["attempts/kind_index"]) == [KINDS.index("timeout"), 0]
    assert np.isnan(series["attempts/status_code"][0]) and series["attempts/status_code"][1] == 200
    assert list(series["requests/with_retries_s"]) == [3.0]
    assert all(len(values) == 2 for name, values in series.items() if name.startswith("attempts/"))


def test_images_are_used_in_turn_and_repetitions_are_stated():
    images = Images(["a", "b", "c"])
    assert images.take(2) + images.take(3) == ["a", "b", "c", "a", "b"]
    assert "up to 2 times" in images.describe()["images_repeated"]
    fresh = Images(["a", "b", "c"])
    fresh.take(3)
    assert fresh.describe() == {}


class Answering:
    """An endpoint whose answers take a second of the replaced clock, with a long wait before the fourth."""

    def __init__(self):
        self.now, self.sent = 0.0, 0

    def send(self, image, prompt):
        self.sent += 1
        self.now += 60.0 if self.sent == 4 else 1.0
        return Attempt("answered", 1.0, 200, input_tokens=100, output_tokens=10)


def test_a_long_wait_for_an_endpoint_is_not_a_pause_of_this_process():
    endpoint = Answering()
    requests = Requests(endpoint, Budget(), clock=lambda: endpoint.now)
    measure = MeasureConfig("x", requests=RequestsConfig(timed=8, timed_per_slot=1))
    samples = window.run(requests, Images([b"image"]), "", measure, 1, None, 0.01)
    assert len(samples.get("latency/host_s")) == 8
    assert np.diff(samples.get("throughput/completed_s")).max() == 60
    assert not [reason for reason in validity.judge(samples).reasons if reason.kind == "paused"]


def test_a_pause_of_this_process_makes_a_window_of_requests_invalid():
    samples = Samples({"latency/host_s": np.ones(20), "latency/paused_s": np.array([3.0])})
    assert [reason.kind for reason in validity.judge(samples).reasons] == ["paused"]
    assert validity.judge(samples).verdict == "invalid"
