"""No tracker: results stay in the run's folder, and `visionbench sync` can send them later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visionbench.config import TrackingConfig
from visionbench.registry import register


@register("trackers", "none")
@dataclass(frozen=True)
class NoTracker:
    """A tracker that sends nothing."""

    config: TrackingConfig
    output_dir: Path

    def open(self) -> None:
        """Do nothing: there is no store to prepare."""

    def log(self, folder: Path, figures: bool = True) -> str:
        """Send nothing, and return no view hint."""
        return ""

    def attach(self, folder: Path, files: Sequence[Path], again: bool = True) -> None:
        """Attach nothing."""
