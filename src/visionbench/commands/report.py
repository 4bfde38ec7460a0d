"""`visionbench report`: write the report of sweeps as one HTML page and as Markdown."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from visionbench.report.page import write_report
from visionbench.report.translations import check
from visionbench.results import archive, missing
from visionbench.results.advice.candidates import Bounds
from visionbench.results.archive import Run
from visionbench.terminal.console import screen

PAUSE_SECONDS = 2.0
"""The shortest pause between two readings of the files."""
PAUSE_PER_READING = 10
"""The pause as a multiple of the time of a reading, so that reading many runs takes a small share of the time."""


def make(
    sweeps: Sequence[str],
    output_dir: Path,
    to: Path | None,
    baseline: str,
    where: str,
    language: str,
    bounds: Bounds,
    waiting: Waiting | None = None,
) -> int:
    """Write the report of the sweeps, by default of the latest sweep, and print the paths of its files.

    With `waiting`, first wait until all planned runs have ended. Return 1 if a folder is damaged, and after waiting
    also if a run is lost or has not ended.
    """
    check(language, "--language")
    facts, base = archive.parse_filter(where, "--where"), archive.parse_filter(baseline, "--baseline")
    if waiting is not None:
        # damaged folders are printed when the report is written
        waiting.wait(lambda: archive.of_sweeps(output_dir, sweeps, lambda _: None))
    damages = archive.Damages()
    chosen = archive.select(archive.of_sweeps(output_dir, sweeps, damages), facts, f"--where {where}")
    paths = write_report(chosen, language, to or _folder(chosen), base, bounds)
    console = screen()
    for path in paths[:2]:
        shown = os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path
        console.print(str(shown), soft_wrap=True, highlight=False)
    incomplete = bool(waiting and (missing.lost(chosen) or missing.pending(chosen)))
    for line in missing.sentences(chosen) if incomplete else ():
        archive.warn(line)
    return damages.exit_code(int(incomplete), chosen)


@dataclass(frozen=True)
class Waiting:
    """Waiting for the runs of a sweep. The files are read again and again, so that the runs may be on any machine."""

    timeout: float | None = None
    """The longest time to wait, in seconds."""
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def wait(self, read: Callable[[], Sequence[Run]]) -> None:
        """Return when no run is pending or the time is over. Print the runs that are missing, when they change."""
        start, printed = self.clock(), ""
        while True:
            before = self.clock()
            runs = read()
            pending = missing.pending(runs)
            if pending and (line := f"waiting for {missing.described(pending, runs)}") != printed:
                archive.warn(line)
                printed = line
            if not pending:
                return
            seconds = max(PAUSE_SECONDS, PAUSE_PER_READING * (self.clock() - before))
            left = math.inf if self.timeout is None else start + self.timeout - self.clock()
            if left <= 0:
                archive.warn(f"--timeout {self.timeout:g}: the report is written without these runs")
                return
            self.pause(min(seconds, left))


def _folder(runs: Sequence[Run]) -> Path:
    """Return the folder that all runs share, or the run's own folder if it is the only one."""
    paths = [run.folder.path for run in runs if run.folder is not None]
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    return Path(os.path.commonpath([path.parent for path in paths]))
