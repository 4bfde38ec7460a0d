"""The exit code of a comparison: what passes, what fails, and what is undecided."""

import pytest
from saved_runs import QUALITY, processes, row, run, speed

from visionbench.core import FAILED, INTERRUPTED, KILLED, NOT_RUN, OUT_OF_MEMORY, Case
from visionbench.results import gate
from visionbench.results.comparison import Rules, compare

STEADY = (10.0, 10.1, 9.9, 10.05, 9.95)
SLOWER = tuple(value * 1.2 for value in STEADY)
SECOND = Case("batch-2", 2, ("warmup", "latency"), ("latency",))


def all_metrics(latencies, quality=0.5, **more):
    """Return runs with speed, memory and quality, one process each."""
    rows = [
        (row(latency_p50_ms=latency, memory_process_peak_mib=100.0), row(QUALITY, recall_i2t_at_1_fraction=quality))
        for latency in latencies
    ]
    return [run(*each, **more) for each in rows]


def judged(base, candidate, **options):
    return gate.judge(compare(base, candidate), **options)


# --------------------------------------------------------------------------------------------------- decided or not
def test_a_comparison_without_a_worse_metric_passes():
    outcome = judged(all_metrics(STEADY), all_metrics(STEADY))
    assert str(outcome) == "exit code 0: no regression; 3 of 3 metrics decided, none is worse"


def test_a_worse_metric_fails():
    outcome = judged(all_metrics(STEADY), all_metrics(SLOWER))
    assert str(outcome) == "exit code 1: regression in 1 of 1 compared run"


def test_a_comparison_is_undecided_if_only_memory_and_quality_were_decided():
    """One process per side decides memory and quality, but not speed."""
    comparison = compare(all_metrics(STEADY[:1]), all_metrics([30.0]))
    assert comparison.counts == {"inconclusive": 1, "same": 2}
    assert comparison.open_questions == [("clip_tiny · cpu · fp32", "speed")]
    outcome = gate.judge(comparison)
    assert outcome.exit_code == 3
    assert outcome.meaning == (
        "undecided; no decision about the speed of clip_tiny · cpu · fp32; --undecided ok accepts this"
    )


def test_one_decided_metric_answers_the_question_of_its_kind():
    sides = [
        [
            run(row(latency_p50_ms=value, throughput_images_per_s=noisy))
            for value, noisy in zip(STEADY, spread, strict=True)
        ]
        for spread in ([1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 1.0, 2.0, 4.0, 3.0])
    ]
    outcome = judged(*sides)
    assert str(outcome) == "exit code 0: no regression; 1 of 2 metrics decided, none is worse, 1 undecided"
    assert judged(*sides, strict=True).exit_code == 1


def test_a_pair_that_is_undecided_is_not_hidden_by_a_decided_pair():
    base = [*all_metrics(STEADY), *all_metrics(STEADY[:1], name="sam_tiny")]
    outcome = judged(base, [*all_metrics(STEADY), *all_metrics(STEADY[:1], name="sam_tiny")])
    assert outcome.exit_code == 3
    assert "the speed of sam_tiny · cpu · fp32" in outcome.meaning


def test_invalid_cases_are_undecided():
    invalid = [run(speed(value, verdict="invalid", reasons=("run_delay: 66 %",))) for value in STEADY]
    assert judged(processes(STEADY), invalid).exit_code == 3


def test_results_that_are_not_comparable_are_undecided():
    assert judged(all_metrics(STEADY), all_metrics(STEADY, device={"threads": 1})).exit_code == 3


def test_a_regression_counts_more_than_an_open_question():
    base = [*all_metrics(STEADY), *all_metrics(STEADY[:1], name="sam_tiny")]
    candidate = [*all_metrics(SLOWER), *all_metrics(STEADY[:1], name="sam_tiny")]
    assert judged(base, candidate, accept_undecided=True).exit_code == 1


def test_undecided_comparisons_can_be_accepted():
    sides = processes(STEADY[:1]), processes(SLOWER[:1])
    assert judged(*sides, accept_undecided=True).exit_code == 0
    assert judged(*sides, accept_undecided=True).meaning.startswith("undecided, which --undecided ok accepts")
    assert judged(*sides, strict=True).exit_code == 1


def test_a_long_list_of_open_questions_is_shortened():
    names = [f"model_{index}" for index in range(20)]
    sides = [[one for name in names for one in all_metrics([5.0], name=name)] for _ in range(2)]
    assert "the speed of model_0 · cpu · fp32 and 19 more" in judged(*sides).meaning


