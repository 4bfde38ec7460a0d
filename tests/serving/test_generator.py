"""The generator process: the queries it sends, their schedule, answers in a closed loop, and its end."""

import threading

import numpy as np
import pytest

from visionbench.serving.arrivals import constant_times, endless_times, poisson_times
from visionbench.serving.generator import Generator, GeneratorError, Traffic

SOON = 60.0


def received(traffic, count, answer=False):
    """The numbers of the first queries that a generator sends, and the generator after its end."""
    numbers, enough, ended = [], threading.Event(), threading.Event()

    with Generator(traffic) as generator:

        def receive(number):
            numbers.append(number)
            if len(numbers) >= count:
                enough.set()
            elif answer:
                generator.answer(number)

        generator.wait_until_ready()
        generator.begin(receive, ended.set)
        assert enough.wait(SOON)
    assert ended.is_set()
    return numbers, generator


@pytest.mark.parametrize("pattern", ["poisson", "constant"])
def test_queries_are_sent_in_order_and_never_before_their_scheduled_time(pattern):
    numbers, generator = received(Traffic(pattern, rate=2000.0, seed=5), 300)
    assert numbers == list(range(len(numbers)))
    times = poisson_times if pattern == "poisson" else lambda rate, queries, seed: constant_times(rate, queries)
    scheduled = times(2000.0, len(numbers), 5)
    assert (np.array(generator.issued_s) >= scheduled).all()


def test_a_client_of_a_closed_loop_sends_its_next_query_after_an_answer():
    numbers, events = [], threading.Event()
    with Generator(Traffic("closed", clients=3)) as generator:

        def receive(number):
            numbers.append(number)
            events.set()

        generator.wait_until_ready()
        generator.begin(receive, events.set)
        while len(numbers) < 3:
            assert events.wait(SOON)
            events.clear()
        assert numbers == [0, 1, 2]
        generator.answer(1)
        while len(numbers) < 4:
            assert events.wait(SOON)
            events.clear()
        assert numbers == [0, 1, 2, 3]
    assert numbers == [0, 1, 2, 3]


def test_each_answer_is_followed_by_one_query():
    numbers, _ = received(Traffic("closed", clients=2), 50, answer=True)
    assert numbers[:50] == list(range(50)) and len(numbers) <= 51


def test_a_generator_that_died_is_an_error_of_the_next_request():
    with Generator(Traffic("constant", rate=1.0)) as generator:
        generator.wait_until_ready()
        generator._process.kill()
        generator._process.wait()
        with pytest.raises(GeneratorError, match="the load generator ended"):
            generator.begin(lambda number: None, lambda: None)


@pytest.mark.parametrize("pattern", ["poisson", "constant"])
def test_endless_times_are_the_scheduled_times(pattern):
    endless = endless_times(pattern, 7.0, 3, chunk=10)
    expected = poisson_times(7.0, 95, 3) if pattern == "poisson" else constant_times(7.0, 95)
    assert [next(endless) for _ in range(95)] == expected.tolist()
