"""Verdicts of a comparison: their error rates by simulation, and each verdict by hand."""

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
from visionbench.results import declared, gate
from visionbench.results.archive import Run
from visionbench.results.comparison import Rules, compare
from visionbench.results.naming import Names
from visionbench.terminal import comparison_view

TRIALS = 400
STEADY = (10.0, 10.1, 9.9, 10.05, 9.95)


def only_row(comparison):
    (one,) = comparison.rows
    return one


def compare_latencies(base, candidate, rules=None):
    """Return the only row of the comparison of two sets of process latencies."""
    return only_row(compare(processes(base), processes(candidate), rules))


def simulate(effect, spread, count, rng, trials=TRIALS):
    """Yield verdicts on processes with log-normal latencies."""
    for _ in range(trials):
        base, candidate = np.exp(rng.normal(math.log(10), spread, (2, count)))
        yield compare_latencies(base, candidate * effect).verdict


# ---------------------------------------------------------------------------------------------------------- simulation
@pytest.mark.parametrize("spread", [0.01, 0.03, 0.08])
def test_identical_processes_rarely_look_different(spread):
    verdicts = list(simulate(1.0, spread, 5, np.random.default_rng(1)))
    assert (verdicts.count("slower") + verdicts.count("faster")) / TRIALS <= 0.05
    assert (verdicts.count("same") / TRIALS > 0.9) == (spread == 0.01)


def test_noisy_processes_need_a_larger_effect_for_a_verdict():
    noisy = list(simulate(1.0, 0.25, 5, np.random.default_rng(5)))
    assert (noisy.count("slower") + noisy.count("faster")) / TRIALS <= 0.005
    assert list(simulate(3.0, 0.25, 5, np.random.default_rng(6))).count("slower") / TRIALS > 0.7


@pytest.mark.parametrize("effect, verdict", [(1.10, "slower"), (1 / 1.10, "faster")])
def test_a_change_of_ten_percent_is_detected_if_processes_agree(effect, verdict):
    assert list(simulate(effect, 0.015, 5, np.random.default_rng(2))).count(verdict) / TRIALS > 0.95


def test_a_change_of_ten_percent_is_rarely_the_same():
    for spread in (0.01, 0.03, 0.05, 0.1):
        assert list(simulate(1.10, spread, 5, np.random.default_rng(3))).count("same") / TRIALS < 0.02


def test_more_processes_detect_a_change_that_five_do_not():
    few, many = (list(simulate(1.10, 0.06, count, np.random.default_rng(4))).count("slower") for count in (5, 20))
    assert few / TRIALS < 0.7 < 0.9 < many / TRIALS


# -------------------------------------------------------------------------------------------------------------- timing
def test_a_verdict_on_speed_has_the_ratio_and_its_interval():
    comparison = compare_latencies(STEADY, [value * 1.2 for value in STEADY])
    assert comparison.verdict == "slower"
    assert comparison.ratio == pytest.approx(1.2)
    assert comparison.interval[0] < 1.2 < comparison.interval[1]
    assert (comparison.base.processes, comparison.candidate.processes) == (5, 5)
    assert compare_latencies([value * 1.2 for value in STEADY], STEADY).verdict == "faster"


def test_more_throughput_is_faster():
    base = [run(row(throughput_images_per_s=value)) for value in STEADY]
    more = [run(row(throughput_images_per_s=value * 1.2)) for value in STEADY]
    assert only_row(compare(base, more)).verdict == "faster"
    assert only_row(compare(more, base)).verdict == "slower"


def test_a_significant_difference_below_the_threshold_is_the_same():
    steady = [10.0, 10.001, 9.999, 10.0, 10.0]
    comparison = compare_latencies(steady, [value * 1.03 for value in steady])
    assert comparison.verdict == "same"
    assert comparison.ratio == pytest.approx(1.03)
    assert comparison.interval[0] > 1
    assert compare_latencies(steady, [value * 1.03 for value in steady], Rules(threshold=0.02)).verdict == "slower"


