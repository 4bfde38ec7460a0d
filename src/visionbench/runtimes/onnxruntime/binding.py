"""Calls of an ONNX Runtime session that read and write the memory of torch's tensors on their device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

NUMBERS = {
    "tensor(float)": ("float32", np.float32),
    "tensor(int64)": ("int64", np.int64),
    "tensor(int32)": ("int32", np.int32),
    "tensor(bool)": ("bool", np.bool_),
}
"""The types of a session's inputs and outputs, with those of torch and numpy."""


def bound_call(session: Any, device: torch.device, dtype: torch.dtype) -> Callable[..., Any]:
    """Return a function of tensors on the device, whose results are on the device too.

    Floating-point inputs are converted to those of the session, and floating-point results to `dtype`, with one kernel
    each. The work is added to the stream that the session was created with, and the host does not wait for it.
    """
    import onnxruntime
    import torch

    place = (device.type, device.index or 0)
    inputs = [(one.name, *NUMBERS[one.type]) for one in session.get_inputs()]
    outputs = [(one.name, *NUMBERS[one.type]) for one in session.get_outputs()]
    shapes: dict[tuple[torch.Size, ...], list[list[int]]] = {}
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def bind(tensors: list[torch.Tensor]) -> Any:
        binding = session.io_binding()
        for (name, _, kind), tensor in zip(inputs, tensors, strict=True):
            binding.bind_input(name, *place, kind, tuple(tensor.shape), tensor.data_ptr())
        return binding

    def shapes_of_outputs(tensors: list[torch.Tensor]) -> list[list[int]]:
        binding = bind(tensors)
        for name, _, _ in outputs:
            binding.bind_output(name, *place)
        session.run_with_iobinding(binding)
        return [list(value.shape()) for value in binding.get_outputs()]

    def call(*given: torch.Tensor) -> Any:
        tensors = [
            tensor.to(getattr(torch, kind)).contiguous() for (_, kind, _), tensor in zip(inputs, given, strict=True)
        ]
        key = tuple(tensor.shape for tensor in tensors)
        if key not in shapes:
            shapes[key] = shapes_of_outputs(tensors)
        binding = bind(tensors)
        results = []
        for (name, kind, number), shape in zip(outputs, shapes[key], strict=True):
            result = torch.empty(shape, dtype=getattr(torch, kind), device=device)
            binding.bind_output(name, *place, number, tuple(shape), result.data_ptr())
            results.append(result)
        session.run_with_iobinding(binding, options)
        converted = tuple(one.to(dtype) if one.is_floating_point() else one for one in results)
        return converted if len(converted) > 1 else converted[0]

    return call
