"""The record of a sweep, which is the content of sweep.json: the runs that one command planned.

It is written before the first run is measured, so that readers show the runs that never started, and a later command
can measure them. A command that measures one run writes it too, into the folder of the run.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError, RunPlan, first_line
from visionbench.credentials import public
from visionbench.records import clock, process, record_file, typed_json
from visionbench.records.process import ProcessIdentity
from visionbench.records.record import Settings

FILE = "sweep.json"
SCHEMA_VERSION = 1
"""The version of sweep.json. Increase it if older readers would misread the file."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that a command planned."""

    folder: str
    """The folder of the run, relative to the folder of the sweep; `.` if they are the same."""
    plan: RunPlan
    overrides: tuple[str, ...] = ()
    """The overrides of this run, without credentials."""
    config: str = ""
    """The composed configuration as in config.yaml, without secrets."""

    @property
    def name(self) -> str:
        """The name of the run, such as `clip_tiny · cpu · fp32`."""
        return self.plan.name

    def parsed_config(self, place: str) -> dict[str, Any]:
        """Return the configuration. Raises ConfigError that names the place if readers cannot use it."""
        import yaml

        try:
            config = yaml.safe_load(self.config)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(
                f"{place}: the config of {self.folder} is not valid YAML ({first_line(error)})"
            ) from error
        typed_json.read(Settings, config, f"{place}: the config of {self.folder}")
        return dict(config)


@dataclass(frozen=True)
class SweepRecord:
    """The runs that one command planned."""

    id: str
    """The id that all runs of the command share."""
    started_at: str
    runs: tuple[PlannedRun, ...]
    command: tuple[str, ...] = ()
    """The words of the command, without credentials."""
    host: str | None = None
    process: ProcessIdentity | None = None
    """The process that measures the runs one after the other."""
    ended_at: str | None = None
    """The end of the command, also if it was interrupted. None while it runs, and if it was killed."""
    outlived: bool = False
    """Whether runs may start after the command has ended, as jobs in the queue of a cluster do."""
    schema: int = SCHEMA_VERSION

    @classmethod
    def start(cls, id: str, runs: Sequence[PlannedRun]) -> SweepRecord:
        """Return the record of these runs, which this process measures."""
        command = ("visionbench", *map(public, sys.argv[1:]))
        return cls(id, clock.now(), tuple(runs), command, platform.node(), process.current())

    @classmethod
    def read(cls, folder: Path) -> SweepRecord | None:
        """Read the record in a folder, or return None if there is none. Raises ConfigError that names the folder."""
        return record_file.read(cls, folder, FILE, SCHEMA_VERSION)

    def write(self, folder: Path) -> None:
        """Replace the record in a folder."""
        record_file.write(self, folder, FILE)

    def joined(self, earlier: SweepRecord | None) -> SweepRecord:
        """Return this record with the runs of an earlier command in the same folder, which keep their places."""
        if earlier is None:
            return self
        own = {run.folder for run in self.runs}
        started_at = earlier.started_at if earlier.id == self.id else self.started_at
        return replace(
            self, started_at=started_at, runs=(*(run for run in earlier.runs if run.folder not in own), *self.runs)
        )

    def ended(self, folder: Path) -> SweepRecord:
        """Return the record with the end of the command, unless jobs in a queue may still start."""
        if self.outlived and not all((folder / run.folder / "run.json").exists() for run in self.runs):
            return self
        return replace(self, ended_at=clock.now())

    @property
    def is_running(self) -> bool:
        """Whether planned runs may still start. True for another host, whose processes this machine cannot check."""
        if self.ended_at is not None:
            return False
        return self.outlived or self.process is None or not process.has_ended(self.process, self.host)


def resume_command(folder: Path, sweep: str) -> str:
    """Return the command that continues a sweep. It names the folder if the sweep is not in the default folder."""
    name = sweep
    if folder.absolute() != Path("outputs", sweep).absolute():
        name = os.path.relpath(folder) if folder.absolute().is_relative_to(Path.cwd()) else str(folder)
    return shlex.join(["visionbench", "run", f"resume={name}"])
