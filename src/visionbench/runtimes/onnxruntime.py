"""ONNX Runtime on a CPU, from parts that are converted to ONNX, in fp32 or int8."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import exports
from visionbench.core import Calibration, ExecutedGraph, Precision
from visionbench.exports import onnx_int8
from visionbench.registry import register

if TYPE_CHECKING:
    import torch


@register("runtimes", "onnxruntime")
@dataclass(frozen=True)
class OnnxRuntime:
    """Option: `spinning`, whether its threads wait for work in a loop, which slows down torch in the same process."""

    spinning: bool = False

    replaces_eager: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = False
    compiles_each_size: ClassVar[bool] = False
    quantizations: ClassVar[tuple[str, ...]] = onnx_int8.METHODS

    def why_unavailable(self) -> str | None:
        """Return which package is missing."""
        return exports.why_unavailable("onnxruntime")

    def why_unsupported(self, device: str, precision: Precision) -> str | None:
        """Return that only a CPU is supported, with products in fp32 or int8."""
        if device != "cpu":
            return f"visionbench uses ONNX Runtime on a CPU only, not on {device}; use runtime=eager or runtime=compile"
        if reason := precision.why_torch_only():
            return reason
        if precision.dtype != "float32":
            return f"on a CPU it computes in fp32, not in {precision.name}; use precision=fp32 or runtime=openvino"
        return None

    def execute(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Convert the part, and open a session with torch's number of threads."""
        export = exports.to_onnx(graph, inputs)
        return replace(self._open(export.file), export_s=export.seconds, file_bytes=export.bytes)

    def why_no_quantization(self, method: str) -> None:
        """Return None: ONNX Runtime contains its quantiser."""

    def execute_quantized(
        self,
        graph: torch.nn.Module,
        inputs: tuple[torch.Tensor, ...],
        precision: Precision,
        calibration: Calibration | None,
    ) -> ExecutedGraph:
        """Convert the part, quantise it, and open a session."""
        assert precision.quantization is not None
        export = exports.to_onnx(graph, inputs)
        part = onnx_int8.quantize(export, precision.quantization, calibration)
        opened = self._open(part.file(onnx_int8.FILE))
        return part.complete(opened, export)

    def _open(self, file: Path) -> ExecutedGraph:
        """Open a session with torch's number of threads."""
        import onnxruntime
        import torch

        start = perf_counter()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]

        def call(*tensors: torch.Tensor) -> Any:
            feed: dict[str, Any] = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
            outputs = tuple(torch.from_numpy(output) for output in session.run(None, feed))
            return outputs if len(outputs) > 1 else outputs[0]

        facts = {"provider": session.get_providers()[0], "runtime_threads": str(options.intra_op_num_threads)}
        return ExecutedGraph(call, compile_s=perf_counter() - start, facts=facts)

    def reset(self) -> None:
        """Do nothing: one session runs every batch size."""
