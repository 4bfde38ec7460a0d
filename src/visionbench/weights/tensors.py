"""The tensors of a model and its inputs: their bytes, and their placement on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def count_bytes(module: torch.nn.Module) -> int:
    """Return the bytes of parameters and buffers, with shared storage counted once."""
    tensors = [*module.parameters(), *module.buffers()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def place_inputs(inputs: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return a batch on the device, with its floating-point tensors in the dtype.

    From pinned memory, the copy is asynchronous and the tensors are converted on the device.
    """
    placed = {name: tensor.to(device, non_blocking=tensor.is_pinned()) for name, tensor in inputs.items()}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in placed.items()}
