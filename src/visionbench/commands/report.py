"""`visionbench report`: write the report of sweeps as one HTML page and as Markdown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from visionbench.report.page import write_report
from visionbench.report.translations import check
from visionbench.results import archive
from visionbench.results.advice.candidates import Bounds
from visionbench.results.archive import Run
from visionbench.terminal.console import screen


def make(
    sweeps: Sequence[str],
    output_dir: Path,
    to: Path | None,
    baseline: str,
    where: str,
    language: str,
    bounds: Bounds,
) -> int:
    """Write the report of the sweeps, by default of the latest sweep, and print the paths of its files.

    Return 1 if a folder is damaged.
    """
    check(language, "--language")
    facts, base = archive.parse_filter(where, "--where"), archive.parse_filter(baseline, "--baseline")
    damages = archive.Damages()
    runs = [run for sweep in sweeps or [archive.LATEST] for run in archive.of_sweep(output_dir, sweep, report=damages)]
    chosen = archive.select(runs, facts, f"--where {where}")
    paths = write_report(chosen, language, to or _folder(chosen), base, bounds)
    console = screen()
    for path in paths[:2]:
        shown = os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path
        console.print(str(shown), soft_wrap=True, highlight=False)
    return damages.exit_code(0, chosen)


def _folder(runs: Sequence[Run]) -> Path:
    """Return the folder that all runs share, or the run's own folder if it is the only one."""
    paths = [run.folder.path for run in runs if run.folder is not None]
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    return Path(os.path.commonpath([path.parent for path in paths]))
