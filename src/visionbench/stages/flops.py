"""FLOPs: the work of a call, counted on the meta device, and the highest rates that the device reaches.

The work is counted for each part of the model, in a copy of the model that has shapes and no values. The copy computes
attention without fused kernels. If a model reads values to choose what it computes, a call of the model itself is
counted instead. A multiply-accumulate is two FLOPs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.core import HasGraphs, LoadedModel, ModelPart, NeedsValues, Samples, first_line
from visionbench.stages.context import Context
from visionbench.stages.windows import quiet

if TYPE_CHECKING:
    import torch

SMALLEST, LARGEST = 512, 16384
"""Sides of the square matrices whose products measure the highest FLOP/s."""
AUTOCAST, QUANTIZATION = "autocast", "quantization"
"""Entries of the identity of a model whose products are in another number format than its inputs."""
CHECKS = ("torch_compilable_check", "_ignore_bidirectional_mask_sdpa")
"""Functions of transformers that read a truth value of a tensor and change no product: a check of shapes, and whether
a mask leaves out nothing. In a count their value is true."""
FRAMES = 8
"""The depth of the calls in which such a function is searched."""
MASK = "attention_mask"
"""An input that the count leaves out if it can: it changes no product, and transformers would read its values."""


@dataclass(frozen=True)
class Work:
    """The work of one run of a model part: floating-point operations, and the minimum of bytes that it moves."""

    flop: float
    moved_bytes: float


@dataclass
class Flops:
    """The stage for one run. The ceilings and the model without values are shared by all batch sizes."""

    ceilings: Samples | None = None
    """The highest rates of the device, measured by the first case."""
    empty_module: Any = None
    """The model without values, built by the first case."""

    def run(self, context: Context) -> Samples:
        """Return the work of a call and of its parts, and the ceilings of the device.

        Series `flops/<part>_flop`, `_bytes`, `_calls_count` and `_s` (seconds of each run), `flops/call_flop`,
        `call_bytes` and `parameters_count`, `ceiling/flop_per_s` and `ceiling/bytes_per_s`.
        """
        if self.ceilings is None:
            self.ceilings = _ceilings(context)
        series, missing = dict(self.ceilings.series), dict(self.ceilings.missing)
        module = context.model.module
        series["flops/parameters_count"] = np.array([float(sum(p.numel() for p in module.parameters()))])
        inputs = context.batches[0]
        try:
            if self.empty_module is None:
                self.empty_module = copy_without_values(context.model)
            work = count(context.model, self.empty_module, inputs)
        except Exception:  # some models read values to choose what they compute
            try:
                work = count_with_values(context.model, inputs)
            except Exception as error:
                reason = f"cannot be counted: {type(error).__name__}: {first_line(error)}"
                return Samples(series, {**missing, "flops/call_flop": reason, "flops/call_bytes": reason})
        with quiet():
            parts = context.model.parts(inputs)
            for name, part in parts.items():
                series[f"flops/{name}_flop"] = np.array([work[name].flop])
                series[f"flops/{name}_bytes"] = np.array([work[name].moved_bytes])
                series[f"flops/{name}_calls_count"] = np.array([float(part.times)])
                series[f"flops/{name}_s"] = _times(context, part)
        for unit in ("flop", "bytes"):
            by_part = [series[f"flops/{name}_{unit}"] * part.times for name, part in parts.items()]
            series[f"flops/call_{unit}"] = np.sum(by_part, axis=0)
        if QUANTIZATION in context.model.identity:  # the copy without values has the weights before quantisation
            series = {name: values for name, values in series.items() if not name.endswith("_bytes")}
            missing["flops/call_bytes"] = "the bytes that quantised layers read are not counted"
        return Samples(series, missing)


def count(model: LoadedModel, empty_module: Any, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, Work]:
    """Return the work of each part of a model on inputs of these shapes, counted with its module without values.

    Some models make a mask themselves if there is none, and read its values. They get the mask of each pair of tokens,
    which transformers does not read.
    """
    import torch

    kept = model.host_inputs if isinstance(model, NeedsValues) else frozenset()
    shapes = {
        name: tensor.cpu() if name in kept else torch.empty_like(tensor, device="meta")
        for name, tensor in inputs.items()
        if name != MASK
    }
    if isinstance(model, HasGraphs):
        model = model.with_graphs({})
    empty: Any = replace(model, module=empty_module)  # type: ignore[type-var]
    with torch.no_grad():
        try:
            return {name: _work(part) for name, part in empty.parts(shapes).items()}
        except RuntimeError as error:
            if MASK not in inputs or inputs[MASK].ndim != 2:
                raise
            rows, tokens = inputs[MASK].shape
            shapes[MASK] = torch.empty(rows, 1, tokens, tokens, dtype=model.dtype, device="meta")
            try:
                return {name: _work(part) for name, part in empty.parts(shapes).items()}
            except RuntimeError:
                raise error from None


def count_with_values(model: LoadedModel, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, Work]:
    """Return the work of each part of a model, counted in one call of torch with the model's own weights."""
    if isinstance(model, HasGraphs):
        model = model.with_graphs({})
    with quiet():
        return {name: _work(part) for name, part in model.parts(inputs).items()}


