"""A model family whose call takes as much work as it is told, for benchmarks/compare.py: `family: known_work`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visionbench.core import Piece
from visionbench.registry import register

PRODUCTS = 200
"""Matrix products of a call at `work: 1.0`."""
SIZE = 64


@register("models", "known_work")
@dataclass
class KnownWork:
    """Options: `work`, a factor of the number of matrix products in a call."""

    work: float = 1.0

    task: ClassVar[str] = "averaging"
    predicts: ClassVar[frozenset[str]] = frozenset()

    def uses(self):
        return frozenset()

    def load(self, model, device, dtype):
        torch.manual_seed(model.seed)
        return WorkingModel(
            torch.nn.Linear(3, 2).to(device, dtype),
            torch.eye(SIZE, device=device, dtype=dtype),
            round(PRODUCTS * self.work),
        )


@dataclass
class WorkingModel:
    module: torch.nn.Linear
    matrix: torch.Tensor
    products: int

    @property
    def identity(self):
        return {"weights": "random", "weights_bytes": self.matrix.nbytes + 32, "dtype": "float32"}

    def work(self, batch_size):
        return {"images": batch_size}

    def preprocess(self, images, captions):
        means = [torch.tensor(image.resize((1, 1)).getpixel((0, 0)), dtype=torch.float32) / 255 for image in images]
        return {"pixel_values": torch.stack(means)}

    def call(self, inputs):
        product = self.matrix
        for _ in range(self.products):
            product = product @ self.matrix
        return self.module(inputs["pixel_values"])

    def pieces(self, inputs):
        return {"image": Piece(lambda: self.call(inputs))}

    def evidence(self, inputs):
        return {"image": self.call(inputs)}

    def postprocess(self, output, images):
        return list(output)
