"""Autocast is around each call of a model, also in quality, and leaves weights and inputs in float32."""

from dataclasses import dataclass, field

import pytest
import torch

from visionbench.core import ModelPart, Precision
from visionbench.stages.autocast import in_autocast

CPU = torch.device("cpu")
AUTOCAST = [Precision(f"autocast_{dtype}", dtype, autocast=True) for dtype in ("bfloat16", "float16")]


@dataclass(frozen=True)
class Evaluator:
    """An evaluator that multiplies."""

    model: "Model"
    vectors: torch.dtype

    def forward(self, inputs):
        return self.model.multiply()


@dataclass
class Model:
    """A model of one product, which returns the dtype of the result."""

    module: torch.nn.Module
    identity: dict = field(default_factory=lambda: {"dtype": "float32"})

    def multiply(self):
        return self.module(torch.ones(1, 2)).dtype

    def preprocess(self, images, captions):
        return self.multiply()

    def call(self, inputs):
        return self.multiply()

    def probe_outputs(self, inputs):
        return {"image": self.multiply()}

    def parts(self, inputs):
        return {"image": ModelPart(self.multiply, 3)}

    def evaluator(self, columns, classes):
        return Evaluator(self, self.multiply())


def computed(model):
    """The dtypes of the products in each way that a model is called."""
    evaluator, part = model.evaluator((), ()), model.parts({})["image"]
    assert part.times == 3
    return [
        *(model.preprocess((), ()), model.call({}), model.probe_outputs({})["image"], part.call()),
        *(evaluator.vectors, evaluator.forward({})),
    ]


@pytest.mark.parametrize("precision", AUTOCAST, ids=lambda precision: precision.dtype)
def test_every_computation_of_a_model_is_in_the_dtype_of_autocast(precision):
    model = Model(torch.nn.Linear(2, 2))
    changed = in_autocast(model, CPU, precision)
    assert computed(changed) == [getattr(torch, precision.dtype)] * 6
    assert computed(model) == [torch.float32] * 6
    assert changed.module.weight.dtype == torch.float32
    assert (model.identity, changed.identity) == (
        {"dtype": "float32"},
        {"dtype": "float32", "autocast": precision.dtype},
    )
    assert isinstance(changed, Model) and not torch.is_autocast_enabled("cpu")


def test_a_precision_without_autocast_changes_nothing():
    model = Model(torch.nn.Linear(2, 2))
    assert in_autocast(model, CPU, Precision("bf16", "bfloat16")) is model
