"""CUDA graphs: torch records the kernels of each part for each batch size, and a call launches them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench.core import ConfigError, ExecutedGraph, Precision, first_line
from visionbench.registry import register

if TYPE_CHECKING:
    import torch

WARM_UP_CALLS = 3
"""The number of calls before a recording, in which libraries choose their kernels and allocate their memory."""


@register("runtimes", "cuda_graph")
@dataclass(frozen=True)
class CudaGraph:
    """No options. A call copies its inputs to the memory that was recorded, and its outputs from there."""

    replaces_eager: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    compiles_each_size: ClassVar[bool] = True

    def why_unavailable(self) -> None:
        """Return None: torch is always installed."""

    def why_unsupported(self, device: str, precision: Precision) -> str | None:
        """Return that only NVIDIA GPUs have CUDA graphs."""
        if device != "cuda":
            return f"CUDA graphs are for NVIDIA GPUs, not for {device}; use runtime=eager or runtime=compile"
        return None

    def execute(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Record the part for the example's batch size. Raises ConfigError if it waits for the GPU or for the host."""
        recorded = RecordedPart(graph, record)
        start = perf_counter()
        try:
            recorded(*inputs)
        except Exception as error:
            raise ConfigError(
                f"runtime=cuda_graph: torch cannot record this model ({first_line(error)})", "use runtime=eager"
            ) from error
        _parts.append(recorded)
        return ExecutedGraph(recorded, compile_s=perf_counter() - start)

    def reset(self) -> None:
        """Forget the recordings, each of which keeps the memory of its activations."""
        for part in _parts:
            part.forget()


@dataclass(frozen=True)
class Recording:
    """A recorded call: its inputs and outputs have fixed places in memory."""

    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]
    replay: Callable[[], None]


class RecordedPart:
    """A part that is recorded at its first call with inputs of a shape, and replayed at each call."""

    def __init__(self, graph: Any, record: Callable[[Any, tuple[torch.Tensor, ...]], Recording]) -> None:
        self._graph, self._record = graph, record
        self._recordings: dict[Any, Recording] = {}

    def __call__(self, *tensors: torch.Tensor) -> Any:
        """Copy the inputs, replay the recording, and return copies of its outputs, which the next call overwrites."""
        key = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        recording = self._recordings.get(key)
        if recording is None:
            recording = self._recordings[key] = self._record(self._graph, tensors)
        for place, tensor in zip(recording.inputs, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)
        recording.replay()
        outputs = tuple(output.clone() for output in recording.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def forget(self) -> None:
        """Remove all recordings."""
        self._recordings.clear()


_parts: list[RecordedPart] = []
"""The parts of the model of this process."""


def record(graph: Any, tensors: tuple[torch.Tensor, ...]) -> Recording:
    """Record a call of a part on a GPU, after some calls on another stream."""
    import torch

    inputs = tuple(tensor.clone() for tensor in tensors)
    current, other = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    other.wait_stream(current)
    with torch.inference_mode():
        with torch.cuda.stream(other):
            for _ in range(WARM_UP_CALLS):
                graph(*inputs)
        current.wait_stream(other)
        recorded = torch.cuda.CUDAGraph()
        # other threads of the process may use the GPU meanwhile, such as the threads of the evaluation
        with torch.cuda.graph(recorded, capture_error_mode="thread_local"):
            output = graph(*inputs)
    outputs = output if isinstance(output, tuple) else (output,)
    return Recording(inputs, outputs, recorded.replay)
