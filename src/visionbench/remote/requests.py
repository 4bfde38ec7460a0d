"""Send requests, several at a time, and send them again after failures. Every attempt is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from random import Random
from threading import Event, Lock, Thread

from visionbench.core import Attempt, EncodedImage, Endpoint
from visionbench.core.remote import ANSWERED, ENDING, FAILURES, REFUSED, REPEATED
from visionbench.machine import RunDelay
from visionbench.remote.budget import Budget
from visionbench.remote.waiting import choose_wait


@dataclass(frozen=True)
class TimedAttempt:
    """An attempt with its place in the run."""

    attempt: Attempt
    start_s: float
    """The start, on the clock of the requests."""
    number: int
    """1 for the first attempt of a request, 2 for the second."""
    core_wait_s: float | None = None
    """The time in which the thread of the request waited for a core of this machine; None if it is unknown."""


@dataclass(frozen=True)
class Outcome:
    """The end of a request: its attempts, and the reason if it was not sent or not sent again."""

    attempts: tuple[TimedAttempt, ...]
    seconds: float
    """From the first attempt to the end of the last one, waits included."""
    ended_s: float
    """The end, on the clock of the requests."""
    stopped: str = ""
    """Why the request was not sent, or not sent again; empty if its last attempt is the result."""

    @property
    def last(self) -> Attempt | None:
        """The last attempt, or None if the request was not sent."""
        return self.attempts[-1].attempt if self.attempts else None

    @property
    def answered(self) -> bool:
        """Whether the request has a complete answer."""
        return self.last is not None and self.last.kind == ANSWERED

    @property
    def refused(self) -> bool:
        """Whether the model refused to answer."""
        return self.last is not None and self.last.kind == REFUSED

    @property
    def failure(self) -> str:
        """The reason why there is no answer, in a few words."""
        if self.last is None:
            return f"no request was sent: {self.stopped}"
        detail = f" ({self.last.detail})" if self.last.detail else ""
        count = len(self.attempts)
        again = f" after {count} attempts" if count > 1 else ""
        return f"{self.last.kind}: {FAILURES.get(self.last.kind, self.last.kind)}{detail}{again}"


@dataclass
class Requests:
    """The requests of a run to one endpoint. `clock` and `wait` are replaced in tests."""

    endpoint: Endpoint
    budget: Budget
    max_retries: int = 0
    max_wait_s: float = 60.0
    seed: int = 0
    clock: Callable[[], float] = time.perf_counter
    wait: Callable[[float], None] | None = None
    """Waits for this number of seconds; by default, until the run ends at the latest."""
    stopped: str = ""
    """Why no further request is sent: a limit is reached, or the endpoint refuses every request."""
    failed: bool = False
    """Whether the endpoint refuses every request."""
    _ending: Event = field(default_factory=Event, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)
    _count: int = 0

    def send(self, image: EncodedImage, prompt: str) -> Outcome:
        """Send one request, and again after failures that may pass, at most `max_retries` times."""
        with self._lock:
            random = Random(self.seed * 1_000_003 + self._count)
            self._count += 1
        attempts: list[TimedAttempt] = []
        begin = self.clock()
        while True:
            if stopped := self._why_stopped():
                return Outcome(tuple(attempts), self.clock() - begin, self.clock(), stopped)
            waited = RunDelay.now(this_thread_only=True).waited_s
            start = self.clock()
            attempt = self.endpoint.send(image, prompt)
            self.budget.add(attempt)
            wait = None if waited is None else (RunDelay.now(this_thread_only=True).waited_s or waited) - waited
            attempts.append(TimedAttempt(attempt, start, len(attempts) + 1, wait))
            if attempt.kind in ENDING:
                self.stop(f"{attempt.kind}: {attempt.detail or FAILURES[attempt.kind]}", failed=True)
            if attempt.kind not in REPEATED or len(attempts) > self.max_retries:
                end = self.clock()
                return Outcome(tuple(attempts), end - begin, end)
            (self.wait or self._wait)(choose_wait(len(attempts), attempt.retry_after_s, self.max_wait_s, random))

    def send_all(self, images: Iterable[EncodedImage], prompt: str, in_flight: int) -> Iterator[tuple[int, Outcome]]:
        """Send one request for each image, with `in_flight` of them at any time, and yield the results as they end.

        Each result has the index of its image. After the run is stopped, the other images get a result without an
        attempt.
        """
        ended: SimpleQueue[tuple[int, Outcome] | BaseException] = SimpleQueue()
        source = iter(enumerate(images))
        next_image = Lock()

        def work() -> None:
            try:
                while True:
                    with next_image:
                        item = next(source, None)
                    if item is None:
                        return
                    ended.put((item[0], self.send(item[1], prompt)))
            except BaseException as error:
                ended.put(error)
            finally:
                ended.put(StopIteration())

        threads = [Thread(target=work, name=f"request-{index}", daemon=True) for index in range(in_flight)]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            item = ended.get()
            if isinstance(item, StopIteration):
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
        for thread in threads:
            thread.join()

    def stop(self, reason: str, failed: bool = False) -> None:
        """Send no further request. The first reason counts."""
        with self._lock:
            if not self.stopped:
                self.stopped, self.failed = reason, failed
        self._ending.set()

    def _why_stopped(self) -> str:
        """Return why no attempt may be sent, or take one out of the budget and return an empty text."""
        if self.stopped:
            return self.stopped
        if limit := self.budget.take():
            self.stop(limit)
        return limit or ""

    def _wait(self, seconds: float) -> None:
        self._ending.wait(seconds)


def images_in_turn(images: Sequence[EncodedImage], count: int, first: int = 0) -> Iterator[EncodedImage]:
    """Yield `count` images in rotation, beginning at an index."""
    for index in range(first, first + count):
        yield images[index % len(images)]
