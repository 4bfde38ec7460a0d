"""Execution: hand the parts of a loaded model to its runtime, before its first call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from visionbench.core import (
    ConfigError,
    ExecutedGraph,
    HasGraphs,
    Inputs,
    LoadedModel,
    Precision,
    Runtime,
    Samples,
    VisionbenchError,
)
from visionbench.stages.context import Context
from visionbench.stages.windows import quiet

if TYPE_CHECKING:
    import torch

SERIES = {"export_s": "load/export_s", "compile_s": "load/compile_s", "file_bytes": "load/file_bytes"}
"""Fields of `ExecutedGraph`, with the series of their sums."""
WHY_MISSING = {
    "export_s": "the parts were converted before, and were read from the cache",
    "compile_s": "the runtime compiles nothing",
    "file_bytes": "the runtime reads no file",
}


@dataclass(frozen=True)
class Executed:
    """A model whose parts a runtime executes."""

    model: LoadedModel
    samples: Samples
    facts: Mapping[str, str] = field(default_factory=dict)
    """Facts for the identity of the model in run.json."""


def execute(name: str, model: LoadedModel, runtime: Runtime, inputs: Inputs, precision: Precision) -> Executed:
    """Return the model with its parts executed by a runtime, and the series `load/export_s`, `compile_s`, `file_bytes`.

    `inputs` is a batch on the device. Raises ConfigError if the model has no parts, or one cannot be executed.
    """
    if not runtime.replaces_eager:
        return Executed(model, Samples())
    graphs = model.graphs() if isinstance(model, HasGraphs) else {}
    if not graphs or not isinstance(model, HasGraphs):
        raise ConfigError(f"runtime={name}: this model has no part that a runtime can execute", "use runtime=eager")
    tensors = model.graph_inputs(inputs)
    with quiet():
        executed = {part: _execute(name, runtime, graph, tensors[part], precision) for part, graph in graphs.items()}
    series, missing = dict[str, np.ndarray](), dict[str, str]()
    for item, key in SERIES.items():
        values = [value for one in executed.values() if (value := getattr(one, item)) is not None]
        if values:
            series[key] = np.array([float(sum(values))])
        else:
            missing[key] = WHY_MISSING[item]
    other = model.other_work()
    labels = {"runtime_eager": f"torch executes: {other}"} if other else {}
    if "load/file_bytes" in series:
        copy = f"{_weights_mib(graphs):,.0f} MiB of torch's own copy of the weights"
        labels["torch_weights"] = f"the memory of the process includes {copy}"
    facts = {key: value for one in executed.values() for key, value in one.facts.items()}
    facts["runtime_parts"] = ", ".join(executed)
    changed = model.with_graphs({part: one.call for part, one in executed.items()})
    return Executed(changed, Samples(series, missing, labels=labels), facts)


def _execute(
    name: str, runtime: Runtime, graph: torch.nn.Module, tensors: tuple[torch.Tensor, ...], precision: Precision
) -> ExecutedGraph:
    try:
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
