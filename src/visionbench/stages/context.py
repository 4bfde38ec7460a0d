"""The input of a stage: one timed case with its loaded model, device, protocol and input batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Literal

from visionbench.config import MeasureConfig
from visionbench.core import Case, Device, Example, Inputs, LoadedModel, Samples
from visionbench.stages.decoding import Decoding

Call = Callable[[], object]


@dataclass(frozen=True)
class Context:
    """One timed case, ready for a stage."""

    case: Case
    model: LoadedModel
    device: Device
    measure: MeasureConfig
    batches: Sequence[Inputs] = ()
    """Input batches on the device, as many as the stage needs."""
    kept_bytes: int = 0
    """Host memory of the preprocessed inputs of all batch sizes. It belongs to the benchmark, not to the model."""
    examples: Sequence[Example] = ()
    """The examples that the pipeline stage reads."""
    decoding: Decoding = field(default_factory=Decoding)

    def calls(self) -> Iterator[Call]:
        """Return an endless iterator of calls of the model, in rotation over the batches."""
        return cycle([partial(self.model.call, batch) for batch in self.batches])


@dataclass(frozen=True)
class Stage:
    """A stage of a timed case, and the input batches that must be on the device while it runs."""

    run: Callable[[Context], Samples]
    batches: Literal["all", "one", "none"]