def test_a_comparison_is_inconclusive_if_the_detectable_effect_is_above_the_threshold():
    comparison = compare_latencies([10, 12, 8, 11, 9], [11, 13, 9, 12, 10])
    assert comparison.verdict == "inconclusive"
    assert "smallest detectable effect" in comparison.reason
    assert "--metric latency_p10_ms" in comparison.reason


@pytest.mark.parametrize(
    "base, candidate, words",
    [
        ([10.0], [20.0], "1 process per side; use at least 5 (measure.repeats=5)"),
        (STEADY, [20.0] * 4, "5 processes in the base, 4 in the candidate; use at least 5 (measure.repeats=5)"),
    ],
)
def test_speed_of_too_few_processes_is_inconclusive(base, candidate, words):
    comparison = compare_latencies(base, candidate)
    assert (comparison.verdict, comparison.reason) == ("inconclusive", words)
    assert comparison.ratio > 1.9


def test_invalid_cases_are_inconclusive_with_the_reason():
    invalid = [run(speed(value, verdict="invalid", reasons=("run_delay: 66 %",))) for value in STEADY]
    comparison = only_row(compare(processes(STEADY), invalid))
    assert comparison.verdict == "inconclusive"
    assert comparison.reason == "the candidate is invalid: run_delay: 66 % (in 5 of 5 runs)"
    assert comparison.candidate.validity == "invalid"
    one = [run(speed(1.0, verdict="invalid", reasons=("run_delay: 66 %", "steal: 9 %", "run_delay: 70 %")))]
    assert only_row(compare(one, one)).reason == "the base is invalid: run_delay: 66 %; steal: 9 %"


def test_the_values_of_repeats_count_as_processes(tmp_path):
    values = {"latency_p50_ms": STEADY}
    base = Run.read(save(tmp_path / "base", speed(10.0), across=values))
    candidate = Run.read(save(tmp_path / "new", speed(12.0), across={"latency_p50_ms": np.array(STEADY) * 1.2}))
    comparison = only_row(compare([base], [candidate]))
    assert (comparison.verdict, comparison.base.processes) == ("slower", 5)
    assert comparison.base.value == pytest.approx(math.exp(np.log(STEADY).mean()))


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
def test_memory_is_compared_by_the_threshold_and_across_processes(base, candidate, verdict):
    sides = ([run(row(memory_process_peak_mib=value)) for value in side] for side in (base, candidate))
    comparison = only_row(compare(*sides))
    assert comparison.verdict == verdict
    assert (comparison.interval is None) == (len(base) == 1)


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
def test_quality_is_compared_with_one_process(metric, base, candidate, verdict):
    comparison = only_row(compare([run(row(QUALITY, **{metric: base}))], [run(row(QUALITY, **{metric: candidate}))]))
    assert (comparison.verdict, comparison.interval, comparison.batch_size) == (verdict, None, None)


def test_caption_scores_of_different_tokenizers_are_not_comparable_unless_forced():
    sides = [
        [run(row(QUALITY, captioning_cider_score=score), config={"metrics": {"captioning": {"tokenizer": tokenizer}}})]
        for tokenizer, score in (("ptb", 10.0), ("char", 5.0))
    ]
    comparison = only_row(compare(*sides))
    assert comparison.verdict == "not comparable"
    assert comparison.reason == "metrics.captioning.tokenizer: ptb in the base, char in the candidate"
    assert only_row(compare(*sides, Rules(force=True))).verdict == "worse"


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
def test_a_metric_has_its_declared_direction(metric, direction):
    assert declared.direction(declared.bundled().find(metric)) == direction


THROUGHPUTS = {f"throughput_{unit}_per_s": 1.0 for unit in ("images", "texts", "prompts", "tokens")}


@pytest.mark.parametrize("units", range(1, 5))
def test_the_throughput_compared_by_default_is_that_of_the_first_unit_of_the_run(units):
    """The units are in the order images, texts, prompts, tokens; a run has the last `units` of them."""
    names = list(THROUGHPUTS)[-units:]
    runs = [run(row(**{name: THROUGHPUTS[name] for name in names}))]
    assert only_row(compare(runs, runs)).metric == names[0]