# -------------------------------------------------------------------------------------------- failed or not finished
@pytest.mark.parametrize(
    "status, reason, verdict, exit_code",
    [
        (FAILED, "RuntimeError", "failed", 1),
        (OUT_OF_MEMORY, "no room", "failed", 1),
        (KILLED, "the measuring process was killed by SIGSEGV", "failed", 1),
        (KILLED, "the measuring process ended by itself with exit code 3", "failed", 1),
        (KILLED, "the measuring process was killed by SIGKILL; the system's out-of-memory killer", "not finished", 3),
        (KILLED, "the measuring process was killed by SIGTERM", "not finished", 3),
        (INTERRUPTED, "interrupted from the keyboard", "not finished", 3),
        (NOT_RUN, "the run had ended: interrupted", "not finished", 3),
    ],
)
def test_a_stopped_run_is_not_finished_and_a_failed_case_is_a_regression(status, reason, verdict, exit_code):
    candidate = [run(speed(value), row(SECOND, status=status, reason=reason)) for value in STEADY]
    base = [run(speed(value), row(SECOND, latency_p50_ms=value)) for value in STEADY]
    comparison = compare(base, candidate)
    assert comparison.rows[1].verdict == verdict
    assert reason in comparison.rows[1].reason
    assert gate.judge(comparison).exit_code == exit_code


def test_a_base_that_was_stopped_is_not_finished():
    stopped = [run(row(status=INTERRUPTED, reason="interrupted from the keyboard"))]
    comparison = compare(stopped, processes(STEADY))
    assert [each.verdict for each in comparison.rows] == ["not finished"]
    assert "the unfinished case batch-1 of clip_tiny · cpu · fp32" in gate.judge(comparison).meaning


@pytest.mark.parametrize(
    ("status", "verdict", "words", "exit_code"),
    [
        ("running", "not finished", "pending: not measured yet", 3),
        ("finished", "failed", "lost: the run ended without a row for this case", 1),
        ("lost", "failed", "lost: the run ended without a row for this case", 1),
        ("interrupted", "failed", "lost: the run ended without a row for this case", 1),
    ],
)
def test_a_planned_case_without_a_row_is_pending_while_the_run_is_running_and_else_lost(
    status, verdict, words, exit_code
):
    complete = run(speed(10.0), row(SECOND, latency_p50_ms=10.0))
    lost = run(speed(10.0), row(SECOND, latency_p50_ms=10.0), status=status)
    lost = type(lost)(lost.record, lost.results[:1])
    comparison = compare([complete], [lost])
    assert comparison.rows[-1].verdict == verdict
    assert words in comparison.rows[-1].reason
    assert gate.judge(comparison).exit_code == exit_code


def test_a_base_with_only_failed_cases_is_fixed_by_a_candidate_with_results():
    failed = [run(row(status=FAILED, reason="error"))]
    assert judged(failed, processes(STEADY)).exit_code == 0
    assert judged(failed, [run(row(status=FAILED, reason="error"))]).exit_code == 3


def test_a_case_that_fails_on_both_sides_does_not_block_the_other_cases():
    def side():
        return [run(speed(value), row(SECOND, status=OUT_OF_MEMORY, reason="no room")) for value in STEADY]

    assert judged(side(), side()).exit_code == 0


def test_fewer_batch_sizes_in_the_candidate_are_reported_and_not_a_regression():
    base = [run(speed(value), row(SECOND, latency_p50_ms=value)) for value in STEADY]
    comparison = compare(base, processes(STEADY))
    assert comparison.counts == {"only in the base": 1, "same": 1}
    outcome = gate.judge(comparison)
    assert outcome.exit_code == 0
    assert "cases of 1 run are only in the base" in outcome.meaning


# ------------------------------------------------------------------------------------------------------------ pairing
def sweep(threads, scale=1.0, config=None):
    """Return a run for each number of threads, with speed and the key that varies in the sweep."""
    return [
        run(
            speed(10.0 * scale / count),
            device={"threads": count},
            plan={"varied": {"device.threads": str(count)}},
            config={"device": {"threads": count}, **(config or {})},
        )
        for count in threads
    ]


def compared(base, candidate, **rules):
    """Return the names of the compared runs with the values of both sides."""
    comparison = compare(base, candidate, Rules(**rules))
    return {
        each.run.rpartition(" · ")[2]: (each.base.value, each.candidate.value, each.verdict) for each in comparison.rows
    }


def test_runs_of_a_sweep_are_paired_by_what_differs():
    pairs = compared(sweep([1, 2, 5], 1.0), sweep([5, 1, 2], 2.0))
    assert {name: (base, candidate) for name, (base, candidate, _) in pairs.items()} == {
        "threads 1": (10.0, 20.0),
        "threads 2": (5.0, 10.0),
        "threads 5": (2.0, 4.0),
    }


def test_sweeps_that_also_differ_in_their_protocol_are_paired_by_what_differs():
    other = {"measure": {"latency": {"calls": 9}}}
    comparison = compare(sweep([1, 2]), sweep([2, 1], config=other))
    assert {each.reason for each in comparison.rows} == {"measure.latency.calls: 20 in the base, 9 in the candidate"}
    assert len({each.run for each in comparison.rows}) == 2


