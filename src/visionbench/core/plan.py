"""The plan of a run: its cases, and the metric groups that it cannot measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

from visionbench.core.declarations import LOAD

BATCH, QUALITY_CASE = "batch", "quality"
"""The kinds of cases, beside `LOAD`."""
SERVING = "serving"
"""The id of the case that searches for the largest load, and the name of its stage and of its metric group."""
REMOTE = "remote"
"""The device of a run whose model is at an endpoint."""
AUTO = "batch-auto"
"""The id of the case of batch=auto until a search has found its batch size. Until then the batch size is 0."""


@dataclass(frozen=True)
class Case:
    """One measurement of a run: a batch size, a load, or (`quality`) one pass of the data set through the model.

    The case `serving` is the search for the largest load. Each load that it measures is another case, which is added to
    the plan when it is measured.
    """

    id: str
    batch_size: int
    stages: tuple[str, ...]
    metrics: tuple[str, ...]
    load: float | None = None
    """The offered load in requests per second."""
    clients: int | None = None
    """The number of clients in a closed loop, each with one request at a time."""

    @property
    def kind(self) -> str:
        """What the case measures: `batch`, `load` or `quality`."""
        if "evaluation" in self.stages:
            return QUALITY_CASE
        return LOAD if SERVING in self.stages else BATCH

    @property
    def timed(self) -> bool:
        """Whether the case times a batch size."""
        return self.kind == BATCH

    @property
    def order(self) -> tuple[int, float, int]:
        """The place of the case among those of its run: batch sizes, then loads with their search, then quality."""
        load = (inf if self.offered is None else self.offered) if self.kind == LOAD else 0.0
        return (BATCH, LOAD, QUALITY_CASE).index(self.kind), load, self.batch_size

    @property
    def is_quality(self) -> bool:
        """Whether the case is the pass of the data set through the model."""
        return self.kind == QUALITY_CASE

    @property
    def offered(self) -> float | None:
        """The load of a measured load: requests per second or, in a closed loop, the number of clients."""
        return self.load if self.load is not None else self.clients

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

    def with_case(self, case: Case) -> RunPlan:
        """Return the plan with a case that was not planned, such as that of a load."""
        return replace(self, cases=tuple(sorted([*self.cases, case], key=lambda each: each.order)))

    @property
    def is_remote(self) -> bool:
        """Whether the model is at an endpoint, so that this machine only sends requests."""
        return self.device == REMOTE

    def with_batch_size(self, search: BatchSearch) -> RunPlan:
        """Return the plan with the batch size that a search found."""
        cases = (case.of_size(search.batch_size) if case.id == AUTO else case for case in self.cases)
        return replace(self, cases=tuple(cases), batch_search=search)
