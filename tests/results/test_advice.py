"""The advice: which case is chosen, the knee, ties within intervals, cases that are left out, and the next commands."""

import re

import numpy as np
import pytest
from saved_runs import QUALITY, row, run, save

from visionbench.core import FAILED, INVALID, OUT_OF_MEMORY, WARNED, Case, Samples
from visionbench.records import typed_command
from visionbench.records.folder import RunFolder
from visionbench.report import advice as words
from visionbench.report.precisions import MOST_PAIRS
from visionbench.results.advice import candidates, choice, commands, encoding, precisions
from visionbench.results.advice.candidates import Bounds, Estimate
from visionbench.results.archive import Run
from visionbench.statistics.timings import mean_interval

DELAY = "run_delay: threads waited for a core 40.0% of the latency window"


def case(size):
    return Case(f"batch-{size}", size, ("latency",), ("latency", "throughput"))


def timed(size, speed, p50=None, p95=None, interval=None, calls=100, mib=None, **more):
    """Return the row of a batch size with this throughput and its interval across processes."""
    low, high = interval or (None, None)
    values = {
        "throughput_images_per_s": float(speed),
        "latency_p50_ms": 1000.0 * size / speed if p50 is None else p50,
        "latency_calls_count": float(calls),
        "memory_process_peak_mib": 100.0 + size if mib is None else mib,
        "throughput_images_across_processes_low_per_s": low,
        "throughput_images_across_processes_high_per_s": high,
    }
    return row(case(size), **values, latency_p95_ms=p95, **more)


def invalid(size, speed, **more):
    return timed(size, speed, verdict=INVALID, reasons=(DELAY,), **more)


def scored(value, **more):
    return row(QUALITY, recall_t2i_at_1_fraction=value, **more)


def advised(*runs, **bounds):
    (one,) = choice.advise(runs, Bounds(**bounds))
    return one


def chosen(advice):
    case = advice.chosen
    return None if case is None else (case.run.model, case.run.record.plan.precision, case.batch_size)


def lines(advice, language="en"):
    return [line for section in words.sections(advice, language) for line in section.lines]


def reasons(advice):
    return [(each.run.model, each.row.case.batch_size, each.reason) for each in advice.left_out]


# ------------------------------------------------------------------------------------------------------------- the rule
def test_without_a_latency_bound_the_knee_of_the_fastest_run_is_chosen():
    slow = run(timed(1, 10), timed(2, 11), name="slow")
    fast = run(timed(1, 50), timed(2, 90), timed(4, 96), timed(8, 100), name="fast")
    advice = advised(slow, fast)
    assert chosen(advice) == ("fast", "fp32", 4)
    assert [knee.case.batch_size for knee in advice.knees] == [4, 2]
    assert "96% of the largest throughput (100 images/s at batch size 8)" in "\n".join(lines(advice))


def test_a_slow_model_on_a_cpu_has_a_choice_although_no_p95_is_known():
    advice = advised(run(timed(1, 3.5, calls=7), timed(2, 4.4, calls=6)))
    assert chosen(advice) == ("clip_tiny", "fp32", 2)
    assert lines(advice)[0].startswith("choose clip_tiny · cpu · fp32 at batch size 2: 4.4 images/s, p50")


def test_with_a_latency_bound_the_largest_throughput_within_it_is_chosen_by_p95():
    runs = [run(timed(1, 100, 10, 12), timed(4, 200, 20, 48), timed(8, 300, 27, 60))]
    advice = advised(*runs, latency_ms=50)
    assert (chosen(advice)[2], advice.by) == (4, "p95")
    assert reasons(advice) == [("clip_tiny", 8, candidates.TOO_SLOW)]


def test_without_p95_the_bound_is_compared_with_p50_and_the_advice_states_why():
    advice = advised(run(timed(1, 20, 45, calls=22), timed(2, 21, 95, calls=11)), latency_ms=50)
    assert (chosen(advice)[2], advice.by) == (1, "p50")
    assert any(
        "this choice is by p50, because there are too few calls for p95 (22 calls, and p95 needs 72)" in line
        for line in lines(advice)
    )


def test_a_case_whose_p95_meets_the_bound_is_preferred_to_a_faster_case_without_p95():
    advice = advised(run(timed(1, 20, 40, 45), timed(2, 50, 42)), latency_ms=50)
    assert chosen(advice)[2] == 1
    assert advice.faster_by_p50.batch_size == 2
    assert any(
        line.startswith("by p50 alone, clip_tiny · cpu · fp32 at batch size 2 is faster") for line in lines(advice)
    )


