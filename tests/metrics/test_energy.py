"""Energy per image from the device's counter, and None without a counter."""

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


def test_energy_per_image_is_the_energy_over_the_images_of_all_calls():
    values = Energy().compute(Samples(BUSY)).values
    assert values["energy_per_image_j"] == pytest.approx(50.0)
    assert values["energy_above_idle_per_image_j"] == pytest.approx(35.0)  # 60 W when idle
    assert values["energy_mean_power_w"] == pytest.approx(200.0)
    assert values["energy_idle_power_w"] == pytest.approx(60.0)


def test_without_a_counter_all_values_are_none_with_the_reason():
    series = {name: values for name, values in BUSY.items() if "energy" not in name}
    metrics = Energy().compute(Samples(series, {"telemetry/energy_j": "RAPL may not be read"}))
    assert set(metrics.values.values()) == {None}
    assert set(metrics.reasons.values()) == {"RAPL may not be read"}


def test_without_an_idle_window_only_values_that_need_it_are_none():
    series = {name: values for name, values in BUSY.items() if "idle" not in name}
    metrics = Energy().compute(Samples(series))
    absent = {name for name, value in metrics.values.items() if value is None}
    assert absent == set(metrics.reasons) == {"energy_above_idle_per_image_j", "energy_idle_power_w"}
    assert metrics.values["energy_per_image_j"] == pytest.approx(50.0)
