"""Overlapped steps: the order of batches, the limits of what is loaded ahead, and errors."""

import threading
from dataclasses import dataclass, field

import pytest

from visionbench.config import EvaluationConfig
from visionbench.stages import overlap as overlap_module
from visionbench.stages.overlap import MAX_FINISHING, loader_count, overlap


@dataclass
class Steps:
    """Three steps that record their threads, and fail for these numbers."""

    fail_at: dict = field(default_factory=dict)
    threads: dict = field(default_factory=dict)
    loaded: int = 0
    forwarded: int = 0
    finished: int = 0
    most_loaded_ahead: int = 0
    most_unfinished: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, step, number):
        self.threads.setdefault(step, set()).add(threading.current_thread().name.rpartition("_")[0])
        if number in self.fail_at.get(step, ()):
            raise ValueError(f"{step} of {number}")

    def load(self, number):
        with self.lock:
            self.loaded += 1
            self.most_loaded_ahead = max(self.most_loaded_ahead, self.loaded - self.forwarded)
        self.record("load", number)
        return [number]

    def forward(self, batch):
        self.forwarded += 1
        self.most_unfinished = max(self.most_unfinished, self.forwarded - self.finished)
        self.record("forward", batch[0])

    def finish(self, batch):
        self.record("finish", batch[0])
        return batch

    def run(self, count, loaders=2, recover=None):
        for batch, waited in overlap(iter(range(count)), self.load, self.forward, self.finish, loaders, recover):
            assert waited >= 0
            self.finished += 1
            yield batch[0]


@pytest.mark.parametrize("loaders", [1, 2, 5])
def test_batches_come_in_the_order_of_the_source(loaders):
    assert list(Steps().run(20, loaders)) == list(range(20))


def test_an_empty_source_gives_no_batches():
    assert list(Steps().run(0)) == []


def test_each_step_has_its_threads():
    steps = Steps()
    list(steps.run(5))
    assert (steps.threads["load"], steps.threads["finish"]) == ({"load"}, {"finish"})
    assert steps.threads["forward"] == {threading.current_thread().name.rpartition("_")[0]}


def test_the_number_of_batches_ahead_of_a_step_is_limited():
    steps = Steps()
    list(steps.run(50, loaders=3))
    assert steps.most_loaded_ahead <= 3 + 1
    assert steps.most_unfinished <= MAX_FINISHING + 1


@pytest.mark.parametrize("step", ["load", "forward", "finish"])
def test_an_error_without_recovery_is_raised_and_ends_the_threads(step):
    before = threading.active_count()
    with pytest.raises(ValueError, match=f"{step} of 3"):
        list(Steps({step: {3}}).run(100))
    assert threading.active_count() == before


@pytest.mark.parametrize("step", ["forward", "finish"])
def test_a_failed_batch_is_recovered_after_all_earlier_batches(step):
    earlier, recovered = [], []

    def recover(batch, error):
        recovered.append((batch[0], str(error), list(earlier)))
        return [-batch[0]]

    for number in Steps({step: {3, 4}}).run(8, recover=recover):
        earlier.append(number)
    assert earlier == [0, 1, 2, -3, -4, 5, 6, 7]
    assert recovered == [(3, f"{step} of 3", [0, 1, 2]), (4, f"{step} of 4", [0, 1, 2, -3])]


def test_an_error_of_the_recovery_is_raised_and_ends_the_threads():
    def recover(batch, error):
        raise error

    before = threading.active_count()
    with pytest.raises(ValueError, match="forward of 3"):
        list(Steps({"forward": {3}}).run(100, recover=recover))
    assert threading.active_count() == before


def test_the_number_of_loaders_is_that_of_the_config_or_of_the_usable_cores(monkeypatch):
    monkeypatch.setattr(overlap_module, "usable_cores", lambda: 64)
    assert loader_count(EvaluationConfig(workers=20)) == 20
    assert loader_count(EvaluationConfig()) == overlap_module.MAX_LOADERS
