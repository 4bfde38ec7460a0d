"""Intervals over pictures: against scipy and published examples, by simulation what they are worth, and each edge."""

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
    intervals,
    mcnemar,
    mean_of,
    percentile,
    proportion,
    read_clusters,
    resampled,
    tango,
    wilson,
    with_intervals,
    written,
)

PLACE = Path(__file__).parents[2] / "benchmarks" / "quality_intervals.py"
_spec = importlib.util.spec_from_file_location("quality_intervals", PLACE)
simulation = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(simulation)


def only(contributions, clusters=None):
    (found,) = intervals({"one": contributions}, clusters).values()
    return found


def hits(*values):
    return hits_of(np.array(values, float))


# ------------------------------------------------------------------------------------------------------ against others
@pytest.mark.parametrize("right, count", [(0, 10), (1, 7), (50, 100), (98, 100), (100, 100), (4999, 5000)])
def test_wilson_equals_scipys(right, count):
    found = scipy.stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right / count, count) == pytest.approx((found.low, found.high), abs=1e-9)


def test_a_multinomial_resample_has_the_percentile_interval_of_scipys_bootstrap():
    values = np.random.default_rng(1).gamma(0.8, 1.5, 300)
    drawn = mean_of(values).value(resampled([mean_of(values).parts], resamples=20_000)[0])
    found = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    assert percentile(drawn) == pytest.approx(found.confidence_interval, rel=0.01)


def test_bca_equals_scipys_for_a_mean_and_for_a_ratio():
    rng = np.random.default_rng(3)
    values, counts = rng.gamma(0.8, 1.5, 200), rng.integers(1, 5, 200)
    for of, arrays, statistic in (
        (mean_of(values), (values,), np.mean),
        (mean_of(values, counts), (values, counts), lambda v, c, axis: v.sum(axis) / c.sum(axis)),
    ):
        drawn = of.value(resampled([of.parts], resamples=20_000)[0])
        found = scipy.stats.bootstrap(arrays, statistic, n_resamples=20_000, method="BCa", paired=True, rng=4)
        without = of.value(of.parts.sum(axis=0) - of.parts)
        ours = bca(float(of.value(of.parts.sum(axis=0))), drawn, without)
        assert ours == pytest.approx(found.confidence_interval, rel=0.01)
        assert only(of) == pytest.approx(found.confidence_interval, rel=0.03)


@pytest.mark.parametrize("lost, won", [(0, 0), (0, 5), (1, 8), (10, 10), (3, 30)])
def test_mcnemar_is_the_exact_binomial_test(lost, won):
    expected = min(1.0, 2 * scipy.stats.binom.cdf(min(lost, won), lost + won, 0.5)) if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected)


@pytest.mark.parametrize("lost, won, count", [(2, 12, 50), (0, 3, 20), (7, 7, 100), (30, 1, 1000)])
def test_tangos_interval_ends_where_the_score_test_turns(lost, won, count):
    def rejected(change):
        """The score test with the nuisance probability found by maximising the likelihood on a grid."""
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
def test_all_hits_have_an_interval_that_is_not_empty():
    assert only(hits(*[1] * 100)) == pytest.approx((0.963, 1.0), abs=1e-3)
    assert only(hits(*[0] * 100)) == pytest.approx((0.0, 0.037), abs=1e-3)


def test_where_all_captions_hit_each_picture_counts_once():
    five_each = hits_of(np.full(100, 5.0), np.full(100, 5))
    assert only(five_each) == only(hits(*[1] * 100))


def test_captions_of_a_picture_that_succeed_together_count_less_than_independent_ones():
    rng = np.random.default_rng(0)
    together, alone = 5.0 * (rng.random(200) < 0.8), rng.binomial(5, 0.8, 200).astype(float)
    widths = [np.diff(only(hits_of(of, np.full(200, 5))))[0] for of in (together, alone)]
    assert widths[0] > 1.8 * widths[1]
    low, high = only(hits_of(together, np.full(200, 5)))
    assert (low, high) == pytest.approx(wilson(together.mean() / 5, 200), abs=2e-3)


