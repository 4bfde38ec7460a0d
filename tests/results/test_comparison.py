"""Verdicts on two results: by simulation what they are worth, and each of them once by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from saved_runs import QUALITY, processes, row, run, save, speed

from visionbench.core import FAILED, OUT_OF_MEMORY, Case, CaseResult, ConfigError, Predictions
from visionbench.metrics.classification import Classification
from visionbench.records.record import DataIdentity
from visionbench.report import document, precisions
from visionbench.results import declared
from visionbench.results.archive import Run
from visionbench.results.comparison import Rules, compare
from visionbench.terminal import comparison_view

TRIALS = 400
STEADY = (10.0, 10.1, 9.9, 10.05, 9.95)


def only(found):
    (one,) = found.rows
    return one


def against(base, candidate, rules=None):
    """The only row of two sets of process latencies."""
    return only(compare(processes(base), processes(candidate), rules))


def simulated(effect, spread, count, rng, trials=TRIALS):
    """Verdicts on processes whose latencies are log-normal: each process draws a drift of its own for all its calls."""
    for _ in range(trials):
        base, candidate = np.exp(rng.normal(math.log(10), spread, (2, count)))
        yield against(base, candidate * effect).verdict


# ---------------------------------------------------------------------------------------------------------- simulation
@pytest.mark.parametrize("spread", [0.01, 0.03, 0.08])
def test_identical_processes_rarely_look_different(spread):
    verdicts = list(simulated(1.0, spread, 5, np.random.default_rng(1)))
    assert (verdicts.count("slower") + verdicts.count("faster")) / TRIALS <= 0.05
    assert (verdicts.count("same") / TRIALS > 0.9) == (spread == 0.01)


def test_processes_that_differ_much_must_show_more_and_then_do():
    noisy = list(simulated(1.0, 0.25, 5, np.random.default_rng(5)))
    assert (noisy.count("slower") + noisy.count("faster")) / TRIALS <= 0.005
    assert list(simulated(3.0, 0.25, 5, np.random.default_rng(6))).count("slower") / TRIALS > 0.7


@pytest.mark.parametrize("effect, verdict", [(1.10, "slower"), (1 / 1.10, "faster")])
def test_ten_percent_are_found_where_processes_agree(effect, verdict):
    assert list(simulated(effect, 0.015, 5, np.random.default_rng(2))).count(verdict) / TRIALS > 0.95


def test_ten_percent_are_seldom_called_the_same():
    for spread in (0.01, 0.03, 0.05, 0.1):
        assert list(simulated(1.10, spread, 5, np.random.default_rng(3))).count("same") / TRIALS < 0.02


def test_more_processes_find_what_five_cannot():
    few, many = (list(simulated(1.10, 0.06, count, np.random.default_rng(4))).count("slower") for count in (5, 20))
    assert few / TRIALS < 0.7 < 0.9 < many / TRIALS


# -------------------------------------------------------------------------------------------------------------- timing
def test_a_verdict_on_speed_has_the_ratio_and_its_interval():
    found = against(STEADY, [value * 1.2 for value in STEADY])
    assert found.verdict == "slower"
    assert found.ratio == pytest.approx(1.2)
    assert found.interval[0] < 1.2 < found.interval[1]
    assert (found.base.processes, found.candidate.processes) == (5, 5)
    assert against([value * 1.2 for value in STEADY], STEADY).verdict == "faster"


def test_more_throughput_is_faster():
    base = [run(row(throughput_images_per_s=value)) for value in STEADY]
    more = [run(row(throughput_images_per_s=value * 1.2)) for value in STEADY]
    assert only(compare(base, more)).verdict == "faster"
    assert only(compare(more, base)).verdict == "slower"


def test_a_sure_difference_below_the_threshold_is_the_same_with_its_ratio():
    steady = [10.0, 10.001, 9.999, 10.0, 10.0]
    found = against(steady, [value * 1.03 for value in steady])
    assert found.verdict == "same"
    assert found.ratio == pytest.approx(1.03)
    assert found.interval[0] > 1
    assert against(steady, [value * 1.03 for value in steady], Rules(threshold=0.02)).verdict == "slower"


def test_a_difference_that_could_not_be_seen_is_inconclusive():
    found = against([10, 12, 8, 11, 9], [11, 13, 9, 12, 10])
    assert found.verdict == "inconclusive"
    assert "smallest detectable effect" in found.reason
    assert "--metric latency_p10_ms" in found.reason


@pytest.mark.parametrize(
    "base, candidate, words",
    [
        ([10.0], [20.0], "1 process per side; use at least 5 (measure.repeats=5)"),
        (STEADY, [20.0] * 4, "5 processes in the base, 4 in the candidate; use at least 5 (measure.repeats=5)"),
    ],
)
def test_too_few_processes_say_nothing_of_speed(base, candidate, words):
    found = against(base, candidate)
    assert (found.verdict, found.reason) == ("inconclusive", words)
    assert found.ratio > 1.9


def test_invalid_cases_are_inconclusive_with_the_reason():
    bad = [run(speed(value, verdict="invalid", reasons=("run_delay: 66 %",))) for value in STEADY]
    found = only(compare(processes(STEADY), bad))
    assert found.verdict == "inconclusive"
    assert found.reason == "the candidate is invalid: run_delay: 66 % (in 5 of 5 runs)"
    assert found.candidate.validity == "invalid"
    one = [run(speed(1.0, verdict="invalid", reasons=("run_delay: 66 %", "steal: 9 %", "run_delay: 70 %")))]
    assert only(compare(one, one)).reason == "the base is invalid: run_delay: 66 %; steal: 9 %"


def test_process_values_are_those_of_the_repeats(tmp_path):
    values = {"latency_p50_ms": STEADY}
    base = Run.read(save(tmp_path / "base", speed(10.0), across=values))
    candidate = Run.read(save(tmp_path / "new", speed(12.0), across={"latency_p50_ms": np.array(STEADY) * 1.2}))
    found = only(compare([base], [candidate]))
    assert (found.verdict, found.base.processes) == ("slower", 5)
    assert found.base.value == pytest.approx(math.exp(np.log(STEADY).mean()))


# -------------------------------------------------------------------------------------------------- memory and quality
@pytest.mark.parametrize(
    "base, candidate, verdict",
    [
        ([100.0], [104.0], "same"),
        ([100.0], [106.0], "more memory"),
        ([100.0, 100.0], [90.0, 90.0], "less memory"),
        ([100.0, 100.2], [110.0, 110.3], "more memory"),
        ([100.0, 150.0], [110.0, 160.0], "inconclusive"),
        ([0.0], [0.0], "same"),
        ([0.0], [1.0], "inconclusive"),
    ],
)
def test_memory(base, candidate, verdict):
    sides = ([run(row(memory_process_peak_mib=value)) for value in side] for side in (base, candidate))
    found = only(compare(*sides))
    assert found.verdict == verdict
    assert (found.interval is None) == (len(base) == 1)


@pytest.mark.parametrize(
    "metric, base, candidate, verdict",
    [
        ("recall_i2t_at_1_fraction", 0.84, 0.83, "same"),
        ("recall_i2t_at_1_fraction", 0.84, 0.829, "worse"),
        ("segmentation_box_miou_fraction", 0.5, 0.52, "better"),
        ("captioning_cider_score", 10.0, 9.95, "same"),
        ("captioning_cider_score", 10.0, 9.85, "worse"),
        ("captioning_cider_score", 0.0, 0.0, "same"),
        ("captioning_cider_score", 0.0, 0.5, "better"),
    ],
)
def test_quality_needs_no_processes(metric, base, candidate, verdict):
    found = only(compare([run(row(QUALITY, **{metric: base}))], [run(row(QUALITY, **{metric: candidate}))]))
    assert (found.verdict, found.interval, found.batch_size) == (verdict, None, None)


def test_captions_scored_by_other_tokens_are_not_comparable_unless_forced():
    sides = [
        [run(row(QUALITY, captioning_cider_score=score), config={"metrics": {"captioning": {"tokenizer": tokenizer}}})]
        for tokenizer, score in (("ptb", 10.0), ("char", 5.0))
    ]
    found = only(compare(*sides))
    assert found.verdict == "not comparable"
    assert found.reason == "metrics.captioning.tokenizer: ptb in the base, char in the candidate"
    assert only(compare(*sides, Rules(force=True))).verdict == "worse"


@pytest.mark.parametrize(
    "metric, direction",
    {
        "latency_p50_ms": -1,
        "load_s": -1,
        "throughput_texts_per_s": 1,
        "memory_weights_mib": -1,
        "energy_per_image_j": -1,
        "flops_mfu_fraction": 1,
        "captioning_cider_score": 1,
        "captioning_empty_count": -1,
        "recall_i2t_median_rank": -1,
        "recall_i2t_tied_fraction": -1,
        "evaluation_forward_share_fraction": 0,
        "latency_calls_count": 0,
        "latency_p50_across_processes_low_ms": 0,
        "utilization_gpu_kernel_active_mean_fraction": 0,
    }.items(),
)
def test_a_metric_has_the_direction_that_is_declared(metric, direction):
    assert declared.direction(declared.bundled().find(metric)) == direction


def test_chosen_metrics_take_the_place_of_the_headlines():
    runs = [run(row(latency_p50_ms=1.0, latency_p95_ms=2.0))]
    assert only(compare(runs, runs, Rules(metrics=("latency_p95_ms",)))).metric == "latency_p95_ms"
    with pytest.raises(ConfigError, match="did you mean 'latency_p95_ms'"):
        compare(runs, runs, Rules(metrics=("latency_p96_ms",)))
    counted = [run(row(latency_calls_count=3.0))]
    with pytest.raises(ConfigError, match="neither more nor less"):
        compare(counted, counted, Rules(metrics=("latency_calls_count",)))


def test_a_value_that_is_lacking_is_told_with_its_reason():
    found = only(compare(processes([10.0]), [run(row(none={"latency_p50_ms": "5 calls, and p50 needs 6"}))]))
    assert (found.verdict, found.reason) == (
        "inconclusive",
        "the candidate has no value: 5 calls, and p50 needs 6",
    )
    assert only(compare(processes([10.0]), [run(row())])).verdict == "only in the base"


# ------------------------------------------------------------------------------------------------------------ failures
def test_a_case_that_fails_now_is_a_regression():
    bad = [run(row(status=OUT_OF_MEMORY, reason="no room"))]
    found = compare(processes([10.0]), bad)
    assert (only(found).verdict, only(found).reason) == ("failed", "candidate out_of_memory: no room")
    assert found.regressions
    assert only(compare(bad, processes([10.0]))).verdict == "fixed"
    assert only(compare(bad, bad)).verdict == "inconclusive"


def test_a_process_that_failed_is_one_less():
    some = [*processes(STEADY[:4]), run(row(status=FAILED, reason="killed"))]
    assert only(compare(processes(STEADY), some)).candidate.processes == 4


# ---------------------------------------------------------------------------------------------------------- conditions
@pytest.mark.parametrize(
    "more, told",
    [
        ({"device": {"device_name": "another"}}, "device: a processor in the base, another in the candidate"),
        ({"device": {"threads": 1}}, "threads: 2 in the base, 1 in the candidate"),
        ({"host": {"cpu": "other"}}, "processor: a processor in the base, other in the candidate"),
        ({"data": {"annotations_sha256": "bar"}}, "data.annotations_sha256: f00 in the base, bar in the candidate"),
        (
            {"data": {"contents_sha256": "bar" * 9}},
            "names, labels, captions and images of the data: digest f00f00f00f00 in the base, digest barbarbarbar "
            "in the candidate",
        ),
        ({"left_out": {"7.png": "broken"}}, "images left out: none in the base, 7.png in the candidate"),
        ({"model": {"weights": "random"}}, "weights: pretrained in the base, random in the candidate"),
        ({"model": {"checkpoint": "x/y"}}, "checkpoint: bundled:clip_tiny in the base, x/y in the candidate"),
        (
            {"config": {"model": {"options": {"part": "image"}}}},
            "model.options.part: both in the base, image in the candidate",
        ),
        (
            {"config": {"measure": {"latency": {"calls": 9}}}},
            "measure.latency.calls: 20 in the base, 9 in the candidate",
        ),
    ],
)
def test_conditions_that_differ_are_not_comparable_unless_forced(more, told):
    sides = processes(STEADY), processes(np.array(STEADY) * 1.2, **more)
    found = compare(*sides)
    assert (only(found).verdict, only(found).reason, only(found).ratio) == ("not comparable", told, None)
    assert not found.regressions
    forced = compare(*sides, Rules(force=True))
    assert only(forced).verdict == "slower"
    assert any("--force" in note and told in note for note in forced.notes)


def test_drivers_are_compared_where_both_are_known():
    one, other = ({"device": {"driver": version, "cuda": "12.8"}} for version in ("570", "580"))
    assert only(compare(processes([1.0], **one), processes([1.0], **other))).verdict == "not comparable"
    assert only(compare(processes([1.0], **one), processes([1.0]))).verdict == "inconclusive"


def test_versions_commit_and_how_often_are_remarks_alone():
    newer = {
        "git_commit": "b" * 40,
        "host": {"torch": "2.14.0"},
        "config": {"measure": {"repeats": 5, "name": "my_quick"}},
    }
    found = compare(processes(STEADY), processes(STEADY, **newer))
    assert only(found).verdict == "same"
    assert "torch: 2.13.0 in the base, 2.14.0 in the candidate" in found.notes
    assert any(note.startswith("git commit: aaa") for note in found.notes)


def test_measuring_one_side_after_the_other_is_told(tmp_path):
    one_after_the_other = compare(processes(STEADY), processes(STEADY))
    assert any("not in turns" in note for note in one_after_the_other.notes)
    starts = [f"2026-01-02T00:00:0{second}.000+00:00" for second in range(10)]
    sides = (
        Run.read(save(tmp_path / name, speed(10.0), across={"latency_p50_ms": STEADY}, repeats={"started_at": own}))
        for name, own in (("base", starts[::2]), ("candidate", starts[1::2]))
    )
    in_turns = compare(*([side] for side in sides))
    assert only(in_turns).verdict == "same"
    assert not any("not in turns" in note for note in in_turns.notes)


def test_doubts_are_counted():
    doubted = [run(speed(value, verdict="warned", reasons=("halves_differ: 3 %",))) for value in STEADY]
    assert any("halves_differ in 1 of 1 cases" in note for note in compare(doubted, processes(STEADY)).notes)


# ------------------------------------------------------------------------------------------------------------- pairing
def test_what_stands_on_one_side_only_is_told():
    base = [run(speed(1.0)), run(speed(1.0), name="sam_tiny")]
    candidate = [run(speed(1.0), row(QUALITY, recall_i2t_at_1_fraction=0.5))]
    found = compare(base, candidate)
    assert [(one.model, one.case, one.verdict) for one in found.rows] == [
        ("clip_tiny", "batch-1", "inconclusive"),
        ("clip_tiny", "quality", "only in the candidate"),
        ("sam_tiny", "batch-1", "only in the base"),
    ]
    assert not found.regressions


def test_runs_pair_by_model_kind_of_device_and_precision():
    assert only(compare([run(speed(1.0), kind="cuda:0")], [run(speed(1.0), kind="cuda:1")])).device == "cuda"
    with pytest.raises(ConfigError, match="nothing to compare: the base has clip_tiny · cpu · fp32"):
        compare(processes([1.0]), processes([1.0], precision="bf16"))


def test_several_runs_of_a_key_pair_by_their_conditions():
    def side(scale):
        return [
            one
            for threads in (1, 2)
            for one in processes(np.array(STEADY) * scale / threads, device={"threads": threads})
        ]

    found = compare(side(1.0), side(1.2)[::-1])
    assert [(one.run, one.verdict) for one in found.rows] == [
        ("clip_tiny · cpu · fp32, threads 2", "slower"),
        ("clip_tiny · cpu · fp32, threads 1", "slower"),
    ]


def test_of_several_commits_the_newest_is_compared_and_never_pooled():
    older = processes(STEADY, git_commit="b" * 40)
    newer = processes(np.array(STEADY) * 2)
    found = compare([*newer, *older], processes(STEADY))
    assert only(found).base.processes == 5
    assert only(found).verdict == "faster"
    assert any("older runs that differ in git commit" in note for note in found.notes)


def test_the_whole_is_undecided_where_nothing_is_decided():
    assert compare(processes([1.0]), processes([1.0])).verdict == "undecided"
    assert compare(processes(STEADY), processes(STEADY)).verdict == "no regression"
    slow = compare(processes(STEADY), processes(np.array(STEADY) * 2))
    assert slow.verdict == "regression"
    assert slow.counts == {"slower": 1}
    assert replace(slow, rows=()).verdict == "undecided"


def test_results_that_were_kept_without_a_digest_of_their_pictures_are_comparable_still():
    old, new = processes(STEADY, data={"contents_sha256": None}), processes(STEADY)
    assert only(compare(old, new)).verdict == "same"


def test_the_folder_of_the_data_counts_only_where_there_is_no_digest():
    here, there = {"root": "/here"}, {"root": "/there"}
    sides = [
        [Run(replace(one.record, data=DataIdentity(values=values)), one.results) for one in processes(STEADY)]
        for values in (here, there)
    ]
    assert only(compare(*sides)).reason == "data.root: /here in the base, /there in the candidate"
    sides = [processes(STEADY, data=data) for data in (here, there)]
    assert only(compare(*sides)).verdict == "same"


# ------------------------------------------------------------------------------------------------- picture by picture
def scored(path, right, ids=None, **more):
    """A run's folder whose classifier was right on these pictures, with all that the quality case keeps."""
    ids = ids or [f"{at}.png" for at in range(len(right))]
    metric, classes = Classification(ks=[1]), ("cat", "dog", "owl")
    label = [classes[at % 3] for at in range(len(right))]
    answer = [at % 3 if hit else (at + 1) % 3 for at, hit in enumerate(right)]
    columns = {"label": label, "class_scores": [np.eye(3)[at] for at in answer]}
    found = Predictions(ids, columns, classes)
    samples = metric.score(found)
    case = Case("quality", 32, ("evaluation",), ("classification",))
    result = CaseResult(case, "ok", metrics=metric.compute(samples))
    folder = save(path, config={"metrics": {"classification": {"ks": [1]}}}, **more)
    folder.append(result, samples, found)
    return Run.read(folder)


