"""Recall, compared with brute force, torchmetrics and ranks by hand; ties, errors and the memory limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visionbench.core import ConfigError, Predictions, Samples
from visionbench.metrics import recall
from visionbench.metrics.recall import Recall
from visionbench.registry import find

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread, because threads that compute small tiles on shared cores mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def embeddings(images, texts, captions_per_image):
    return {
        "image_embeddings": np.asarray(images, np.float32),
        "text_embeddings": np.asarray(texts, np.float32),
        "captions_per_image": np.asarray(captions_per_image),
    }


def random_embeddings(seed=0, images=37, dims=16, most_captions=7):
    """Return up to `most_captions` captions near each image. Three images are copies, and so are all their captions."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most_captions + 1, images)
    copies = [4, 5, 20]
    counts[[0, 1, *copies]] = [0, most_captions, 1, 2, 3]
    x = rng.standard_normal((images, dims))
    y = np.repeat(x, counts, axis=0) + 1.5 * rng.standard_normal((counts.sum(), dims))
    x[copies] = x[4]
    y[np.isin(np.repeat(np.arange(images), counts), copies)] = x[4] + rng.standard_normal(dims)
    return embeddings(x, y, counts)


def brute_force(inputs, tolerance=1e-6):
    """Return ranks and ties from the full matrix in float64, query by query."""
    x, y = (inputs[name].astype(np.float64) for name in ("image_embeddings", "text_embeddings"))
    x, y = x / np.linalg.norm(x, axis=1, keepdims=True), y / np.linalg.norm(y, axis=1, keepdims=True)
    scores = x @ y.T
    image_of = np.repeat(np.arange(len(x)), inputs["captions_per_image"])

    def rank_and_ties(row, right):
        best, wrong = row[right].max(), row[~right]
        return 1 + np.sum(wrong >= best - tolerance), np.sum(np.abs(wrong - best) <= tolerance)

    i2t = [rank_and_ties(scores[i], image_of == i) for i in range(len(x)) if (image_of == i).any()]
    t2i = [rank_and_ties(scores[:, j], np.arange(len(x)) == image_of[j]) for j in range(len(y))]
    return np.array(i2t, float).T, np.array(t2i, float).T


def check_ranks_and_ties(inputs, metric):
    series = metric.rank(inputs).series
    for way, (ranks, ties) in zip(("i2t", "t2i"), brute_force(inputs), strict=True):
        np.testing.assert_array_equal(series[f"recall/{way}_rank"], ranks)
        np.testing.assert_array_equal(series[f"recall/{way}_tied"], ties)
    return series


def test_the_registry_finds_the_metric_by_name():
    assert find("metrics", "recall") is Recall


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_ties_equal_those_from_the_full_matrix(seed):
    series = check_ranks_and_ties(random_embeddings(seed), Recall())
    assert series["recall/i2t_tied"].sum() > 0 and series["recall/t2i_tied"].sum() > 0
    assert all(values.dtype == np.float64 and values.ndim == 1 for values in series.values())


@pytest.mark.parametrize("images_per_tile", [1, 5, 36, 37, 64])
@pytest.mark.parametrize("captions_per_tile", [1, 3, 50, 1000])
def test_the_tile_size_does_not_change_ranks_and_ties(monkeypatch, images_per_tile, captions_per_tile):
    monkeypatch.setattr(recall, "IMAGES_PER_TILE", images_per_tile)
    monkeypatch.setattr(recall, "CAPTIONS_PER_TILE", captions_per_tile)
    check_ranks_and_ties(random_embeddings(most_captions=9), Recall())


def test_an_image_may_have_more_captions_than_a_tile(monkeypatch):
    monkeypatch.setattr(recall, "CAPTIONS_PER_TILE", 4)
    rng = np.random.default_rng(1)
    check_ranks_and_ties(embeddings(rng.standard_normal((4, 8)), rng.standard_normal((53, 8)), [1, 0, 50, 2]), Recall())


