"""FLOPs to rates, on samples whose answer can be worked out by hand."""

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
    return Samples(arrays, {name: f"{name} is not here" for name, value in series.items() if value is None})


def test_every_rate_follows_from_counts_and_times():
    values = Flops().compute(samples()).values  # five calls a second
    assert values["flops_per_image_gflop"] == pytest.approx(2.0)
    assert values["flops_achieved_tflop_per_s"] == pytest.approx(0.04)
    assert values["flops_ceiling_tflop_per_s"] == pytest.approx(0.1)
    assert values["flops_mfu_fraction"] == pytest.approx(0.4)
    assert values["flops_intensity_flop_per_byte"] == pytest.approx(20.0)
    assert values["flops_attainable_tflop_per_s"] == pytest.approx(0.04)  # by the memory's bandwidth
    assert values["flops_copy_gb_per_s"] == pytest.approx(2.0)


def test_a_share_above_one_is_no_share_and_the_rate_stays():
    found = Flops().compute(samples(**{"ceiling/flop_per_s": 3.2e10}))
    assert found.values["flops_mfu_fraction"] is None
    assert found.reasons["flops_mfu_fraction"].startswith("1.25 is above 1: the ceiling was disturbed")
    assert found.values["flops_achieved_tflop_per_s"] == pytest.approx(0.04)


def test_a_high_intensity_is_bounded_by_the_ceiling():
    values = Flops().compute(samples(**{"flops/call_bytes": 1e6})).values
    assert values["flops_attainable_tflop_per_s"] == pytest.approx(0.1)


def test_parts_have_their_work_and_their_own_rate():
    found = Flops().compute(samples())
    assert found.values["flops_encoder_per_image_gflop"] == pytest.approx(1.5)
    assert found.values["flops_decoder_per_image_gflop"] == pytest.approx(0.5)
    assert found.values["flops_encoder_tflop_per_s"] == pytest.approx(0.06)
    assert found.values["flops_encoder_mfu_fraction"] == pytest.approx(0.6)
    assert found.values["flops_decoder_tflop_per_s"] is None


@pytest.mark.parametrize(
    ("lacking", "name"),
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
def test_what_lacks_its_series_is_none_with_the_reason(lacking, name):
    found = Flops().compute(samples(**{lacking: None}))
    assert found.values[name] is None
    assert found.reasons[name] == f"{lacking} is not here"


def test_a_part_that_was_not_timed_says_so():
    assert Flops().compute(samples()).reasons["flops_decoder_tflop_per_s"] == "no flops/decoder_s was recorded"


def test_every_reason_of_texts_alone_is_that_there_are_no_images():
    found = Flops().compute(samples(**{"work/images_count": None}))
    per_image = {name for name in found.values if name.endswith("_per_image_gflop")}
    assert {name: found.reasons[name] for name in per_image} == dict.fromkeys(
        per_image, "work/images_count is not here"
    )
    assert found.values["flops_mfu_fraction"] is not None


def test_what_is_divided_by_zero_is_none_with_the_reason():
    found = Flops().compute(samples(**{"flops/call_bytes": 0.0}))
    assert found.values["flops_intensity_flop_per_byte"] is None
    assert found.reasons["flops_intensity_flop_per_byte"] == "one of flops/call_flop, flops/call_bytes is zero"


def test_a_call_that_reads_texts_alone_has_its_work_per_text():
    of_texts = samples(**{"work/images_count": None, "work/texts_count": 4.0})
    found = Flops().compute(of_texts)
    assert found.values["flops_per_text_gflop"] == pytest.approx(2.0)
    assert found.values["flops_encoder_per_text_gflop"] == pytest.approx(1.5)
    assert not any("per_image" in name for name in {**found.values, **found.reasons})


def test_a_call_that_reads_both_has_its_work_per_image():
    found = Flops().compute(samples(**{"work/texts_count": 8.0}))
    assert found.values["flops_per_image_gflop"] == pytest.approx(2.0)
    assert not any("per_text" in name for name in found.values)


def test_work_per_text_that_is_not_known_has_a_reason():
    of_texts = samples(**{"work/images_count": None, "work/texts_count": 4.0, "flops/call_flop": None})
    found = Flops().compute(of_texts)
    assert found.values["flops_per_text_gflop"] is None
    assert found.reasons["flops_per_text_gflop"] == "flops/call_flop is not here"
