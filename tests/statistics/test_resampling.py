"""Intervals over images, compared with scipy and published examples; their coverage by simulation; and edge cases."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from visionbench.core import ConfigError, Contributions, Metrics, Samples
from visionbench.statistics import resampling
from visionbench.statistics.resampling import (
    CLUSTER,
    bca,
    difference,
    hits_of,
    interval_text,
    intervals,
    mcnemar,
    mean_of,
    percentile,
    proportion,
    read_clusters,
    resample,
    tango,
    wilson,
    with_intervals,
)

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "quality_intervals.py"
_spec = importlib.util.spec_from_file_location("quality_intervals", BENCHMARK)
simulation = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(simulation)


def only_interval(contributions, clusters=None):
    (interval,) = intervals({"metric": contributions}, clusters).values()
    return interval


def hits(*values):
    return hits_of(np.array(values, float))


# --------------------------------------------------------------------------------------------------- other libraries
@pytest.mark.parametrize("right, count", [(0, 10), (1, 7), (50, 100), (98, 100), (100, 100), (4999, 5000)])
def test_wilsons_interval_agrees_with_scipy(right, count):
    expected = scipy.stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_percentile_interval_agrees_with_scipys_bootstrap():
    values = np.random.default_rng(1).gamma(0.8, 1.5, 300)
    drawn = mean_of(values).value(resample([mean_of(values).parts], resamples=20_000)[0])
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    assert percentile(drawn) == pytest.approx(expected.confidence_interval, rel=0.01)


def test_bca_agrees_with_scipy_for_a_mean_and_a_ratio():
    rng = np.random.default_rng(3)
    values, counts = rng.gamma(0.8, 1.5, 200), rng.integers(1, 5, 200)
    for metric, arrays, statistic in (
        (mean_of(values), (values,), np.mean),
        (mean_of(values, counts), (values, counts), lambda v, c, axis: v.sum(axis) / c.sum(axis)),
    ):
        drawn = metric.value(resample([metric.parts], resamples=20_000)[0])
        expected = scipy.stats.bootstrap(arrays, statistic, n_resamples=20_000, method="BCa", paired=True, rng=4)
        jackknifed = metric.value(metric.parts.sum(axis=0) - metric.parts)
        interval = bca(float(metric.value(metric.parts.sum(axis=0))), drawn, jackknifed)
        assert interval == pytest.approx(expected.confidence_interval, rel=0.01)
        assert only_interval(metric) == pytest.approx(expected.confidence_interval, rel=0.03)


@pytest.mark.parametrize("lost, won", [(0, 0), (0, 5), (1, 8), (10, 10), (3, 30)])
def test_mcnemars_test_agrees_with_the_exact_binomial_test(lost, won):
    expected = min(1.0, 2 * scipy.stats.binom.cdf(min(lost, won), lost + won, 0.5)) if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected)


@pytest.mark.parametrize("lost, won, count", [(2, 12, 50), (0, 3, 20), (7, 7, 100), (30, 1, 1000)])
def test_the_score_test_rejects_the_values_outside_tangos_interval(lost, won, count):
    def rejected(change):
        """Return whether the score test rejects a change; the nuisance probability is found on a grid."""
        q = np.linspace(max(0, -change) + 1e-9, (1 - change) / 2 - 1e-9, 200_001)
        likelihood = (
            won * np.log(q + change) + lost * np.log(q) + (count - won - lost) * np.log(1 - 2 * q - change)
            if lost
            else won * np.log(q + change) + (count - won) * np.log(1 - 2 * q - change)
        )
        best = q[np.argmax(likelihood)]
        z = (won - lost - count * change) / np.sqrt(count * (2 * best + change - change**2))
        return abs(z) > scipy.stats.norm.ppf(0.975)

    low, high = tango(lost, won, count)
    assert low <= (won - lost) / count <= high
    assert rejected(low - 1e-3) and not rejected(low + 1e-3)
    assert rejected(high + 1e-3) and not rejected(high - 1e-3)


# --------------------------------------------------------------------------------------------------------------- edges
def test_hits_only_and_misses_only_have_an_interval_with_a_width():
    assert only_interval(hits(*[1] * 100)) == pytest.approx((0.963, 1.0), abs=1e-3)
    assert only_interval(hits(*[0] * 100)) == pytest.approx((0.0, 0.037), abs=1e-3)


def test_if_all_captions_are_hits_each_image_counts_as_one_try():
    five_each = hits_of(np.full(100, 5.0), np.full(100, 5))
    assert only_interval(five_each) == only_interval(hits(*[1] * 100))


def test_correlated_captions_of_an_image_widen_the_interval():
    rng = np.random.default_rng(0)
    together, alone = 5.0 * (rng.random(200) < 0.8), rng.binomial(5, 0.8, 200).astype(float)
    widths = [np.diff(only_interval(hits_of(hits, np.full(200, 5))))[0] for hits in (together, alone)]
    assert widths[0] > 1.8 * widths[1]
    low, high = only_interval(hits_of(together, np.full(200, 5)))
    assert (low, high) == pytest.approx(wilson(together.mean() / 5, 200), abs=2e-3)


def test_images_without_queries_do_not_count():
    assert only_interval(hits_of(np.array([1.0, 0.0, 1.0]), np.array([1, 0, 1]))) == wilson(1.0, 2)
    assert proportion(np.zeros((3, 2))) is None


def test_a_fraction_that_is_equal_on_all_images_has_the_interval_of_a_proportion():
    assert only_interval(mean_of(np.ones(50))) == wilson(1.0, 50)
    assert only_interval(mean_of(np.full(50, 3.0), at_most_one=False)) is None


def test_with_clusters_the_interval_is_over_clusters():
    values = np.repeat(np.random.default_rng(5).random(20), 10)
    clusters = np.repeat(np.arange(20), 10)
    by_image, together = only_interval(mean_of(values)), only_interval(mean_of(values), clusters)
    assert np.diff(together) > 2.5 * np.diff(by_image)
    right = (values > 0.5).astype(float)
    assert only_interval(hits_of(right), clusters) == pytest.approx(wilson(right.mean(), 19), abs=1e-6)


def test_equal_samples_have_equal_intervals():
    values = np.random.default_rng(6).random(1000)
    assert only_interval(mean_of(values)) == only_interval(mean_of(values.copy()))


def test_resamples_do_not_depend_on_the_block_size(monkeypatch):
    parts = mean_of(np.random.default_rng(7).random(100)).parts
    complete = resample([parts])[0]
    monkeypatch.setattr(resampling, "CELLS", 700)
    monkeypatch.setattr(resampling, "CACHED_CELLS", 0)
    assert np.allclose(resample([parts])[0], complete, rtol=1e-12)


def test_the_reason_for_a_missing_interval_end_is_that_of_its_metric():
    metrics = Metrics({"a_fraction": None, "b_fraction": 0.5}, {"a_fraction": "random weights"})
    result = with_intervals(metrics, ["a_fraction", "b_fraction"], {}, Samples())
    assert result.values["a_low_fraction"] is None and result.reasons["a_low_fraction"] == "random weights"
    assert result.reasons["b_high_fraction"] == resampling.NO_CONTRIBUTIONS


def test_an_interval_is_written_with_both_ends_if_it_is_not_symmetric():
    assert interval_text(0.5, (0.491, 0.509)) == "0.500 ±0.009"
    assert interval_text(0.99, (0.946, 0.998)) == "0.990 [0.946, 0.998]"
    assert interval_text(0.99, None) == "0.990"


# ---------------------------------------------------------------------------------------------------------- difference
def test_single_hits_on_the_same_images_are_compared_by_mcnemars_test():
    base, candidate = np.ones(1000), np.ones(1000)
    candidate[:12] = 0
    change = difference(hits_of(base), hits_of(candidate))
    assert (change.method, change.differing, change.count) == ("exact McNemar test", 12, 1000)
    assert change.value == pytest.approx(-0.012)
    assert change.shown and change.deciding[1] < 0
    base[12:24] = 0
    assert not difference(hits_of(base), hits_of(candidate)).shown


def test_several_captions_per_image_are_compared_by_a_bootstrap_over_images():
    rng = np.random.default_rng(8)
    tries = np.full(400, 5)
    base = rng.binomial(5, 0.7, 400).astype(float)
    change = difference(hits_of(base, tries), hits_of(np.maximum(base - 1, 0), tries))
    assert change.method == "paired bootstrap"
    assert change.shown and change.interval[1] < 0
    same = difference(hits_of(base, tries), hits_of(base.copy(), tries))
    assert (same.differing, same.interval, same.shown) == (0, None, False)


def test_equal_changes_of_only_six_images_are_not_significant():
    values = np.linspace(0.3, 0.9, 100)
    lower = values.copy()
    lower[:6] -= 0.3
    change = difference(mean_of(values), mean_of(lower))
    assert change.deciding[1] < 0, "the bootstrap alone would show it"
    assert not change.shown
    lower[:12] -= 0.2
    assert difference(mean_of(values), mean_of(lower)).shown


def test_with_clusters_a_difference_is_over_clusters():
    rng = np.random.default_rng(9)
    shift = np.repeat(rng.normal(0, 0.1, 10), 50)
    values, clusters = rng.random(500), np.repeat(np.arange(10), 50)
    sides = mean_of(values), mean_of(values + shift)
    by_image, together = difference(*sides), difference(*sides, clusters)
    assert np.diff(together.interval) > 2 * np.diff(by_image.interval)
    assert together.count == 10
    flips = hits_of((values < 0.5).astype(float)), hits_of((values < 0.6).astype(float))
    assert difference(*flips, clusters).method == "paired bootstrap"


def test_sides_that_are_not_paired_have_newcombes_interval():
    low, high = resampling.independent((0.5, (0.4, 0.6)), (0.7, (0.62, 0.77)))
    assert low == pytest.approx(0.2 - np.hypot(0.08, 0.1)) and high == pytest.approx(0.2 + np.hypot(0.07, 0.1))
    wider = resampling.independent((0.5, (0.4, 0.6)), (0.7, (0.62, 0.77)), 0.01)
    assert wider[0] < low and wider[1] > high


# ---------------------------------------------------------------------------------------------------------- simulation
@pytest.mark.parametrize("kind", ["hits, 0.9", "hits, 0.98", "t2i, 5 captions, 0.98", "mIoU", "CIDEr"])
def test_the_coverage_of_the_intervals_is_near_their_level(kind):
    reported, _, _ = simulation.coverage(kind, 100, 400)
    assert 0.91 <= reported <= 0.985


@pytest.mark.parametrize("kind", ["hits, 1 − 1/n", "t2i, 5 captions, 1 − 1/n"])
def test_near_one_the_reported_interval_has_coverage_and_the_bootstrap_has_not(kind):
    reported, plain, _ = simulation.coverage(kind, 100, 400)
    assert reported >= 0.9 > plain


def test_only_the_reflected_interval_of_an_average_over_classes_has_coverage():
    reported, plain, _ = simulation.coverage("macro F1, 15 classes", 100, 200)
    assert reported >= 0.92 > plain


@pytest.mark.parametrize("kind", ["top-1, 10 % of pictures by chance", "t2i, 5 captions", "mIoU", "CIDEr"])
def test_equal_sides_rarely_have_the_verdict_worse(kind):
    """The limit is 2 % because 200 pairs are few; benchmarks/quality_intervals.py simulates 1,000 pairs."""
    assert simulation.verdicts(kind, 100, 200).get("worse", 0) <= 0.02
    assert simulation.verdicts(kind, 1000, 60).get("worse", 0) <= 0.02


def test_a_loss_of_two_points_on_a_thousand_images_is_detected():
    assert simulation.verdicts("top-1, 2 % of pictures by chance", 1000, 200, 0.02).get("worse", 0) >= 0.8
    assert simulation.verdicts("mIoU", 1000, 40, 0.02).get("worse", 0) >= 0.95


# ------------------------------------------------------------------------------------------------------------ clusters
def test_the_clusters_in_a_file_are_assigned_by_image_id(tmp_path):
    path = tmp_path / "clusters.csv"
    path.write_text("picture,cluster\nb.png,v2\na.png,v1\nc.png,v2\nother.png,v9\n\n")
    assert read_clusters(str(path), ["a.png", "b.png", "c.png"]).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "text, problem",
    [
        (None, "No such file"),
        ("", "the first line must be 'picture,cluster'"),
        ("name,video\na,1\n", "the first line must be 'picture,cluster'"),
        ("picture,cluster\na\n", "line 2: 'a' is not an image and its cluster"),
        ("picture,cluster\na, \n", "line 2: 'a, ' is not an image and its cluster"),
        ("picture,cluster\na,1\na,2\n", "line 3: image 'a' is listed twice"),
        ("picture,cluster\nb,1\n", "1 of 1 images have no cluster, the first is 'a'"),
        ('picture,cluster\na,"1\n', "unexpected end of data"),
    ],
)
def test_the_error_for_an_invalid_file_of_clusters_is_one_line(tmp_path, text, problem):
    path = tmp_path / "clusters.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=rf"data\.clusters={path}.*{problem}"):
        read_clusters(str(path), ["a"])


def test_clusters_are_a_series_of_the_samples():
    numbers = resampling.clusters(Samples({CLUSTER: np.array([0.0, 1.0, 1.0])}))
    assert numbers.tolist() == [0, 1, 1]
    assert resampling.clusters(Samples()) is None


def test_resamples_without_a_value_are_ignored():
    rare = Contributions(np.array([[0.5, 1.0], *[[0.0, 0.0]] * 4]), mean_of(np.ones(1)).value)
    interval = only_interval(rare)
    assert interval is not None and 0 <= interval[0] <= 0.5 <= interval[1] <= 1


def test_an_interval_end_that_rounds_to_zero_has_no_minus_sign():
    assert interval_text(0.002, (-0.00001, 0.006), digits=4) == "0.0020 [0.0000, 0.0060]"
