"""Ceilings are the best rates that were timed, and a model that cannot be counted has a reason."""

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
        case = measured(*seconds, **device)
        case.measure.ceiling = CeilingConfig(calls=2, min_call_ms=1000.0)
        case.model.module, case.model.dtype = torch.nn.Linear(2, 2), torch.float32
        return case

    return context


def test_the_ceiling_is_the_best_median_over_growing_products(context):
    # each size is called three times, and the first call does not count: 512, 1024, and then 2048 takes over a second
    seconds = [9.0, 0.5, 0.5, 9.0, 0.8, 0.8, 9.0, 20.0, 20.0]
    assert flops.product_rate(context(*seconds)) == 2 * 1024**3 / 0.8


def full_after(context, calls):
    """Let the device run out of memory after this many calls."""
    timed, left = context.device.time_call, iter(range(calls))

    def time_call(call):
        if next(left, None) is None:
            raise MemoryError("no room")
        return timed(call)

    context.device.time_call = time_call
    context.device.is_out_of_memory = lambda error: isinstance(error, MemoryError)
    return context


def test_the_ceiling_uses_the_sizes_that_fit_into_memory(context):
    assert flops.product_rate(full_after(context(0.5), calls=3)) == 2 * 512**3 / 0.5


def test_a_ceiling_that_does_not_fit_into_memory_is_missing_and_other_figures_are_measured(context):
    samples = flops.Flops().run(full_after(context(0.5), calls=3))
    assert samples.get("ceiling/flop_per_s")[0] == 2 * 512**3 / 0.5
    assert samples.missing["ceiling/bytes_per_s"] == "the device has no room for it beside the model"
    assert samples.get("flops/parameters_count").tolist() == [6.0]


def test_another_error_in_a_ceiling_is_raised(context):
    case = full_after(context(0.5), calls=0)
    case.device.is_out_of_memory = lambda error: False
    with pytest.raises(MemoryError):
        flops.Flops().run(case)


def test_a_copy_moves_every_byte_twice(context):
    assert flops.copy_rate(context(9.0, 0.25, 0.25)) == 2 * 2**28 / 0.25


def test_a_device_with_a_clock_gives_the_times_of_copies(context):
    assert flops.copy_rate(context(9.0, 0.5, 0.5, queued=True)) == 2 * 2**28 / 0.25


def test_a_model_that_cannot_be_counted_has_the_reason(context, monkeypatch):
    monkeypatch.setattr(flops, "product_rate", lambda context: 1.0)
    monkeypatch.setattr(flops, "copy_rate", lambda context: 2.0)
    samples = flops.Flops().run(context())
    assert samples.get("flops/parameters_count").tolist() == [6.0]
    assert samples.missing["flops/call_flop"].startswith("cannot be counted: ")


def test_the_work_of_a_call_is_the_sum_over_its_parts_times_their_runs(context, monkeypatch):
    monkeypatch.setattr(flops, "product_rate", lambda context: 1.0)
    monkeypatch.setattr(flops, "copy_rate", lambda context: 2.0)
    work = {"prefill": flops.Work(100.0, 10.0), "decode": flops.Work(3.0, 5.0)}
    monkeypatch.setattr(flops, "copy_without_values", lambda model: None)
    monkeypatch.setattr(flops, "count", lambda model, empty, inputs: work)
    case = context(1.0)
    case.model.parts = lambda inputs: {"prefill": ModelPart(lambda: None), "decode": ModelPart(lambda: None, 4)}
    samples = flops.Flops().run(case)
    assert (samples.get("flops/call_flop")[0], samples.get("flops/call_bytes")[0]) == (112.0, 30.0)
    assert samples.get("flops/decode_calls_count")[0] == 4
    assert np.array_equal(samples.get("flops/decode_s"), [1.0, 1.0])


def test_ceilings_and_the_model_without_values_are_created_once_for_all_cases(context, monkeypatch):
    calls = []
    monkeypatch.setattr(flops, "product_rate", lambda context: calls.append("products") or 1.0)
    monkeypatch.setattr(flops, "copy_rate", lambda context: calls.append("copy") or 2.0)
    monkeypatch.setattr(flops, "copy_without_values", lambda model: calls.append("model") or model)
    monkeypatch.setattr(flops, "count", lambda model, empty, inputs: {"image": flops.Work(1.0, 1.0)})
    small = context(1.0)
    small.model.parts = lambda inputs: {"image": ModelPart(lambda: None)}
    large = replace(small, case=replace(small.case, id="batch-2", batch_size=2))
    stage = flops.Flops()
    rates = [stage.run(case).get("ceiling/flop_per_s").tolist() for case in (small, large)]
    assert (calls, rates) == (["products", "copy", "model"], [[1.0], [1.0]])


def test_the_ceiling_is_measured_in_the_runs_dtype(context, monkeypatch):
    case, dtypes = context(9.0, 0.5, 0.5, 9.0, 20.0, 20.0), []
    case.model.module = torch.nn.Linear(2, 2)  # fp32, like BLIP-2's Q-Former in a run of fp16
    case.model.dtype = torch.float16
    monkeypatch.setattr(torch, "mm", lambda left, right, out: dtypes.append((left.dtype, right.dtype, out.dtype)))
    flops.product_rate(case)
    assert set(dtypes) == {(torch.float16,) * 3}


def test_the_ceiling_of_autocast_is_measured_in_the_dtype_of_its_products(context, monkeypatch):
    case, dtypes = context(9.0, 0.5, 0.5, 9.0, 20.0, 20.0), []
    case.model.module, case.model.dtype = torch.nn.Linear(2, 2), torch.float32
    case.model.identity = {"autocast": "bfloat16"}
    monkeypatch.setattr(torch, "mm", lambda left, right, out: dtypes.append((left.dtype, right.dtype, out.dtype)))
    flops.product_rate(case)
    assert set(dtypes) == {(torch.bfloat16,) * 3}


def test_a_quantised_model_has_no_ceiling_and_no_bytes(context, monkeypatch):
    """Its products are not in the dtype of the run, and the model that the work is counted with is not quantised."""
    case = context(1.0)
    case.model.identity = {"quantization": "int8_dynamic"}
    case.model.parts = lambda inputs: {"image": ModelPart(lambda: None)}
    monkeypatch.setattr(flops, "copy_rate", lambda context: 2.0)
    monkeypatch.setattr(flops, "copy_without_values", lambda model: model)
    monkeypatch.setattr(flops, "count", lambda model, empty, inputs: {"image": flops.Work(3.0, 1.0)})
    samples = flops.Flops().run(case)
    assert samples.get("flops/call_flop").tolist() == [3.0]
    for name in ("ceiling/flop_per_s", "flops/call_bytes"):
        assert not len(samples.get(name)) and "quantised layers" in samples.why_missing(name)


def test_a_model_that_reads_values_is_counted_in_a_call_of_its_own(context, monkeypatch):
    """On a CPU, attention is one fused operation, which counts as its two products: 2 · 2 · B · H · N² · D."""
    monkeypatch.setattr(flops, "product_rate", lambda context: 1.0)
    monkeypatch.setattr(flops, "copy_rate", lambda context: 2.0)
    case = context(1.0)

    def attend():
        query = torch.randn(2, 3, 16, 8)
        if query.sum() < 1e9:
            return torch.nn.functional.scaled_dot_product_attention(query, query, query)
        return query

    case.model.parts = lambda inputs: {"image": ModelPart(attend)}
    samples = flops.Flops().run(case)
    assert samples.missing == {}
    assert samples.get("flops/call_flop").tolist() == [2 * 2 * 2 * 3 * 16 * 16 * 8]
