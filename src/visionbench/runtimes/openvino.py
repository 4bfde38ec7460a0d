"""OpenVINO on a CPU, from parts that are converted to ONNX. It computes in fp32, bf16, fp16 or int8."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import exports
from visionbench.core import Calibration, ConfigError, ExecutedGraph, Precision
from visionbench.exports import nncf
from visionbench.registry import register

if TYPE_CHECKING:
    import torch

HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""OpenVINO's names of the types that it may compute in."""


@register("runtimes", "openvino")
@dataclass(frozen=True)
class OpenVino:
    """No options. It computes in the type of `precision` and with torch's number of threads."""

    replaces_eager: ClassVar[bool] = True
    compiles_each_size: ClassVar[bool] = False
    quantizations: ClassVar[tuple[str, ...]] = nncf.METHODS

    def why_unavailable(self) -> str | None:
        """Return which package is missing."""
        return exports.why_unavailable("openvino")

    def why_unsupported(self, device: str, precision: Precision) -> str | None:
        """Return that only CPUs are supported, and no autocast."""
        if device != "cpu":
            return f"visionbench uses OpenVINO on a CPU only, not on {device}; use runtime=eager or runtime=compile"
        return precision.why_torch_only()

    def execute(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Convert the part and compile it for a CPU. The result of a call has the dtype of the run."""
        export = exports.to_onnx(graph, inputs)
        return replace(self._compile(export.file, precision), export_s=export.seconds, file_bytes=export.bytes)

    def why_no_quantization(self, method: str) -> str | None:
        """Return that nncf is missing, with the command that installs it."""
        return exports.why_missing(("nncf",), "nncf")

    def execute_quantized(
        self,
        graph: torch.nn.Module,
        inputs: tuple[torch.Tensor, ...],
        precision: Precision,
        calibration: Calibration | None,
    ) -> ExecutedGraph:
        """Convert the part, quantise it by nncf, and compile it for a CPU."""
        assert precision.quantization is not None and calibration is not None
        export = exports.to_onnx(graph, inputs)
        part = nncf.quantize(export, precision.quantization, calibration)
        return part.complete(self._compile(part.file(nncf.FILE), precision), export)

    def _compile(self, file: Path, precision: Precision) -> ExecutedGraph:
        """Compile a file for a CPU, with torch's number of threads."""
        import openvino
        import torch

        start = perf_counter()
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[precision.dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = core.compile_model(core.read_model(str(file)), "CPU", settings)
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != HINTS[precision.dtype]:
            raise ConfigError(
                f"OpenVINO computes in {used} on this processor, not in {precision.name}", "use precision=fp32 or bf16"
            )
        request = compiled.create_infer_request()
        dtype = getattr(torch, precision.dtype)

        def call(*tensors: torch.Tensor) -> Any:
            feed = [(tensor.float() if tensor.is_floating_point() else tensor).numpy() for tensor in tensors]
            results = request.infer(dict(enumerate(feed)), share_inputs=True, share_outputs=True)
            outputs = tuple(torch.from_numpy(array).to(dtype, copy=True) for array in results.values())
            return outputs if len(outputs) > 1 else outputs[0]

        facts = {
            "inference_precision": used,
            "runtime_threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
        }
        return ExecutedGraph(call, compile_s=perf_counter() - start, facts=facts)

    def reset(self) -> None:
        """Do nothing: one compilation runs every batch size."""
