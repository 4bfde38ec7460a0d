"""The comparison of outputs with those of eager fp32."""

import numpy as np
import pytest

from visionbench.config import ParityConfig
from visionbench.metrics.parity import COSINE, ERROR, Parity
from visionbench.stages.parity import ParityError, compare

REFERENCE = {"image": np.array([[3.0, 4.0], [1.0, 0.0]])}


def test_equal_outputs_have_a_cosine_of_one_and_no_error():
    metrics = Parity().compute(compare(REFERENCE, REFERENCE, ParityConfig(), "float32"))
    assert metrics.values == {COSINE: pytest.approx(1.0), ERROR: 0.0}


def test_the_lowest_cosine_and_the_largest_error_over_images_and_outputs_are_reported():
    own = {"image": np.array([[3.0, 4.0], [1.0, 0.1]])}
    metrics = Parity().compute(compare(REFERENCE, own, ParityConfig(), "bfloat16"))
    assert metrics.values == {COSINE: pytest.approx(1 / np.hypot(1, 0.1)), ERROR: pytest.approx(0.1)}


def test_an_output_of_another_length_has_an_error_although_its_cosine_is_one():
    own = {"image": 2 * REFERENCE["image"]}
    metrics = Parity().compute(compare(REFERENCE, own, ParityConfig(), "float32"))
    assert metrics.values == {COSINE: pytest.approx(1.0), ERROR: pytest.approx(1.0)}


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (
            [[3.0, 4.0], [1.0, 0.5]],
            r"output of image 2 differs from eager fp32: cosine 0\.894427, .*float32 is 0",
        ),
        ([[-3.0, -4.0], [1.0, 0.0]], "image 1 differs from eager fp32: cosine -1"),
        ([[0.0, 0.0], [1.0, 0.0]], "image 1 differs from eager fp32: cosine 0"),
        ([[np.nan, 4.0], [1.0, 0.0]], "image 1 is not finite"),
        ([[np.inf, 4.0], [1.0, 0.0]], "image 1 is not finite"),
    ],
)
def test_outputs_that_differ_too_much_are_an_error_with_the_cosine(own, text):
    with pytest.raises(ParityError, match=text):
        compare(REFERENCE, {"image": np.array(own)}, ParityConfig(), "float32")


def test_int8_has_its_own_limit():
    own = {"image": np.array([[3.0, 4.0], [1.0, 0.17]])}
    assert compare(REFERENCE, own, ParityConfig(), "int8").get("parity/cosine_ratio").min() < 0.99
    with pytest.raises(ParityError, match="measure.parity.min_cosine.bfloat16 is 0.99"):
        compare(REFERENCE, own, ParityConfig(), "bfloat16")


def test_a_dtype_without_a_limit_is_only_checked_for_finite_outputs():
    own = {"image": -REFERENCE["image"]}
    samples = compare(REFERENCE, own, ParityConfig(min_cosine={}), "float32")
    assert samples.get("parity/cosine_ratio").tolist() == pytest.approx([-1.0, -1.0])
    with pytest.raises(ParityError, match="not finite"):
        compare(REFERENCE, {"image": np.full((2, 2), np.nan)}, ParityConfig(min_cosine={}), "float32")


def test_outputs_of_zeros_equal_outputs_of_zeros_only():
    zeros = {"image": np.zeros((1, 2))}
    assert compare(zeros, zeros, ParityConfig(), "float32").get("parity/cosine_ratio").tolist() == [1.0]
    with pytest.raises(ParityError):
        compare(zeros, {"image": np.ones((1, 2))}, ParityConfig(), "float32")
