"""Autocast: the calls of a model within torch.autocast, for timed calls and for quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from visionbench.core import Evaluator, Inputs, LoadedModel, ModelPart, Precision
from visionbench.stages.load import with_facts

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@contextmanager
def autocast(place: torch.device, precision: Precision) -> Iterator[None]:
    """Run a block within torch.autocast if the precision has it."""
    import torch

    with torch.autocast(place.type, getattr(torch, precision.dtype), enabled=precision.autocast):
        yield


def in_autocast(model: LoadedModel, place: torch.device, precision: Precision) -> LoadedModel:
    """Return the model with each of its calls within one block of torch.autocast, or the model itself without it.

    The weights need no gradients, so torch converts each weight whenever a layer uses it. The time of a call contains
    these conversions.
    """
    if not precision.autocast:
        return model
    base: Any = type(model)

    class Autocast(base):  # type: ignore[misc]
        """The model's own class, whose computations are within torch.autocast."""

        __slots__ = ()

        def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
            with autocast(place, precision):  # a decoder's inputs are computed by the encoder
                return super().preprocess(images, captions)  # type: ignore[no-any-return]

        def call(self, inputs: Inputs) -> object:
            with autocast(place, precision):
                return super().call(inputs)

        def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
            with autocast(place, precision):
                return super().probe_outputs(inputs)  # type: ignore[no-any-return]

        def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
            with autocast(place, precision):
                parts: Mapping[str, ModelPart] = super().parts(inputs)
            return {name: replace(part, call=partial(_call, part.call)) for name, part in parts.items()}

        def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
            with autocast(place, precision):
                return _evaluator(super().evaluator(columns, classes))  # type: ignore[no-any-return]

    def _call(call: Any) -> Any:
        with autocast(place, precision):
            return call()

    def _evaluator(evaluator: Any) -> Any:
        own: Any = type(evaluator)

        class AutocastEvaluator(own):  # type: ignore[misc]
            """The evaluator's own class, whose computations are within torch.autocast."""

            __slots__ = ()

            def forward(self, inputs: Inputs) -> Any:
                with autocast(place, precision):
                    return super().forward(inputs)

        return _with_class(evaluator, AutocastEvaluator)

    return _with_class(with_facts(model, {"autocast": precision.dtype}), Autocast)  # type: ignore[no-any-return]


def _with_class(instance: Any, own_class: Any) -> Any:
    """Return a copy of an instance that is of a subclass of its class. A frozen dataclass cannot be assigned to."""
    changed = copy(instance)
    object.__setattr__(changed, "__class__", own_class)
    return changed