def test_a_bound_inside_the_interval_of_p95_is_not_decided(tmp_path):
    folder = save(tmp_path / "run", timed(1, 20, 40.0, 49.0))
    rng = np.random.default_rng(0)
    samples = Samples({"latency/host_s": rng.normal(0.04, 0.005, 100)})
    advice = advised(Run(folder.record(), folder.results(), _WithSamples(folder.path, samples)), latency_ms=50)
    low, high = advice.chosen.p95.ends
    assert low < 50 < high
    assert any(line.startswith("not decided: the interval of its p95") for line in lines(advice))


class _WithSamples(RunFolder):
    """A run's folder whose cases all have the same samples."""

    def __init__(self, path, samples):
        super().__init__(path)
        object.__setattr__(self, "shared", samples)

    def series(self, case_id):
        return self.shared.series


def test_memory_and_quality_bounds_exclude_cases():
    good = run(timed(1, 50, mib=900), timed(2, 80, mib=1100), scored(0.90), name="good")
    worse = run(timed(1, 200), scored(0.80), name="worse")
    unknown = run(timed(1, 900), name="unknown")
    advice = advised(good, worse, unknown, memory_mib=1000)
    assert chosen(advice) == ("good", "fp32", 1)
    assert set(reasons(advice)) == {
        ("good", 2, candidates.TOO_LARGE),
        ("worse", 1, candidates.TOO_INACCURATE),
        ("unknown", 1, candidates.NO_QUALITY),
    }
    assert chosen(advised(good, worse, quality_loss=0.2)) == ("worse", "fp32", 1)


def test_qualities_of_different_data_are_not_compared():
    other = {"config": {"data": {"name": "coco", "options": {}}}}
    runs = [run(timed(1, 10), scored(0.9)), run(timed(1, 20), scored(0.5), **other)]
    assert not advised(*runs).left_out


def test_a_quality_that_is_invalid_counts_as_unknown():
    advice = advised(run(timed(1, 10), scored(0.9, verdict=INVALID, reasons=("too_few: 3",))))
    assert not advice.quality_known
    assert advice.chosen.quality is None


# ---------------------------------------------------------------------------------------------------------- intervals
def test_runs_whose_intervals_overlap_are_both_named():
    one = run(timed(1, 10), timed(2, 100, interval=(90, 110)), name="one")
    two = run(timed(1, 10), timed(2, 95, interval=(88, 104)), name="two")
    three = run(timed(1, 10), timed(2, 50, interval=(45, 55)), name="three")
    advice = advised(one, two, three)
    assert chosen(advice) == ("one", "fp32", 2)
    assert [case.run.model for case in advice.ties] == ["two"]
    assert any("not distinguishable from this choice" in line and "two" in line for line in lines(advice))


def test_a_knee_is_not_decided_if_the_interval_of_a_smaller_batch_size_reaches_the_share():
    cases = [timed(1, 60, interval=(58, 62)), timed(2, 92, interval=(80, 105)), timed(4, 100, interval=(96, 104))]
    (knee,) = advised(run(*cases)).knees
    assert (knee.case.batch_size, knee.possible, knee.decided) == (4, [2, 4], False)
    (knee,) = advised(run(cases[0], timed(2, 92, interval=(91.5, 92.5)), timed(4, 100, interval=(99, 101)))).knees
    assert (knee.case.batch_size, knee.decided) == (4, True)


def test_values_without_intervals_never_overlap_and_a_value_inside_an_interval_does():
    assert not Estimate(5.0).overlaps(Estimate(5.0))
    assert Estimate(5.0).overlaps(Estimate(6.0, 4.0, 8.0))
    assert not Estimate(3.0).overlaps(Estimate(6.0, 4.0, 8.0))
    assert Estimate(2.0, 1.0, 3.0).ratio(Estimate(4.0, 2.0, 8.0)) == Estimate(0.5, 1 / 8, 3 / 2)


