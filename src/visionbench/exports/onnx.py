"""Conversion of a part of a model to ONNX, in float32 and for any batch size."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from visionbench.core import ConfigError, first_line
from visionbench.exports import cache
from visionbench.machine import library_version

if TYPE_CHECKING:
    import torch

OPSET = 20
FILE = "model.onnx"
LARGEST_BATCH = 65536
NO_CHECKS = "TRANSFORMERS_DISABLE_TORCH_CHECK"
"""The variable of the environment that disables transformers' checks of tensors."""
VERSIONS = ("torch", "transformers", "onnx", "onnxscript")


@dataclass(frozen=True)
class Export:
    """A converted part."""

    file: Path
    seconds: float | None
    """The seconds of the conversion; None if the part was converted before."""
    bytes: int

    @property
    def digest(self) -> str:
        """The digest of the weights, the layers and the versions, which is the name of the file's folder."""
        return self.file.parent.name


def why_unavailable(runtime: str) -> str | None:
    """Return which package is missing to convert a part and to execute it with a runtime, or None. Imports nothing.

    The runtime has the name of its package and of the extra that installs it.
    """
    return why_missing(("onnx", "onnxscript", runtime), runtime)


def why_missing(packages: Sequence[str], extra: str) -> str | None:
    """Return which of these packages is missing, with the command that installs an extra, or None. Imports nothing."""
    missing = [name for name in packages if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed; pip install 'visionbench[{extra}]'" if missing else None


def to_onnx(graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Export:
    """Return a part as ONNX, converted now or before. Raises ConfigError if it cannot be converted.

    `inputs` are example tensors with a batch of two or more.
    """
    facts = {
        "opset": OPSET,
        "source_sha256": _source_digest(graph),
        "inputs": [[tuple(tensor.shape[1:]), str(tensor.dtype)] for tensor in inputs],
        **{name: library_version(name) for name in VERSIONS},
    }
    start = perf_counter()
    place, is_new = cache.entry(f"onnx-{cache.digest(graph, facts)}", lambda draft: _convert(graph, inputs, draft))
    return Export(place / FILE, perf_counter() - start if is_new else None, cache.size_bytes(place))


def _source_digest(graph: torch.nn.Module) -> str | None:
    """Return the SHA-256 of the file that defines the computation of a part, or None if there is no such file."""
    file = Path(getattr(graph, "source", ""))
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _convert(graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path) -> None:
    """Write the part to `model.onnx` in a folder, with its weights beside it.

    Some models can only be converted with attention that is not fused. It computes the same.
    """
    import torch

    on_host = copy.deepcopy(graph).to("cpu", torch.float32) if _needs_copy(graph) else graph
    examples = tuple(_on_host(tensor) for tensor in inputs)
    try:
        _export(on_host, examples, folder / FILE)
    except Exception as error:
        try:
            with _eager_attention(on_host):
                _export(on_host, examples, folder / FILE)
        except Exception:
            raise ConfigError(
                f"this model cannot be converted to ONNX ({first_line(error)})", "use runtime=eager or runtime=compile"
            ) from error


def _export(graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], file: Path) -> None:
    import torch

    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with _without_checks():
        torch.onnx.export(
            graph,
            inputs,
            str(file),
            dynamo=True,
            opset_version=OPSET,
            input_names=[f"input_{index}" for index in range(len(inputs))],
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            external_data=True,
            verbose=False,
        )
    if _has_fixed_batch(file):
        raise ValueError("its batch size became a constant")


@contextmanager
def _without_checks() -> Iterator[None]:
    """Leave out transformers' checks of tensors, which ONNX does not have. They do not change an output."""
    before = os.environ.get(NO_CHECKS)
    os.environ[NO_CHECKS] = "1"
    try:
        yield
    finally:
        del os.environ[NO_CHECKS]
        if before is not None:
            os.environ[NO_CHECKS] = before


def _has_fixed_batch(file: Path) -> bool:
    """Return whether the first axis of an input has a fixed length."""
    import onnx

    inputs = onnx.load(str(file), load_external_data=False).graph.input
    return any(value.type.tensor_type.shape.dim[0].HasField("dim_value") for value in inputs)


def _needs_copy(graph: torch.nn.Module) -> bool:
    import torch

    return any(value.is_floating_point() and value.dtype != torch.float32 for value in graph.state_dict().values()) or (
        any(value.device.type != "cpu" for value in graph.state_dict().values())
    )


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    host = tensor.detach().cpu()
    return host.float() if host.is_floating_point() else host


@contextmanager
def _eager_attention(graph: torch.nn.Module) -> Iterator[None]:
    """Compute the attention of transformers' models in the part without fused kernels, within the context."""
    models: list[Any] = [module for module in graph.children() if hasattr(module, "set_attn_implementation")]
    before = [model.config._attn_implementation for model in models]
    for model in models:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for model, attention in zip(models, before, strict=True):
            model.set_attn_implementation(attention)
