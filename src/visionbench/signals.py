"""The signals that end a command: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal is closed).

While modules are imported, a signal ends the process at once: an exception within an import may become another error,
or print a traceback. Later it raises Ended, so that a run can write the rows that it has. This module imports other
modules in functions, because Python itself handles a signal before `end_at_once`.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

REASONS = {
    signal.SIGINT: "interrupted from the keyboard",
    signal.SIGTERM: "ended by SIGTERM",
    signal.SIGHUP: "ended by SIGHUP, because the terminal was closed",
}


class Ended(KeyboardInterrupt):
    """A signal that ends the command. The exit code is 128 plus its number."""

    def __init__(self, number: int) -> None:
        super().__init__(REASONS[signal.Signals(number)])
        self.number = number
        self.reported = False
        """Whether the output of the command contains the reason already."""


class Received:
    """The last signal that ends this command, or None."""

    signal: Ended | None = None


def end_at_once() -> None:
    """From now on, end the process at a signal with one line on standard error."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        os.write(2, line(REASONS[signal.Signals(number)]).encode())
        os._exit(128 + number)

    _handle(end)


def raise_from_now_on() -> None:
    """From now on, raise Ended at a signal. Errors of threads and destructors are not printed after a signal."""
    Received.signal = None

    def end(number: int, frame: FrameType | None) -> NoReturn:
        Received.signal = Ended(number)
        raise Received.signal

    _handle(end)
    _silence_after_signal()


def end_silently() -> None:
    """From now on, a further signal ends the process without any output, while the interpreter ends."""
    for number in REASONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def raise_if_received() -> None:
    """Raise the signal again if a library has caught its exception."""
    if Received.signal is not None:
        raise Received.signal


def line(reason: str) -> str:
    """Return the line that a command prints if a signal ends it before it has results."""
    return f"visionbench: {reason}\n"


def _handle(handler: Any) -> None:
    """Set a handler, except for signals that the parent process ignores, as `nohup` does."""
    for number in REASONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _silence_after_signal() -> None:
    import threading

    def unless_received(hook: Any) -> Any:
        def report(arguments: Any) -> None:
            if Received.signal is None:
                hook(arguments)

        return report

    sys.unraisablehook = unless_received(sys.__unraisablehook__)
    threading.excepthook = unless_received(threading.__excepthook__)


def end_with_parent() -> None:
    """Wait until the parent of a process ends, even if it is killed, and then end this process at once."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def kill_reason(process: str, exit_code: int) -> str:
    """Return which signal killed a process. `exit_code` is the negative number of the signal."""
    name = signal.Signals(-exit_code).name
    cause = "; the system's out-of-memory killer does this" if name == "SIGKILL" else ""
    return f"{process} was killed by {name}{cause}"
