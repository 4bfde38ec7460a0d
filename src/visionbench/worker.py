"""A fresh process for a run: a generator runs in a child, and its items come back one by one.

The child is forked from a server that has imported torch, the model's own module and the run's parts and done nothing
else, so that it starts in a moment and yet owns its memory figures and its crashes. The parent sleeps on the pipe; the
child waits for the parent's answer to each item, so that the parent never works inside a timed window. After an item
that says it is `ahead` the child goes on at once, and what the parent has to do it can do meanwhile.
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
    """The child ended before its work did; the message says how."""


class WorkerFailed(VisionbenchError):
    """The child's generator raised; the message is the error's, and the traceback stands in the log."""


def preheat(modules: Sequence[str]) -> None:
    """Start the fork server, which imports these modules while the caller goes on. Later calls have no effect."""
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # Another launcher's process may use a method that children of the fork server do not have, as joblib's does.
        multiprocessing.set_start_method("forkserver", force=True)
    _context.set_forkserver_preload(["visionbench.runner", *modules])
    forkserver.ensure_running()


def stream(generate: Callable[..., Iterator[Any]], *args: Any, log: Path) -> Iterator[Any]:
    """Run `generate(*args)` in a fresh process and yield what it yields; its output goes to the log. The process waits
    after each item until the next is asked for, except where the item has a true attribute `ahead`.

    Raises WorkerFailed where it raised (a ConfigError as it is), and WorkerDied where it ended otherwise. Closing the
    iterator ends the child.
    """
    ours, theirs = _context.Pipe()
    child = _context.Process(target=_work, args=(theirs, log, generate, args), daemon=True)
    child.start()
    theirs.close()
    try:
        while True:
            wait([ours, child.sentinel])
            try:
                kind, item = ours.recv()
            except (EOFError, ConnectionResetError):
                child.join()
                raise _death(child.exitcode) from None
            if kind == "item":
                yield item
                if not _ahead(item):
                    ours.send("go on")
                continue
            child.join()
            if kind == "raised":
                raise item
            return
    finally:
        if child.is_alive():
            child.kill()
            child.join()
        ours.close()


def _work(pipe: Connection, log: Path, generate: Callable[..., Iterator[Any]], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _redirect(log)
    try:
        for item in generate(*args):
            pipe.send(("item", item))
            if not _ahead(item):
                pipe.recv()
        pipe.send(("done", None))
    except (EOFError, BrokenPipeError):
        sys.exit(1)  # the parent is gone, and nobody waits for the rest
    except ConfigError as error:
        pipe.send(("raised", error))
    except Exception as error:
        traceback.print_exc()
        pipe.send(("raised", WorkerFailed(f"{type(error).__name__}: {error}")))


def _ahead(item: Any) -> bool:
    return bool(getattr(item, "ahead", False))


def _end_with_parent() -> None:
    """Sleep until the parent is gone, killed maybe, and then end in the midst of whatever is being measured."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _redirect(log: Path) -> None:
    """Both output streams to the log, those of C libraries too."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stderr.flush()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # flushes; cannot be done on a pipe later
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    warnings.simplefilter("default")
    logging.basicConfig(level=logging.WARNING)


def _death(exitcode: int | None) -> WorkerDied:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        cause = "the system's out-of-memory killer does this" if name == "SIGKILL" else ""
        return WorkerDied(f"the measuring process was killed by {name}", cause)
    return WorkerDied(f"the measuring process ended by itself with exit code {exitcode}")
