"""Means, rates and shares of the pipeline from samples whose results are computed by hand."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.pipeline import Pipeline

STEPS = {"read": 0.001, "decode": 0.002, "preprocess": 0.003, "copy": 0.001, "forward": 0.01, "postprocess": 0.003}


@pytest.fixture
def values():
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
    return Pipeline().compute(Samples(series)).values


def test_the_means_of_the_steps_add_up_to_the_serial_time(values):
    assert values["pipeline_forward_ms"] == pytest.approx(10.0)
    assert values["pipeline_serial_ms"] == pytest.approx(20.0)
    assert values["pipeline_stages_sum_ratio"] == pytest.approx(1.0)


def test_rates_count_images_from_file_to_answer(values):
    assert values["pipeline_serial_images_per_s"] == pytest.approx(200.0)
    assert values["pipeline_overlapped_images_per_s"] == pytest.approx(40 / 0.12)
    assert values["pipeline_overlap_speedup_ratio"] == pytest.approx(40 / 0.12 / 200)
    assert values["pipeline_copy_pinned_gb_per_s"] == pytest.approx(20.0)


def test_the_busy_share_of_each_resource_is_over_the_overlapped_time(values):
    assert values["pipeline_loaders_busy_fraction"] == pytest.approx(0.06 / 0.12 / 2)
    assert values["pipeline_model_busy_fraction"] == pytest.approx(0.11 / 0.12)
    assert values["pipeline_finisher_busy_fraction"] == pytest.approx(0.03 / 0.12)


def test_the_time_to_the_first_token_is_vision_plus_prefill(values):
    assert values["pipeline_vision_ms"] == pytest.approx(20.0)
    assert values["pipeline_first_token_ms"] == pytest.approx(50.0)
    assert values["pipeline_output_token_ms"] == pytest.approx(5.0)
