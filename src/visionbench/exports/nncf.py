"""Static quantisation of a converted part for OpenVINO, by nncf."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.core import Calibration
from visionbench.exports.onnx import Export
from visionbench.exports.quantized import Quantized, quantized
from visionbench.machine import library_version

if TYPE_CHECKING:
    import torch

FILE = "model.xml"
METHODS = ("int8_static",)
PRESET = "transformer"
PRODUCTS = ("MatMul", "Convolution", "GroupConvolution")
PASSED = ("Convert", "Multiply", "Subtract", "Reshape", "Transpose", "Unsqueeze")
"""Operations between the constant of a weight and its product: they restore the values and the shape."""


def quantize(export: Export, method: str, calibration: Calibration) -> Quantized:
    """Return the part with activations and weights in int8, as `model.xml`, quantised now or before.

    The ranges of the activations are those of the calibration. nncf moves outliers of the activations into the weights
    (SmoothQuant) and corrects the biases.
    """
    versions = {name: library_version(name) or "" for name in ("nncf", "openvino")}

    def build(folder: Path) -> Mapping[str, int]:
        os.environ.setdefault("NNCF_CI", "1")  # otherwise nncf sends statistics of its use over the network
        import nncf
        import openvino

        changed = nncf.quantize(
            openvino.Core().read_model(str(export.file)),
            nncf.Dataset(_Batches(calibration), _as_feed),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=calibration.count,
        )
        openvino.save_model(changed, str(folder / FILE), compress_to_fp16=False)
        return _counts(changed)

    return quantized(export, method, {**versions, "quantization_preset": PRESET}, calibration, build)


class _Batches:
    """The batches of a calibration, which nncf reads several times."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        return iter(self.calibration.batches())


def _as_feed(tensors: tuple[torch.Tensor, ...]) -> dict[int, Any]:
    """Return the inputs of OpenVINO by their index."""
    return {index: tensor.numpy() for index, tensor in enumerate(tensors)}


def _counts(model: Any) -> dict[str, int]:
    """Return the numbers of products with weights, of those with weights in int8, and of these weights."""
    weights = [constant for node in model.get_ops() if node.get_type_name() in PRODUCTS if (constant := _weight(node))]
    quantized = [constant for constant in weights if constant.get_element_type().get_type_name() in ("i8", "u8")]
    return {
        "quantized_layers": len(quantized),
        "linear_layers": len(weights),
        "quantized_parameters": sum(prod(constant.get_output_shape(0)) for constant in quantized),
    }


def _weight(node: Any) -> Any:
    """Return the constant that is the second factor of a product, or None if it is computed from the inputs."""
    source = node.input_value(1).get_node()
    while source.get_type_name() in PASSED:
        source = source.input_value(0).get_node()
    return source if source.get_type_name() == "Constant" else None
