"""Parts of models converted to files, for runtimes that read files. Converted parts are kept and used again."""

from visionbench.exports.onnx import OPSET, Export, to_onnx, why_missing, why_unavailable
from visionbench.exports.quantized import Quantized, quantized

__all__ = ["OPSET", "Export", "Quantized", "quantized", "to_onnx", "why_missing", "why_unavailable"]
