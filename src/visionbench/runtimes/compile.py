"""torch.compile: torch compiles each part of the model, by default for each batch size."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

from visionbench.core import ConfigError, ExecutedGraph, Precision, first_line
from visionbench.registry import nearest, register

if TYPE_CHECKING:
    import torch

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
COMPILERS = ("g++", "clang++", "c++")
"""A compiler of C++, one of which torch needs to compile for a CPU."""


@register("runtimes", "compile")
@dataclass(frozen=True)
class Compile:
    """Options of `torch.compile`: `mode`, `dynamic` (one compilation for all batch sizes) and `fullgraph`."""

    mode: str = "default"
    dynamic: bool = False
    fullgraph: bool = False

    replaces_eager: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    compiles_each_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"runtime.mode={self.mode}: no such mode{nearest(self.mode, MODES)}")

    def why_unavailable(self) -> None:
        """Return None: torch is always installed."""

    def why_unsupported(self, device: str, precision: Precision) -> str | None:
        """Return that a CPU needs a compiler of C++, if none is installed."""
        if device == "cpu" and not any(map(shutil.which, COMPILERS)):
            return "torch.compile needs a compiler of C++; install g++, or use runtime=eager"
        return None

    def execute(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Compile the part for the example's batch size. Raises ConfigError if torch cannot compile it."""
        import torch

        compiled = torch.compile(graph, mode=self.mode, dynamic=self.dynamic, fullgraph=self.fullgraph)
        start = perf_counter()
        try:
            with torch.inference_mode():
                compiled(*inputs)
        except Exception as error:
            raise ConfigError(
                f"runtime=compile: torch cannot compile this model ({first_line(error)})", "use runtime=eager"
            ) from error
        return ExecutedGraph(compiled, compile_s=perf_counter() - start)

    def reset(self) -> None:
        """Forget all compilations.

        Torch keeps a limited number of them for a function, and would execute it without compilation after that.
        """
        import torch

        torch.compiler.reset()
