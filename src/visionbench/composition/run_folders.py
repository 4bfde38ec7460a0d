"""Checks of the folders of a sweep's runs before the first run is measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from visionbench.core import ConfigError

NUMBER = "${hydra.job.num}"
"""The part of a pattern that gives each job another folder."""


def refuse_shared_folders(folders: Sequence[Path], pattern: str) -> None:
    """Raise ConfigError if two jobs have the same folder, or if one folder contains another.

    `pattern` is `hydra.sweep.subdir` as it was typed.
    """
    jobs: dict[Path, int] = {}
    for job, folder in enumerate(folders):
        path = Path(os.path.normpath(folder))
        for other in (path, *path.parents):
            if other in jobs:
                _refuse(pattern, jobs[other], job, path.name, contained=other != path)
        jobs[path] = job
    for path, job in jobs.items():
        for other in path.parents:
            if other in jobs:
                _refuse(pattern, jobs[other], job, path.name, contained=True)


def _refuse(pattern: str, first: int, second: int, name: str, contained: bool) -> None:
    problem = (
        f"the folder of job {second} is inside the folder of job {first}"
        if contained
        else f"jobs {first} and {second} have the same folder '{name}'"
    )
    base = "${model.name}" if pattern in ("", ".") or NUMBER in pattern else pattern
    raise ConfigError(
        f"hydra.sweep.subdir={pattern}: {problem}", f"add the number of the job: hydra.sweep.subdir='{NUMBER}_{base}'"
    )
