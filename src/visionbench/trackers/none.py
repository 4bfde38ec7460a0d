"""No tracker: results stay in the run's folder, where `visionbench sync` finds them later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visionbench.config import TrackingConfig
from visionbench.registry import register


@register("trackers", "none")
@dataclass(frozen=True)
class NoTracker:
    """Keeps nothing besides the folder."""

    config: TrackingConfig
    output_dir: Path

    def open(self) -> None:
        """Nothing to make ready."""

    def log(self, folder: Path) -> str:
        """Nothing to send."""
        return ""

    def attach(self, folder: Path, files: Sequence[Path], again: bool = True) -> None:
        """Nothing to attach to."""
