"""Errors of depth, compared with numpy by hand: alignments, the range of depths, flags and intervals."""

import numpy as np
import pytest

from visionbench.core import ConfigError, Predictions, Samples, interval_ends
from visionbench.metrics.depth import FIGURES, Depth, align, errors
from visionbench.registry import find

SIZE = (12, 15)


def scene(seed, inverse=False, noise=0.1):
    """Return a true depth with unmeasured pixels, and a prediction of it or of its inverse, scaled and shifted."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(1, 20, SIZE).astype(np.float32)
    noisy = true * np.exp(rng.normal(0, noise, SIZE))
    predicted = 3 / noisy + 0.4 if inverse else noisy * 2.5 + 1
    true[rng.random(SIZE) < 0.2] = np.nan
    true[0, 0] = 0
    return true, predicted.astype(np.float32)


def score(pairs, inverse=False, **options):
    metric = Depth(**options)
    rows = [
        metric.compare({"depth_map": true, "predicted_depth": predicted, "inverse_depth": inverse})
        for true, predicted in pairs
    ]
    columns = {"depth_errors": [row["depth_errors"] for row in rows]}
    return metric, metric.score(Predictions([str(index) for index in range(len(rows))], columns))


def compute(pairs, inverse=False, **options):
    metric, samples = score(pairs, inverse, **options)
    return metric.compute(samples).values


def by_hand(depth, true):
    """Return the figures of one image by their definitions, pixel by pixel."""
    pairs = list(zip(depth.tolist(), true.tolist(), strict=True))
    ratios = [max(d / t, t / d) for d, t in pairs]
    return {
        "depth_abs_rel_ratio": sum(abs(d - t) / t for d, t in pairs) / len(pairs),
        "depth_rmse_m": (sum((d - t) ** 2 for d, t in pairs) / len(pairs)) ** 0.5,
        **{f"depth_delta_{k}_fraction": sum(ratio < 1.25**k for ratio in ratios) / len(pairs) for k in (1, 2, 3)},
    }


def expected(pairs, aligned):
    """Return the mean over images of the figures, with depths that a function aligns."""
    each = []
    for true, predicted in pairs:
        valid = np.isfinite(true) & (true > 0)
        each.append(by_hand(aligned(predicted[valid].astype(float), true[valid].astype(float)), true[valid]))
    return {name: np.mean([one[name] for one in each]) for name in each[0]}


def by_least_squares(predicted, target):
    scale, shift = np.linalg.lstsq(np.stack([predicted, np.ones_like(predicted)], 1), target, rcond=None)[0]
    return scale * predicted + shift


def agree(values, reference):
    for name, value in reference.items():
        assert values[name] == pytest.approx(value, rel=1e-5), name


def test_the_registry_finds_the_metric_by_name():
    assert find("metrics", "depth") is Depth


def test_least_squares_in_depth_agrees_with_numpy():
    pairs = [scene(seed) for seed in range(5)]
    agree(compute(pairs), expected(pairs, lambda p, t: np.clip(by_least_squares(p, t), 0.001, 80)))


def test_least_squares_in_inverse_depth_agrees_with_numpy():
    pairs = [scene(seed, inverse=True) for seed in range(5)]
    reference = expected(pairs, lambda p, t: 1 / np.clip(by_least_squares(p, 1 / t), 1 / 80, 1 / 0.001))
    agree(compute(pairs, inverse=True), reference)


def test_an_inverse_depth_up_to_scale_and_shift_has_no_error():
    pairs = [scene(seed, inverse=True, noise=0) for seed in range(3)]
    values = compute(pairs, inverse=True)
    assert values["depth_abs_rel_ratio"] == pytest.approx(0, abs=1e-4)
    assert values["depth_delta_1_fraction"] == 1


def test_the_median_agrees_with_numpy_for_depth_and_for_inverse_depth():
    pairs = [scene(seed) for seed in range(5)]
    agree(
        compute(pairs, alignment="median"),
        expected(pairs, lambda p, t: np.clip(p * np.median(t) / np.median(p), 0.001, 80)),
    )
    pairs = [scene(seed, inverse=True) for seed in range(5)]
    agree(
        compute(pairs, inverse=True, alignment="median"),
        expected(pairs, lambda p, t: np.clip(1 / p * np.median(t) / np.median(1 / p), 0.001, 80)),
    )


def test_without_alignment_the_prediction_is_in_metres():
    pairs = [scene(seed) for seed in range(5)]
    agree(compute(pairs, alignment="none"), expected(pairs, lambda p, t: np.clip(p, 0.001, 80)))
    inverted = [(true, 1 / predicted) for true, predicted in pairs]
    agree(compute(inverted, inverse=True, alignment="none"), expected(pairs, lambda p, t: np.clip(p, 0.001, 80)))


def test_each_image_counts_once_whatever_its_number_of_pixels():
    exact = np.full((10, 10), 4.0), np.full((10, 10), 4.0)
    double = np.full((1, 2), 4.0), np.full((1, 2), 8.0)
    assert compute([exact, double], alignment="none")["depth_abs_rel_ratio"] == pytest.approx(0.5)


def test_true_depths_outside_the_range_are_not_scored_and_flagged():
    true, predicted = np.array([[1.0, 5.0, 50.0, 0.0]]), np.array([[1.0, 5.0, 9.0, 7.0]])
    metric, samples = score([(true, predicted)], alignment="none", max_depth=10.0)
    values = metric.compute(samples).values
    assert (values["depth_pixels_count"], values["depth_abs_rel_ratio"]) == (2, 0)
    assert "33.33% of the measured pixels are outside 0.001 to 10.0 m" in samples.flags["depth_out_of_range"]


def test_predictions_outside_the_range_are_set_to_its_ends():
    depth, _ = align(np.array([-3.0, 5.0, 500.0]), np.array([1.0, 5.0, 9.0]), False, "none", 0.5, 10.0)
    assert depth.tolist() == [0.5, 5.0, 10.0]
    depth, _ = align(np.array([-3.0, 0.2, 0.0]), np.array([1.0, 5.0, 9.0]), True, "none", 0.5, 10.0)
    assert depth.tolist() == [10.0, 5.0, 10.0]


def test_an_image_without_a_depth_in_the_range_is_left_out_of_the_mean_and_flagged():
    good, far = (np.full((2, 2), 4.0), np.full((2, 2), 4.0)), (np.full((2, 2), 99.0), np.full((2, 2), 4.0))
    metric, samples = score([good, far], alignment="none")
    values = metric.compute(samples).values
    assert values["depth_abs_rel_ratio"] == 0
    assert values["depth_scored_pictures_count"] == 1
    assert samples.flags["pictures_without_depth"] == "1 of 2 images have no measured pixel in this range"
    nothing = metric.compute(score([far, far], alignment="none")[1])
    assert nothing.values["depth_abs_rel_ratio"] is None
    assert nothing.reasons["depth_abs_rel_ratio"] == "no image has a measured pixel in the range"


def test_a_wrong_kind_of_output_is_flagged_by_a_negative_scale():
    pairs = [scene(seed) for seed in range(4)]
    assert "4 of 4 images have a negative scale" in score(pairs, inverse=True)[1].flags["depth_reversed"]
    assert "depth_reversed" not in score(pairs)[1].flags


def test_a_prediction_whose_median_is_no_depth_is_scored_without_alignment_and_flagged():
    true, predicted = np.array([[2.0, 3.0, 4.0]]), np.array([[-1.0, -2.0, 5.0]])
    metric, samples = score([(true, predicted)], alignment="median")
    assert samples.flags["depth_not_aligned"] == "1 of 1 images have a prediction that cannot be aligned"
    reference = by_hand(np.array([0.001, 0.001, 5.0]), true[0])
    agree(metric.compute(samples).values, reference)


def test_a_model_that_predicts_one_depth_is_a_fault():
    constant = [(scene(seed)[0], np.full(SIZE, 3.0)) for seed in range(4)]
    assert "one depth for all pixels of each of 4 images" in score(constant)[1].faults["answers_equal"]
    assert not score([scene(seed) for seed in range(4)])[1].faults


def test_intervals_contain_the_figures_and_agree_with_the_contributions():
    metric, samples = score([scene(seed, noise=0.05 + 0.02 * seed) for seed in range(20)])
    values, contributions = metric.compute(samples).values, metric.contributions(samples)
    assert set(contributions) == {f"depth_{name}" for name in FIGURES}
    for name, one in contributions.items():
        assert float(one.value(one.parts.sum(axis=0))) == pytest.approx(values[name])
    for name in ("depth_abs_rel_ratio", "depth_rmse_m", "depth_delta_1_fraction"):
        low, high = (values[end] for end in interval_ends(name))
        assert low < values[name] < high


def test_an_error_can_be_larger_than_one():
    assert errors(np.array([9.0]), np.array([3.0]))[0] == pytest.approx(2)


def test_without_samples_each_figure_has_a_reason():
    metrics = Depth().compute(
        Samples(missing={f"depth/{name}": "the pass failed" for name in (*FIGURES, "pixels_count")})
    )
    assert set(metrics.values.values()) == {None}
    assert set(metrics.reasons.values()) == {"the pass failed"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alignment": "medain"}, "metrics.depth.alignment=medain: no such alignment; did you mean 'median'"),
        ({"min_depth": 0.0}, "metrics.depth.min_depth=0.0, max_depth=80.0: not a range of depths"),
        ({"min_depth": 5.0, "max_depth": 2.0}, "not a range of depths"),
        ({"max_depth": float("inf")}, "not a range of depths"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Depth(**options)
