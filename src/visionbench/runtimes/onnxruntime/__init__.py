"""ONNX Runtime, from parts that are converted to ONNX: on a CPU in fp32 or int8, on a GPU by CUDA or TensorRT."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import exports
from visionbench.core import Calibration, ConfigError, ExecutedGraph, Precision
from visionbench.exports import onnx_int8
from visionbench.registry import nearest, register
from visionbench.runtimes.onnxruntime.binding import bound_call

if TYPE_CHECKING:
    import torch

CUDA, TENSORRT = "cuda", "tensorrt"
PROVIDERS = {CUDA: "CUDAExecutionProvider", TENSORRT: "TensorrtExecutionProvider"}
"""The values of the option `provider`, with ONNX Runtime's names."""


@register("runtimes", "onnxruntime")
@dataclass(frozen=True)
class OnnxRuntime:
    """Options: `spinning`, whether its threads on a CPU wait for work in a loop, which slows down torch in the same
    process; `provider`, the library that computes on a GPU, `cuda` or `tensorrt`.

    On a GPU, the work is added to torch's stream, and inputs and outputs stay in the memory of the GPU. TensorRT builds
    an engine in the first call at each batch size, before anything is timed.
    """

    spinning: bool = False
    provider: str = CUDA

    replaces_eager: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = False
    compiles_each_size: ClassVar[bool] = False
    quantizations: ClassVar[tuple[str, ...]] = onnx_int8.METHODS

    def why_unavailable(self) -> str | None:
        """Return which package is missing."""
        return exports.why_unavailable("onnxruntime")

    def __post_init__(self) -> None:
        """Raise ConfigError if there is no such provider."""
        if self.provider not in PROVIDERS:
            raise ConfigError(
                f"runtime.options.provider={self.provider}: no such provider{nearest(self.provider, PROVIDERS)}"
            )

    def why_unsupported(self, device: str, precision: Precision) -> str | None:
        """Return that it computes in fp32 or int8 on a CPU, and which precisions it has on a GPU."""
        if reason := precision.why_torch_only():
            return reason
        if device == "cpu":
            if precision.dtype != "float32":
                return f"on a CPU it computes in fp32, not in {precision.name}; use precision=fp32 or runtime=openvino"
            return None
        if precision.quantization:
            return f"visionbench uses its {precision.quantization} on a CPU only; use precision=fp16 on a GPU"
        if self.provider == CUDA and precision.dtype != "float32":
            return (
                f"with CUDA it computes in fp32 or TF32, not in {precision.name}; use precision=tf32 or "
                "runtime.options.provider=tensorrt"
            )
        if self.provider == TENSORRT and precision.is_fp32:
            return "TensorRT computes fp32 products in TF32; use precision=tf32, fp16 or bf16"
        return None

    def execute(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Convert the part, and open a session: on a CPU with torch's number of threads, on a GPU on torch's stream.

        Raises ConfigError if the installed ONNX Runtime cannot compute on the GPU.
        """
        export = exports.to_onnx(graph, inputs)
        device = inputs[0].device
        opened = self._open(export.file) if device.type == "cpu" else self._open_on(device, export.file, precision)
        return replace(opened, export_s=export.seconds, file_bytes=export.bytes)

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

    def _open_on(self, device: torch.device, file: Path, precision: Precision) -> ExecutedGraph:
        """Open a session on a GPU. ONNX Runtime would silently use a CPU if it could not load the provider."""
        import onnxruntime
        import torch

        start = perf_counter()
        name = PROVIDERS[self.provider]
        if name not in (available := onnxruntime.get_available_providers()):
            raise ConfigError(
                f"the installed ONNX Runtime has no {name}, only {', '.join(available)}",
                "install onnxruntime-gpu instead of onnxruntime",
            )
        session_options = onnxruntime.SessionOptions()
        session_options.log_severity_level = 3
        stream = str(torch.cuda.current_stream(device).cuda_stream)
        settings = provider_settings(self.provider, device.index or 0, stream, precision)
        session = onnxruntime.InferenceSession(str(file), session_options, providers=[(name, settings)])
        if session.get_providers()[0] != name:
            raise ConfigError(
                f"ONNX Runtime cannot load {name} and would use {session.get_providers()[0]}",
                "install the CUDA and cuDNN libraries that this onnxruntime-gpu needs",
            )
        call = bound_call(session, device, getattr(torch, precision.dtype))
        return ExecutedGraph(call, compile_s=perf_counter() - start, facts={"provider": name})

    def reset(self) -> None:
        """Do nothing: one session runs every batch size."""


def provider_settings(provider: str, index: int, stream: str, precision: Precision) -> dict[str, str]:
    """Return the settings of a provider: the GPU, torch's stream, and the number format of the products."""
    common = {"device_id": str(index), "user_compute_stream": stream}
    if provider == CUDA:
        return {**common, "use_tf32": str(int(precision.tf32))}
    return {
        **common,
        "trt_fp16_enable": str(int(precision.dtype == "float16")),
        "trt_bf16_enable": str(int(precision.dtype == "bfloat16")),
    }