def test_pictures_that_ask_nothing_do_not_count():
    assert only(hits_of(np.array([1.0, 0.0, 1.0]), np.array([1, 0, 1]))) == wilson(1.0, 2)
    assert proportion(np.zeros((3, 2))) is None


def test_a_fraction_that_is_equal_on_all_pictures_is_taken_for_a_proportion():
    assert only(mean_of(np.ones(50))) == wilson(1.0, 50)
    assert only(mean_of(np.full(50, 3.0), at_most_one=False)) is None


def test_clusters_of_pictures_count_instead_of_pictures():
    values = np.repeat(np.random.default_rng(5).random(20), 10)
    clusters = np.repeat(np.arange(20), 10)
    apart, together = only(mean_of(values)), only(mean_of(values), clusters)
    assert np.diff(together) > 2.5 * np.diff(apart)
    right = (values > 0.5).astype(float)
    assert only(hits_of(right), clusters) == pytest.approx(wilson(right.mean(), 19), abs=1e-6)


def test_the_same_samples_give_the_same_interval_again():
    values = np.random.default_rng(6).random(1000)
    assert only(mean_of(values)) == only(mean_of(values.copy()))


def test_resamples_do_not_depend_on_the_size_of_a_block(monkeypatch):
    parts = mean_of(np.random.default_rng(7).random(100)).parts
    whole = resampled([parts])[0]
    monkeypatch.setattr(resampling, "CELLS", 700)
    monkeypatch.setattr(resampling, "KEPT_CELLS", 0)
    assert np.allclose(resampled([parts])[0], whole, rtol=1e-12)


def test_an_end_is_missing_for_the_reason_of_its_figure():
    metrics = Metrics({"a_fraction": None, "b_fraction": 0.5}, {"a_fraction": "random weights"})
    found = with_intervals(metrics, ["a_fraction", "b_fraction"], {}, Samples())
    assert found.values["a_low_fraction"] is None and found.reasons["a_low_fraction"] == "random weights"
    assert found.reasons["b_high_fraction"] == resampling.NO_CONTRIBUTIONS


def test_an_interval_is_written_with_both_ends_where_they_are_not_equally_far():
    assert written(0.5, (0.491, 0.509)) == "0.500 ±0.009"
    assert written(0.99, (0.946, 0.998)) == "0.990 [0.946, 0.998]"
    assert written(0.99, None) == "0.990"


# ---------------------------------------------------------------------------------------------------------- difference
def test_hits_of_the_same_pictures_are_compared_by_those_that_changed():
    base, candidate = np.ones(1000), np.ones(1000)
    candidate[:12] = 0
    found = difference(hits_of(base), hits_of(candidate))
    assert (found.method, found.differing, found.of) == ("exact McNemar test", 12, 1000)
    assert found.value == pytest.approx(-0.012)
    assert found.shown and found.deciding[1] < 0
    base[12:24] = 0
    assert not difference(hits_of(base), hits_of(candidate)).shown


def test_several_captions_a_picture_are_compared_by_a_bootstrap_over_pictures():
    rng = np.random.default_rng(8)
    tries = np.full(400, 5)
    base = rng.binomial(5, 0.7, 400).astype(float)
    found = difference(hits_of(base, tries), hits_of(np.maximum(base - 1, 0), tries))
    assert found.method == "paired bootstrap"
    assert found.shown and found.interval[1] < 0
    same = difference(hits_of(base, tries), hits_of(base.copy(), tries))
    assert (same.differing, same.interval, same.shown) == (0, None, False)


def test_a_handful_of_pictures_that_changed_alike_is_not_enough():
    values = np.linspace(0.3, 0.9, 100)
    lower = values.copy()
    lower[:6] -= 0.3
    found = difference(mean_of(values), mean_of(lower))
    assert found.deciding[1] < 0, "the bootstrap alone would be sure"
    assert not found.shown
    lower[:12] -= 0.2
    assert difference(mean_of(values), mean_of(lower)).shown