def test_counts_of_ranges_of_images_add_up_to_the_counts_of_all_images(monkeypatch):
    monkeypatch.setattr(recall, "IMAGES_PER_TILE", 5)
    inputs = random_embeddings()
    pairs = recall.Pairs.of(inputs, 256)
    best = recall.best_right_scores(pairs)
    complete = recall.count_wrong(pairs, best, 1e-6)
    parts = [recall.count_wrong(pairs, best, 1e-6, start, min(start + 10, 37)) for start in range(0, 37, 10)]
    for way in (0, 1):
        np.testing.assert_array_equal(sum(part[way] for part in parts), complete[way])


def test_ranks_and_metrics_equal_those_computed_by_hand():
    # Angles in degrees. Images at 0, 90, 180; captions of the first at 50 and 10, of the second at 60, of the third 20.
    def vectors(*degrees):
        return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)

    samples = Recall(ks=[1, 2, 3]).rank(embeddings(vectors(0, 90, 180), vectors(50, 10, 60, 20), [2, 1, 1]))
    assert samples.series["recall/i2t_rank"].tolist() == [1, 1, 3]
    assert samples.series["recall/t2i_rank"].tolist() == [2, 1, 1, 3]
    metrics = Recall(ks=[1, 2, 3]).compute(samples)
    assert metrics.values["recall_i2t_at_1_fraction"] == pytest.approx(2 / 3)
    assert metrics.values["recall_i2t_at_2_fraction"] == pytest.approx(2 / 3)
    assert metrics.values["recall_i2t_at_3_fraction"] == 1
    assert metrics.values["recall_i2t_median_rank"] == 1
    assert metrics.values["recall_t2i_at_1_fraction"] == 0.5
    assert metrics.values["recall_t2i_at_2_fraction"] == 0.75
    assert metrics.values["recall_t2i_at_3_fraction"] == 1
    assert metrics.values["recall_t2i_median_rank"] == 1.5
    assert metrics.values["recall_i2t_tied_fraction"] == metrics.values["recall_t2i_tied_fraction"] == 0
    assert not metrics.reasons


def test_other_captions_of_the_same_image_are_not_wrong_candidates():
    samples = Recall().rank(embeddings(np.eye(2), [[1, 0], [1, 0], [1, 0], [0, 1]], [3, 1]))
    assert samples.series["recall/i2t_rank"].tolist() == [1, 1]
    assert samples.series["recall/i2t_tied"].tolist() == [0, 0]


def test_a_model_with_equal_embeddings_has_a_recall_of_zero():
    collapsed = embeddings(np.full((300, 8), 0.3), np.full((900, 8), 0.3), np.full(300, 3))
    samples = Recall().rank(collapsed)
    assert set(samples.series["recall/i2t_rank"]) == {898}
    assert set(samples.series["recall/t2i_rank"]) == {300}
    values = Recall().compute(samples).values
    for way in ("i2t", "t2i"):
        assert [values[f"recall_{way}_at_{k}_fraction"] for k in (1, 5, 10)] == [0, 0, 0]
        assert values[f"recall_{way}_tied_fraction"] == 1


def test_embeddings_that_differ_only_by_rounding_are_tied():
    rng = np.random.default_rng(0)
    one = rng.standard_normal(512).astype(np.float32)
    lengths = rng.uniform(0.1, 10, 40).astype(np.float32)[:, None]
    samples = Recall().rank(embeddings(one * lengths[:20], one * lengths[20:], np.ones(20, int)))
    assert set(samples.series["recall/i2t_tied"]) == set(samples.series["recall/t2i_tied"]) == {19}


def test_a_larger_tolerance_counts_near_scores_as_ties():
    near = embeddings(np.eye(2), [[1, 0.1], [1, 0.2]], [1, 1])
    assert Recall().rank(near).series["recall/i2t_rank"].tolist() == [1, 1]
    wide = Recall(tie_tolerance=0.05).rank(near)
    assert wide.series["recall/i2t_rank"].tolist() == [2, 1]
    assert wide.series["recall/i2t_tied"].tolist() == [1, 0]


def test_equal_scores_are_ties_if_the_tolerance_is_zero():
    samples = Recall(tie_tolerance=0).rank(embeddings([[1, 0]] * 3, [[0, 1], [0, 1], [1, 0]], [1, 1, 1]))
    assert samples.series["recall/i2t_rank"].tolist() == [3, 3, 1]
    assert samples.series["recall/i2t_tied"].tolist() == [1, 1, 0]
    assert samples.series["recall/t2i_rank"].tolist() == [3, 3, 3]


