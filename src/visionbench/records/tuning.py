"""The record of a search of `visionbench tune`, which is the content of tune.json in the folder of its sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from visionbench.core import VALID, WARNED
from visionbench.records import record_file

FILE = "tune.json"
SCHEMA_VERSION = 1
"""The version of tune.json. Increase it if older readers would misread the file."""
SEARCHING, FINISHED = "searching", "finished"
"""The states of a search. A search that is not finished is continued by the same command."""
HELD, OPEN, BROKEN = "held", "open", "broken"
"""Whether bounds are held: certainly, not decided because an interval contains the bound, or certainly not."""
SEARCH, QUALITY, FINAL, BASELINE = "search", "quality", "final", "baseline"
"""The purposes of the runs of a search."""
MEASURED, PRUNED, FAILED = "measured", "pruned", "failed"
"""The outcomes of a configuration."""


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval, if one is known."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, or the value twice if no interval is known."""
        return (self.value if self.low is None else self.low), (self.value if self.high is None else self.high)

    @property
    def inverse(self) -> Figure:
        """1 ÷ this."""
        low, high = self.ends
        known = self.low is not None and self.high is not None and low > 0 and high > 0
        return Figure(1 / self.value, 1 / high, 1 / low) if known else Figure(1 / self.value)


@dataclass(frozen=True)
class Measurement:
    """One batch size of one configuration."""

    batch_size: int
    status: str
    """`ok`, or why there are no numbers."""
    verdict: str = VALID
    reason: str = ""
    """The reasons of the verdict, or the reason of the status."""
    throughput: Figure | None = None
    p50: Figure | None = None
    """Milliseconds of a call."""
    p95: Figure | None = None
    peak_mib: float | None = None
    bounds: str = HELD
    """Whether the bounds of latency and memory are held."""
    bounds_reason: str = ""
    run: str = ""
    """The folder of the run, relative to that of the search."""

    @property
    def questionable(self) -> bool:
        """Whether the numbers have a doubt."""
        return self.verdict == WARNED


@dataclass(frozen=True)
class Quality:
    """The quality of a precision in a runtime, beside that of eager fp32 on the same images."""

    metric: str
    value: float | None
    ratio: Figure | None
    """The value ÷ that of the reference."""
    bound: str = HELD
    """Whether the bound of quality is held."""
    reason: str = ""


@dataclass(frozen=True)
class Tried:
    """A configuration of the search: its measured batch sizes and the outcome."""

    combination: Mapping[str, str]
    outcome: str
    reason: str = ""
    """Why no further batch size was measured, or why the configuration was not measured."""
    measured: tuple[Measurement, ...] = ()
    quality: Quality | None = None


@dataclass(frozen=True)
class Finalist:
    """A configuration that was measured again beside the baseline, at full length and in several processes."""

    combination: Mapping[str, str]
    measurement: Measurement
    ratio: Figure | None = None
    """The objective ÷ that of the baseline, with its interval across processes."""
    to_best: Figure | None = None
    """The objective ÷ that of the best one."""
    quality: Quality | None = None
    baseline: bool = False
    excluded: str = ""
    """Why it cannot win; empty if it can."""

    @property
    def questionable(self) -> bool:
        """Whether the timings have a doubt."""
        return self.measurement.questionable


@dataclass(frozen=True)
class TrialRun:
    """A run of the search: its folder, relative to that of the search, and its purpose."""

    folder: str
    purpose: str
    combination: Mapping[str, str]


@dataclass(frozen=True)
class TuneRecord:
    """A search: what was requested, what was tried, and the result."""

    id: str
    started_at: str
    request: Mapping[str, str]
    """What determines the search; the same command has the same request."""
    model: str
    objective: str
    bounds: Mapping[str, float]
    """The bounds by their keys, such as `max_latency_p95_ms`."""
    searched: Mapping[str, tuple[str, ...]]
    """The values of each part of a configuration, and the batch sizes."""
    space: int
    """The number of all configurations with all batch sizes."""
    limit: int
    """The number of trials that the search may measure."""
    protocols: Mapping[str, str] = field(default_factory=dict)
    """The protocols of the search and of the finals."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """The configurations and parts that are not searched, each with the reason."""
    state: str = SEARCHING
    runs: tuple[TrialRun, ...] = ()
    tried: tuple[Tried, ...] = ()
    finalists: tuple[Finalist, ...] = ()
    """The baseline first."""
    best: int | None = None
    """The index of the best finalist, or None if there is none."""
    notes: tuple[str, ...] = ()
    command: str = ""
    """The command that measures the best configuration again."""
    schema: int = SCHEMA_VERSION

    @property
    def trials(self) -> int:
        """The number of measured batch sizes of all configurations."""
        return sum(len(one.measured) for one in self.tried)

    @classmethod
    def read(cls, folder: Path) -> TuneRecord | None:
        """Read the record in a folder, or return None if there is none. Raises ConfigError that names the folder."""
        return record_file.read(cls, folder, FILE, SCHEMA_VERSION)

    def write(self, folder: Path) -> None:
        """Replace the record in a folder."""
        record_file.write(self, folder, FILE)
