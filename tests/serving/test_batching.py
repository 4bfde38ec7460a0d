"""Dynamic batching in real time: the batches that form, errors, limits and the end. Events replace waiting."""

import threading

import pytest

from visionbench.serving.batching import (
    Batcher,
    BatchQueue,
    BatchRecord,
    BatchRule,
    QueueClosed,
    QueueFull,
    utilization,
)

SOON = 60.0
"""The limit in seconds for a result that comes at once. It only ends a test that hangs."""
LATER = 1e6
"""A wait in seconds that never ends within a test."""


class Gate:
    """A call that records its batches and, for the items in `holds`, waits until the test opens the gate."""

    def __init__(self, holds=()):
        self.holds, self.batches = set(holds), []
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, items):
        self.batches.append(list(items))
        if self.holds & set(items):
            self.entered.set()
            assert self.opened.wait(SOON)
        return [item * 10 for item in items]


def test_a_full_batch_starts_although_its_wait_is_not_over():
    gate = Gate()
    batcher = Batcher(gate, BatchRule(3, LATER))
    futures = [batcher.submit(item) for item in (1, 2, 3)]
    assert [future.result(SOON) for future in futures] == [10, 20, 30]
    batcher.close()
    assert gate.batches == [[1, 2, 3]]


def test_a_batch_that_is_not_full_starts_when_its_oldest_item_has_waited():
    batcher = Batcher(Gate(), BatchRule(8, 0.001))
    assert batcher.submit(1).result(SOON) == 10
    batcher.close()


def test_items_that_arrive_during_a_call_form_the_next_batches_in_order():
    gate = Gate(holds=[1])
    batcher = Batcher(gate, BatchRule(4, 0.0))
    first = batcher.submit(1)
    assert gate.entered.wait(SOON)
    futures = [batcher.submit(item) for item in (2, 3, 4, 5, 6)]
    assert batcher.waiting == 5 and not first.done()
    gate.opened.set()
    assert [future.result(SOON) for future in futures] == [20, 30, 40, 50, 60]
    batcher.close()
    assert gate.batches == [[1], [2, 3, 4, 5], [6]]
    assert [batch.size for batch in batcher.batches] == [1, 4, 1]
    times = [time for batch in batcher.batches for time in (batch.start, batch.end)]
    assert times == sorted(times)


def test_the_error_of_a_call_is_the_result_of_its_batch_only():
    def call(items):
        if "bad" in items:
            raise RuntimeError("no answer")
        return [item.upper() for item in items]

    batcher = Batcher(call, BatchRule(2, LATER))
    bad = [batcher.submit("bad"), batcher.submit("beside")]
    good = [batcher.submit("a"), batcher.submit("b")]
    for future in bad:
        with pytest.raises(RuntimeError, match="no answer"):
            future.result(SOON)
    assert [future.result(SOON) for future in good] == ["A", "B"]
    batcher.close()
    assert [batch.size for batch in batcher.batches] == [2, 2]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_error_that_would_end_the_thread_is_the_result_of_its_batch(error):
    def call(items):
        if items == [1]:
            raise error
        return items

    batcher = Batcher(call, BatchRule(1))
    first, second = batcher.submit(1), batcher.submit(2)
    assert first.exception(SOON) is error
    assert second.result(SOON) == 2
    batcher.close()


def test_a_call_with_a_wrong_number_of_results_is_an_error_of_its_batch():
    batcher = Batcher(lambda items: items[1:], BatchRule(2, LATER))
    futures = [batcher.submit(1), batcher.submit(2)]
    for future in futures:
        with pytest.raises(ValueError, match="2 items returned 1 results"):
            future.result(SOON)
    batcher.close()


def test_a_full_queue_refuses_an_item_and_accepts_one_after_a_batch():
    gate = Gate(holds=[1])
    batcher = Batcher(gate, BatchRule(2, 0.0), queue_limit=2)
    batcher.submit(1)
    assert gate.entered.wait(SOON)
    futures = [batcher.submit(2), batcher.submit(3)]
    with pytest.raises(QueueFull, match="2 items wait, and its limit is 2"):
        batcher.submit(4)
    gate.opened.set()
    assert [future.result(SOON) for future in futures] == [20, 30]
    assert batcher.submit(5).result(SOON) == 50
    batcher.close()


def test_a_closed_batcher_answers_the_items_that_wait_and_refuses_others():
    gate = Gate()
    batcher = Batcher(gate, BatchRule(8, LATER))
    futures = [batcher.submit(1), batcher.submit(2)]
    batcher.close()
    assert [future.result(0) for future in futures] == [10, 20]
    with pytest.raises(QueueClosed):
        batcher.submit(3)
    batcher.close()


def test_a_batcher_that_is_closed_with_cancel_does_not_start_further_batches():
    gate = Gate(holds=[1])
    batcher = Batcher(gate, BatchRule(1))
    running, waiting = batcher.submit(1), batcher.submit(2)
    assert gate.entered.wait(SOON)
    closing = threading.Thread(target=batcher.close, kwargs={"cancel": True})
    closing.start()
    with pytest.raises(QueueClosed):
        waiting.result(SOON)
    gate.opened.set()
    closing.join(SOON)
    assert running.result(0) == 10
    assert gate.batches == [[1]]


def test_a_cancelled_item_is_not_in_its_batch():
    gate = Gate(holds=[1])
    batcher = Batcher(gate, BatchRule(2, 0.0))
    batcher.submit(1)
    assert gate.entered.wait(SOON)
    cancelled, kept, alone = batcher.submit(2), batcher.submit(3), batcher.submit(4)
    assert cancelled.cancel() and alone.cancel()
    gate.opened.set()
    assert kept.result(SOON) == 30
    batcher.close()
    assert gate.batches == [[1], [3]]
    assert [batch.size for batch in batcher.batches] == [1, 1]


@pytest.mark.parametrize(("size", "wait_s"), [(0, 0.0), (-1, 0.0), (1, -0.1), (1, float("nan")), (1, float("inf"))])
def test_a_rule_that_no_batch_can_follow_is_refused(size, wait_s):
    with pytest.raises(ValueError, match="max_"):
        BatchRule(size, wait_s)


def test_a_batch_is_ready_when_it_is_full_or_its_oldest_item_has_waited():
    rule = BatchRule(4, 2.0)
    assert rule.ready_at(10.0, None) == 12.0
    assert rule.ready_at(10.0, 11.0) == 11.0
    assert rule.ready_at(10.0, 13.0) == 12.0


def test_a_queue_uses_the_times_of_its_clock():
    now = [0.0]
    queue = BatchQueue(BatchRule(4, 5.0), clock=lambda: now[0])
    queue.put("a")
    now[0] = 4.0
    queue.put("b")
    now[0] = 5.0
    assert queue.take() == ["a", "b"]
    queue.put("c", arrived=-1.0)  # it arrived earlier than it was put into the queue
    assert queue.take() == ["c"]
    queue.close()
    assert queue.take() == []


def test_utilization_counts_the_part_of_each_batch_within_the_window():
    batches = [BatchRecord(0.0, 2.0, 1), BatchRecord(3.0, 4.0, 8), BatchRecord(9.0, 12.0, 2)]
    assert utilization(batches, 1.0, 11.0) == pytest.approx((1 + 1 + 2) / 10)
    assert utilization([], 0.0, 1.0) == 0.0