def top_1(found):
    return next(row for row in found.rows if row.metric == "classification_top_1_fraction")


def hits(count, wrong):
    return [at >= wrong for at in range(count)]


def test_quality_of_the_same_pictures_is_decided_by_those_that_changed(tmp_path):
    base = scored(tmp_path / "base", hits(1000, 100))
    found = top_1(compare([base], [scored(tmp_path / "worse", hits(1000, 120))]))
    assert (found.verdict, found.method) == ("worse", "exact McNemar test")
    assert found.difference == pytest.approx(-0.02)
    assert found.difference_interval[0] < -0.02 < found.difference_interval[1] < 0
    assert found.detectable < 0.02


def test_as_large_a_drop_with_pictures_that_changed_both_ways_is_inconclusive(tmp_path):
    base = scored(tmp_path / "base", hits(1000, 100))
    both_ways = np.array(hits(1000, 100))
    both_ways[:90], both_ways[500:610] = True, False
    found = top_1(compare([base], [scored(tmp_path / "candidate", both_ways)]))
    assert found.difference == pytest.approx(-0.02)
    assert found.verdict == "inconclusive"
    assert "smallest detectable change is 0.0" in found.reason


def test_a_sure_drop_below_the_quality_threshold_is_the_same(tmp_path):
    base = scored(tmp_path / "base", hits(4000, 100))
    found = top_1(compare([base], [scored(tmp_path / "candidate", hits(4000, 120))]))
    assert found.verdict == "same"
    assert found.difference_interval[1] < 0