def test_an_image_without_captions_is_a_candidate_but_no_query():
    samples = Recall().rank(embeddings([[1, 0.1], [1, 0]], [[1, 0]], [1, 0]))
    assert samples.series["recall/i2t_rank"].tolist() == [1]
    assert samples.series["recall/t2i_rank"].tolist() == [2]
    assert samples.flags == {"images_without_captions": "1 of 2 images have no captions and are no queries"}
    assert not Recall().rank(embeddings(np.eye(2), np.eye(2), [1, 1])).flags


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_embeddings_of_other_dtypes_are_scored_in_fp32(dtype):
    inputs = random_embeddings()
    inputs |= {name: inputs[name].astype(dtype) for name in ("image_embeddings", "text_embeddings")}
    check_ranks_and_ties(inputs, Recall())


def test_inputs_are_not_changed_and_may_be_read_only():
    inputs = random_embeddings()
    copies = {name: values.copy() for name, values in inputs.items()}
    for values in inputs.values():
        values.flags.writeable = False
    Recall().rank(inputs)
    for name, values in inputs.items():
        np.testing.assert_array_equal(values, copies[name])


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_the_length_of_an_embedding_does_not_change_ranks(scale):
    inputs = random_embeddings()
    inputs["image_embeddings"] = inputs["image_embeddings"] * np.float32(scale)
    check_ranks_and_ties(inputs, Recall())


def test_products_are_in_fp32_even_if_the_process_allows_bf16():
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    rng = np.random.default_rng(0)
    inputs = embeddings(rng.standard_normal((64, 512)), rng.standard_normal((320, 512)), np.full(64, 5))
    try:
        products.fp32_precision = "bf16"
        check_ranks_and_ties(inputs, Recall())
        assert products.fp32_precision == "bf16"
    finally:
        products.fp32_precision = before


def test_hit_rates_and_ranks_agree_with_torchmetrics_if_there_are_no_ties():
    retrieval = pytest.importorskip("torchmetrics.retrieval")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 32)).astype(np.float32)
    y = np.repeat(x, 5, axis=0) + 3 * rng.standard_normal((200, 32)).astype(np.float32)
    series = Recall().rank(embeddings(x, y, np.full(40, 5))).series
    values = Recall().compute(Samples(series)).values
    unit = torch.nn.functional.normalize
    scores = 1 + unit(torch.from_numpy(x)) @ unit(torch.from_numpy(y)).T  # RetrievalMRR ignores hits with a score ≤ 0
    right = torch.arange(40)[:, None] == torch.arange(200)[None, :] // 5
    for way, inputs, target in (("i2t", scores, right), ("t2i", scores.T, right.T)):
        queries = torch.arange(len(inputs))[:, None].expand_as(inputs)
        flat = {"preds": inputs.flatten(), "target": target.flatten(), "indexes": queries.flatten()}
        for k in (1, 5, 10):
            expected = retrieval.RetrievalHitRate(top_k=k)(**flat)
            assert values[f"recall_{way}_at_{k}_fraction"] == pytest.approx(float(expected), abs=1e-6)
        mrr = np.mean(1 / series[f"recall/{way}_rank"])
        assert mrr == pytest.approx(float(retrieval.RetrievalMRR()(**flat)), abs=1e-6)


@pytest.mark.parametrize("name", ["image_embeddings", "text_embeddings"])
@pytest.mark.parametrize(("bad", "problem"), [(np.nan, "not finite"), (np.inf, "not finite"), (0, "zero")])
def test_zero_embeddings_and_embeddings_that_are_not_finite_are_refused(name, bad, problem):
    inputs = random_embeddings()
    inputs[name][3] = bad
    with pytest.raises(ValueError, match=rf"^recall: {name}\[3\] is {problem}: 1 of \d+ .*$"):
        Recall().rank(inputs)