def test_the_throughput_of_one_process_has_the_interval_of_the_mean_time_of_its_calls(tmp_path):
    folder = save(tmp_path / "run", timed(2, 4.0))
    durations = np.array([0.4, 0.5, 0.6])
    samples = Samples({"throughput/completed_s": np.cumsum(durations)})
    advice = advised(Run(folder.record(), folder.results(), _WithSamples(folder.path, samples)))
    shortest, longest = mean_interval(durations)
    low, high = advice.chosen.throughput.ends
    assert (low, high) == (pytest.approx(2 / longest), pytest.approx(2 / shortest))
    assert mean_interval(durations[:2]) is None


# ------------------------------------------------------------------------------------------- cases that are left out
def test_if_all_cases_are_invalid_the_advice_states_so_with_the_cause_and_the_next_commands():
    advice = advised(run(invalid(1, 10, p95=5.0), invalid(2, 20, p95=6.0)), latency_ms=50)
    assert chosen(advice) is None
    first = lines(advice)[0]
    expected = "all 2 cases are invalid, because other programs used the cores (2 cases)"
    assert first == f"nothing can be recommended: {expected}"
    assert "p95" not in first
    out = lines(advice)[-1]
    assert out.startswith("2 of 2: invalid, other programs used the cores; for example threads waited for a core 40.0%")
    steps = [step.command for step in commands.next_steps(advice)]
    assert steps[0] == "visionbench doctor"
    assert steps[1].endswith("measure=standard")


def test_an_invalid_case_is_never_named_in_the_advice():
    advice = advised(run(timed(1, 10), invalid(8, 999)), run(invalid(1, 999), precision="bf16"))
    assert chosen(advice) == ("clip_tiny", "fp32", 1)
    assert "not compared, because no case is usable: bf16" in lines(advice)
    content = encoding.content([advice], "")["tasks"][0]
    named = str({key: value for key, value in content.items() if key != "left_out"})
    assert "999" not in named
    assert not any("999" in line for line in lines(advice))


def test_each_reason_is_counted_and_names_its_cases():
    failed = row(case(16), FAILED, "ValueError: no")
    full = row(case(32), OUT_OF_MEMORY, "40 GiB needed")
    silent = row(case(64), latency_p50_ms=5.0)
    advice = advised(run(timed(1, 10), failed, full, silent))
    assert {(each.reason, each.detail) for each in advice.left_out} == {
        (candidates.NOT_MEASURED, FAILED),
        (candidates.NOT_MEASURED, OUT_OF_MEMORY),
        (candidates.NO_THROUGHPUT, ""),
    }
    text = "\n".join(lines(advice))
    assert "1 of 4: failed; ValueError: no" in text
    assert "1 of 4: out_of_memory; 40 GiB needed" in text
    assert "1 of 4: throughput was not measured" in text


def test_a_sweep_without_numbers_has_one_sentence_and_no_choice():
    failed = advised(run(row(case(1), FAILED, "ValueError: no")))
    assert lines(failed)[0] == "nothing can be recommended: none of the 1 cases has numbers: failed (1 case)"
    untimed = advised(run(scored(0.9)))
    assert lines(untimed)[0] == "nothing can be recommended: no batch size was timed"
    assert [step.purposes for step in commands.next_steps(failed)]


def test_questionable_cases_are_marked_with_the_reason_and_summed_up():
    doubt = {"verdict": WARNED, "reasons": ("halves_differ: by 4 %",)}
    advice = advised(run(timed(1, 10, **doubt), timed(2, 20, **doubt)))
    shown = lines(advice)
    assert shown[0].endswith("? questionable (the call times were not steady)")
    assert shown[1].startswith(
        "this choice is preliminary, because all 2 cases that are not invalid are questionable: the call"
    )


def test_if_no_case_meets_the_latency_bound_the_nearest_is_named():
    advice = advised(run(timed(1, 10, 90, 95), timed(2, 12, 160, 170)), latency_ms=50)
    assert lines(advice)[0].startswith(
        "no case meets the rule: the lowest p95 is 95 ms (clip_tiny · cpu · fp32 at batch"
    )


# ----------------------------------------------------------------------------------------- batch sizes and the bounds
def test_one_batch_size_has_no_knee_and_the_next_command_measures_several():
    advice = advised(run(timed(4, 10)))
    assert any("no knee, because only batch size 4 can be compared" in line for line in lines(advice))
    assert "'batch.sizes=[4,8,16,32]'" in commands.next_steps(advice)[0].command


