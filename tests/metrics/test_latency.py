"""Latency metrics, compared with values computed by hand."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.latency import Latency

SERIES = [0.010, 0.020, 0.030, 0.040, 0.050, 0.060]


def compute(host_s, missing=None, **series):
    named = {name.replace("__", "/"): np.array(values) for name, values in series.items()}
    return Latency().compute(Samples({"latency/host_s": np.array(host_s)} | named, missing or {}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency_mean_ms", 35.0),
        ("latency_std_ms", 350**0.5),  # (2·25² + 2·15² + 2·5²) ÷ 5
        ("latency_min_ms", 10.0),
        ("latency_max_ms", 60.0),
        ("latency_p50_ms", 35.0),
        ("latency_p50_within_process_low_ms", 10.0),
        ("latency_p50_within_process_high_ms", 60.0),
        ("latency_calls_count", 6),
        ("latency_autocorrelation_ratio", 0.5),  # (375 + 75 − 25 + 75 + 375) ÷ 1750
        ("latency_halves_ratio", 2.5),  # 50 ÷ 20
    ],
)
def test_metrics_of_six_calls_equal_those_computed_by_hand(name, value):
    assert compute(SERIES).values[name] == pytest.approx(value)


def test_percentiles_are_computed_if_the_calls_are_enough():
    values = compute(np.arange(1, 402) / 1e3).values  # 1 … 401 ms
    percentiles = [values[f"latency_p{percent}_ms"] for percent in (50, 90, 95, 99)]
    assert percentiles == pytest.approx([201.0, 361.0, 381.0, 397.0])


def test_a_percentile_of_too_few_calls_is_none_with_the_number_it_needs():
    metrics = compute(SERIES)
    assert metrics.values["latency_p90_ms"] is None
    assert metrics.reasons["latency_p90_ms"] == "6 calls, and p90 needs 36"
    assert metrics.reasons["latency_p99_ms"] == "6 calls, and p99 needs 368"


def test_latency_per_image_is_the_latency_of_a_batch_over_its_images():
    values = compute(SERIES, work__images_count=[4.0]).values
    assert values["latency_per_image_p50_ms"] == pytest.approx(8.75)
    assert values["latency_per_image_mean_ms"] == pytest.approx(8.75)
    assert values["latency_per_image_p50_within_process_low_ms"] == pytest.approx(2.5)
    assert values["latency_per_image_p50_within_process_high_ms"] == pytest.approx(15.0)


def test_a_percentile_without_a_value_has_none_per_image_with_the_same_reason():
    metrics = compute(SERIES, work__images_count=[4.0])
    assert metrics.values["latency_per_image_p95_ms"] is None
    assert metrics.reasons["latency_per_image_p95_ms"] == metrics.reasons["latency_p95_ms"]


def test_work_without_images_has_no_latency_per_image():
    assert not [name for name in compute(SERIES, work__texts_count=[4.0]).values if "per_image" in name]


def test_device_and_enqueue_times_are_medians():
    values = compute(SERIES, latency__device_s=[0.001, 0.004, 0.002], latency__enqueue_s=[0.0005] * 3).values
    assert values["latency_device_p50_ms"] == pytest.approx(2.0)
    assert values["latency_enqueue_p50_ms"] == pytest.approx(0.5)


def test_device_and_enqueue_times_that_were_not_measured_are_none_with_the_reason():
    metrics = compute(SERIES, missing={"latency/device_s": "cpu has no queue"})
    assert metrics.values["latency_device_p50_ms"] is None
    assert metrics.reasons["latency_device_p50_ms"] == "cpu has no queue"
    assert metrics.reasons["latency_enqueue_p50_ms"] == "no latency/enqueue_s was recorded"


def test_one_call_has_no_spread_no_percentiles_and_no_halves():
    metrics = compute([0.010])
    assert metrics.values["latency_mean_ms"] == pytest.approx(10.0)
    for name in ("latency_std_ms", "latency_halves_ratio", "latency_p50_ms", "latency_p50_within_process_low_ms"):
        assert metrics.values[name] is None
        assert metrics.reasons[name]


def test_without_calls_all_values_are_none_with_the_reason():
    metrics = compute([], missing={"latency/host_s": "the model died"})
    assert set(metrics.values) == {f"latency_{name}_ms" for name in ("mean", "std", "min", "max", "p50")}
    assert set(metrics.values.values()) == {None}
    assert metrics.reasons == dict.fromkeys(metrics.values, "the model died")