def test_runs_without_a_partner_are_never_paired_at_random():
    pairs = compared(sweep([1, 2, 3]), sweep([1, 2, 4]))
    assert pairs["threads 3"] == (None, None, "only in the base")
    assert pairs["threads 4"] == (None, None, "only in the candidate")


def test_attention_of_a_sweep_pairs_its_runs():
    def attention(*kinds):
        return [run(speed(10.0), config={"model": {"attention": kind}}) for kind in kinds]

    comparison = compare(attention("eager", "sdpa"), attention("sdpa", "eager"))
    assert [each.run.rpartition(" · ")[2] for each in comparison.rows] == ["attention sdpa", "attention eager"]
    assert not any("attention" in note for note in comparison.notes)


def test_one_run_and_a_sweep_without_equal_conditions_are_not_comparable_in_one_line_each():
    comparison = compare(sweep([4]), sweep([1, 2, 3]))
    assert [each.verdict for each in comparison.rows if each.candidate] == [*["not comparable"] * 3, "only in the base"]
    assert "threads: 4 in the base, 1 in the candidate" in comparison.rows[0].reason
    assert gate.judge(comparison).exit_code == 3


def test_the_run_of_a_sweep_with_equal_conditions_is_compared_with_a_single_run():
    pairs = compared(sweep([2]), sweep([1, 2, 3], 3.0))
    assert pairs["threads 2"][:2] == (5.0, 15.0)
    assert [verdict for _, _, verdict in pairs.values()].count("only in the candidate") == 2


def test_a_failed_run_of_a_sweep_keeps_its_place():
    """A run that failed before its device was read has no recorded threads."""
    unknown = {"device_name": None, "threads": None}
    two = {"plan": {"varied": {"device.threads": "2"}}, "config": {"device": {"threads": 2}}}
    failed = run(row(status=FAILED, reason="error"), device=unknown, **two)
    comparison = compare(sweep([1, 2]), [*sweep([1]), failed])
    verdicts = {each.run.rpartition(" · ")[2]: each.verdict for each in comparison.rows}
    assert verdicts == {"threads 1": "inconclusive", "threads 2": "failed"}


def test_force_pairs_with_the_nearest_run():
    one, two = (run(speed(value), device={"threads": count}) for value, count in ((10.0, 4), (7.0, 8)))
    far = run(speed(9.0), device={"threads": 16}, host={"cpu": "other"})
    near = run(speed(5.0), device={"threads": 2})
    assert [each.verdict for each in compare([far, one], [near]).rows][0] == "not comparable"
    row_of_pair = compare([far, one], [near], Rules(force=True)).rows[0]
    assert (row_of_pair.base.value, row_of_pair.candidate.value) == (10.0, 5.0)
    ambiguous = compare([one, two], [near], Rules(force=True)).rows[0]
    assert ambiguous.verdict == "not comparable"


def test_a_verdict_contains_no_digest():
    digests = {"data": {"contents_sha256": "0123456789ab" * 5, "annotations_sha256": "ba" * 32}}
    revision = {"model": {"revision": "c" * 40}}
    comparison = compare(processes(STEADY, model={"revision": "d" * 40}), processes(STEADY, **digests, **revision))
    (only,) = comparison.rows
    assert "the images differ" in only.reason and "the revisions of the checkpoint differ" in only.reason
    assert not any(digest in only.reason for digest in ("0123456789ab", "baba", "cccc", "dddd"))
    assert {one.condition: one.candidate for one in only.different}["revision"] == "c" * 40
    commits = compare(processes(STEADY), processes(STEADY, git_commit="b" * 40))
    assert "git commit: aaaaaaaaaa in the base, bbbbbbbbbb in the candidate" in commits.notes


def test_notes_on_many_pairs_appear_once():
    names = [f"model_{index}" for index in range(30)]
    sides = [[one for name in names for one in processes(STEADY, name=name)] for _ in range(2)]
    notes = compare(*sides).notes
    assert "30 pairs of runs: 5 runs of the base are combined as processes" in notes
    assert len(notes) < 6


def test_the_name_of_a_pair_has_only_what_distinguishes_it_from_pairs_of_the_same_model():
    """Runs of other models may differ in anything, such as in keys that an older version did not store."""
    base = [*processes([1.0]), *processes([1.0], name="sam_tiny", config={"device": {"threads": 7}})]
    candidate = [*processes([1.0]), *processes([1.0], name="sam_tiny", config={"device": {"threads": 9}})]
    names = [each.run for each in compare(base, candidate).rows]
    assert names == ["clip_tiny · cpu · fp32", "sam_tiny · cpu · fp32"]
