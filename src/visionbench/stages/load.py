"""Load: read or build the model, move it to its device, call it for the first time, and check its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Adapter, ConfigError, Device, Inputs, LoadedModel, Samples, VisionbenchError
from visionbench.stages.heartbeat import Heartbeat
from visionbench.stages.windows import quiet

if TYPE_CHECKING:
    import torch


class OutputCheckError(VisionbenchError):
    """The model's outputs do not depend on its inputs, or are not finite, so its times would be meaningless."""


def load(
    adapter: Adapter,
    model: ModelConfig,
    device: Device,
    place: torch.device,
    dtype: torch.dtype,
    quantization: str | None = None,
) -> tuple[LoadedModel, Samples]:
    """Load the model, quantise it if there is a method for it, and return it with its samples.

    Series `load/seconds_s`, `memory/weights_bytes` and `memory/after_load_…` (the memory in use). A model is loaded
    once, so a time that contains a pause is missing with this reason.
    """
    with Heartbeat() as heartbeat:
        start = perf_counter()
        loaded = adapter.load(model, place, dtype)
        if model.channels_last and loaded.identity.get("memory_format") != weights.CHANNELS_LAST:
            raise ConfigError(f"model.channels_last=true: model.family={model.family} does not use it", "remove it")
        flags: Mapping[str, str] = {}
        if quantization is not None:
            loaded = with_facts(loaded, weights.quantize(loaded.module, quantization))
            flags = weights.kernel_doubts(place.type)
        device.synchronize()
        seconds = perf_counter() - start
    in_use = device.memory_in_use()
    after_load = {name.replace("memory/", "memory/after_load_"): value for name, value in in_use.series.items()}
    weights_bytes = np.array([float(loaded.identity["weights_bytes"])])
    samples = Samples({"memory/weights_bytes": weights_bytes, **after_load}, in_use.missing, flags)
    return loaded, samples.merged(_time("load/seconds_s", seconds, heartbeat))


def with_facts(model: LoadedModel, facts: Mapping[str, Any]) -> LoadedModel:
    """Return the model with these facts in its identity."""
    changed = copy(model)
    object.__setattr__(changed, "identity", {**model.identity, **facts})  # the class may be a frozen dataclass
    return changed


def first_call(loaded: LoadedModel, device: Device, inputs: Inputs) -> Samples:
    """Return the series `load/first_call_s`: the first call, which may compile, select kernels and fill caches.

    A time that contains a pause is missing with this reason.
    """
    with quiet(), Heartbeat() as heartbeat:
        seconds = device.time_call(lambda: loaded.call(inputs)).host_s
    return _time("load/first_call_s", seconds, heartbeat)


def _time(series: str, seconds: float, heartbeat: Heartbeat) -> Samples:
    """Return the series with the seconds of one event, or the reason if the process was paused."""
    if reason := heartbeat.reason(f"the {seconds:.3g} s"):
        return Samples(missing={series: f"paused: {reason}"})
    return Samples({series: np.array([seconds])})


def check_output_follows_input(
    loaded: LoadedModel, singles: Sequence[Inputs], place: torch.device, dtype: torch.dtype
) -> None:
    """Raise OutputCheckError if a different input does not change every output, or if an output is not finite.

    The change must be more than ten times the difference between two calls with the same input.
    """
    first = singles[0]
    other = max(singles[1:], key=lambda single: _differences(first, single), default=first)
    if _differences(first, other) == 0:
        raise OutputCheckError(
            "the data holds no two different inputs, so it cannot be checked that the outputs depend on them"
        )
    with quiet():
        outputs, changed, repeated = (
            loaded.probe_outputs(weights.place_inputs(inputs, place, dtype)) for inputs in (first, other, first)
        )
    for name, output in outputs.items():
        before, after, again = (tensor.double().cpu() for tensor in (output, changed[name], repeated[name]))
        if not all(tensor.isfinite().all() for tensor in (before, after, again)):
            raise OutputCheckError(f"the {name} output holds NaN or infinity")
        noise = float((before - again).abs().max())
        signal = float((before - after).abs().max())
        if signal <= 10 * noise or signal == 0:
            raise OutputCheckError(
                f"a different input does not change the {name} output "
                f"(largest difference {signal:.3g}; the same input twice: {noise:.3g})"
            )


def _differences(one: Inputs, other: Inputs) -> int:
    import torch

    return sum(not torch.equal(one[name], other[name]) for name in one)
