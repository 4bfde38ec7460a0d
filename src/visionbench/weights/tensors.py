"""The tensors of a model and its inputs: their bytes, and their placement on a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def count_bytes(module: torch.nn.Module) -> int:
    """Return the bytes of parameters and buffers, with shared storage counted once.

    A quantised tensor consists of other tensors, such as its numbers in int8 and their scales, whose bytes are counted.
    """
    tensors = [inner for tensor in (*module.parameters(), *module.buffers()) for inner in _stored(tensor)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _stored(tensor: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors that hold the values of a tensor: the tensor itself, or those that it consists of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _stored(getattr(tensor, name))


def place_inputs(inputs: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return a batch on the device, with its floating-point tensors in the dtype.

    From pinned memory, the copy is asynchronous and the tensors are converted on the device.
    """
    placed = {name: tensor.to(device, non_blocking=tensor.is_pinned()) for name, tensor in inputs.items()}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in placed.items()}
