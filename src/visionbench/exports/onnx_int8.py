"""Quantisation of a converted part for ONNX Runtime, by the quantiser that it contains."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from visionbench.core import Calibration
from visionbench.exports.onnx import FILE as FILE
from visionbench.exports.onnx import Export
from visionbench.exports.quantized import Quantized, quantized
from visionbench.machine import library_version

DYNAMIC, STATIC = "int8_dynamic", "int8_static"
METHODS = (DYNAMIC, STATIC)
PRODUCTS = ("MatMul", "Gemm", "Conv", "MatMulInteger", "ConvInteger")


def quantize(export: Export, method: str, calibration: Calibration | None) -> Quantized:
    """Return the part with weights in int8, one scale for each channel, quantised now or before.

    int8_dynamic converts the inputs of each matrix product to int8 in each call. int8_static converts them with the
    ranges of the calibration, those of convolutions included.
    """
    versions = {name: library_version(name) or "" for name in ("onnxruntime", "onnx")}

    def build(folder: Path) -> Mapping[str, int]:
        from onnxruntime import quantization

        source, target = str(export.file), str(folder / FILE)
        options: dict[str, Any] = {
            "per_channel": True,
            "weight_type": quantization.QuantType.QInt8,
            "use_external_data_format": True,
            "extra_options": {"MatMulConstBOnly": True},
        }
        if method == DYNAMIC:
            quantization.quantize_dynamic(source, target, op_types_to_quantize=["MatMul", "Gemm"], **options)
        else:
            assert calibration is not None
            quantization.quantize_static(
                source,
                target,
                _reader(export, calibration),
                op_types_to_quantize=["MatMul", "Gemm", "Conv"],
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                **options,
            )
        return _counts(folder / FILE)

    return quantized(export, method, versions, calibration, build)


def _reader(export: Export, calibration: Calibration) -> Any:
    """Return the inputs of the calibration as ONNX Runtime's quantiser reads them."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    names = [value.name for value in onnx.load(str(export.file), load_external_data=False).graph.input]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(calibration.batches())

        def get_next(self) -> dict[str, Any] | None:
            """Return the next batch, or None at the end."""
            tensors = next(self.batches, None)
            if tensors is None:
                return None
            return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}

    return Reader()


def _counts(file: Path) -> dict[str, int]:
    """Return the numbers of products with weights, of those with weights in int8, and of these weights."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    weights = {weight.name: weight for weight in graph.initializer}
    restored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    factors = [restored.get(node.input[1], node.input[1]) for node in graph.node if node.op_type in PRODUCTS]
    known = [weights[name] for name in factors if name in weights]
    quantized = [weight for weight in known if weight.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)]
    return {
        "quantized_layers": len(quantized),
        "linear_layers": len(known),
        "quantized_parameters": sum(prod(weight.dims) for weight in quantized),
    }
