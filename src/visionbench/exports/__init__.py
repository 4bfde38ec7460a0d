"""Parts of models converted to files, for runtimes that read files. Converted parts are kept and used again."""

from visionbench.exports.onnx import OPSET, Export, to_onnx, why_unavailable

__all__ = ["OPSET", "Export", "to_onnx", "why_unavailable"]
