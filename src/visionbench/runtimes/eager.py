"""Eager: torch executes each operation as the model calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from visionbench.core import ExecutedGraph, Precision
from visionbench.registry import register

if TYPE_CHECKING:
    import torch


@register("runtimes", "eager")
@dataclass(frozen=True)
class Eager:
    """No options. The model is executed as it was loaded."""

    replaces_eager: ClassVar[bool] = False
    keeps_layout: ClassVar[bool] = True
    compiles_each_size: ClassVar[bool] = False

    def why_unavailable(self) -> None:
        """Return None: torch is always installed."""

    def why_unsupported(self, device: str, precision: Precision) -> None:
        """Return None: torch executes on every device. The device decides about precisions."""

    def execute(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: Precision) -> ExecutedGraph:
        """Return the part itself."""
        return ExecutedGraph(graph)

    def reset(self) -> None:
        """Do nothing: nothing was compiled."""