def copy_without_values(model: LoadedModel) -> Any:
    """Return the model's architecture on the meta device, in the run's dtype and with attention that is not fused."""
    import torch

    module: Any = model.module
    config = deepcopy(module.config)
    with torch.device("meta"):
        empty = type(module)._from_config(config, dtype=model.dtype, attn_implementation="eager")
    return empty.to("meta").eval().requires_grad_(False)  # some constructors make tensors on the CPU


def _ceilings(context: Context) -> Samples:
    """Measure both rates. A rate is missing, with the reason, if the device has too little memory to measure it."""
    series, missing = dict[str, np.ndarray](), dict[str, str]()
    for name, rate in {"ceiling/flop_per_s": product_rate, "ceiling/bytes_per_s": copy_rate}.items():
        if rate is product_rate and QUANTIZATION in context.model.identity:
            missing[name] = "the products of quantised layers are in int8, whose rate is not measured"
            continue
        try:
            series[name] = np.array([rate(context)])
        except Exception as error:
            if not context.device.is_out_of_memory(error):
                raise
            missing[name] = "the device has no room for it beside the model"
    return Samples(series, missing)


def product_rate(context: Context) -> float:
    """Return the FLOP/s of square matrix products in the model's dtype, or in that of its autocast.

    It is the best median over growing sizes.

    Sizes grow until a product takes `measure.ceiling.min_call_ms` or does not fit into the memory.
    """
    import torch

    rule, dtype, place = context.measure.ceiling, context.model.dtype, _model_device(context)
    if name := context.model.identity.get(AUTOCAST):
        dtype = getattr(torch, name)

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
    """Return the bytes per second of a large copy within the device's memory. Each byte is read and written."""
    import torch

    place, size = _model_device(context), context.device.copy_block_bytes
    with quiet():
        source = torch.ones(size, dtype=torch.uint8, device=place)
        target = torch.empty_like(source)
        seconds = _times(context, ModelPart(lambda: target.copy_(source)))
    return 2.0 * size / float(np.median(seconds))


def _model_device(context: Context) -> torch.device:
    """Return the device that holds the model."""
    return next(iter(context.model.module.parameters())).device


def _times(context: Context, part: ModelPart) -> np.ndarray:
    """Return the seconds of `measure.ceiling.calls` runs, on the device's clock if it has one.

    A first run is not counted.
    """
    timings = [context.device.time_call(part.call) for _ in range(1 + context.measure.ceiling.calls)][1:]
    return np.array([timing.host_s if timing.device_s is None else timing.device_s for timing in timings])


def _attention_on_a_cpu() -> dict[Any, Any]:
    """Return torch's formula for attention, for the fused kernel on a CPU, to which torch does not apply it."""
    import torch
    from torch.utils.flop_counter import sdpa_flop_count

    def formula(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: formula}


def _work(part: ModelPart) -> Work:
    """Count the FLOPs of one run of a part, and the bytes that it reads (weights, inputs, caches) and returns.

    Each byte counts once. Intermediate values are assumed to stay on the chip.
    """
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    reader = _reader()
    with FlopCounterMode(display=False, custom_mapping=_attention_on_a_cpu()) as flops, reader:
        output = part.call()
    leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    returned = sum(leaf.numel() * leaf.element_size() for leaf in leaves if hasattr(leaf, "element_size"))
    return Work(float(flops.get_total_flops()), float(reader.bytes + returned))


def _is_check(frame: FrameType | None) -> bool:
    """Return whether this frame was called by a function of `CHECKS`."""
    for _ in range(FRAMES):
        if frame is None:
            return False
        if frame.f_code.co_name in CHECKS and str(frame.f_globals.get("__name__", "")).startswith("transformers."):
            return True
        frame = frame.f_back
    return False


def _reader() -> Any:
    """Return a dispatch mode. Its `bytes` is the size of the tensors that are read and were not created in the mode.

    For an embedding table, only the rows that are read count.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    aten = torch.ops.aten
    reads_truth = (aten._local_scalar_dense.default, aten.item.default, aten.is_nonzero.default)

    class Reader(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.bytes = 0
            self.known: dict[int, torch.Tensor] = {}  # holds the tensors, so that no id is used twice

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in reads_truth and args[0].is_meta and _is_check(sys._getframe(1)):
                return True
            output = func(*args, **(kwargs or {}))
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            created = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
            if func is torch.ops.aten.embedding.default:
                self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in created)
                read = read[1:]
            new = [tensor for tensor in read if id(tensor) not in self.known]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in new)
            self.known |= {id(tensor): tensor for tensor in (*read, *created)}
            return output

    return Reader()
