"""FLOPs: what a call's work is, counted on the meta device, and the rates that this device reaches at best.

The count runs the model's pieces without numbers, in a copy that has shapes alone and computes attention in its plain
form: in a fused form torch's counter would miss it on a CPU. A FLOP is half a multiply-accumulate.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.core import LoadedModel, ModelPart, Samples, first_line
from visionbench.stages.context import Context, quiet

if TYPE_CHECKING:
    import torch

SMALLEST, LARGEST = 512, 16384
"""Sides of the square matrices that the ceiling is looked for with."""
CEILINGS, EMPTY = "flops/ceilings", "flops/module_without_numbers"
"""Found once a run, whatever its batch sizes: keys of `Context.once`."""
MASK = "attention_mask"
"""Left out of the count: it changes no product, and transformers looks at its values, of which there are none."""


@dataclass(frozen=True)
class Work:
    """What one run of a piece does: floating-point operations, and the least bytes that it must move."""

    flop: float
    moved_bytes: float


def run(context: Context) -> Samples:
    """Series `flops/<piece>_flop`, `_bytes`, `_calls_count` and `_s` (each run), `flops/call_flop` and `call_bytes`,
    `flops/parameters_count`, and of this device `ceiling/flop_per_s` and `ceiling/bytes_per_s`."""
    if CEILINGS not in context.once:
        context.once[CEILINGS] = _ceilings(context)
    ceilings: Samples = context.once[CEILINGS]
    series = dict(ceilings.series)
    module = context.model.module
    series["flops/parameters_count"] = np.array([float(sum(p.numel() for p in module.parameters()))])
    try:
        if EMPTY not in context.once:
            context.once[EMPTY] = without_numbers(context.model)
        work = count(context.model, context.once[EMPTY], context.batches[0])
    except Exception as error:  # a model of one's own may do what no device without numbers can
        why = f"cannot be counted on the meta device: {type(error).__name__}: {first_line(error)}"
        return Samples(series, {**ceilings.missing, "flops/call_flop": why, "flops/call_bytes": why})
    with quiet():
        pieces = context.model.parts(context.batches[0])
        for name, piece in pieces.items():
            series[f"flops/{name}_flop"] = np.array([work[name].flop])
            series[f"flops/{name}_bytes"] = np.array([work[name].moved_bytes])
            series[f"flops/{name}_calls_count"] = np.array([float(piece.times)])
            series[f"flops/{name}_s"] = _times(context, piece)
    for what in ("flop", "bytes"):
        of_pieces = [series[f"flops/{name}_{what}"] * piece.times for name, piece in pieces.items()]
        series[f"flops/call_{what}"] = np.sum(of_pieces, axis=0)
    return Samples(series, ceilings.missing)


def count(model: LoadedModel, empty: Any, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, Work]:
    """The work of each piece of a model on inputs of these shapes; `empty` is its module without numbers."""
    import torch

    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in inputs.items() if name != MASK}
    with torch.no_grad():
        pieces = replace(model, module=empty).parts(shapes)  # type: ignore[type-var]
        return {name: _work(piece) for name, piece in pieces.items()}


def without_numbers(model: LoadedModel) -> Any:
    """The model's architecture on the meta device in the run's dtype, with attention in its plain form."""
    import torch

    module: Any = model.module
    config = deepcopy(module.config)
    with torch.device("meta"):
        return (
            type(module)
            ._from_config(config, dtype=model.dtype, attn_implementation="eager")
            .eval()
            .requires_grad_(False)
        )


def _ceilings(context: Context) -> Samples:
    """Both rates; one for which there is no room beside the model is missing, and costs the case nothing else."""
    series, missing = dict[str, np.ndarray](), dict[str, str]()
    for name, rate in {"ceiling/flop_per_s": product_rate, "ceiling/bytes_per_s": copy_rate}.items():
        try:
            series[name] = np.array([rate(context)])
        except Exception as error:
            if not context.device.is_out_of_memory(error):
                raise
            missing[name] = "the device has no room for it beside the model"
    return Samples(series, missing)


def product_rate(context: Context) -> float:
    """FLOP/s of large square matrix products in the model's dtype: the best of the medians over growing sizes, as far
    as there is room for them."""
    import torch

    rule, dtype, place = context.measure.ceiling, context.model.dtype, _place(context)

    def seconds(size: int) -> float:
        left, right = (torch.randn(size, size, device=place).to(dtype) for _ in range(2))
        product = torch.empty_like(left)
        return float(np.median(_times(context, ModelPart(partial(torch.mm, left, right, out=product)))))

    best, size, median = 0.0, SMALLEST, 0.0
    with quiet():
        while size <= LARGEST and median * 1e3 < rule.min_call_ms:
            try:
                median = seconds(size)
            except Exception as error:
                if not best or not context.device.is_out_of_memory(error):
                    raise
                break
            best = max(best, 2.0 * size**3 / median)
            size *= 2
    return best


def copy_rate(context: Context) -> float:
    """Bytes read and written a second by a large copy within the device's memory."""
    import torch

    place = _place(context)
    wanted = context.device.copy_block_bytes
    with quiet():
        source = torch.ones(wanted, dtype=torch.uint8, device=place)
        target = torch.empty_like(source)
        taken = _times(context, ModelPart(lambda: target.copy_(source)))
    return 2.0 * wanted / float(np.median(taken))


def _place(context: Context) -> torch.device:
    """The device that the model lies on."""
    return next(iter(context.model.module.parameters())).device


def _times(context: Context, piece: ModelPart) -> np.ndarray:
    """Seconds of a few runs after one that is not counted; on the device where it has a clock of its own."""
    timings = [context.device.time_call(piece.call) for _ in range(1 + context.measure.ceiling.calls)][1:]
    return np.array([timing.host_s if timing.device_s is None else timing.device_s for timing in timings])


def _work(piece: ModelPart) -> Work:
    """One run of a piece: its FLOPs, and the bytes of what it reads from outside (weights, inputs, caches) and returns,
    each once. What lies between is taken to stay on the chip."""
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    reader = _reader()
    with FlopCounterMode(display=False) as flops, reader:
        output = piece.call()
    leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    returned = sum(leaf.numel() * leaf.element_size() for leaf in leaves if hasattr(leaf, "element_size"))
    return Work(float(flops.get_total_flops()), float(reader.bytes + returned))


def _reader() -> Any:
    """A dispatch mode that adds up in `bytes` every tensor that is read and was not made while it watches; of a table
    only the rows that are taken."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Reader(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.bytes = 0
            self.known: dict[int, torch.Tensor] = {}  # kept, so that no id is given twice

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            made = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
            if func is torch.ops.aten.embedding.default:
                self.bytes += sum(one.numel() * one.element_size() for one in made)
                taken = taken[1:]
            self.bytes += sum(one.numel() * one.element_size() for one in taken if id(one) not in self.known)
            self.known |= {id(one): one for one in (*taken, *made)}
            return output

    return Reader()
