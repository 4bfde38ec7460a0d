"""`visionbench sync`: send the runs that a tracking store has not received, and attach each report to its first run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from visionbench.config import TrackingConfig
from visionbench.core import ConfigError, Tracker, TrackingError
from visionbench.records.folder import RunFolder
from visionbench.registry import find
from visionbench.report import page
from visionbench.results import archive
from visionbench.terminal.console import screen


def send(output_dir: Path, uri: str | None, experiment: str) -> int:
    """Send every run below the folder that the store has not received."""
    folders = archive.folders(output_dir)
    if not folders:
        raise ConfigError(f"--output-dir {output_dir}: no run in it", "measure something first: visionbench run")
    tracker: Tracker = find("trackers", "mlflow")(TrackingConfig(uri=uri, experiment=experiment), output_dir)
    try:
        tracker.open()
        for folder in folders:
            tracker.log(folder.path)
        for place, files in _reports(folders):
            tracker.attach(place, files, again=False)
    except TrackingError as error:
        raise ConfigError(error.problem, error.remedy) from error
    screen().print(
        f"{len(folders)} run{'s' * (len(folders) > 1)} in {uri or output_dir / 'mlflow.db'}",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def _reports(folders: Sequence[RunFolder]) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the files of each report in or beside these folders, with the folder of the report's first run."""
    runs_by_place: dict[Path, list[RunFolder]] = {}
    for folder in folders:
        for place in (folder.path, folder.path.parent):
            runs_by_place.setdefault(place, []).append(folder)
    for place, runs in runs_by_place.items():
        if files := page.written(place):
            yield min(runs, key=lambda run: run.record().started_at).path, files
