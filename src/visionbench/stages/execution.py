"""Execution: hand the parts of a loaded model to its runtime, before its first call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visionbench.core import (
    ConfigError,
    ExecutedGraph,
    HasGraphs,
    Inputs,
    LoadedModel,
    Precision,
    Quantizes,
    Runtime,
    Samples,
    VisionbenchError,
)
from visionbench.stages.calibration import Calibrator
from visionbench.stages.context import Context
from visionbench.stages.load import with_facts
from visionbench.stages.windows import quiet

if TYPE_CHECKING:
    import torch

SERIES = {
    "export_s": "load/export_s",
    "quantize_s": "load/quantize_s",
    "compile_s": "load/compile_s",
    "file_bytes": "load/file_bytes",
}
"""Fields of `ExecutedGraph`, with the series of their sums."""
WHY_MISSING = {
    "export_s": "the parts were converted before, and were read from the cache",
    "quantize_s": "the parts were quantised before, and were read from the cache",
    "compile_s": "the runtime compiles nothing",
    "file_bytes": "the runtime reads no file",
}


@dataclass(frozen=True)
class Executed:
    """A model whose parts a runtime executes."""

    model: LoadedModel
    """Its identity has the facts of the runtime."""
    samples: Samples


def execute(
    name: str,
    model: LoadedModel,
    runtime: Runtime,
    inputs: Inputs,
    precision: Precision,
    calibrator: Calibrator | None = None,
) -> Executed:
    """Return the model with its parts executed by a runtime, and the series of `SERIES`.

    `inputs` is a batch on the device. A runtime that quantises the parts does so by the method of the precision. Raises
    ConfigError if the model has no parts, or one cannot be executed.
    """
    if not runtime.replaces_eager:
        return Executed(model, Samples())
    graphs = model.graphs() if isinstance(model, HasGraphs) else {}
    if not graphs or not isinstance(model, HasGraphs):
        raise ConfigError(f"runtime={name}: this model has no part that a runtime can execute", "use runtime=eager")
    with quiet():
        executed = {
            part: _execute(name, part, runtime, graph, model.graph_inputs(part, inputs), precision, calibrator)
            for part, graph in graphs.items()
        }
    quantizes = isinstance(runtime, Quantizes) and precision.quantization is not None
    series, missing = dict[str, np.ndarray](), dict[str, str]()
    for item, key in SERIES.items():
        values = [value for one in executed.values() if (value := getattr(one, item)) is not None]
        if values:
            series[key] = np.array([float(sum(values))])
        elif item != "quantize_s" or quantizes:
            missing[key] = WHY_MISSING[item]
    other = model.other_work()
    labels = {"runtime_eager": f"torch executes: {other}"} if other else {}
    if "load/file_bytes" in series:
        copy = f"{_weights_mib(graphs):,.0f} MiB of torch's own copy of the weights"
        labels["torch_weights"] = f"the memory of the process includes {copy}"
    facts = {"runtime_parts": ", ".join(executed), **_sum_facts(executed.values())}
    if calibrator is not None:
        facts |= calibrator.facts()
        labels["calibration"] = f"{facts['calibration_images']} images: {facts['calibration_source']}"
    changed = model.with_graphs({part: one.call for part, one in executed.items()})
    return Executed(with_facts(changed, facts), Samples(series, missing, labels=labels))


def _sum_facts(executed: Iterable[ExecutedGraph]) -> dict[str, str | int]:
    """Return the facts of all parts. Numbers are added."""
    facts: dict[str, str | int] = {}
    for one in executed:
        for key, value in one.facts.items():
            before = facts.get(key, 0)
            facts[key] = before + value if isinstance(before, int) and isinstance(value, int) else value
    return facts


def _execute(
    name: str,
    part: str,
    runtime: Runtime,
    graph: torch.nn.Module,
    tensors: tuple[torch.Tensor, ...],
    precision: Precision,
    calibrator: Calibrator | None,
) -> ExecutedGraph:
    try:
        if isinstance(runtime, Quantizes) and precision.quantization is not None:
            calibration = calibrator.calibration_of(part) if calibrator else None
            return runtime.execute_quantized(graph, tensors, precision, calibration)
        return runtime.execute(graph, tensors, precision)
    except VisionbenchError as error:
        raise ConfigError(f"runtime={name}: {error.problem}", error.remedy) from error


def _weights_mib(graphs: Mapping[str, torch.nn.Module]) -> float:
    """Return the MiB of all weights of these parts. A weight that several parts use counts once."""
    weights = {id(weight): weight for graph in graphs.values() for weight in graph.parameters()}
    return sum(weight.numel() * weight.element_size() for weight in weights.values()) / 2**20


def first_of_size(context: Context, runtime: Runtime) -> Samples:
    """Return the series `load/compile_s`: the first call at a batch size, in which the runtime compiles."""
    runtime.reset()
    with quiet():
        seconds = context.device.time_call(next(context.calls())).host_s
    return Samples({"load/compile_s": np.array([seconds])})
