"""The plan of a run: its cases, and the metric groups that it cannot measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One measurement of a run: a batch size, or (`quality`) one pass of the data set through the model."""

    id: str
    batch_size: int
    stages: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def timed(self) -> bool:
        """Whether the case times a batch size. False for the quality case."""
        return "evaluation" not in self.stages


@dataclass(frozen=True)
class RunPlan:
    """One model on one device in one precision. Its cases share the loaded model."""

    name: str
    model: str
    task: str
    device: str
    precision: str
    cases: tuple[Case, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    """Metric groups that this run cannot measure, each with the reason."""
    unsuited: Mapping[str, str] = field(default_factory=dict)
    """Metric groups that do not apply to this run, such as quality metrics of other tasks, each with the reason."""
    warnings: tuple[str, ...] = ()
    protocol: str = ""
    """The name of the measure config, and the overrides that change it in this run."""
    experiment: str = ""
    """The name of the experiment config, if one was chosen."""
    runtime: str = "eager"
    """The library that executes the model."""
    varied: Mapping[str, str] = field(default_factory=dict)
    """What differs between the runs of the sweep, with the values of this run as text: `model`, `device` and
    `precision`, and configuration keys such as `device.threads`. The name of the run contains these values."""
    beside: str = ""
    """Which other runs may use this machine at the same time; empty if there are none."""
