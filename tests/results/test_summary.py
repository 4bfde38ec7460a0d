"""The summary of a run: its best numbers, its verdict and its note."""

from __future__ import annotations

from dataclasses import replace

from saved_runs import QUALITY, record, row

from visionbench.core import INVALID, OK, OUT_OF_MEMORY, VALID, Case, CaseResult, Metrics, Reason, Validity
from visionbench.records.record import Repeats
from visionbench.results import declared, summary

RECORD = record(
    "blip",
    plan={
        "task": "captioning",
        "refused": {"recall": "random weights have no quality to measure"},
        "warnings": ["bf16 is slow here"],
    },
    config={"model": {"weights": "random"}},
    model={"weights": "random"},
)


def measured(batch_size: int, verdict: str = VALID, **values: float | None) -> CaseResult:
    case = Case(f"batch-{batch_size}", batch_size, ("latency",), ())
    reasons = () if verdict == VALID else ("run_delay: 9 %",)
    return CaseResult(case, OK, None, Metrics(values), Validity(verdict, tuple(map(Reason.parse, reasons))))


def test_the_best_throughput_is_of_an_invalid_case_only_if_no_case_is_valid() -> None:
    fast, slow = measured(8, INVALID, throughput_images_per_s=90.0), measured(1, throughput_images_per_s=10.0)
    assert summary.summary([fast, slow])["best_throughput_images_per_s"] == 10.0
    assert summary.summary([fast])["best_throughput_images_per_s"] == 90.0


def test_the_best_throughput_is_that_of_the_first_unit_with_a_value() -> None:
    best = summary.summary([measured(2, throughput_tokens_per_s=123456.7, latency_p50_ms=None)])
    assert best == {
        "best_throughput_tokens_per_s": 123460.0,
        "best_throughput_batch_size": 2.0,
        "largest_batch_size": 2.0,
    }


def test_the_verdict_of_a_run_is_the_worst_of_its_cases() -> None:
    assert summary.verdict([measured(1), measured(2, INVALID)]) == INVALID
    assert summary.verdict([CaseResult(measured(1).case, OUT_OF_MEMORY, "no room")]) is None


def test_the_note_begins_with_the_best_throughput() -> None:
    results = [measured(4, throughput_images_per_s=12.3456), CaseResult(measured(8).case, OUT_OF_MEMORY, "no room")]
    note = summary.note(RECORD, results)
    assert note.startswith("**12.35 images/s** at batch size 4 · 1 without numbers\n")
    assert "| 8 | – | – | – | – | out_of_memory |" in note
    assert "- batch-8 out_of_memory: no room" in note
    assert "- recall: random weights have no quality to measure" in note
    assert "- bf16 is slow here" in note


def test_launch_bound_batch_sizes_are_listed() -> None:
    shares = {1: 0.072, 2: 0.49, 4: 0.5}
    rows = [measured(size, kernels_busy_fraction=share) for size, share in shares.items()]
    rows += [measured(8, kernels_busy_fraction=None), measured(16)]
    assert summary.launch_bound(rows).startswith(
        "launch-bound at batch size 1 (7%), 2 (49%): kernels run for this share"
    )
    assert "- launch-bound at batch size 1 (7%)" in summary.note(RECORD, rows)
    assert summary.launch_bound(rows[2:]) == ""


def test_numbers_are_written_with_four_significant_digits() -> None:
    cells = {None: "–", 8: "8", "valid": "valid", 0.123456: "0.1235", 12.3456: "12.35", 1234.56: "1,235"}
    assert [summary.text(cell) for cell in cells] == list(cells.values())


def test_the_note_has_repeated_windows_and_the_number_of_processes() -> None:
    row = measured(4, latency_p50_ms=1.0)
    retried = CaseResult(row.case, OK, None, row.metrics, row.validity, {"latency_retried": "attempt 1: steal: 9 %"})
    note = summary.note(replace(RECORD, repeats=Repeats(5, 5, 2, ())), [retried])
    assert "**Remarks**" in note
    assert "- batch-4: latency retried, attempt 1: steal: 9 %" in note
    assert "- 5 fresh processes, order seed 2; intervals across processes" in note


def test_the_headline_has_quality_with_its_interval_and_no_interval_end_as_a_metric():
    ends = {"recall_i2t_at_1_low_fraction": 0.971, "recall_i2t_at_1_high_fraction": 0.989}
    rows = [row(QUALITY, recall_i2t_at_1_fraction=0.98, **ends)]
    assert "recall i2t@1 **0.980 ±0.009**" in summary.note(record(), rows)
    assert list(summary.quality(rows, declared.bundled())) == ["recall_i2t_at_1_fraction"]
    reasons = {"recall_i2t_at_1_fraction": "random weights", "recall_i2t_at_1_low_fraction": "random weights"}
    assert "- recall_i2t_at_1_fraction: random weights" in summary.note(record(), [row(QUALITY, none=reasons)])
