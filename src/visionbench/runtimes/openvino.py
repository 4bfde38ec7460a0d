"""OpenVINO on a CPU, from parts that are converted to ONNX. It computes in fp32, bf16, fp16 or int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import exports
from visionbench.core import Calibration, ConfigError, ExecutedGraph, Precision
from visionbench.exports import nncf
from visionbench.registry import register

if TYPE_CHECKING:
    import numpy as np
    import torch

HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""OpenVINO's names of the types that it may compute in."""


@register("runtimes", "openvino")
@dataclass(frozen=True)
class OpenVino:
    """No options. It computes in the type of `precision` and with torch's number of threads."""

    replaces_eager: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = False
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
        return replace(self._compile(export.file, inputs, precision), export_s=export.seconds, file_bytes=export.bytes)

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
        return part.complete(self._compile(part.file(nncf.FILE), inputs, precision), export)

    def _compile(self, file: Path, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Compile a file for a CPU, with torch's number of threads.

        OpenVINO also converts inputs and outputs from and to the dtype of the run. The threads of torch would wait in a
        loop after a conversion, and slow down those of OpenVINO.
        """
        import openvino
        import torch

        start = perf_counter()
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[precision.dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        dtype = getattr(torch, precision.dtype)
        model = _with_types(core.read_model(str(file)), [tensor.dtype for tensor in inputs], dtype)
        compiled = core.compile_model(model, "CPU", settings)
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != HINTS[precision.dtype]:
            raise ConfigError(
                f"OpenVINO computes in {used} on this processor, not in {precision.name}", "use precision=fp32 or bf16"
            )
        request = compiled.create_infer_request()
        kinds = [node.get_element_type() for node in compiled.inputs]
        count = len(compiled.outputs)

        def call(*tensors: torch.Tensor) -> Any:
            for index, (tensor, kind) in enumerate(zip(tensors, kinds, strict=True)):
                shape = openvino.Shape(list(tensor.shape))
                request.set_input_tensor(index, openvino.Tensor(_array(tensor), shape, kind))
            request.infer()
            outputs = tuple(_copy(request.get_output_tensor(index)) for index in range(count))
            return outputs if count > 1 else outputs[0]

        facts = {
            "inference_precision": used,
            "runtime_threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
        }
        return ExecutedGraph(call, compile_s=perf_counter() - start, facts=facts)

    def reset(self) -> None:
        """Do nothing: one compilation runs every batch size."""


def _with_types(model: Any, inputs: Sequence[torch.dtype], output: torch.dtype) -> Any:
    """Return a model of fp32 that takes inputs of these dtypes, and gives outputs of this dtype."""
    from openvino import Type
    from openvino.preprocess import PrePostProcessor

    converted = PrePostProcessor(model)
    for index, (node, dtype) in enumerate(zip(model.inputs, inputs, strict=True)):
        if node.get_element_type() == Type.f32:
            converted.input(index).tensor().set_element_type(_type(dtype))
    for index, node in enumerate(model.outputs):
        if node.get_element_type() == Type.f32:
            converted.output(index).tensor().set_element_type(_type(output))
    return converted.build()


def _type(dtype: torch.dtype) -> Any:
    """Return OpenVINO's type of the dtype of a tensor."""
    from openvino import Type

    return getattr(Type, HINTS[str(dtype).removeprefix("torch.")])


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Return the memory of a tensor as an array. numpy has no bf16, so such numbers are in 16-bit integers."""
    import torch

    tensor = tensor.contiguous()
    array: np.ndarray = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _copy(tensor: Any) -> torch.Tensor:
    """Return a copy of an output of OpenVINO. numpy copies it without threads."""
    import torch
    from openvino import Type

    if tensor.element_type != Type.bf16:
        return torch.from_numpy(tensor.data.copy())
    return torch.from_numpy(tensor.data.view("int16").copy()).view(torch.bfloat16)
