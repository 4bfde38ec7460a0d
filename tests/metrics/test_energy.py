"""Joules per image by the counter, and nothing where there is none."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.energy import Energy

BUSY = {
    "work/images_count": np.array([4.0]),
    "telemetry/completed_s": np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    "telemetry/energy_j": np.array([1000.0]),
    "telemetry/seconds_s": np.array([5.0]),
    "telemetry/idle_energy_j": np.array([120.0]),
    "telemetry/idle_s": np.array([2.0]),
}


def test_joules_are_shared_by_the_images_of_all_calls():
    values = Energy().compute(Samples(BUSY)).values
    assert values["energy_per_image_j"] == pytest.approx(50.0)
    assert values["energy_above_idle_per_image_j"] == pytest.approx(35.0)  # 60 W at rest
    assert values["energy_mean_power_w"] == pytest.approx(200.0)
    assert values["energy_idle_power_w"] == pytest.approx(60.0)


def test_without_a_counter_every_value_is_none_with_its_reason():
    series = {name: values for name, values in BUSY.items() if "energy" not in name}
    found = Energy().compute(Samples(series, {"telemetry/energy_j": "RAPL may not be read"}))
    assert set(found.values.values()) == {None}
    assert set(found.reasons.values()) == {"RAPL may not be read"}


def test_without_time_at_rest_only_what_is_above_it_is_none():
    series = {name: values for name, values in BUSY.items() if "idle" not in name}
    found = Energy().compute(Samples(series))
    absent = {name for name, value in found.values.items() if value is None}
    assert absent == set(found.reasons) == {"energy_above_idle_per_image_j", "energy_idle_power_w"}
    assert found.values["energy_per_image_j"] == pytest.approx(50.0)
