"""The load generator: another process, so that a busy server cannot delay its clients.

The generator sends the number of each query at its scheduled time, over a socket. It does not import torch. Both
processes use the clock of `perf_counter`, which is the same in all processes of a machine. In a closed loop, a client
sends its next query when the server has sent the answer to its last one.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from select import select
from time import perf_counter

import numpy as np

from visionbench.core import VisionbenchError
from visionbench.serving.arrivals import CLOSED, endless_times

SECONDS_TO_START, SECONDS_TO_END = 60.0, 5.0
LEAD_S = 0.02
"""The time from the request to begin until the window begins."""
TO_SERVER = struct.Struct("<qd")
"""A query: its number, and the time at which it was sent. The number `BEGINS` has the begin of the window."""
TO_GENERATOR = struct.Struct("<q")
"""The number of an answered query, `BEGIN` or `STOP`."""
BEGINS, BEGIN, STOP = -1, -1, -2
BLOCK = 1 << 16


class GeneratorError(VisionbenchError):
    """The load generator ended early."""


@dataclass(frozen=True)
class Generated:
    """The queries of a window, in seconds from its begin. A query without an answer has NaN in `completed_s`."""

    scheduled_s: np.ndarray
    """In a closed loop, the times at which the queries were sent."""
    issued_s: np.ndarray
    completed_s: np.ndarray


@dataclass(frozen=True)
class Traffic:
    """The queries that a generator sends: `rate` queries per second, or a number of clients in a closed loop."""

    pattern: str
    rate: float = 0.0
    clients: int = 0
    seed: int = 0


class Generator:
    """The process that generates the queries of one window. As a context manager, it ends the process."""

    def __init__(self, traffic: Traffic) -> None:
        self.issued_s: list[float] = []
        """The times at which the received queries were sent, in order, in seconds from the begin of the window."""
        self.start = 0.0
        """The begin of the window on the clock of `perf_counter`."""
        self._thread: threading.Thread | None = None
        self._socket, other = socket.socketpair()
        try:
            arguments = (other.fileno(), traffic.pattern, traffic.rate, traffic.clients, traffic.seed)
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import work; work{arguments!r}"],
                pass_fds=(other.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            other.close()

    def wait_until_ready(self) -> None:
        """Wait until the process can begin. Raises GeneratorError."""
        self._socket.settimeout(SECONDS_TO_START)
        try:
            self._receive_one()
        finally:
            self._socket.settimeout(None)

    def begin(self, receive: Callable[[int], None], end: Callable[[], None]) -> float:
        """Begin the window, and return its begin on the clock of `perf_counter`. Raises GeneratorError.

        A thread calls `receive` with the number of each query when it arrives, and `end` after the last one.
        """
        self._send(BEGIN)
        _, self.start = self._receive_one()
        self._thread = threading.Thread(target=self._receive, args=(receive, end), name="queries", daemon=True)
        self._thread.start()
        return self.start

    def answer(self, number: int) -> None:
        """Send the answer of a query to its client, in a closed loop. Raises GeneratorError."""
        self._send(number)

    def close(self) -> None:
        """End the process. Queries that were sent before are received first."""
        with suppress(OSError):
            self._socket.sendall(TO_GENERATOR.pack(STOP))
            self._socket.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> Generator:
        """Return the generator."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def _send(self, number: int) -> None:
        try:
            self._socket.sendall(TO_GENERATOR.pack(number))
        except OSError as error:
            raise self._ended() from error

    def _receive_one(self) -> tuple[int, float]:
        try:
            record = self._socket.recv(TO_SERVER.size, socket.MSG_WAITALL)
        except OSError as error:
            raise self._ended() from error
        if len(record) < TO_SERVER.size:
            raise self._ended()
        number, time = TO_SERVER.unpack(record)
        return number, time

    def _ended(self) -> GeneratorError:
        code = self._process.poll()
        return GeneratorError("the load generator ended" if code is None else f"the load generator ended with {code}")

    def _receive(self, receive: Callable[[int], None], end: Callable[[], None]) -> None:
        rest = b""
        with suppress(OSError):
            while block := self._socket.recv(BLOCK):
                block = rest + block
                complete = len(block) // TO_SERVER.size * TO_SERVER.size
                for number, time in TO_SERVER.iter_unpack(block[:complete]):
                    self.issued_s.append(time - self.start)
                    receive(number)
                rest = block[complete:]
        end()


# ------------------------------------------------------------------------------------------------- in another process
def work(descriptor: int, pattern: str, rate: float, clients: int, seed: int) -> None:
    """Send queries until the server stops the generator or ends."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the server ends this process
    with suppress(OSError), socket.socket(fileno=descriptor) as channel:
        channel.sendall(TO_SERVER.pack(BEGINS, 0.0))
        if channel.recv(TO_GENERATOR.size, socket.MSG_WAITALL) != TO_GENERATOR.pack(BEGIN):
            return
        start = perf_counter() + LEAD_S
        channel.sendall(TO_SERVER.pack(BEGINS, start))
        if pattern == CLOSED:
            _send_after_answers(channel, clients, start)
        else:
            _send_at(channel, endless_times(pattern, rate, seed), start)


def _send_at(channel: socket.socket, times: Iterator[float], start: float) -> None:
    """Send each query at its time. A late query is sent at once."""
    for number, time in enumerate(times):
        if select([channel], [], [], max(0.0, start + time - perf_counter()))[0]:
            return
        channel.sendall(TO_SERVER.pack(number, perf_counter()))


def _send_after_answers(channel: socket.socket, clients: int, start: float) -> None:
    """Send the first query of each client, and its next query after each answer."""
    if select([channel], [], [], max(0.0, start - perf_counter()))[0]:
        return
    for number in range(clients):
        channel.sendall(TO_SERVER.pack(number, perf_counter()))
    number = clients
    while (answer := channel.recv(TO_GENERATOR.size, socket.MSG_WAITALL)) and answer != TO_GENERATOR.pack(STOP):
        channel.sendall(TO_SERVER.pack(number, perf_counter()))
        number += 1
