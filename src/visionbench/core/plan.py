"""The plan of a run: its cases, and the metric groups that it cannot measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

AUTO = "batch-auto"
"""The id of the case of batch=auto until a search has found its batch size. Until then the batch size is 0."""


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

    @property
    def size(self) -> str:
        """The batch size as text; `auto` if a search has not found it yet."""
        return "auto" if self.id == AUTO else str(self.batch_size)

    def of_size(self, batch_size: int) -> Case:
        """Return the case of another batch size, with the id of that size."""
        return replace(self, id=f"batch-{batch_size}", batch_size=batch_size)


@dataclass(frozen=True)
class BatchSearch:
    """The result of a search for the largest batch size that fits."""

    case: str
    """The id of the case: `batch-24`."""
    batch_size: int
    """The largest size that fits. If there is none, the size at which the search failed."""
    labels: Mapping[str, str]
    """The labels of the case's row: what was requested, the limit of the memory, and the sizes that were tried."""
    failure: str = ""
    """Why there is no size, or an empty text."""


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
    decoder: str = "pillow"
    """The decoder of the image files."""
    preprocess: str = "transformers"
    """The library that resizes and normalises images."""
    varied: Mapping[str, str] = field(default_factory=dict)
    """What differs between the runs of the sweep, with the values of this run as text: `model`, `device` and
    `precision`, and configuration keys such as `device.threads`. The name of the run contains these values."""
    beside: str = ""
    """Which other runs may use this machine at the same time; empty if there are none."""
    batch_search: BatchSearch | None = None
    """The search that found the size of a case, with batch=auto."""

    def with_batch_size(self, search: BatchSearch) -> RunPlan:
        """Return the plan with the batch size that a search found."""
        cases = (case.of_size(search.batch_size) if case.id == AUTO else case for case in self.cases)
        return replace(self, cases=tuple(cases), batch_search=search)
