"""The time that cases took in earlier results, for the estimate of a plan."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from visionbench.core import OK, Case, ConfigError
from visionbench.records.folder import RunFolder
from visionbench.records.identity import Identity
from visionbench.records.record import RunRecord
from visionbench.results import archive

MOST_READ = 500
"""The number of runs that are read, the latest first."""


@dataclass
class Durations:
    """The seconds of earlier cases on one host, by the settings of the run and the content of the case."""

    host: str | None
    _cases: dict[tuple[str, str], float] = field(default_factory=dict)
    _starts: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, output_dir: Path, host: str | None) -> Durations:
        """Read the latest runs below a folder. Runs that cannot be read are left out."""
        durations = cls(host)
        for folder in _latest(output_dir):
            with suppress(ConfigError, OSError):
                durations.add(folder.record(), folder)
        return durations

    def add(self, record: RunRecord, folder: RunFolder) -> None:
        """Add the times of a run. Times that are known from a later run are kept."""
        if record.host.name != self.host or not record.case_seconds:
            return
        identity = Identity.of_record(record)
        measured = {row.case.id: row.case for row in folder.results() if row.status == OK}
        for case_id, case in measured.items():
            if (seconds := record.case_seconds.get(case_id)) is not None and seconds >= 0:
                self._cases.setdefault((identity.key, identity.content(case)), seconds)
        if (start := record.case_seconds.get("")) is not None:
            self._starts.setdefault(identity.key, start)

    def of_case(self, identity: Identity, case: Case) -> float | None:
        """Return the seconds of the same case in an earlier run, or None if there is none."""
        return self._cases.get((identity.key, identity.content(case)))

    def of_start(self, identity: Identity) -> float | None:
        """Return the seconds before the first case of the same run, or None if it was not measured."""
        return self._starts.get(identity.key)


def _latest(output_dir: Path) -> list[RunFolder]:
    """Return the folders whose records were written last, the latest first."""
    return sorted(archive.folders(output_dir), key=_written_at, reverse=True)[:MOST_READ]


def _written_at(folder: RunFolder) -> float:
    with suppress(OSError):
        return (folder.path / archive.RECORD).stat().st_mtime
    return 0.0
