"""Retries, waits, limits and concurrency, with a clock and waits that are replaced, so that no test sleeps."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

import pytest

from visionbench.core import Attempt, EncodedImage, Prices
from visionbench.core.remote import ENDING, KINDS, REPEATED
from visionbench.remote.budget import Budget, cost_of
from visionbench.remote.requests import Requests
from visionbench.remote.waiting import FIRST_S, choose_wait, read_retry_after

IMAGE = EncodedImage("image/jpeg", b"x")
PRICES = Prices(input_per_million_tokens=10, output_per_million_tokens=40, per_image=0.001, currency="EUR")


class Endpoint:
    """An endpoint that gives scripted attempts, each of which takes a second of the replaced clock."""

    def __init__(self, *kinds: str, **fields):
        self.kinds, self.fields, self.sent, self.now = list(kinds), fields, 0, 0.0
        self.identity = {}

    def encode(self, image):
        return IMAGE

    def send(self, image, prompt):
        kind = self.kinds[min(self.sent, len(self.kinds) - 1)]
        self.sent += 1
        self.now += 1.0
        counted = {"input_tokens": 100, "output_tokens": 10} if kind == "answered" else {}
        status = {"answered": 200, "rate_limited": 429, "server_error": 500, "auth": 401}.get(kind)
        return Attempt(kind, 1.0, status, **{**counted, **self.fields})


def requests(endpoint, budget=None, max_retries=3, **options):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        endpoint.now += seconds

    made = Requests(endpoint, budget or Budget(), max_retries, clock=lambda: endpoint.now, wait=wait, **options)
    return made, waits


def test_the_latency_is_that_of_the_last_attempt_and_the_time_with_retries_includes_the_waits():
    endpoint = Endpoint("rate_limited", "server_error", "answered")
    made, waits = requests(endpoint)
    outcome = made.send(IMAGE, "")
    assert [one.attempt.kind for one in outcome.attempts] == ["rate_limited", "server_error", "answered"]
    assert [one.number for one in outcome.attempts] == [1, 2, 3]
    assert outcome.answered and outcome.last.seconds == 1.0
    assert outcome.seconds == pytest.approx(3.0 + sum(waits)) and len(waits) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_only_failures_that_may_pass_are_sent_again(kind):
    endpoint = Endpoint(kind)
    made, waits = requests(endpoint, max_retries=2)
    outcome = made.send(IMAGE, "")
    assert endpoint.sent == (3 if kind in REPEATED else 1)
    assert outcome.last.kind == kind and outcome.answered == (kind == "answered")
    assert bool(made.stopped) == (kind in ENDING)


def test_a_refused_key_ends_all_requests():
    endpoint = Endpoint("auth")
    made, _ = requests(endpoint)
    outcomes = [outcome for _, outcome in made.send_all([IMAGE] * 20, "", 1)]
    assert endpoint.sent == 1 and made.failed and made.stopped.startswith("auth: 401 or 403")
    assert [bool(outcome.attempts) for outcome in outcomes] == [True] + [False] * 19
    assert outcomes[1].failure.startswith("no request was sent: auth")


def test_a_required_wait_is_kept_up_to_the_limit():
    endpoint = Endpoint("rate_limited", "answered", retry_after_s=7.0)
    made, waits = requests(endpoint, max_wait_s=60)
    made.send(IMAGE, "")
    assert 7.0 <= waits[0] <= 7.7
    made, waits = requests(Endpoint("rate_limited", "answered", retry_after_s=3600.0), max_wait_s=5)
    made.send(IMAGE, "")
    assert waits == [5]


def test_waits_grow_and_their_random_part_follows_the_seed():
    waits = [choose_wait(failures, None, 60, Random(0)) for failures in range(1, 40)]
    assert FIRST_S / 2 <= waits[0] <= FIRST_S and max(waits) == 60
    assert all(later >= earlier for earlier, later in zip(waits, waits[1:], strict=False))
    first, second, other = ([], [], [])
    for seed, listed in ((1, first), (1, second), (2, other)):
        made, taken = requests(Endpoint("server_error"), seed=seed)
        made.send(IMAGE, "")
        listed += taken
    assert first == second != other


def test_retry_after_is_read_as_a_number_and_as_a_date():
    now = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    assert read_retry_after({"retry-after": "12"}) == 12
    assert read_retry_after({"retry-after": format_datetime(now + timedelta(seconds=30), usegmt=True)}, now) == 30
    assert read_retry_after({"retry-after": format_datetime(now - timedelta(hours=1), usegmt=True)}, now) == 0
    assert read_retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    for text in ("", "soon", "-3", "nan", "inf", "32 Nov 2026", "Fri, 99 Nov 2026 12:00:00 GMT"):
        assert read_retry_after({"retry-after": text}) is None, text


def test_all_requests_are_sent_once_with_no_more_in_flight_than_allowed():
    lock, most, here, together = threading.Lock(), [0], [0], threading.Barrier(4)

    class Counting(Endpoint):
        def send(self, image, prompt):
            with lock:
                here[0] += 1
                most[0] = max(most[0], here[0])
            together.wait()  # returns only if four requests are in flight
            with lock:
                here[0] -= 1
            return Attempt("answered", 0.0, 200)

    made, _ = requests(Counting())
    indices = [index for index, _ in made.send_all([IMAGE] * 12, "", 4)]
    assert sorted(indices) == list(range(12)) and most[0] == 4


# --------------------------------------------------------------------------------------------------------- the limits
def test_the_limit_of_requests_counts_attempts_and_is_never_passed():
    endpoint = Endpoint("server_error")
    made, _ = requests(endpoint, Budget(max_requests=5), max_retries=3)
    outcomes = [outcome for _, outcome in made.send_all([IMAGE] * 4, "", 1)]
    assert endpoint.sent == 5
    assert made.stopped == "remote.max_requests=5 is reached" and not made.failed
    assert [len(outcome.attempts) for outcome in outcomes] == [4, 1, 0, 0]
    assert outcomes[1].stopped == made.stopped


def test_the_limit_of_cost_is_not_passed_in_the_worst_case():
    worst = PRICES.cost(PRICES.most_input_tokens, 16)
    spent = PRICES.cost(100, 10)
    endpoint = Endpoint("answered")
    budget = Budget(max_cost=worst + 4 * spent, prices=PRICES, most_output_tokens=16)
    made, _ = requests(endpoint, budget)
    assert sum(bool(outcome.attempts) for _, outcome in made.send_all([IMAGE] * 50, "", 1)) == endpoint.sent == 5
    assert budget.spent <= budget.max_cost and "remote.max_cost" in made.stopped and "EUR" in made.stopped


def test_requests_in_flight_count_with_their_worst_case():
    worst = PRICES.cost(PRICES.most_input_tokens, 16)
    budget = Budget(max_cost=2.5 * worst, prices=PRICES, most_output_tokens=16)
    assert [budget.take() is None for _ in range(3)] == [True, True, False]
    budget.add(Attempt("answered", 1.0, 200, input_tokens=10, output_tokens=1))
    assert budget.take() is None


def test_an_image_with_more_tokens_than_assumed_raises_the_worst_case():
    budget = Budget(max_cost=10, prices=PRICES, most_output_tokens=16)
    budget.take()
    budget.add(Attempt("answered", 1.0, 200, input_tokens=50_000, output_tokens=1))
    assert budget.most_input_tokens == 50_000


@pytest.mark.parametrize(
    ("attempt", "cost"),
    [
        (Attempt("answered", 1.0, 200, input_tokens=1_000_000, output_tokens=500_000), 30.001),
        (Attempt("refused", 1.0, 200, input_tokens=0, output_tokens=0), 0.001),
        (Attempt("answered", 1.0, 200), None),
        (Attempt("malformed", 1.0, 200), None),
        (Attempt("timeout", 1.0), None),
        (Attempt("connection", 1.0), None),
        (Attempt("rate_limited", 1.0, 429), 0.0),
        (Attempt("server_error", 1.0, 500), 0.0),
    ],
)
def test_the_cost_of_an_attempt(attempt, cost):
    assert cost_of(attempt, PRICES) == (cost if cost is None else pytest.approx(cost))


def test_without_prices_by_token_an_answer_costs_its_image_also_without_counts():
    by_image = Prices(per_image=0.002, currency="EUR")
    assert cost_of(Attempt("answered", 1.0, 200), by_image) == 0.002
