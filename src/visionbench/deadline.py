"""Calls in a thread of their own, one after the other, each with a deadline.

A call that exceeds its deadline is left behind: its thread may never end, and no further call is made. Nothing that can
block forever, such as a request to a server, then blocks the command.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, NoReturn, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class DeadlineExceeded(Exception):
    """A call, or a call before it, did not return in time."""


@dataclass(eq=False)
class Call(Generic[T]):
    """A call that is waiting, is being made, or has returned."""

    function: Callable[[], T]
    started_at: float | None = None
    ended: bool = False
    result: T | None = None
    error: BaseException | None = None


@dataclass(eq=False)
class Caller:
    """A thread that makes calls in the order of `submit`. Each call may take `seconds`."""

    seconds: float
    exceeded: bool = False
    """Whether a call did not return in time, so that no further call is made."""
    _calls: deque[Call[Any]] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None

    def submit(self, function: Callable[[], T]) -> Call[T]:
        """Add a call after all others, and return it without waiting."""
        call = Call(function)
        with self._changed:
            self._calls.append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="visionbench-caller", daemon=True)
                self._thread.start()
                _callers.add(self)
            self._changed.notify_all()
        return call

    def wait(self, call: Call[T], at_most: float | None = None) -> bool:
        """Wait until a call has ended, or for `at_most` seconds. Return whether the call has ended.

        Raises DeadlineExceeded if this call, or a call before it, exceeds its deadline.
        """
        end = None if at_most is None else monotonic() + at_most
        with self._changed:
            while not call.ended:
                if self.exceeded:
                    raise DeadlineExceeded
                now = monotonic()
                if end is not None and now >= end:
                    return False
                current = self._calls[0]
                deadline = (current.started_at or now) + self.seconds
                if now >= deadline:
                    self.exceeded = True
                    raise DeadlineExceeded
                self._changed.wait(min(deadline, end or deadline) - now)
        return True

    def make(self, function: Callable[[], T]) -> T:
        """Make a call and return its result, or raise its error. Raises DeadlineExceeded."""
        call = self.submit(function)
        self.wait(call)
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    @property
    def is_busy(self) -> bool:
        """Whether a call is being made or is waiting."""
        with self._changed:
            return bool(self._calls) and not (self.exceeded and self._calls[0].ended)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._calls:
                    self._changed.wait()
                if self.exceeded:
                    return
                call = self._calls[0]
                call.started_at = monotonic()
                self._changed.notify_all()
            try:
                call.result = call.function()
            except BaseException as error:
                call.error = error
            with self._changed:
                call.ended = True
                self._calls.popleft()
                self._changed.notify_all()


_callers: WeakSet[Caller] = WeakSet()


def is_any_busy() -> bool:
    """Return whether any call was left behind or has not ended, so that the end of the process could block."""
    return any(caller.is_busy for caller in _callers)


def exit_now(code: object) -> NoReturn:
    """End the process with this exit code, without waiting for threads. Output is written, and exit functions run."""
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