def test_named_metrics_replace_the_default_metrics():
    runs = [run(row(latency_p50_ms=1.0, latency_p95_ms=2.0))]
    assert only_row(compare(runs, runs, Rules(metrics=("latency_p95_ms",)))).metric == "latency_p95_ms"
    with pytest.raises(ConfigError, match="did you mean 'latency_p95_ms'"):
        compare(runs, runs, Rules(metrics=("latency_p96_ms",)))
    counted = [run(row(latency_calls_count=3.0))]
    with pytest.raises(ConfigError, match="neither more nor less"):
        compare(counted, counted, Rules(metrics=("latency_calls_count",)))


def test_a_metric_without_a_value_is_inconclusive_with_the_reason():
    comparison = only_row(compare(processes([10.0]), [run(row(none={"latency_p50_ms": "5 calls, and p50 needs 6"}))]))
    assert (comparison.verdict, comparison.reason) == (
        "inconclusive",
        "the candidate has no value: 5 calls, and p50 needs 6",
    )
    assert only_row(compare(processes([10.0]), [run(row())])).verdict == "only in the base"


# ------------------------------------------------------------------------------------------------------------ failures
def test_a_case_that_fails_only_in_the_candidate_is_a_regression():
    failed = [run(row(status=OUT_OF_MEMORY, reason="no room"))]
    comparison = compare(processes([10.0]), failed)
    assert (only_row(comparison).verdict, only_row(comparison).reason) == ("failed", "candidate out_of_memory: no room")
    assert comparison.regressions
    assert only_row(compare(failed, processes([10.0]))).verdict == "fixed"
    assert only_row(compare(failed, failed)).verdict == "inconclusive"


def test_a_failed_process_does_not_count():
    candidate = [*processes(STEADY[:4]), run(row(status=FAILED, reason="killed"))]
    assert only_row(compare(processes(STEADY), candidate)).candidate.processes == 4