@pytest.mark.parametrize(
    ("images", "texts", "counts", "message"),
    [
        (np.eye(3), np.eye(4), [1, 1, 2], r"must be \[N, D\] and \[M, D\]"),
        (np.ones(3), np.eye(3), [1, 1, 1], r"must be \[N, D\] and \[M, D\]"),
        (np.eye(3), np.eye(3), [1, 2], "must be 3 whole numbers"),
        (np.eye(3), np.eye(3), [1, 3, -1], "must be 3 whole numbers"),
        (np.eye(3), np.eye(3), [1.0, 1.0, 1.0], "must be 3 whole numbers"),
        (np.eye(3), np.eye(3), [1, 1, 2], "sums to 4, text_embeddings has 3 rows"),
        (np.eye(3), np.empty((0, 3)), [0, 0, 0], "not 0"),
    ],
)
def test_shapes_that_do_not_match_are_refused(images, texts, counts, message):
    with pytest.raises(ValueError, match=message):
        Recall().rank(embeddings(images, texts, counts))


def test_k_above_the_number_of_candidates_has_no_value():
    metric = Recall(ks=[3, 4, 6, 7])
    metrics = metric.compute(metric.rank(embeddings(np.eye(3), np.eye(3).repeat(2, axis=0), [2, 2, 2])))
    assert metrics.values["recall_i2t_at_6_fraction"] == 1
    assert metrics.values["recall_i2t_at_7_fraction"] is None
    assert metrics.values["recall_t2i_at_3_fraction"] == 1
    assert metrics.values["recall_t2i_at_4_fraction"] is None
    assert metrics.reasons["recall_t2i_at_4_fraction"] == "K = 4 is above the number of images to choose from, 3"
    assert metrics.reasons.keys() == {name for name, value in metrics.values.items() if value is None}


def test_without_samples_every_value_is_missing_with_the_reason():
    complete = Recall().compute(Recall().rank(random_embeddings()))
    metrics = Recall().compute(Samples(missing={"recall/i2t_rank": "random weights"}))
    assert metrics.values == dict.fromkeys(complete.values)
    assert metrics.reasons.keys() == metrics.values.keys()
    assert metrics.reasons["recall_i2t_at_5_fraction"] == "random weights"
    assert metrics.reasons["recall_t2i_median_rank"] == "no recall/t2i_rank was recorded"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"ks": []}, "ks"),
        ({"ks": [0, 5]}, "ks"),
        ({"block_mib": 0}, "block_mib"),
        ({"tie_tolerance": -1e-6}, "tie_tolerance"),
        ({"tie_tolerance": float("nan")}, "tie_tolerance"),
    ],
)
def test_options_out_of_range_are_refused(options, key):
    with pytest.raises(ConfigError, match=rf"^metrics\.recall\.{key}: .*$"):
        Recall(**options)


@pytest.mark.parametrize("dims", [1, 512, 8192])
@pytest.mark.parametrize("block_mib", [1, 16, 256])
def test_tiles_fit_into_the_memory_limit(dims, block_mib):
    rows, columns = recall.tile_shape(block_mib, 100_000, 500_000, dims)
    assert recall.tile_bytes(rows, columns, dims) <= block_mib * 2**20
    assert 1 <= rows <= 100_000 and 1 <= columns <= 500_000


def test_the_peak_memory_is_within_the_limit():
    """The full matrix would need 153 MiB, and normalized copies of the embeddings 21 MiB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of this process cannot be reset here")
    images, captions, dims = 1_000, 40_000, 128
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((n, dims), dtype=np.float32) for n in (images, captions))
    inputs = embeddings(x, y, np.full(images, captions // images))
    Recall().rank({**inputs, "image_embeddings": x[:1], "text_embeddings": y[:9], "captions_per_image": np.array([9])})
    per_query = 100 * (images + captions)
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    Recall(block_mib=4).rank(inputs)
    assert status_bytes("VmHWM") - before < 4 * 2**20 + per_query + 8 * 2**20


def status_bytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def test_score_and_rank_agree_on_the_same_embeddings():
    inputs = random_embeddings()
    ends = np.cumsum(inputs["captions_per_image"])[:-1]
    columns = {
        "image_embedding": list(inputs["image_embeddings"]),
        "caption_embeddings": np.split(inputs["text_embeddings"], ends),
    }
    scored = Recall().score(Predictions([str(index) for index in range(len(ends) + 1)], columns)).series
    for name, values in Recall().rank(inputs).series.items():
        np.testing.assert_array_equal(scored[name], values)
