"""Means, rates and shares of the pipeline from samples whose results are computed by hand."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.pipeline import Pipeline

STEPS = {"read": 0.001, "decode": 0.002, "preprocess": 0.003, "copy": 0.001, "forward": 0.01, "postprocess": 0.003}


@pytest.fixture
def values(series):
    return Pipeline().compute(Samples(series)).values


@pytest.fixture
def series():
    series = {f"pipeline/{step}_s": np.array([seconds, seconds]) for step, seconds in STEPS.items()}
    series |= {f"pipeline/overlapped_{step}_s": np.array([10 * seconds]) for step, seconds in STEPS.items()}
    series |= {
        "work/images_count": np.array([4.0]),
        "pipeline/serial_s": np.array([0.019, 0.021]),
        "pipeline/overlapped_s": np.array([0.12]),
        "pipeline/overlapped_images_count": np.array([40.0]),
        "pipeline/loaders_count": np.array([2.0]),
        "pipeline/copy_pinned_bytes_per_s": np.array([2e10]),
        "pipeline/vision_s": np.array([0.01, 0.02, 0.9]),
        "pipeline/prefill_s": np.array([0.03]),
        "pipeline/token_s": np.array([0.005]),
    }
    return series


def test_the_means_of_the_steps_add_up_to_the_serial_time(values):
    assert values["pipeline_forward_ms"] == pytest.approx(10.0)
    assert values["pipeline_serial_ms"] == pytest.approx(20.0)
    assert values["pipeline_stages_sum_ratio"] == pytest.approx(1.0)


def test_rates_count_images_from_file_to_answer(values):
    assert values["pipeline_serial_images_per_s"] == pytest.approx(200.0)
    assert values["pipeline_overlapped_images_per_s"] == pytest.approx(40 / 0.12)
    assert values["pipeline_overlap_speedup_ratio"] == pytest.approx(40 / 0.12 / 200)
    assert values["pipeline_copy_pinned_gb_per_s"] == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("loaders", "cores", "cpu_s", "bound_s"),
    [
        (2, 8, 0.016, 0.011),  # copy and forward are the slowest
        (1, 2, 0.036, 0.018),  # the cores: loaders and model compete for them
        (0.25, 8, 0.016, 0.024),  # the loaders: 6 ms, a quarter of one
    ],
)
def test_the_upper_bound_is_the_slowest_worker_or_all_cores_at_work(series, loaders, cores, cpu_s, bound_s):
    series |= {"pipeline/serial_cpu_s": np.array([cpu_s] * 2), "pipeline/cores_count": np.array([float(cores)])}
    series |= {"pipeline/loaders_count": np.array([float(loaders)])}
    values = Pipeline().compute(Samples(series)).values
    assert values["pipeline_bound_images_per_s"] == pytest.approx(4 / bound_s)
    assert values["pipeline_efficiency_fraction"] == pytest.approx(40 / 0.12 / (4 / bound_s))


def test_samples_of_earlier_versions_have_no_upper_bound(series):
    metrics = Pipeline().compute(Samples(series))
    assert metrics.values["pipeline_bound_images_per_s"] is None
    assert metrics.values["pipeline_efficiency_fraction"] is None
    assert "serial_cpu_s" in metrics.reasons["pipeline_efficiency_fraction"]


def test_the_busy_share_of_each_resource_is_over_the_overlapped_time(values):
    assert values["pipeline_loaders_busy_fraction"] == pytest.approx(0.06 / 0.12 / 2)
    assert values["pipeline_model_busy_fraction"] == pytest.approx(0.11 / 0.12)
    assert values["pipeline_finisher_busy_fraction"] == pytest.approx(0.03 / 0.12)


def test_a_copy_by_the_loaders_is_part_of_their_busy_share(series):
    values = Pipeline().compute(Samples({**series, "pipeline/copied_ahead_count": np.array([1.0])})).values
    assert values["pipeline_loaders_busy_fraction"] == pytest.approx(0.07 / 0.12 / 2)
    assert values["pipeline_model_busy_fraction"] == pytest.approx(0.10 / 0.12)


def test_the_time_to_the_first_token_is_vision_plus_prefill(values):
    assert values["pipeline_vision_ms"] == pytest.approx(20.0)
    assert values["pipeline_first_token_ms"] == pytest.approx(50.0)
    assert values["pipeline_output_token_ms"] == pytest.approx(5.0)
