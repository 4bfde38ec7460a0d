"""A model family with a configurable amount of work per call, for benchmarks/compare.py: `family: known_work`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visionbench.core import ModelPart
from visionbench.registry import register

AMOUNTS = {"chain": 70_000, "products": 200}
"""The amount of each kind at `work: 1.0`: steps of a chain, each of which waits for the last one, and matrix products.

Another process on the same core uses units that products need and a chain leaves idle, so it disturbs a chain much
less.
"""
SIZE = 64
"""Rows and columns of a matrix."""


@register("models", "known_work")
@dataclass
class KnownWork:
    """Options: the `kind` of work, and `work`, the factor of its amount in a call."""

    kind: str = "chain"
    work: float = 1.0

    task: ClassVar[str] = "averaging"
    predicts: ClassVar[frozenset[str]] = frozenset()

    def uses(self):
        return frozenset()

    def load(self, model, device, dtype):
        torch.manual_seed(model.seed)
        amount = round(AMOUNTS[self.kind] * self.work)
        chain = self.kind == "chain"
        operand = torch.zeros(amount) if chain else torch.eye(SIZE)
        return WorkingModel(
            torch.nn.Linear(3, 2).to(device, dtype), operand.to(device, dtype), products=0 if chain else amount
        )


@dataclass
class WorkingModel:
    module: torch.nn.Linear
    operand: torch.Tensor
    products: int
    """The number of products, or 0 for a chain along the operand."""

    @property
    def identity(self):
        return {"weights": "random", "weights_bytes": self.operand.nbytes + 32, "dtype": "float32"}

    def work(self, batch_size):
        return {"images": batch_size}

    def preprocess(self, images, captions):
        means = [torch.tensor(image.resize((1, 1)).getpixel((0, 0)), dtype=torch.float32) / 255 for image in images]
        return {"pixel_values": torch.stack(means)}

    def call(self, inputs):
        if not self.products:
            torch.logcumsumexp(self.operand, 0)
        product = self.operand
        for _ in range(self.products):
            product = product @ self.operand
        return self.module(inputs["pixel_values"])

    def parts(self, inputs):
        return {"image": ModelPart(lambda: self.call(inputs))}

    def probe_outputs(self, inputs):
        return {"image": self.call(inputs)}

    def postprocess(self, output, images):
        return list(output)
