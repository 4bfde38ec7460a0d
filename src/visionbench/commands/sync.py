"""`visionbench sync`: send the runs that a tracking store has not received, and attach each report to its first run."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from visionbench.config import TrackingConfig
from visionbench.core import ConfigError, TrackingError
from visionbench.credentials import public
from visionbench.deadline import Caller, DeadlineExceeded
from visionbench.report import page
from visionbench.results import archive
from visionbench.results.archive import Damaged, Damages, Run
from visionbench.terminal.console import screen
from visionbench.trackers.mlflow import MlflowTracker
from visionbench.trackers.mlflow.sent import Key, key_of

FEW_RUNS = 50
"""For so few runs, each is searched in the store. For more, the list of all runs in the store takes less time."""


def send(output_dir: Path, uri: str | None, experiment: str, timeout_seconds: float = 30.0) -> int:
    """Send every run below the folder that the store has not received. Return 1 if a folder is damaged.

    A damaged folder is named, and does not affect the others. Raises ConfigError if the store cannot be used, or if
    one exchange with it takes longer than `timeout_seconds`.
    """
    damages = Damages()
    known = archive.read(output_dir, damages)
    runs = [run for run in known if run.folder is not None and (run.folder.path / archive.RECORD).is_file()]
    if not runs and not damages.known:
        raise ConfigError(f"--output-dir {output_dir}: no run in it", "measure something first: visionbench run")
    config = TrackingConfig(uri=uri, experiment=experiment, timeout_seconds=timeout_seconds)
    tracker = MlflowTracker(config, output_dir)
    caller = Caller(tracker.timeout_seconds)
    sent: list[Run] = []
    try:
        tracker.load()
        caller.make(tracker.open)
        complete = _complete_runs(tracker, caller) if len(runs) > FEW_RUNS else set()
        for run in runs:
            if key_of(run.record) in complete:
                sent.append(run)
                continue
            try:
                caller.make(partial(tracker.send, run))
            except ConfigError as error:
                damages(Damaged.of(_path(run), error.problem, left_out=True))
            else:
                sent.append(run)
        for place, files in _reports(sent):
            caller.make(partial(tracker.attach, place, files, again=False))
    except TrackingError as error:
        raise ConfigError(error.problem, error.remedy) from error
    except DeadlineExceeded:
        problem = f"tracking.uri={public(tracker.uri)}: no answer within {caller.seconds:g} s"
        raise ConfigError(problem, f"{len(sent)} of {len(runs)} runs were sent; try again later") from None
    screen().print(
        f"{len(sent)} run{'s' * (len(sent) != 1)} in {public(uri) if uri else output_dir / 'mlflow.db'}",
        soft_wrap=True,
        highlight=False,
    )
    return damages.exit_code(0, sent)


def _complete_runs(tracker: MlflowTracker, caller: Caller) -> set[Key]:
    """Return the keys of all runs that the store has completely. One page is one exchange."""
    keys: set[Key] = set()
    token: str | None = None
    while True:
        with _without_garbage_collection():
            page, token = caller.make(partial(tracker.complete_runs, token))
        keys |= page
        if not token:
            return keys


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pause the search for unused objects, which takes most of the time while a store creates many objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _reports(runs: Sequence[Run]) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the files of each report in or beside the folders of runs, with the folder of the report's first run."""
    runs_by_place: dict[Path, list[tuple[str, Path]]] = {}
    for run in runs:
        path = _path(run)
        for place in (path, path.parent):
            runs_by_place.setdefault(place, []).append((run.record.started_at, path))
    for place, entries in runs_by_place.items():
        if files := page.written(place):
            yield min(entries)[1], files


def _path(run: Run) -> Path:
    assert run.folder is not None
    return run.folder.path
