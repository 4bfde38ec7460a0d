"""Calls with a deadline: they are made in order, and one that does not return is left behind."""

import subprocess
import sys
import threading

import pytest

from visionbench.deadline import Caller, DeadlineExceeded, is_any_busy


@pytest.fixture
def gate():
    """An event that ends every blocked call of a test."""
    event = threading.Event()
    yield event
    event.set()


def test_calls_are_made_in_the_order_of_their_submission():
    made = []
    caller = Caller(60)
    calls = [caller.submit(lambda number=number: made.append(number) or number) for number in range(5)]
    assert caller.wait(calls[-1])
    assert (made, [call.result for call in calls]) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert not caller.is_busy


def test_the_error_of_a_call_is_raised_and_later_calls_are_made():
    caller = Caller(60)
    with pytest.raises(ZeroDivisionError):
        caller.make(lambda: 1 // 0)
    assert caller.make(lambda: 5) == 5


def test_a_call_that_exceeds_its_deadline_is_left_behind_and_no_further_call_is_made(gate):
    made = []
    caller = Caller(0.01)
    caller.submit(gate.wait)
    last = caller.submit(lambda: made.append(1))
    with pytest.raises(DeadlineExceeded):
        caller.wait(last)
    assert caller.exceeded and is_any_busy()
    with pytest.raises(DeadlineExceeded):
        caller.make(lambda: made.append(2))
    gate.set()
    caller._thread.join()
    assert made == []


def test_the_deadline_of_a_call_begins_when_the_call_begins(gate):
    caller = Caller(3600)
    caller.submit(gate.wait)
    waiting = caller.submit(lambda: "made")
    assert not caller.wait(waiting, at_most=0)
    assert waiting.started_at is None
    gate.set()
    assert caller.wait(waiting) and waiting.result == "made"


def test_a_process_ends_with_its_exit_code_and_its_output_although_a_call_was_left_behind():
    code = (
        "import atexit, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from visionbench.deadline import Caller, exit_now, is_any_busy\n"
        "atexit.register(print, 'at exit')\n"
        "def block(): ThreadPoolExecutor().submit(threading.Event().wait).result()\n"
        "caller = Caller(0.01)\n"
        "try: caller.make(block)\n"
        "except Exception as error: print(type(error).__name__, is_any_busy())\n"
        "exit_now(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7, "DeadlineExceeded True\nat exit\n", "")