# ---------------------------------------------------------------------------------------------------------- conditions
@pytest.mark.parametrize(
    "more, reason",
    [
        ({"device": {"device_name": "another"}}, "device: a processor in the base, another in the candidate"),
        ({"device": {"threads": 1}}, "threads: 2 in the base, 1 in the candidate"),
        ({"host": {"cpu": "other"}}, "processor: a processor in the base, other in the candidate"),
        ({"data": {"annotations_sha256": "bar"}}, "the annotations of the data differ"),
        ({"data": {"contents_sha256": "bar" * 9}}, "the images differ, or their names, labels or captions"),
        ({"left_out": {"7.png": "broken"}}, "images left out: none in the base, 1 in the candidate"),
        (
            {"left_out": {"7.png": "broken", "8.png": "broken"}, "model": {"weights": "random"}},
            "weights: pretrained in the base, random in the candidate; "
            "images left out: none in the base, 2 in the candidate",
        ),
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
def test_runs_under_different_conditions_are_not_comparable_unless_forced(more, reason):
    sides = processes(STEADY), processes(np.array(STEADY) * 1.2, **more)
    comparison = compare(*sides)
    assert (only_row(comparison).verdict, only_row(comparison).reason, only_row(comparison).ratio) == (
        "not comparable",
        reason,
        None,
    )
    assert not comparison.regressions
    forced = compare(*sides, Rules(force=True))
    assert only_row(forced).verdict == "slower"
    assert any("--force" in note and reason in note for note in forced.notes)


def test_drivers_must_be_equal_if_both_are_known():
    one, other = ({"device": {"driver": version, "cuda": "12.8"}} for version in ("570", "580"))
    assert only_row(compare(processes([1.0], **one), processes([1.0], **other))).verdict == "not comparable"
    assert only_row(compare(processes([1.0], **one), processes([1.0]))).verdict == "inconclusive"


def test_versions_commits_and_repeats_may_differ_with_a_note():
    newer = {
        "git_commit": "b" * 40,
        "host": {"torch": "2.14.0"},
        "config": {"measure": {"repeats": 5, "name": "my_quick"}},
    }
    comparison = compare(processes(STEADY), processes(STEADY, **newer))
    assert only_row(comparison).verdict == "same"
    assert "torch: 2.13.0 in the base, 2.14.0 in the candidate" in comparison.notes
    assert any(note.startswith("git commit: aaa") for note in comparison.notes)


def test_sides_measured_one_after_the_other_have_a_note(tmp_path):
    one_after_the_other = compare(processes(STEADY), processes(STEADY))
    assert any("not in turns" in note for note in one_after_the_other.notes)
    starts = [f"2026-01-02T00:00:0{second}.000+00:00" for second in range(10)]
    sides = (
        Run.read(save(tmp_path / name, speed(10.0), across={"latency_p50_ms": STEADY}, repeats={"started_at": times}))
        for name, times in (("base", starts[::2]), ("candidate", starts[1::2]))
    )
    in_turns = compare(*([side] for side in sides))
    assert only_row(in_turns).verdict == "same"
    assert not any("not in turns" in note for note in in_turns.notes)


def test_a_note_counts_the_cases_with_a_doubt():
    doubted = [run(speed(value, verdict="warned", reasons=("halves_differ: 3 %",))) for value in STEADY]
    assert any("halves_differ in 1 of 1 cases" in note for note in compare(doubted, processes(STEADY)).notes)


# ------------------------------------------------------------------------------------------------------------- pairing
def test_a_case_on_one_side_only_has_a_verdict():
    base = [run(speed(1.0)), run(speed(1.0), name="sam_tiny")]
    candidate = [run(speed(1.0), row(QUALITY, recall_i2t_at_1_fraction=0.5))]
    comparison = compare(base, candidate)
    assert [(one.model, one.case, one.verdict) for one in comparison.rows] == [
        ("clip_tiny", "batch-1", "inconclusive"),
        ("clip_tiny", "quality", "only in the candidate"),
        ("sam_tiny", "batch-1", "only in the base"),
    ]
    assert not comparison.regressions


def test_runs_are_paired_by_model_kind_of_device_and_precision():
    assert only_row(compare([run(speed(1.0), kind="cuda:0")], [run(speed(1.0), kind="cuda:1")])).device == "cuda"
    with pytest.raises(ConfigError, match="nothing to compare: the base has clip_tiny · cpu · fp32"):
        compare(processes([1.0]), processes([1.0], precision="bf16"))


def test_runs_of_the_same_model_are_paired_by_their_conditions():
    def side(scale):
        return [
            one
            for threads in (1, 2)
            for one in processes(np.array(STEADY) * scale / threads, device={"threads": threads})
        ]

    comparison = compare(side(1.0), side(1.2)[::-1])
    assert [(one.run, one.verdict) for one in comparison.rows] == [
        ("clip_tiny · cpu · fp32 · threads 1", "slower"),
        ("clip_tiny · cpu · fp32 · threads 2", "slower"),
    ]


def test_only_the_runs_of_the_newest_commit_are_compared():
    older = processes(STEADY, git_commit="b" * 40)
    newer = processes(np.array(STEADY) * 2)
    comparison = compare([*newer, *older], processes(STEADY))
    assert only_row(comparison).base.processes == 5
    assert only_row(comparison).verdict == "faster"
    assert any("older runs that differ in git commit" in note for note in comparison.notes)


def test_a_comparison_without_a_decided_row_is_undecided():
    assert compare(processes([1.0]), processes([1.0])).verdict == "undecided"
    assert compare(processes(STEADY), processes(STEADY)).verdict == "no regression"
    slow = compare(processes(STEADY), processes(np.array(STEADY) * 2))
    assert slow.verdict == "regression"
    assert slow.counts == {"slower": 1}
    assert replace(slow, rows=()).verdict == "undecided"


def test_results_without_a_digest_of_the_images_are_comparable():
    old, new = processes(STEADY, data={"contents_sha256": None}), processes(STEADY)
    assert only_row(compare(old, new)).verdict == "same"


def test_the_folder_of_the_data_must_be_equal_only_if_there_is_no_digest():
    first, second = {"root": "/here"}, {"root": "/there"}
    sides = [
        [Run(replace(one.record, data=DataIdentity(values=values)), one.results) for one in processes(STEADY)]
        for values in (first, second)
    ]
    assert only_row(compare(*sides)).reason == "data.root: /here in the base, /there in the candidate"
    sides = [processes(STEADY, data=data) for data in (first, second)]
    assert only_row(compare(*sides)).verdict == "same"


# ----------------------------------------------------------------------------------------------------- image by image
def scored(path, right, ids=None, **more):
    """Return a run with all files of the quality case. `right` states whether each prediction is right."""
    ids = ids or [f"{index}.png" for index in range(len(right))]
    metric, classes = Classification(ks=[1]), ("cat", "dog", "owl")
    label = [classes[index % 3] for index in range(len(right))]
    predicted = [index % 3 if hit else (index + 1) % 3 for index, hit in enumerate(right)]
    columns = {"label": label, "class_scores": [np.eye(3)[index] for index in predicted]}
    predictions = Predictions(ids, columns, classes)
    samples = metric.score(predictions)
    case = Case("quality", 32, ("evaluation",), ("classification",))
    result = CaseResult(case, "ok", metrics=metric.compute(samples))
    folder = save(path, config={"metrics": {"classification": {"ks": [1]}}}, **more)
    folder.append(result, samples, predictions)
    return Run.read(folder)


def top_1(comparison):
    return next(row for row in comparison.rows if row.metric == "classification_top_1_fraction")


def hits(count, wrong):
    return [index >= wrong for index in range(count)]


def test_quality_on_the_same_images_is_decided_by_the_images_that_changed(tmp_path):
    base = scored(tmp_path / "base", hits(1000, 100))
    comparison = top_1(compare([base], [scored(tmp_path / "worse", hits(1000, 120))]))
    assert (comparison.verdict, comparison.method) == ("worse", "exact McNemar test")
    assert comparison.difference == pytest.approx(-0.02)
    assert comparison.difference_interval[0] < -0.02 < comparison.difference_interval[1] < 0
    assert comparison.detectable < 0.02


def test_an_equal_drop_is_inconclusive_if_many_images_changed_in_both_directions(tmp_path):
    base = scored(tmp_path / "base", hits(1000, 100))
    both_ways = np.array(hits(1000, 100))
    both_ways[:90], both_ways[500:610] = True, False
    comparison = top_1(compare([base], [scored(tmp_path / "candidate", both_ways)]))
    assert comparison.difference == pytest.approx(-0.02)
    assert comparison.verdict == "inconclusive"
    assert "smallest detectable change is 0.0" in comparison.reason


def test_a_significant_drop_below_the_quality_threshold_is_the_same(tmp_path):
    base = scored(tmp_path / "base", hits(4000, 100))
    comparison = top_1(compare([base], [scored(tmp_path / "candidate", hits(4000, 120))]))
    assert comparison.verdict == "same"
    assert comparison.difference_interval[1] < 0


def test_one_changed_image_of_a_hundred_is_inconclusive_and_none_is_the_same(tmp_path):
    base = scored(tmp_path / "base", hits(100, 10))
    assert top_1(compare([base], [scored(tmp_path / "candidate", hits(100, 11))])).verdict == "inconclusive"
    comparison = top_1(compare([base], [scored(tmp_path / "equal", hits(100, 10))]))
    assert (comparison.verdict, comparison.reason) == ("same", "no image differs")
    assert comparison.difference_interval[0] < 0 < comparison.difference_interval[1]


def test_images_are_paired_by_id_and_not_by_position(tmp_path):
    names = [f"{index}.png" for index in range(300)]
    base = scored(tmp_path / "base", hits(300, 30), names)
    candidate = scored(tmp_path / "candidate", hits(300, 30)[::-1], names[::-1])
    assert top_1(compare([base], [candidate])).reason == "no image differs"


def test_results_of_different_images_are_compared_without_pairing(tmp_path):
    base = scored(tmp_path / "base", hits(1000, 100))
    different = scored(tmp_path / "different", hits(1000, 130), [f"other-{index}.png" for index in range(1000)])
    comparison = top_1(compare([base], [different]))
    assert comparison.method == "not paired, because the sides measured different images"
    assert comparison.verdict == "inconclusive"
    assert comparison.difference_interval[0] < -0.03 < comparison.difference_interval[1]
    without_predictions = scored(tmp_path / "without_predictions", hits(1000, 300))
    without_predictions.folder.predictions_file.unlink()
    comparison = top_1(compare([base], [without_predictions]))
    assert (comparison.verdict, comparison.method) == (
        "worse",
        "not paired, because the candidate has no results of single images",
    )
    forced = scored(tmp_path / "data", hits(1000, 300), data={"annotations_sha256": "bar"})
    assert top_1(compare([base], [forced])).verdict == "not comparable"
    assert top_1(compare([base], [forced], Rules(force=True))).method == "not paired, because the data differ"


def test_different_images_with_the_same_ids_are_not_paired(tmp_path):
    sides = [
        scored(tmp_path / name, hits(1000, wrong), data={"name": "mine", "contents_sha256": name * 20})
        for name, wrong in (("ab", 100), ("cd", 300))
    ]
    assert top_1(compare(*([side] for side in sides))).verdict == "not comparable"
    assert (
        top_1(compare(*([side] for side in sides), Rules(force=True))).method == "not paired, because the data differ"
    )


def test_several_runs_of_a_side_are_averaged_image_by_image(tmp_path):
    bases = [scored(tmp_path / f"base-{index}", hits(1000, 100)) for index in range(2)]
    candidates = [scored(tmp_path / f"candidate-{index}", hits(1000, 120 + index)) for index in range(2)]
    comparison = top_1(compare(bases, candidates))
    assert (comparison.verdict, comparison.method) == ("worse", "paired bootstrap")
    assert comparison.difference == pytest.approx(-0.0205)


def test_an_end_of_an_interval_is_not_compared(tmp_path):
    base = scored(tmp_path / "base", hits(100, 10))
    assert [row.metric for row in compare([base], [base]).rows] == ["classification_top_1_fraction"]
    with pytest.raises(ConfigError, match="neither more nor less"):
        compare([base], [base], Rules(metrics=("classification_top_1_low_fraction",)))


def test_the_outputs_contain_the_difference_the_interval_and_the_method(tmp_path):
    base = scored(tmp_path / "base", hits(1000, 100))
    comparison = compare([base], [scored(tmp_path / "worse", hits(1000, 120))])
    outcome = gate.judge(comparison)
    text = comparison_view.markdown(comparison, outcome)
    assert "| classification_top_1_fraction | 0.9 | 0.88 | -0.020 | -0.0" in text
    assert "exact McNemar test: classification_top_1 (0.0" in text
    assert json.loads(comparison_view.json_text(comparison, outcome))["rows"][0]["difference"] == pytest.approx(-0.02)


def test_the_report_has_the_loss_of_quality_of_each_precision(tmp_path):
    runs = [
        scored(tmp_path / "fp32", hits(1000, 100)),
        scored(tmp_path / "bf16", hits(1000, 101), precision="bf16"),
        scored(tmp_path / "fp16", hits(1000, 130), precision="fp16"),
        scored(tmp_path / "elsewhere", hits(1000, 130), precision="fp16", device={"threads": 9}),
    ]
    bf16, fp16 = precisions.costs(runs, "en")
    assert bf16.startswith("clip_tiny · cpu · bf16 against fp32: costs 0.0010 [-0.0")
    assert "top-1: not significant" in bf16
    assert "top-1: significant" in fp16 and "costs 0.0300" in fp16
    brief, _ = precisions.lines(runs, Names.of(runs), "en")
    assert "top-1: not significant" in brief and "F1" not in brief
    report = document.compose(runs)
    assert report.quality_notes == [bf16, fp16]
    rows = [dict(zip(report.quality.headings, row, strict=True)) for row in report.quality.rows]
    first = {"model": "clip_tiny", "device": "cpu", "precision": "fp32", "figure": "top-1"}
    shown = first | {"value": "0.900 [0.880, 0.917]", "interval over": "images"}
    assert any(shown.items() <= row.items() for row in rows)
