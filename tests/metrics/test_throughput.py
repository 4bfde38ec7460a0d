"""Throughput: work of all calls over the time to the last completion."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.throughput import Throughput


def compute(completed, missing=None, **work):
    counts = {f"work/{unit}_count": np.array([float(count)]) for unit, count in work.items()}
    series = {"throughput/completed_s": np.array(completed)} if completed is not None else {}
    return Throughput().compute(Samples(series | counts, missing or {}))


def test_it_is_work_over_the_time_to_the_last_completion():
    found = compute([0.5, 1.0, 2.0], images=4)
    assert found.values == {"throughput_images_per_s": pytest.approx(6.0), "throughput_calls_count": 3.0}


def test_it_is_not_the_inverse_of_the_mean_latency():
    """Three calls in flight that each took 2 s of a queue, and all ended within 2 s."""
    assert compute([1.9, 1.95, 2.0], images=1).values["throughput_images_per_s"] == pytest.approx(1.5)


def test_the_last_completion_is_the_latest_in_whatever_order_they_are_told():
    assert compute([2.0, 0.5, 1.0], images=4).values["throughput_images_per_s"] == pytest.approx(6.0)


def test_every_unit_of_work_has_its_own_rate():
    values = compute([1.0, 2.0], images=4, texts=4, prompts=12, tokens=80).values
    rates = {name.split("_")[1]: value for name, value in values.items() if name.endswith("_per_s")}
    assert rates == pytest.approx({"images": 4.0, "texts": 4.0, "prompts": 12.0, "tokens": 80.0})


@pytest.mark.parametrize("completed", [None, []])
def test_no_calls_at_all_are_none_with_the_reason(completed):
    found = compute(completed, {"throughput/completed_s": "the model died"}, images=4, tokens=80)
    names = ["throughput_images_per_s", "throughput_tokens_per_s"]
    assert found.values == dict.fromkeys(names)
    assert found.reasons == dict.fromkeys(names, "the model died")
