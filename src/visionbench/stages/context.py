"""What every stage is given, and the inputs that its calls rotate over."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench import weights
from visionbench.config import EvaluationConfig, InputsConfig, MeasureConfig
from visionbench.core import Case, Device, Example, Inputs, LoadedModel, Metric, Samples, first_line
from visionbench.datafiles.images import PictureError, decode_example
from visionbench.machine import Noise, usable_cores

if TYPE_CHECKING:
    import torch

Call = Callable[[], object]
MOST_LOADERS = 8
MOST_SHOWN = 120
"""So many characters of a model's error are shown with a picture."""


@dataclass(frozen=True)
class Context:
    """One case about to be measured: the loaded model on its device, its inputs, and the protocol's numbers."""

    case: Case
    model: LoadedModel
    device: Device
    measure: MeasureConfig
    batches: list[Inputs]
    """Batches on the device, at least one; empty for a quality case."""
    kept_bytes: int
    """Host memory held by preprocessed inputs that wait for other batch sizes: the benchmark's, not the model's."""
    examples: Sequence[Example]
    metrics: Mapping[str, Metric]
    classes: Sequence[str] = ()
    """The data set's, where it gives labels."""
    on_error: str = "fail"
    """Whether a picture without a prediction ends the case (`fail`) or is left out and named (`skip`)."""
    once: dict[str, Any] = field(default_factory=dict)
    """What a stage finds once for all batch sizes of the run (the device's ceilings, the model without numbers)."""

    def calls(self) -> Iterator[Call]:
        """Calls without end, rotating over the batches."""
        return cycle([partial(self.model.call, batch) for batch in self.batches])


@contextmanager
def quiet() -> Iterator[None]:
    """A timed window: gradients off and the garbage collector at rest."""
    import torch

    collecting = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()


@dataclass
class TimedWindow:
    """A timed window that is watched: `seen` is there once it has ended."""

    seen: Samples = field(default_factory=Samples)


@contextmanager
def watched(context: Context, name: str) -> Iterator[TimedWindow]:
    """A quiet window between two readings of what disturbs a measurement: series `<name>/run_delay_fraction`,
    `involuntary_switches_per_s`, `steal_fraction` and `load_count`, and the device's own flags and faults."""
    import torch

    window = TimedWindow()
    feeds_queue = context.device.queued  # then the thread that launches is the only one that the device waits for
    with quiet():
        ended = context.device.watch()
        compiled, before = _compilations(), Noise.now(this_thread_only=feeds_queue)
        yield window
        found = Noise.now(this_thread_only=feeds_queue).since(before, 1 if feeds_queue else torch.get_num_threads())
        compiled = _compilations() - compiled
        window.seen = ended()
    series = {f"{name}/{key}": np.array([value]) for key, value in found.items() if value is not None}
    missing = {f"{name}/{key}": "the kernel does not tell it here" for key, value in found.items() if value is None}
    faults = {"recompiled": f"torch compiled {compiled} times within the {name} window"} if compiled else {}
    window.seen = window.seen.merged(Samples(series, missing, faults=faults))


def _compilations() -> int:
    """How many graphs torch has compiled so far; nothing is imported for it."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo else 0


@dataclass(frozen=True)
class Prepared:
    """Inputs for timed calls, and the pictures that the model's processor cannot take."""

    singles: list[Inputs]
    """Each with a batch axis of one, on the host."""
    unfit: Mapping[str, str]
    """By the example's id, why it has no inputs."""


def preprocess(model: LoadedModel, examples: Sequence[Example], rule: InputsConfig) -> Prepared:
    """Decode and preprocess as many examples as the rule wants; keep what its memory holds, at least two where there
    are two. Those that are not kept are tried all the same, since the pipeline uses them.

    Raises the processor's error where it takes none of the first so many pictures: then the fault is not a picture's.
    """
    singles: list[Inputs] = []
    unfit: dict[str, str] = {}
    errors: list[Exception] = []
    taken, full = 0, False
    for example in examples:
        if taken == rule.distinct_samples or (not taken and len(errors) == rule.distinct_samples):
            break
        try:
            inputs = model.preprocess([decode_example(example)], list(example.captions[:1]) or [""])
        except MemoryError:
            raise
        except Exception as error:
            unfit[example.id] = why_not(error)
            errors.append(error)
            continue
        taken += 1
        if not full:
            singles.append(inputs)
            full = len(singles) >= 2 and (len(singles) + 1) * input_bytes(singles[0]) > rule.max_mib * 2**20
    if errors and not taken:
        raise errors[0]
    return Prepared(singles, unfit)


def why_not(error: Exception) -> str:
    """Why a picture has no inputs or no answer: what is wrong with its file, or what the model said of it."""
    if isinstance(error, PictureError):
        return error.reason
    line = first_line(error)
    if len(line) > MOST_SHOWN:
        line = f"{line[:MOST_SHOWN]}…"
    return f"the model cannot take it ({type(error).__name__}: {line})"


def loader_count(rule: EvaluationConfig) -> int:
    """Threads that decode and preprocess ahead of the model."""
    return rule.workers or min(usable_cores(), MOST_LOADERS)


def input_bytes(inputs: Inputs) -> int:
    """Bytes of a batch's tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in inputs.values())


def assemble(
    singles: Sequence[Inputs], batch_size: int, device: torch.device, dtype: torch.dtype, max_mib: int | None = None
) -> Iterator[Inputs]:
    """Batches of `batch_size` on the device, until every single sample was used once; the last wraps around.

    There is at least one, and no more than fit into `max_mib` (counted as on the host).
    """
    import torch

    samples = cycle(singles)
    count = -(-len(singles) // batch_size)
    if max_mib is not None:
        count = min(count, max(1, max_mib * 2**20 // (input_bytes(singles[0]) * batch_size)))
    for _ in range(count):
        chosen = list(islice(samples, batch_size))
        yield weights.place_inputs(
            {name: torch.cat([one[name] for one in chosen]) for name in chosen[0]}, device, dtype
        )
