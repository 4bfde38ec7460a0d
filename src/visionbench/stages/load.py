"""Load: read or build the model, move it to its device, and call it for the first time on two different pictures."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Adapter, Device, Inputs, LoadedModel, Samples, VisionbenchError
from visionbench.stages.context import quiet

if TYPE_CHECKING:
    import torch


class OutputCheckError(VisionbenchError):
    """The model's output does not follow its input: what it would be measured doing is not its work."""


def load(
    adapter: Adapter, model: ModelConfig, device: Device, place: torch.device, dtype: torch.dtype
) -> tuple[LoadedModel, Samples]:
    """The model on its device; series `load/seconds_s`, `memory/weights_bytes` and what the process then holds."""
    start = perf_counter()
    loaded = adapter.load(model, place, dtype)
    device.synchronize()
    series = {"load/seconds_s": perf_counter() - start, "memory/weights_bytes": float(loaded.identity["weights_bytes"])}
    in_use = device.memory_in_use()
    after_load = {name.replace("memory/", "memory/after_load_"): value for name, value in in_use.series.items()}
    return loaded, Samples({name: np.array([value]) for name, value in series.items()}).merged(
        Samples(after_load, in_use.missing)
    )


def first_call(loaded: LoadedModel, device: Device, inputs: Inputs) -> Samples:
    """Series `load/first_call_s`: compilation, kernel selection and caches included."""
    with quiet():
        return Samples({"load/first_call_s": np.array([device.time_call(lambda: loaded.call(inputs)).host_s])})


def check_output_follows_input(
    loaded: LoadedModel, singles: Sequence[Inputs], place: torch.device, dtype: torch.dtype
) -> None:
    """Raise OutputCheckError unless a different input changes every output, beyond what the same input does twice."""
    first = singles[0]
    other = max(singles[1:], key=lambda one: _differences(first, one), default=first)
    if _differences(first, other) == 0:
        raise OutputCheckError("the data holds no two different inputs, so nothing shows that the model looks at them")
    with quiet():
        once, changed, again = (
            loaded.probe_outputs(weights.place_inputs(one, place, dtype)) for one in (first, other, first)
        )
    for name, output in once.items():
        before, after, repeated = (tensor.double().cpu() for tensor in (output, changed[name], again[name]))
        if not (before.isfinite().all() and after.isfinite().all()):
            raise OutputCheckError(f"the {name} output holds NaN or infinity")
        noise = float((before - repeated).abs().max())
        signal = float((before - after).abs().max())
        if signal <= 10 * noise or signal == 0:
            raise OutputCheckError(
                f"a different input does not change the {name} output "
                f"(largest difference {signal:.3g}; the same input twice: {noise:.3g})"
            )


def _differences(one: Inputs, other: Inputs) -> int:
    import torch

    return sum(not torch.equal(one[name], other[name]) for name in one)