def test_a_hundred_pictures_cannot_show_one_that_changed_but_equal_ones_are_the_same(tmp_path):
    base = scored(tmp_path / "base", hits(100, 10))
    assert top_1(compare([base], [scored(tmp_path / "candidate", hits(100, 11))])).verdict == "inconclusive"
    found = top_1(compare([base], [scored(tmp_path / "equal", hits(100, 10))]))
    assert (found.verdict, found.reason) == ("same", "no image differs")
    assert found.difference_interval[0] < 0 < found.difference_interval[1]


def test_pictures_are_paired_by_id_and_not_by_place(tmp_path):
    names = [f"{at}.png" for at in range(300)]
    base = scored(tmp_path / "base", hits(300, 30), names)
    candidate = scored(tmp_path / "candidate", hits(300, 30)[::-1], names[::-1])
    assert top_1(compare([base], [candidate])).reason == "no image differs"


def test_other_pictures_are_compared_unpaired_and_the_comparison_says_so(tmp_path):
    base = scored(tmp_path / "base", hits(1000, 100))
    others = scored(tmp_path / "others", hits(1000, 130), [f"other-{at}.png" for at in range(1000)])
    found = top_1(compare([base], [others]))
    assert found.method == "not paired, because the sides measured different images"
    assert found.verdict == "inconclusive"
    assert found.difference_interval[0] < -0.03 < found.difference_interval[1]
    lost = scored(tmp_path / "lost", hits(1000, 300))
    lost.folder.predictions_file.unlink()
    found = top_1(compare([base], [lost]))
    assert (found.verdict, found.method) == (
        "worse",
        "not paired, because the candidate has no results of single images",
    )
    forced = scored(tmp_path / "data", hits(1000, 300), data={"annotations_sha256": "bar"})
    assert top_1(compare([base], [forced])).verdict == "not comparable"
    assert top_1(compare([base], [forced], Rules(force=True))).method == "not paired, because the data differ"


