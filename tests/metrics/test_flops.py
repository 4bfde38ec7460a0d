"""FLOPs and rates from samples whose results are computed by hand."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.flops import Flops


def samples(**changes):
    series = {
        "work/images_count": 4.0,
        "flops/parameters_count": 1e6,
        "flops/call_flop": 8e9,
        "flops/call_bytes": 4e8,
        "ceiling/flop_per_s": 1e11,
        "ceiling/bytes_per_s": 2e9,
        "flops/encoder_flop": 6e9,
        "flops/encoder_calls_count": 1.0,
        "flops/decoder_flop": 5e8,
        "flops/decoder_calls_count": 4.0,
    } | changes
    arrays = {name: np.array([value]) for name, value in series.items() if value is not None}
    arrays |= {"throughput/completed_s": np.array([0.2, 0.4]), "flops/encoder_s": np.array([0.1, 0.2, 0.1])}
    return Samples(arrays, {name: f"{name} was not measured" for name, value in series.items() if value is None})


def test_rates_are_computed_from_counts_and_times():
    values = Flops().compute(samples()).values  # 5 calls per second
    assert values["flops_per_image_gflop"] == pytest.approx(2.0)
    assert values["flops_achieved_tflop_per_s"] == pytest.approx(0.04)
    assert values["flops_ceiling_tflop_per_s"] == pytest.approx(0.1)
    assert values["flops_mfu_fraction"] == pytest.approx(0.4)
    assert values["flops_intensity_flop_per_byte"] == pytest.approx(20.0)
    assert values["flops_attainable_tflop_per_s"] == pytest.approx(0.04)  # by the memory's bandwidth
    assert values["flops_copy_gb_per_s"] == pytest.approx(2.0)


def test_an_mfu_above_one_is_none_and_the_achieved_rate_remains():
    metrics = Flops().compute(samples(**{"ceiling/flop_per_s": 3.2e10}))
    assert metrics.values["flops_mfu_fraction"] is None
    assert metrics.reasons["flops_mfu_fraction"].startswith("1.25 is above 1: the ceiling was disturbed")
    assert metrics.values["flops_achieved_tflop_per_s"] == pytest.approx(0.04)


def test_at_high_intensity_the_attainable_rate_is_the_ceiling():
    values = Flops().compute(samples(**{"flops/call_bytes": 1e6})).values
    assert values["flops_attainable_tflop_per_s"] == pytest.approx(0.1)


def test_each_part_of_a_model_has_its_work_and_rate():
    metrics = Flops().compute(samples())
    assert metrics.values["flops_encoder_per_image_gflop"] == pytest.approx(1.5)
    assert metrics.values["flops_decoder_per_image_gflop"] == pytest.approx(0.5)
    assert metrics.values["flops_encoder_tflop_per_s"] == pytest.approx(0.06)
    assert metrics.values["flops_encoder_mfu_fraction"] == pytest.approx(0.6)
    assert metrics.values["flops_decoder_tflop_per_s"] is None


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        ("flops/call_flop", "flops_mfu_fraction"),
        ("ceiling/flop_per_s", "flops_mfu_fraction"),
        ("ceiling/bytes_per_s", "flops_copy_gb_per_s"),
        ("ceiling/bytes_per_s", "flops_attainable_tflop_per_s"),
        ("flops/call_bytes", "flops_intensity_flop_per_byte"),
        ("work/images_count", "flops_encoder_per_image_gflop"),
        ("ceiling/flop_per_s", "flops_encoder_mfu_fraction"),
        ("work/images_count", "flops_per_image_gflop"),
    ],
)
def test_a_metric_whose_series_is_missing_is_none_with_the_reason(missing, name):
    metrics = Flops().compute(samples(**{missing: None}))
    assert metrics.values[name] is None
    assert metrics.reasons[name] == f"{missing} was not measured"


def test_a_part_that_was_not_timed_has_the_reason():
    assert Flops().compute(samples()).reasons["flops_decoder_tflop_per_s"] == "no flops/decoder_s was recorded"


def test_without_images_every_metric_per_image_has_the_reason_of_the_missing_count():
    metrics = Flops().compute(samples(**{"work/images_count": None}))
    per_image = {name for name in metrics.values if name.endswith("_per_image_gflop")}
    assert {name: metrics.reasons[name] for name in per_image} == dict.fromkeys(
        per_image, "work/images_count was not measured"
    )
    assert metrics.values["flops_mfu_fraction"] is not None


def test_a_quotient_with_zero_is_none_with_the_reason():
    metrics = Flops().compute(samples(**{"flops/call_bytes": 0.0}))
    assert metrics.values["flops_intensity_flop_per_byte"] is None
    assert metrics.reasons["flops_intensity_flop_per_byte"] == "one of flops/call_flop, flops/call_bytes is zero"


def test_a_call_that_reads_only_texts_has_its_work_per_text():
    text_samples = samples(**{"work/images_count": None, "work/texts_count": 4.0})
    metrics = Flops().compute(text_samples)
    assert metrics.values["flops_per_text_gflop"] == pytest.approx(2.0)
    assert metrics.values["flops_encoder_per_text_gflop"] == pytest.approx(1.5)
    assert not any("per_image" in name for name in {**metrics.values, **metrics.reasons})


def test_a_call_that_reads_images_and_texts_has_its_work_per_image():
    metrics = Flops().compute(samples(**{"work/texts_count": 8.0}))
    assert metrics.values["flops_per_image_gflop"] == pytest.approx(2.0)
    assert not any("per_text" in name for name in metrics.values)


def test_unknown_work_per_text_has_a_reason():
    text_samples = samples(**{"work/images_count": None, "work/texts_count": 4.0, "flops/call_flop": None})
    metrics = Flops().compute(text_samples)
    assert metrics.values["flops_per_text_gflop"] is None
    assert metrics.reasons["flops_per_text_gflop"] == "flops/call_flop was not measured"
