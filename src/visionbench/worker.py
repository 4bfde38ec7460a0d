"""Run a generator in a fresh process and receive its items one by one.

The process is forked from a server that has only imported torch, the model's module and the run's parts. The process
therefore starts quickly, its memory figures exclude other runs, and a crash ends only this process. The parent waits
for an item, and the process waits for the parent's reply to each item, so that the parent never works during a timed
window. After an item with a true attribute `ahead`, the process continues at once, while the parent works.

The fork server and the processes ignore Ctrl-C and the end of the terminal. They end with the parent. If the fork
server ends, it is started again for the next process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError, VisionbenchError
from visionbench.signals import end_with_parent, kill_reason

_context = multiprocessing.get_context("forkserver")
_TERMINAL_SIGNALS = {signal.SIGINT, signal.SIGHUP}
"""The signals of a terminal to all processes of a command. Only the parent reacts to them."""
SECONDS_TO_END = 10.0
"""The time in which a process that waits for the next request must end after its iterator was closed."""
UNKNOWN_CODE = 255
"""The exit code of a process whose fork server has ended."""


class WorkerDied(VisionbenchError):
    """The process ended before its generator did. The message contains the signal or the exit code."""


class WorkerKilled(WorkerDied):
    """The process was killed by SIGKILL, as by the system's out-of-memory killer."""


class WorkerFailed(VisionbenchError):
    """The generator raised an error. The message is that of the error, and the log has the traceback."""


class _ParentEnded(Exception):
    """The parent process does not read the pipe any more."""


def start_fork_server(modules: Sequence[str]) -> None:
    """Start the fork server, which imports these modules in the background. Later calls have no effect."""
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # a launcher of the user may set a start method that children of the fork server do not have
        multiprocessing.set_start_method("forkserver", force=True)
    _context.set_forkserver_preload(["visionbench.runner", *modules])
    with _terminal_signals_blocked():
        forkserver.ensure_running()


def stream(generate: Callable[..., Iterator[Any]], *args: Any, log: Path) -> Generator[Any, None, None]:
    """Run `generate(*args)` in a fresh process and yield its items. Its output goes to the log.

    The process waits after each item until the next is requested, unless the item has a true attribute `ahead`.
    Raises WorkerFailed if the generator raised an error (a ConfigError is raised unchanged) or if an item cannot be
    transferred, and WorkerDied if the process ended before its generator. Closing the iterator ends the process: a
    process that waits for the next request ends by itself, another one is killed.
    """
    pipe, child = _start(generate, args, log)
    server, ended, waiting = None, False, False
    try:
        while True:
            wait([pipe, child.sentinel])
            try:
                message = pipe.recv_bytes()
            except (EOFError, OSError):  # OSError: the process ended within a message
                ended = True
                raise _explain_end(child, server) from None
            try:
                kind, item = ForkingPickler.loads(message)
            except Exception as error:
                problem = f"the measuring process sent a result that cannot be read ({describe(error)})"
                raise WorkerFailed(problem) from error
            if kind == "started":
                server = item
            elif kind == "item":
                waiting = not _continues(item)
                yield item
                waiting = False
                if not _continues(item):
                    with suppress(BrokenPipeError, ConnectionResetError):  # the next `recv` has the reason
                        pipe.send("go on")
            else:
                ended = True
                child.join()
                if kind == "raised":
                    raise item
                return
    finally:
        if waiting:  # the end of the pipe ends the process, which then removes its semaphores
            pipe.close()
            child.join(SECONDS_TO_END)
        if not ended:
            _end(child)
        pipe.close()


def _start(generate: Callable[..., Iterator[Any]], args: tuple[Any, ...], log: Path) -> tuple[Connection, Any]:
    """Start a process, and return its pipe and the process. Start the fork server again if it has ended.

    Raises WorkerDied if the fork server ends again.
    """
    reason = ""
    for _ in range(2):
        pipe, child_pipe = _context.Pipe()
        child = _context.Process(target=_work, args=(child_pipe, log, generate, args), daemon=True)
        try:
            with _terminal_signals_blocked():
                child.start()
            return pipe, child
        except (EOFError, OSError) as error:
            pipe.close()
            reason = describe(error)
        finally:
            child_pipe.close()
    raise WorkerDied(f"the measuring process could not be started, because the fork server ended ({reason})")


@contextmanager
def _terminal_signals_blocked() -> Iterator[None]:
    """Block the signals of the terminal, so that a fork server that is started in the block has them blocked.

    They would end it within an import, with a traceback. The parent receives them after the block.
    """
    resource_tracker.ensure_running()  # unblocks them, so it must run before
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(child: Any) -> None:
    """Kill the process. Without its fork server, it seems to have ended although it runs."""
    if child.is_alive():
        child.kill()
        child.join()
    else:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


def _work(pipe: Connection, log: Path, generate: Callable[..., Iterator[Any]], args: tuple[Any, ...]) -> None:
    for number in _TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the parent receives the signal and ends this process
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERMINAL_SIGNALS)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        _redirect(log)
    except OSError as error:
        pipe.send(("raised", WorkerFailed(f"{log}: {error.strerror or error}")))
        return
    try:
        _send(pipe, "started", os.getppid())
        for item in generate(*args):
            _send(pipe, "item", item)
            if not _continues(item):
                _wait_for_reply(pipe)
        _send(pipe, "done", None)
    except _ParentEnded:
        sys.exit(1)
    except ConfigError as error:
        pipe.send(("raised", error))
    except (Exception, KeyboardInterrupt) as error:
        with suppress(OSError):  # the disk is full
            traceback.print_exc()
        pipe.send(("raised", WorkerFailed(describe(error))))


def _send(pipe: Connection, kind: str, item: Any) -> None:
    """Send a message to the parent. Raises _ParentEnded, and the error of an item that cannot be pickled."""
    message = ForkingPickler.dumps((kind, item))
    try:
        pipe.send_bytes(message)
    except OSError as error:
        raise _ParentEnded from error


def _wait_for_reply(pipe: Connection) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError) as error:
        raise _ParentEnded from error


def describe(error: BaseException) -> str:
    """Return the type of an error and its message, if it has one."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _continues(item: Any) -> bool:
    return bool(getattr(item, "ahead", False))


def _redirect(log: Path) -> None:
    """Send both output streams to the log, including the output of C libraries."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stderr.flush()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # flushes; cannot be done on a pipe later
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    warnings.simplefilter("default")
    logging.basicConfig(level=logging.WARNING)


def _explain_end(child: Any, server: int | None) -> WorkerDied:
    """Return why the process ended. `server` is the process id of the fork server, which reports the exit code."""
    child.join()
    code = child.exitcode
    if code is not None and code < 0:
        reason = kill_reason("the measuring process", code)
        return WorkerKilled(reason) if code == -signal.SIGKILL else WorkerDied(reason)
    if code == UNKNOWN_CODE and (server is None or _has_ended(server)):
        return WorkerDied("the measuring process ended, and so did the fork server; the cause is not known")
    return WorkerDied(f"the measuring process ended by itself with exit code {code}")


def _has_ended(pid: int) -> bool:
    """Return whether a process that this process started has ended."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # it is known to have ended already
        return True