def test_other_pictures_of_the_same_names_are_never_paired(tmp_path):
    sides = [
        scored(tmp_path / name, hits(1000, wrong), data={"name": "mine", "contents_sha256": name * 20})
        for name, wrong in (("ab", 100), ("cd", 300))
    ]
    assert top_1(compare(*([side] for side in sides))).verdict == "not comparable"
    assert (
        top_1(compare(*([side] for side in sides), Rules(force=True))).method == "not paired, because the data differ"
    )


def test_several_runs_of_a_side_are_averaged_picture_by_picture(tmp_path):
    bases = [scored(tmp_path / f"base-{at}", hits(1000, 100)) for at in range(2)]
    candidates = [scored(tmp_path / f"candidate-{at}", hits(1000, 120 + at)) for at in range(2)]
    found = top_1(compare(bases, candidates))
    assert (found.verdict, found.method) == ("worse", "paired bootstrap")
    assert found.difference == pytest.approx(-0.0205)


def test_an_end_of_an_interval_is_not_compared(tmp_path):
    base = scored(tmp_path / "base", hits(100, 10))
    assert [row.metric for row in compare([base], [base]).rows] == ["classification_top_1_fraction"]
    with pytest.raises(ConfigError, match="neither more nor less"):
        compare([base], [base], Rules(metrics=("classification_top_1_low_fraction",)))


