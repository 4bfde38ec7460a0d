"""Ceilings are the best of what was timed, and what cannot be counted says why."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visionbench.config import CeilingConfig
from visionbench.core import ModelPart
from visionbench.stages import flops


@pytest.fixture
def context(measured):
    def context(*seconds, **device):
        found = measured(*seconds, **device)
        found.measure.ceiling = CeilingConfig(calls=2, min_call_ms=1000.0)
        found.model.module, found.model.dtype = torch.nn.Linear(2, 2), torch.float32
        return found

    return context


def test_the_ceiling_is_the_best_median_over_growing_products(context):
    # each size is called three times, of which the first does not count: 512, 1024 and then 2048 takes over a second
    taken = [9.0, 0.5, 0.5, 9.0, 0.8, 0.8, 9.0, 20.0, 20.0]
    assert flops.product_rate(context(*taken)) == 2 * 1024**3 / 0.8


def full_after(found, calls):
    """The device refuses everything after so many calls."""
    timed, left = found.device.time_call, iter(range(calls))

    def time_call(call):
        if next(left, None) is None:
            raise MemoryError("no room")
        return timed(call)

    found.device.time_call = time_call
    found.device.is_out_of_memory = lambda error: isinstance(error, MemoryError)
    return found


def test_the_ceiling_ends_where_the_memory_does(context):
    assert flops.product_rate(full_after(context(0.5), calls=3)) == 2 * 512**3 / 0.5


def test_a_ceiling_without_room_is_missing_and_the_rest_is_there(context):
    found = flops.run(full_after(context(0.5), calls=3))
    assert found.get("ceiling/flop_per_s")[0] == 2 * 512**3 / 0.5
    assert found.missing["ceiling/bytes_per_s"] == "the device has no room for it beside the model"
    assert found.get("flops/parameters_count").tolist() == [6.0]


def test_another_error_in_a_ceiling_is_not_swallowed(context):
    found = full_after(context(0.5), calls=0)
    found.device.is_out_of_memory = lambda error: False
    with pytest.raises(MemoryError):
        flops.run(found)


def test_a_copy_moves_every_byte_twice(context):
    assert flops.copy_rate(context(9.0, 0.25, 0.25)) == 2 * 2**28 / 0.25


def test_on_a_device_with_a_clock_its_own_span_is_taken(context):
    assert flops.copy_rate(context(9.0, 0.5, 0.5, queued=True)) == 2 * 2**28 / 0.25


def test_a_model_that_cannot_be_counted_says_why(context, monkeypatch):
    monkeypatch.setattr(flops, "product_rate", lambda context: 1.0)
    monkeypatch.setattr(flops, "copy_rate", lambda context: 2.0)
    found = flops.run(context())
    assert found.get("flops/parameters_count").tolist() == [6.0]
    assert found.missing["flops/call_flop"].startswith("cannot be counted on the meta device: ")


def test_a_call_is_its_pieces_as_often_as_they_run(context, monkeypatch):
    monkeypatch.setattr(flops, "product_rate", lambda context: 1.0)
    monkeypatch.setattr(flops, "copy_rate", lambda context: 2.0)
    work = {"prefill": flops.Work(100.0, 10.0), "decode": flops.Work(3.0, 5.0)}
    monkeypatch.setattr(flops, "without_numbers", lambda model: None)
    monkeypatch.setattr(flops, "count", lambda model, empty, inputs: work)
    of = context(1.0)
    of.model.parts = lambda inputs: {"prefill": ModelPart(lambda: None), "decode": ModelPart(lambda: None, 4)}
    found = flops.run(of)
    assert (found.get("flops/call_flop")[0], found.get("flops/call_bytes")[0]) == (112.0, 30.0)
    assert found.get("flops/decode_calls_count")[0] == 4
    assert np.array_equal(found.get("flops/decode_s"), [1.0, 1.0])


def test_ceilings_and_the_model_without_numbers_are_made_once_a_run(context, monkeypatch):
    made = []
    monkeypatch.setattr(flops, "product_rate", lambda context: made.append("products") or 1.0)
    monkeypatch.setattr(flops, "copy_rate", lambda context: made.append("copy") or 2.0)
    monkeypatch.setattr(flops, "without_numbers", lambda model: made.append("model"))
    monkeypatch.setattr(flops, "count", lambda model, empty, inputs: {"image": flops.Work(1.0, 1.0)})
    small = context(1.0)
    small.model.parts = lambda inputs: {"image": ModelPart(lambda: None)}
    large = replace(small, case=replace(small.case, id="batch-2", batch_size=2))
    rates = [flops.run(case).get("ceiling/flop_per_s").tolist() for case in (small, large)]
    assert (made, rates) == (["products", "copy", "model"], [[1.0], [1.0]])


def test_the_ceiling_is_of_the_runs_dtype_whatever_single_parameters_keep(context, monkeypatch):
    found, seen = context(9.0, 0.5, 0.5, 9.0, 20.0, 20.0), []
    found.model.module = torch.nn.Linear(2, 2)  # fp32, as BLIP-2's Q-Former stays in a run of fp16
    found.model.dtype = torch.float16
    monkeypatch.setattr(torch, "mm", lambda left, right, out: seen.append((left.dtype, right.dtype, out.dtype)))
    flops.product_rate(found)
    assert set(seen) == {(torch.float16,) * 3}
