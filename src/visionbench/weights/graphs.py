"""Parts of a model as modules whose inputs and output are tensors, which a runtime can execute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def as_graph(model: Any, forward: Callable[..., Any]) -> Any:
    """Return a torch module that computes `forward(model, *tensors)`. It has the weights of the model.

    Its attribute `source` is the file that defines `forward`.
    """
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.source = forward.__code__.co_filename

        def forward(self, *tensors: torch.Tensor) -> Any:
            return forward(self.model, *tensors)

    return Graph().eval()
