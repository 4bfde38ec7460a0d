"""The queue of finished runs for the tracker, whose calls cannot block the command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from visionbench.config import ExperimentConfig
from visionbench.core import Tracker, TrackingError, first_line
from visionbench.deadline import Call, Caller, DeadlineExceeded
from visionbench.registry import find

SERVER_START_SECONDS = 2.0
"""The time in which a server that works has answered before the first run is prepared further."""
UNSENT_REMEDY = "results are safe in the run folder; send them later with visionbench sync"


@dataclass
class TrackerQueue:
    """Finished runs that the tracker has not received. If the tracker fails, its error is printed at the end.

    All calls of the tracker are made by one thread, in which they cannot block the command: the first call that exceeds
    `tracking.timeout_seconds` is left behind, and no further call is made.
    """

    tracker: Tracker | None
    caller: Caller = field(default_factory=lambda: Caller(ExperimentConfig().tracking.timeout_seconds))
    errors: list[str] = field(default_factory=list)
    view_hint: str = ""
    """The command or the address that shows the runs in the tracker."""
    unsent: list[Path] = field(default_factory=list)
    is_usable: bool = True
    """Whether the store could be opened."""
    is_remote: bool = False
    """Whether the tracker sends runs to a server. Runs are then sent while others are measured."""
    _without_figures: list[Path] = field(default_factory=list)
    _calls: list[Call[str]] = field(default_factory=list)

    @classmethod
    def open(cls, config: ExperimentConfig) -> TrackerQueue:
        """Open the configured tracker. A local store is waited for; a server may answer while runs are measured."""
        tracker: Tracker = find("trackers", config.tracking.name)(config.tracking, Path(config.output_dir))
        queue = cls(tracker, Caller(getattr(tracker, "timeout_seconds", config.tracking.timeout_seconds)))
        queue.is_remote = getattr(tracker, "is_remote", False)
        if queue.is_remote and (load := getattr(tracker, "load", None)) is not None:
            with suppress(TrackingError):  # `open` raises the same error
                load()  # in this thread, because two threads that import the same libraries can block each other
        queue._submit(queue._open)
        with suppress(DeadlineExceeded):
            queue.caller.wait(queue._calls[0], SERVER_START_SECONDS if queue.is_remote else None)
        return queue

    def send(self) -> None:
        """Send all runs that were not sent. A server may receive them while runs are measured.

        Figures are sent by `complete`, because drawing them would disturb a measurement or delay the next run.
        """
        while self.unsent:
            folder = self.unsent.pop(0)
            self._without_figures.append(folder)
            self._submit(partial(self._log, folder, figures=False))
        if self._calls and not self.is_remote:  # it computes, which would disturb a measurement
            with suppress(DeadlineExceeded):
                self.caller.wait(self._calls[-1])

    def complete(self) -> None:
        """Send all runs that were not sent, and all figures. Wait until the tracker has them, or for the deadline."""
        for folder in (*self._without_figures, *self.unsent):
            self._submit(partial(self._log, folder, figures=True))
        self._without_figures.clear()
        self.unsent.clear()
        while self._calls:
            call = self._calls[0]
            try:
                self.caller.wait(call)
            except DeadlineExceeded:
                self.errors.append(f"tracking: no answer within {self.caller.seconds:g} s; {UNSENT_REMEDY}")
                self._calls.clear()
                self.is_usable = False
                return
            self._calls.pop(0)
            if isinstance(call.error, TrackingError):
                self.errors.append(str(call.error))
            elif call.error is not None:
                self.errors.append(f"tracking: {type(call.error).__name__}: {first_line(call.error)}; {UNSENT_REMEDY}")
            elif call.result:
                self.view_hint = call.result

    def attach(self, folder: Path, files: Sequence[Path]) -> None:
        """Attach files to a run that was sent."""
        if self.is_usable and self.view_hint:
            self._submit(partial(self._attach, folder, files))
            self.complete()

    def _submit(self, function: Callable[[], str]) -> None:
        if self.is_usable and self.tracker is not None:
            self._calls.append(self.caller.submit(function))

    def _open(self) -> str:
        assert self.tracker is not None
        try:
            self.tracker.open()
        except BaseException:
            self.is_usable = False
            raise
        return ""

    def _log(self, folder: Path, figures: bool) -> str:
        return self.tracker.log(folder, figures) if self.tracker is not None and self.is_usable else ""

    def _attach(self, folder: Path, files: Sequence[Path]) -> str:
        assert self.tracker is not None
        self.tracker.attach(folder, files)
        return ""


def is_server(uri: str | None) -> bool:
    """Return whether a tracking URI is that of a server, which several processes can use at once."""
    return uri is not None and uri.startswith(("http:", "https:", "databricks"))