def test_a_difference_is_over_clusters_where_pictures_have_them():
    rng = np.random.default_rng(9)
    of_cluster = np.repeat(rng.normal(0, 0.1, 10), 50)
    values, clusters = rng.random(500), np.repeat(np.arange(10), 50)
    sides = mean_of(values), mean_of(values + of_cluster)
    apart, together = difference(*sides), difference(*sides, clusters)
    assert np.diff(together.interval) > 2 * np.diff(apart.interval)
    assert together.of == 10
    flips = hits_of((values < 0.5).astype(float)), hits_of((values < 0.6).astype(float))
    assert difference(*flips, clusters).method == "paired bootstrap"


def test_sides_far_apart_and_unpaired_have_newcombes_interval():
    low, high = resampling.independent((0.5, (0.4, 0.6)), (0.7, (0.62, 0.77)))
    assert low == pytest.approx(0.2 - np.hypot(0.08, 0.1)) and high == pytest.approx(0.2 + np.hypot(0.07, 0.1))
    wider = resampling.independent((0.5, (0.4, 0.6)), (0.7, (0.62, 0.77)), 0.01)
    assert wider[0] < low and wider[1] > high


# ---------------------------------------------------------------------------------------------------------- simulation
@pytest.mark.parametrize("kind", ["hits, 0.9", "hits, 0.98", "t2i, 5 captions, 0.98", "mIoU", "CIDEr"])
def test_intervals_hold_the_true_value_as_often_as_they_say(kind):
    reported, _, _ = simulation.coverage(kind, 100, 400)
    assert 0.91 <= reported <= 0.985


@pytest.mark.parametrize("kind", ["hits, 1 − 1/n", "t2i, 5 captions, 1 − 1/n"])
def test_near_one_the_reported_interval_holds_what_the_bootstraps_does_not(kind):
    reported, plain, _ = simulation.coverage(kind, 100, 400)
    assert reported >= 0.9 > plain


def test_an_average_over_classes_needs_the_reflected_interval():
    reported, plain, _ = simulation.coverage("macro F1, 15 classes", 100, 200)
    assert reported >= 0.92 > plain


@pytest.mark.parametrize("kind", ["top-1, 10 % of pictures by chance", "t2i, 5 captions", "mIoU", "CIDEr"])
def test_equal_sides_are_seldom_called_worse(kind):
    """Of 200 pairs one in a hundred may well be 3; benchmarks/quality_intervals.py counts 1,000 of them."""
    assert simulation.verdicts(kind, 100, 200).get("worse", 0) <= 0.02
    assert simulation.verdicts(kind, 1000, 60).get("worse", 0) <= 0.02


def test_two_points_less_on_a_thousand_pictures_are_found():
    assert simulation.verdicts("top-1, 2 % of pictures by chance", 1000, 200, 0.02).get("worse", 0) >= 0.8
    assert simulation.verdicts("mIoU", 1000, 40, 0.02).get("worse", 0) >= 0.95


# ------------------------------------------------------------------------------------------------------------ clusters
def test_clusters_are_read_by_picture(tmp_path):
    path = tmp_path / "clusters.csv"
    path.write_text("picture,cluster\nb.png,v2\na.png,v1\nc.png,v2\nother.png,v9\n\n")
    assert read_clusters(str(path), ["a.png", "b.png", "c.png"]).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "text, told",
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
def test_a_bad_file_of_clusters_is_one_line(tmp_path, text, told):
    path = tmp_path / "clusters.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=rf"data\.clusters={path}.*{told}"):
        read_clusters(str(path), ["a"])


def test_clusters_stand_in_a_series_of_the_samples():
    found = resampling.clusters(Samples({CLUSTER: np.array([0.0, 1.0, 1.0])}))
    assert found.tolist() == [0, 1, 1]
    assert resampling.clusters(Samples()) is None


def test_a_figure_without_a_value_in_a_resample_leaves_that_resample_out():
    rare = Contributions(np.array([[0.5, 1.0], *[[0.0, 0.0]] * 4]), mean_of(np.ones(1)).value)
    found = only(rare)
    assert found is not None and 0 <= found[0] <= 0.5 <= found[1] <= 1


def test_an_end_that_rounds_to_zero_has_no_minus():
    assert written(0.002, (-0.00001, 0.006), digits=4) == "0.0020 [0.0000, 0.0060]"
