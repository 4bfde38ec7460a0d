"""`visionbench sync`: what a tracking store has missed is sent to it, once."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from visionbench.config import TrackingConfig
from visionbench.core import Tracker, TrackingError
from visionbench.registry import ConfigError, find
from visionbench.report import archive


def send(output_dir: Path, uri: str | None, experiment: str) -> int:
    """Send every run below the folder; those that the store has already are left as they are."""
    folders = archive.folders(output_dir)
    if not folders:
        raise ConfigError(f"--output-dir {output_dir}: no run in it")
    tracker: Tracker = find("trackers", "mlflow")(TrackingConfig(uri=uri, experiment=experiment), output_dir)
    try:
        tracker.open()
        for folder in folders:
            tracker.log(folder.path)
    except TrackingError as error:
        raise ConfigError(str(error)) from error
    Console().print(
        f"{len(folders)} run{'s' * (len(folders) > 1)} in {uri or output_dir / 'mlflow.db'}",
        soft_wrap=True,
        highlight=False,
    )
    return 0