@pytest.mark.parametrize(
    ("override", "is_replaced"),
    [("batch=auto", True), ("batch.max_memory_mib=480", True), ("batch.sizes=[1]", True), ("model=clip_tiny", False)],
)
def test_batch_sizes_in_a_next_command_replace_a_search(override, is_replaced):
    assert commands._is_replaced(override, ["batch.sizes"]) == is_replaced


def test_a_knee_at_the_largest_batch_size_leads_to_larger_ones():
    advice = advised(run(timed(1, 10), timed(2, 20), timed(4, 40)))
    assert any("this is the largest measured batch size" in line for line in lines(advice))
    (step,) = commands.next_steps(advice)
    assert commands.LARGER in step.purposes
    assert "'batch.sizes=[4,8,16,32]'" in step.command


def test_a_largest_batch_size_that_failed_is_not_measured_again():
    advice = advised(run(timed(1, 10), timed(2, 20), row(case(4), OUT_OF_MEMORY, "full")))
    assert not advice.knees[0].at_end


def test_the_bounds_list_only_cases_that_no_other_case_exceeds():
    advice = advised(
        run(timed(1, 10, 5, 6), timed(2, 9, 8, 9), timed(4, 30, 10, 12)),
        run(timed(1, 8, 7, 8), timed(4, 40, 20, 25), precision="bf16"),
    )
    ladder = [(case.run.record.plan.precision, case.batch_size) for case in advice.ladder]
    assert ladder == [("fp32", 1), ("fp32", 4), ("bf16", 4)]
    assert advice.ladder_by == "p95"
    assert any(line.startswith("p95 of 12 ms or more: fp32 at batch size 4, 30 images/s") for line in lines(advice))


def test_the_bounds_are_by_p50_if_any_case_has_no_p95():
    advice = advised(run(timed(1, 10, 5, 6), timed(2, 20, 8, calls=30)))
    assert advice.ladder_by == "p50"
    assert any(
        "by p50, because 1 of 2 cases have no p95 (30 calls, and p95 needs 72)" in line for line in lines(advice)
    )


def test_the_fastest_run_at_each_batch_size_is_named():
    advice = advised(run(timed(1, 10), timed(2, 20)), run(timed(1, 8), timed(2, 30), precision="bf16"))
    assert {(one.batch_size, one.best.run.record.plan.precision) for one in advice.best_of_batch} == {
        (1, "fp32"),
        (2, "bf16"),
    }


# ---------------------------------------------------------------------------------------------------------- precisions
def test_the_ratio_of_a_precision_has_the_quotient_of_both_intervals():
    runs = [run(timed(1, 10, interval=(8, 16))), run(timed(1, 20, interval=(16, 24)), precision="bf16")]
    (pair,) = precisions.pairs(runs)
    assert pair.speed() == {1: Estimate(2.0, 16 / 16, 24 / 8)}
    assert any("throughput 2.00× [1.00, 3.00] at batch size 1" in line for line in lines(advised(*runs)))


def test_precisions_are_compared_only_under_equal_conditions_and_without_invalid_cases():
    def with_threads(count, precision, *rows):
        return run(*rows, precision=precision, config={"device": {"threads": count}}, device={"threads": count})

    runs = [with_threads(1, "fp32", timed(1, 10)), with_threads(2, "bf16", timed(1, 20))]
    assert not list(precisions.pairs(runs))
    (pair,) = precisions.pairs([runs[0], with_threads(1, "bf16", invalid(1, 20))])
    assert pair.speed() == {}


def test_the_last_fp32_run_under_equal_conditions_is_the_base():
    full = [run(timed(1, 10)), run(timed(1, 11)), run(timed(1, 12), config={"model": {"seed": 5}})]
    (pair,) = precisions.pairs([*full, run(timed(1, 20), precision="bf16")])
    assert pair.base is full[1]


def test_many_precisions_are_listed_in_part_with_the_number_of_the_others():
    full = [run(timed(1, 10), name=f"model_{number}") for number in range(30)]
    half = [run(timed(1, 20), name=f"model_{number}", precision="bf16") for number in range(30)]
    shown = [line for line in lines(advised(*full, *half)) if " against fp32: " in line or "precision than" in line]
    assert len(shown) == MOST_PAIRS + 1
    assert shown[-1].startswith(f"{30 - MOST_PAIRS} more runs in another precision than fp32")


