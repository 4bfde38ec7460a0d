"""Dynamic batching: the rule by which waiting items form a batch, a queue with this rule, and a thread that serves it.

`virtual.py` applies the same rule in virtual time.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, TypeVar

from visionbench.core import VisionbenchError

T = TypeVar("T")
R = TypeVar("R")


class QueueFull(VisionbenchError):
    """The queue has reached its limit. The item was not added."""


class QueueClosed(VisionbenchError):
    """The queue is closed. The item was not added, or it was removed before its batch started."""


@dataclass(frozen=True)
class BatchRule:
    """When a batch starts: the server is free, and the batch is full or its oldest item has waited for `max_wait_s`."""

    max_batch: int
    max_wait_s: float = 0.0

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"max_batch is {self.max_batch}; the smallest is 1")
        if not (self.max_wait_s >= 0 and math.isfinite(self.max_wait_s)):
            raise ValueError(f"max_wait_s is {self.max_wait_s}; give a finite number of seconds, at least 0")

    def ready_at(self, oldest: float, filled: float | None) -> float:
        """Return the time from which a batch can start on a free server.

        `oldest` is the arrival of its oldest item. `filled` is the arrival of the item that makes the batch full, or
        None if there is no such item yet.
        """
        due = oldest + self.max_wait_s
        return due if filled is None else min(due, filled)


@dataclass(frozen=True)
class BatchRecord:
    """One batch: its start and end in seconds of the queue's clock, and the number of its items."""

    start: float
    end: float
    size: int


def utilization(batches: Sequence[BatchRecord], start: float, end: float) -> float:
    """Return the share of the time from `start` to `end` in which a batch was running."""
    busy = sum(max(0.0, min(batch.end, end) - max(batch.start, start)) for batch in batches)
    return busy / (end - start)


@dataclass(frozen=True)
class _Waiting(Generic[T]):
    item: T
    arrived: float


class BatchQueue(Generic[T]):
    """A queue whose items are removed in batches. Several threads may add items; one thread removes batches."""

    def __init__(self, rule: BatchRule, limit: int | None = None, clock: Callable[[], float] = perf_counter) -> None:
        self.rule, self.limit, self.clock = rule, limit, clock
        self._waiting: deque[_Waiting[T]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting)

    def put(self, item: T, arrived: float | None = None) -> None:
        """Add an item, which arrived now unless a time is given. Raises QueueFull and QueueClosed."""
        with self._changed:
            if self._closed:
                raise QueueClosed("the queue is closed")
            if self.limit is not None and len(self._waiting) >= self.limit:
                raise QueueFull(f"the queue is full: {len(self._waiting)} items wait, and its limit is {self.limit}")
            self._waiting.append(_Waiting(item, self.clock() if arrived is None else arrived))
            if len(self._waiting) in (1, self.rule.max_batch):
                self._changed.notify_all()

    def take(self) -> list[T]:
        """Wait until a batch is ready, and remove and return it. Return an empty list if the queue ended.

        A closed queue does not wait for further items: its last batches are ready at once.
        """
        with self._changed:
            while True:
                wait_s = self._wait_s()
                if wait_s is not None and wait_s <= 0:
                    count = min(len(self._waiting), self.rule.max_batch)
                    return [self._waiting.popleft().item for _ in range(count)]
                if self._closed:
                    return []
                self._changed.wait(None if wait_s is None else min(wait_s, threading.TIMEOUT_MAX))

    def _wait_s(self) -> float | None:
        """Return the seconds until the next batch is ready, or None if no item waits."""
        if not self._waiting:
            return None
        if self._closed:
            return 0.0
        size = self.rule.max_batch
        filled = self._waiting[size - 1].arrived if len(self._waiting) >= size else None
        return self.rule.ready_at(self._waiting[0].arrived, filled) - self.clock()

    def close(self) -> None:
        """Refuse further items. Items that wait can still be removed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[T]:
        """Remove all items that wait, and return them."""
        with self._changed:
            items = [waiting.item for waiting in self._waiting]
            self._waiting.clear()
            return items


@dataclass(frozen=True)
class _Query(Generic[T, R]):
    item: T
    future: Future[R] = field(default_factory=Future)


class Batcher(Generic[T, R]):
    """A thread that forms batches of submitted items and calls a function with each batch, one at a time.

    `call` gets the items of a batch in the order of their arrival, and returns one result for each item. If it raises
    an error, the items of this batch have the error as their result, and later batches are not affected.
    """

    def __init__(
        self,
        call: Callable[[Sequence[T]], Sequence[R]],
        rule: BatchRule,
        queue_limit: int | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._call, self._clock = call, clock
        self._queue: BatchQueue[_Query[T, R]] = BatchQueue(rule, queue_limit, clock)
        self._batches: list[BatchRecord] = []
        self._thread = threading.Thread(target=self._serve, name="batcher", daemon=True)
        self._thread.start()

    @property
    def batches(self) -> tuple[BatchRecord, ...]:
        """The batches that have ended, in order. A batch without items that still need an answer is not recorded."""
        return tuple(self._batches)

    @property
    def waiting(self) -> int:
        """The number of items that wait for their batch."""
        return len(self._queue)

    def submit(self, item: T) -> Future[R]:
        """Add an item, and return the future of its result. Raises QueueFull and QueueClosed."""
        query: _Query[T, R] = _Query(item)
        self._queue.put(query)
        return query.future

    def close(self, cancel: bool = False) -> None:
        """Refuse further items, and wait until the items in the queue have results. Can be called again.

        With `cancel`, the items that wait for their batch get the error QueueClosed instead.
        """
        self._queue.close()
        if cancel:
            for query in self._queue.clear():
                if query.future.set_running_or_notify_cancel():
                    query.future.set_exception(QueueClosed("the queue was closed before the batch of this item"))
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _serve(self) -> None:
        while queries := self._queue.take():
            if batch := [query for query in queries if query.future.set_running_or_notify_cancel()]:
                self._answer(batch)

    def _answer(self, batch: Sequence[_Query[T, R]]) -> None:
        start = self._clock()
        try:
            results = self._call([query.item for query in batch])
            if len(results) != len(batch):
                raise ValueError(f"a call with {len(batch)} items returned {len(results)} results")
        except BaseException as error:  # also SystemExit: the thread must answer the later batches
            self._batches.append(BatchRecord(start, self._clock(), len(batch)))
            for query in batch:
                query.future.set_exception(error)
            return
        self._batches.append(BatchRecord(start, self._clock(), len(batch)))
        for query, result in zip(batch, results, strict=True):
            query.future.set_result(result)
