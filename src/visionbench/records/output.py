"""The output of a run while it is measured. Rows that cannot be written, as on a full disk, are kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

from visionbench.core import CaseResult, ConfigError, Predictions, Samples, VisionbenchError
from visionbench.records.folder import RunFolder
from visionbench.records.record import RunRecord


class NotWritten(VisionbenchError):
    """The files of a run cannot be written. `record` and `results` are complete; the folder is not."""

    def __init__(self, error: OSError, record: RunRecord, results: list[CaseResult]) -> None:
        super().__init__(
            f"{error.filename or record.plan.name}: {error.strerror or error}",
            "the results of this run are complete only in the table; free space, and measure again",
        )
        self.record, self.results = record, results


class Output:
    """The rows and the record of a run. After an error nothing more is written."""

    def __init__(self, folder: RunFolder, record: RunRecord) -> None:
        self.folder, self.record = folder, record
        self.error: OSError | None = None
        self._rows: list[CaseResult] = []

    def append(self, result: CaseResult, samples: Samples, predicted: Predictions | None = None) -> None:
        """Write a case."""
        self._rows.append(result)
        self._write(self.folder.append, result, samples, predicted)

    def remove_rows(self, cases: Collection[str]) -> None:
        """Remove the rows of cases from the folder."""
        self._write(self.folder.remove_rows, cases)

    def write_record(self, record: RunRecord) -> None:
        """Replace run.json. Raises ConfigError for values that JSON cannot hold."""
        self._write(self.folder.write_record, record)
        self.record = record

    def results(self) -> list[CaseResult]:
        """Return the rows of the run: those of earlier sessions in the folder, and those of this session."""
        stored: list[CaseResult] = []
        if self.error is None:
            return self.folder.results()
        with suppress(ConfigError):
            stored = self.folder.results()
        return list({row.case.id: row for row in [*stored, *self._rows]}.values())

    def raise_if_failed(self) -> None:
        """Raise NotWritten with the complete results if anything could not be written."""
        if self.error is not None:
            raise NotWritten(self.error, self.record, self.results())

    def _write(self, function: Callable[..., None], *content: object) -> None:
        if self.error is None:
            try:
                function(*content)
            except OSError as error:
                self.error = error