def test_with_random_weights_the_advice_names_what_is_not_known_and_the_choice_in_fp32():
    random = {"config": {"model": {"weights": "random", "checkpoint": "owner/clip"}}}
    advice = advised(run(timed(1, 10), **random), run(timed(1, 20), precision="bf16", **random))
    shown = lines(advice)
    assert chosen(advice)[1] == "bf16"
    assert "the weights are random, so the loss of quality of bf16 is not known" in shown
    assert any(
        line.startswith("without a loss of quality by precision (fp32): clip_tiny · cpu · fp32") for line in shown
    )
    assert any("visionbench models fetch clip_tiny" in step.command for step in commands.next_steps(advice))


def test_a_model_without_a_checkpoint_is_not_fetched():
    own = {"config": {"model": {"weights": "random", "checkpoint": None}}}
    assert not any("models fetch" in step.command for step in commands.next_steps(advised(run(timed(1, 10), **own))))


# ------------------------------------------------------------------------------------------------------------ commands
HYDRA = """
hydra:
  overrides: {hydra: [hydra.mode=MULTIRUN], task: [model=clip_tiny, precision=fp32]}
  runtime:
    config_sources: [{path: hydra.conf, provider: hydra}, {path: /my conf, schema: file, provider: user}]
"""
SWEEP = """
hydra:
  overrides:
    task:
    - model=clip_tiny
    - precision=fp32,bf16
    - batch=tutorial
    - measure.latency.calls=9
    - +metrics=own
    - tracking.uri=secret
"""


def test_the_next_command_is_that_of_the_sweep_with_other_overrides(tmp_path):
    folder = save(tmp_path / "sweep" / "0", timed(1, 10), timed(2, 20))
    (folder.path / ".hydra").mkdir()
    (folder.path / ".hydra" / "hydra.yaml").write_text(HYDRA)
    (tmp_path / "sweep" / "multirun.yaml").write_text(SWEEP)
    (step,) = commands.next_steps(advised(Run.read(folder)))
    assert step.command == (
        "visionbench run -m --config-dir '/my conf' model=clip_tiny precision=fp32,bf16 +metrics=own "
        "measure=standard 'batch.sizes=[2,4,8,16]'"
    )
    assert step.purposes == (commands.PROTOCOL, commands.LARGER)


def test_a_call_that_is_too_slow_for_the_protocol_gets_a_fixed_number_of_calls_for_p95():
    slow = advised(run(timed(1, 0.5, 2000, calls=6), timed(2, 0.1, 20000)), latency_ms=3000)
    assert "measure=standard measure.latency.calls=72" in commands.next_steps(slow)[-1].command
    quick = advised(run(timed(1, 20, 50, calls=20), timed(2, 20, 100)), latency_ms=60)
    assert "measure.latency.calls" not in commands.next_steps(quick)[-1].command


def test_a_run_without_the_files_of_hydra_has_a_command_from_its_configuration(tmp_path):
    folder = save(tmp_path / "run", timed(1, 10), timed(2, 9))
    assert typed_command.read(folder.path) is None
    (step,) = commands.next_steps(advised(Run.read(folder)))
    assert step.command == (
        "visionbench run model=clip_tiny device=cpu precision=fp32 data=shapes 'batch.sizes=[1,2]' measure=standard"
    )


def test_a_decided_choice_by_the_standard_protocol_has_no_next_command():
    rows = [timed(1, 10, interval=(9, 11)), timed(2, 20, interval=(19.8, 20.2)), timed(4, 20.5, interval=(20.4, 20.6))]
    advice = advised(run(*rows, plan={"protocol": "standard"}))
    assert chosen(advice)[2] == 2
    assert commands.next_steps(advice) == []


# ------------------------------------------------------------------------------------------------------------ language
def test_the_advice_in_chinese_has_the_same_number_of_lines():
    runs = [run(timed(1, 10, **{"interval": (9, 11)}), invalid(2, 20)), run(timed(1, 10), precision="bf16")]
    advice = advised(*runs, memory_mib=101)
    assert len(lines(advice)) == len(lines(advice, "zh"))
    assert all(re.search("[\u4e00-\u9fff]", line) for line in lines(advice, "zh"))


def test_the_rule_names_only_the_bounds_that_apply():
    plain = words.rule(Bounds(), False, "en")
    assert "p95" not in plain and "MiB" not in plain and "quality" not in plain
    full = words.rule(Bounds(20, 1000, 0.005), True, "en")
    assert all(part in full for part in ("at most 20 ms", "at most 1,000 MiB", "within 0.5%"))
