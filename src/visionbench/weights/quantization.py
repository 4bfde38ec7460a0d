"""Quantise the linear layers of a loaded model with torchao.

int8_dynamic       weights in int8; the inputs of each linear layer are converted to int8 in each call
int8_weight_only   weights in int8; products are computed in the dtype of the inputs
fp8                weights in fp8; the inputs of each linear layer are converted to fp8 in each call; GPUs only
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.core import ConfigError, first_line
from visionbench.machine import library_version
from visionbench.weights.tensors import count_bytes

if TYPE_CHECKING:
    import torch

METHODS = {
    "int8_dynamic": "Int8DynamicActivationInt8WeightConfig",
    "int8_weight_only": "Int8WeightOnlyConfig",
    "fp8": "Float8DynamicActivationFloat8WeightConfig",
}
"""The methods, each with torchao's class of its options."""
INSTALL = "pip install 'visionbench[torchao]'"
NOISY_LOGGERS = ("torchao", "torch.utils._pytree")
"""Loggers that warn whenever torchao is imported, which transformers does if torchao is installed. The identity of a
quantised model has the kernels that torchao could not load."""

for _name in NOISY_LOGGERS:
    logging.getLogger(_name).setLevel(logging.ERROR)


def why_unavailable() -> str | None:
    """Return that torchao is missing, with the command that installs it, or None. Imports nothing."""
    return None if find_spec("torchao") else f"torchao not installed; {INSTALL}"


def quantize(module: torch.nn.Module, method: str) -> dict[str, Any]:
    """Quantise the linear layers of a module in place, and return the facts for the identity of the model.

    `quantized_layers` is the number of layers that torchao has quantised, `linear_layers` the number of all linear
    layers, and `quantized_parameters` the number of quantised weights. Raises ConfigError if torchao fails, or if no
    layer is quantised.
    """
    from torch.nn import Linear
    from torchao import quantization

    try:
        quantization.quantize_(module, getattr(quantization, METHODS[method])())
    except Exception as error:
        raise ConfigError(
            f"precision.quantization={method}: torchao cannot quantise this model ({first_line(error)})",
            "use precision=fp32",
        ) from error
    linear = [layer for layer in module.modules() if isinstance(layer, Linear)]
    quantized = [layer for layer in linear if is_quantized(layer.weight)]
    if not quantized:
        raise ConfigError(
            f"precision.quantization={method}: torchao quantised none of the {len(linear)} linear layers of this model",
            "use precision=fp32",
        )
    return {
        "quantization": method,
        "quantized_layers": len(quantized),
        "linear_layers": len(linear),
        "quantized_parameters": sum(layer.weight.numel() for layer in quantized),
        "weights_bytes": count_bytes(module),
        "torchao": library_version("torchao"),
        "torchao_kernels_missing": ", ".join(missing_kernels()) or "none",
    }


def is_quantized(weight: torch.Tensor) -> bool:
    """Return whether a weight is one of torchao's quantised tensors."""
    return type(weight.data).__module__.startswith("torchao.")


def missing_kernels() -> list[str]:
    """Return the names of torchao's compiled libraries that torch has not loaded, such as those for GPUs on a CPU."""
    import torch
    import torchao

    loaded = {Path(file).resolve() for file in torch.ops.loaded_libraries}
    files = sorted(Path(torchao.__file__).resolve().parent.glob("_C*.so"))
    return [file.name.partition(".")[0] for file in files if file not in loaded]


def kernel_doubts(device_type: str) -> Mapping[str, str]:
    """Return the flag `kernels_skipped` if torchao computes without kernels that it has for this device.

    torchao loads none of its kernels with a version of torch that it was not built for, and continues without them.
    The kernels of version 0.18 are for NVIDIA GPUs, so that one that cannot be loaded on a CPU is no doubt.
    """
    import torchao

    if reason := getattr(torchao, "_skip_reason", None):
        return {"kernels_skipped": f"torchao does not use its compiled kernels: {reason}"}
    if device_type != "cpu" and (names := missing_kernels()):
        return {"kernels_skipped": f"torchao could not load its kernels {', '.join(names)}"}
    return {}
