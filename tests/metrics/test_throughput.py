"""Throughput: the work of all calls over the time to the last completion."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.throughput import Throughput


def compute(completed, missing=None, **work):
    counts = {f"work/{unit}_count": np.array([float(count)]) for unit, count in work.items()}
    series = {"throughput/completed_s": np.array(completed)} if completed is not None else {}
    return Throughput().compute(Samples(series | counts, missing or {}))


def test_throughput_is_the_work_over_the_time_to_the_last_completion():
    metrics = compute([0.5, 1.0, 2.0], images=4)
    assert metrics.values == {"throughput_images_per_s": pytest.approx(6.0), "throughput_calls_count": 3.0}


def test_throughput_is_not_the_inverse_of_the_mean_latency():
    """Three calls overlap: each is in flight for about 2 s, and all end within 2 s."""
    assert compute([1.9, 1.95, 2.0], images=1).values["throughput_images_per_s"] == pytest.approx(1.5)


def test_completions_may_be_in_any_order():
    assert compute([2.0, 0.5, 1.0], images=4).values["throughput_images_per_s"] == pytest.approx(6.0)


def test_every_unit_of_work_has_a_rate():
    values = compute([1.0, 2.0], images=4, texts=4, prompts=12, tokens=80).values
    rates = {name.split("_")[1]: value for name, value in values.items() if name.endswith("_per_s")}
    assert rates == pytest.approx({"images": 4.0, "texts": 4.0, "prompts": 12.0, "tokens": 80.0})


@pytest.mark.parametrize("completed", [None, []])
def test_without_calls_rates_are_none_with_the_reason(completed):
    metrics = compute(completed, {"throughput/completed_s": "the model died"}, images=4, tokens=80)
    names = ["throughput_images_per_s", "throughput_tokens_per_s"]
    assert metrics.values == dict.fromkeys(names)
    assert metrics.reasons == dict.fromkeys(names, "the model died")
