"""ONNX Runtime on a CPU, from parts that are converted to ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import exports
from visionbench.core import ExecutedGraph, Precision
from visionbench.registry import register

if TYPE_CHECKING:
    import torch


@register("runtimes", "onnxruntime")
@dataclass(frozen=True)
class OnnxRuntime:
    """Option: `spinning`, whether its threads wait for work in a loop, which slows down torch in the same process."""

    spinning: bool = False

    replaces_eager: ClassVar[bool] = True
    compiles_each_size: ClassVar[bool] = False

    def why_unavailable(self) -> str | None:
        """Return which package is missing."""
        return exports.why_unavailable("onnxruntime")

    def why_unsupported(self, device: str, precision: Precision) -> str | None:
        """Return that only fp32 on a CPU is supported."""
        if device != "cpu":
            return f"visionbench uses ONNX Runtime on a CPU only, not on {device}; use runtime=eager or runtime=compile"
        if reason := precision.why_torch_only():
            return reason
        if precision.dtype != "float32":
            return f"on a CPU it computes in fp32, not in {precision.name}; use precision=fp32 or runtime=openvino"
        return None

    def execute(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Convert the part, and open a session with torch's number of threads."""
        import onnxruntime
        import torch

        export = exports.to_onnx(graph, inputs)
        start = perf_counter()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        session = onnxruntime.InferenceSession(str(export.file), options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]

        def call(*tensors: torch.Tensor) -> torch.Tensor:
            feed: dict[str, Any] = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
            return torch.from_numpy(session.run(None, feed)[0])

        facts = {"provider": session.get_providers()[0], "runtime_threads": str(options.intra_op_num_threads)}
        return ExecutedGraph(call, export.seconds, perf_counter() - start, export.bytes, facts)

    def reset(self) -> None:
        """Do nothing: one session runs every batch size."""