def test_the_views_show_the_difference_its_interval_and_the_method(tmp_path):
    base = scored(tmp_path / "base", hits(1000, 100))
    found = compare([base], [scored(tmp_path / "worse", hits(1000, 120))])
    text = comparison_view.markdown(found)
    assert "| classification_top_1_fraction | 0.9 | 0.88 | -0.020 | -0.0" in text
    assert "exact McNemar test: classification_top_1 (0.0" in text
    assert json.loads(comparison_view.machine(found))["rows"][0]["difference"] == pytest.approx(-0.02)


def test_the_report_states_what_a_precision_costs(tmp_path):
    runs = [
        scored(tmp_path / "fp32", hits(1000, 100)),
        scored(tmp_path / "bf16", hits(1000, 101), precision="bf16"),
        scored(tmp_path / "fp16", hits(1000, 130), precision="fp16"),
        scored(tmp_path / "elsewhere", hits(1000, 130), precision="fp16", device={"threads": 9}),
    ]
    bf16, fp16 = precisions.costs(runs, "en")
    assert bf16.startswith("clip_tiny · cpu · bf16 against fp32: costs 0.0010 [-0.0")
    assert "top-1: none shown" in bf16
    assert "top-1: a difference is shown" in fp16 and "costs 0.0300" in fp16
    report = document.compose(runs)
    assert report.quality_notes == [bf16, fp16]
    assert ["clip_tiny", "cpu", "fp32", "top-1", "0.900 [0.880, 0.917]", "images"] in report.quality.rows
