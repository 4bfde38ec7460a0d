"""Run a generator in a fresh process and receive its items one by one.

The process is forked from a server that has only imported torch, the model's module and the run's parts. The process
therefore starts quickly, its memory figures exclude other runs, and a crash ends only this process. The parent waits
for an item, and the process waits for the parent's reply to each item, so that the parent never works during a timed
window. After an item with a true attribute `ahead`, the process continues at once, while the parent works.
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
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError, VisionbenchError

_context = multiprocessing.get_context("forkserver")


class WorkerDied(VisionbenchError):
    """The process ended before its generator did. The message contains the signal or the exit code."""


class WorkerFailed(VisionbenchError):
    """The generator raised an error. The message is that of the error, and the log has the traceback."""


def start_fork_server(modules: Sequence[str]) -> None:
    """Start the fork server, which imports these modules in the background. Later calls have no effect."""
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # a launcher of the user may set a start method that children of the fork server do not have
        multiprocessing.set_start_method("forkserver", force=True)
    _context.set_forkserver_preload(["visionbench.runner", *modules])
    forkserver.ensure_running()


def stream(generate: Callable[..., Iterator[Any]], *args: Any, log: Path) -> Iterator[Any]:
    """Run `generate(*args)` in a fresh process and yield its items. Its output goes to the log.

    The process waits after each item until the next is requested, unless the item has a true attribute `ahead`.
    Raises WorkerFailed if the generator raised an error (a ConfigError is raised unchanged), and WorkerDied if the
    process ended before its generator. Closing the iterator ends the process.
    """
    pipe, child_pipe = _context.Pipe()
    child = _context.Process(target=_work, args=(child_pipe, log, generate, args), daemon=True)
    child.start()
    child_pipe.close()
    try:
        while True:
            wait([pipe, child.sentinel])
            try:
                kind, item = pipe.recv()
            except (EOFError, ConnectionResetError):
                child.join()
                raise _explain_end(child.exitcode) from None
            if kind == "item":
                yield item
                if not _continues(item):
                    pipe.send("go on")
                continue
            child.join()
            if kind == "raised":
                raise item
            return
    finally:
        if child.is_alive():
            child.kill()
            child.join()
        pipe.close()


def _work(pipe: Connection, log: Path, generate: Callable[..., Iterator[Any]], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives Ctrl-C and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _redirect(log)
    try:
        for item in generate(*args):
            pipe.send(("item", item))
            if not _continues(item):
                pipe.recv()
        pipe.send(("done", None))
    except (EOFError, BrokenPipeError):
        sys.exit(1)  # the parent has ended
    except ConfigError as error:
        pipe.send(("raised", error))
    except Exception as error:
        traceback.print_exc()
        pipe.send(("raised", WorkerFailed(f"{type(error).__name__}: {error}")))


def _continues(item: Any) -> bool:
    return bool(getattr(item, "ahead", False))


def _end_with_parent() -> None:
    """Wait until the parent ends, even if it is killed, and then end this process at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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


def _explain_end(exitcode: int | None) -> WorkerDied:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        cause = "; the system's out-of-memory killer does this" if name == "SIGKILL" else ""
        return WorkerDied(f"the measuring process was killed by {name}{cause}")
    return WorkerDied(f"the measuring process ended by itself with exit code {exitcode}")
