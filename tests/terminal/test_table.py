"""The printed table: a row for every case, marks for questionable and invalid cases, and reasons below."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from saved_runs import record

from visionbench.core import (
    FAILED,
    INVALID,
    KILLED,
    OK,
    OUT_OF_MEMORY,
    SKIPPED_AFTER_OOM,
    WARNED,
    Case,
    CaseResult,
    Metrics,
    Reason,
    Validity,
)
from visionbench.records.record import DeviceIdentity
from visionbench.results.archive import Run
from visionbench.terminal import table

VALID = Validity()


def run(*results, model="clip_tiny", protocol="standard", weights="pretrained", refused=(), warnings=(), **more):
    """Return a run with these rows and conditions."""
    plan = {"protocol": protocol, "refused": dict(refused), "warnings": list(warnings)}
    conditions = {
        "plan": plan,
        "config": {"measure": {"name": protocol}, "model": {"weights": weights}},
        "host": {"torch": "2.13.0", "transformers": "5.17.0"},
        "device": {"device_name": "Xeon", "threads": 4},
    }
    return Run(record(model, **{**conditions, **more}), results)


def timed(batch_size, status=OK, reason=None, validity=VALID, **values):
    case = Case(f"batch-{batch_size}", batch_size, ("latency",), ())
    return CaseResult(case, status, reason, Metrics(values), validity)


def quality(status=OK, reason=None, **values):
    return CaseResult(Case("quality", 32, ("evaluation",), ("recall",)), status, reason, Metrics(values))


def print_table(*runs, verbose=True):
    """Return the lines of the tables without trailing spaces."""
    file = StringIO()
    table.show(runs, Console(width=200, file=file), verbose)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def cells(lines, batch):
    """Return the cells of the row of a batch size."""
    return next(line.split() for line in lines if line.split()[:1] == [str(batch)])


def header(lines):
    return next(line for line in lines if line.lstrip().startswith("batch"))


# -------------------------------------------------------------------------------------------------------- rows, columns
def test_a_run_has_its_name_above_a_row_for_each_batch_size():
    lines = print_table(run(timed(1, latency_p50_ms=1.0), timed(8, latency_p50_ms=4.0)))
    assert lines[0] == "clip_tiny · cpu · fp32"
    assert cells(lines, 1) == ["1", "1"]
    assert cells(lines, 8) == ["8", "4"]


def test_each_run_has_its_rows_below_its_name():
    lines = print_table(run(timed(1, latency_p50_ms=1.0)), run(timed(2, latency_p50_ms=2.0), model="vit_b16"))
    assert lines.index("vit_b16 · cpu · fp32") > lines.index("clip_tiny · cpu · fp32")
    assert cells(lines, 2) == ["2", "2"]


def test_numbers_have_four_digits_and_memory_is_in_integer_mib():
    lines = print_table(
        run(timed(1, latency_p50_ms=12.34567, throughput_images_per_s=0.0123456, memory_process_peak_mib=1234.56))
    )
    assert cells(lines, 1) == ["1", "12.35", "0.01235", "1,235"]


def test_large_numbers_are_integers_without_an_exponent():
    lines = print_table(
        run(timed(1, latency_p50_ms=0.08, throughput_images_per_s=12345.6)), run(timed(2, latency_p50_ms=9.0))
    )
    assert cells(lines, 1) == ["1", "0.08", "12,346"]
    lines = print_table(run(timed(1, throughput_tokens_per_s=123456789.0)))
    assert cells(lines, 1) == ["1", "123,456,789"]


def test_the_columns_of_all_runs_are_aligned():
    lines = print_table(run(timed(1, latency_p50_ms=123456789.0)), run(timed(2, latency_p50_ms=1.0)))
    assert len({len(line) for line in lines if line.split()[:1] in (["1"], ["2"])}) == 1


def test_a_metric_that_no_run_measured_has_no_column():
    lines = print_table(run(timed(1, latency_p50_ms=1.0)))
    assert header(lines).split() == ["batch", "p50", "ms"]


def test_a_metric_that_one_run_did_not_measure_is_a_dash():
    lines = print_table(
        run(timed(1, latency_p50_ms=1.0, throughput_images_per_s=None)), run(timed(2, throughput_images_per_s=9.0))
    )
    assert "p50 ms" in header(lines) and "img/s" in header(lines)
    assert cells(lines, 1) == ["1", "1", "–"]
    assert cells(lines, 2) == ["2", "–", "9"]


def test_the_peak_is_of_the_allocator_on_a_gpu_and_of_the_process_on_a_cpu():
    both = timed(1, memory_peak_allocated_mib=300.0, memory_process_peak_mib=900.0)
    lines = print_table(run(both))
    assert cells(lines, 1) == ["1", "300"]
    assert "peak MiB: peak allocated on the device" in lines
    lines = print_table(run(timed(1, memory_peak_allocated_mib=None, memory_process_peak_mib=900.0)))
    assert cells(lines, 1) == ["1", "900"]
    assert "peak MiB: peak resident set of the process, libraries included" in lines


def test_quality_is_in_every_row_of_its_run():
    quality_row = quality(recall_i2t_at_1_fraction=0.5, recall_t2i_at_5_fraction=0.25)
    lines = print_table(
        run(timed(1, latency_p50_ms=1.0), timed(2, latency_p50_ms=2.0), quality_row, data={"samples": "1000"})
    )
    assert "i→t R@1" in header(lines) and "t→i R@5" in header(lines)
    assert cells(lines, 1) == ["1", "1", "0.500", "0.250"]
    assert cells(lines, 2) == ["2", "2", "0.500", "0.250"]
    assert "clip_tiny · cpu · fp32: quality over all images of shapes" in lines


def test_each_run_has_the_quality_columns_of_its_task():
    retrieval = run(timed(1, latency_p50_ms=1.0), quality(recall_i2t_at_1_fraction=0.5))
    captioner = run(timed(1, latency_p50_ms=2.0), quality(captioning_cider_score=6.5, captioning_bleu_4_fraction=0.7))
    lines = print_table(retrieval, captioner)
    headers = [line for line in lines if line.startswith("batch")]
    assert "i→t R@1" in headers[0] and "CIDEr" not in headers[0]
    assert "CIDEr" in headers[1] and "i→t R@1" not in headers[1]


def test_a_doubt_about_quality_has_a_mark_beside_the_numbers_and_a_reason_below():
    row = quality(recall_i2t_at_1_fraction=0.5)
    doubted = replace(row, validity=Validity(WARNED, (Reason("pictures_left_out", "2 of 9: a (missing)"),)))
    lines = print_table(run(timed(1, latency_p50_ms=1.0), doubted))
    assert cells(lines, 1) == ["1", "1", "0.500?"]
    assert "  pictures_left_out: 2 of 9: a (missing)" in lines


def test_a_footnote_has_the_speed_and_the_steps_of_the_quality_pass():
    row = quality(
        evaluation_images_count=998.0,
        evaluation_images_per_s=412.34,
        evaluation_decode_share_fraction=0.25,
        evaluation_forward_share_fraction=0.75,
    )
    lines = print_table(run(timed(1, latency_p50_ms=1.0), row))
    coverage = "quality over 998 images of shapes, 412.3 img/s from file to output (decode 25%, forward 75%)"
    assert f"clip_tiny · cpu · fp32: {coverage}" in lines


@pytest.mark.parametrize(
    ("options", "coverage"),
    [
        ({"samples": 24}, "quality over a sample of 24 of 120 images of shapes"),
        ({}, "quality over 24 of 120 images of shapes"),
    ],
)
def test_a_footnote_has_the_number_of_images_and_whether_they_are_a_sample(options, coverage):
    row = quality(pictures_used_count=24.0, pictures_found_count=120.0)
    config = {"model": {"weights": "pretrained"}, "data": {"name": "shapes", "options": options}}
    lines = print_table(run(row, config=config))
    assert any(coverage in line for line in lines)


def test_quality_alone_is_a_row_without_a_batch_size():
    lines = print_table(run(quality(recall_i2t_at_1_fraction=0.5)))
    assert cells(lines, "–") == ["–", "0.500"]


# ------------------------------------------------------------------------------------------------------ marks, reasons
@pytest.mark.parametrize(("verdict", "mark"), [(WARNED, "?"), (INVALID, "!")])
def test_a_questionable_or_invalid_case_has_a_mark_and_its_reason_below(verdict, mark):
    validity = Validity(verdict, (Reason("not_converged", "±3 %"),))
    lines = print_table(run(timed(1, validity=validity, latency_p50_ms=1.0), timed(2, latency_p50_ms=2.0)))
    assert cells(lines, 1) == ["1", "1", mark]
    assert cells(lines, 2) == ["2", "2"]
    assert "? questionable   ! invalid" in lines
    assert "  not_converged: ±3 %" in lines


def test_without_doubts_there_is_no_legend():
    assert not [line for line in print_table(run(timed(1, latency_p50_ms=1.0))) if "questionable" in line]


@pytest.mark.parametrize("status", [FAILED, OUT_OF_MEMORY, SKIPPED_AFTER_OOM, KILLED])
def test_a_failed_case_has_a_row_with_its_status_and_its_reason_below(status):
    lines = print_table(run(timed(1, latency_p50_ms=1.0), timed(2, status, "no room [at all]")))
    assert cells(lines, 2) == ["2", status]
    assert f"  {status}: no room [at all]" in lines


def test_each_reason_for_a_failure_is_printed_once():
    lines = print_table(
        run(timed(1, FAILED, "the first reason"), timed(2, FAILED, "the first reason")),
        run(timed(1, FAILED, "the second reason"), model="vit_b16"),
    )
    text = "\n".join(lines)
    assert text.count("the first reason") == text.count("the second reason") == 1


def test_a_run_that_failed_before_its_device_was_read_is_printed():
    rows = run(timed(1, FAILED, "RuntimeError: no such weights"))
    lines = print_table(Run(replace(rows.record, device=DeviceIdentity()), rows.results))
    assert cells(lines, 1) == ["1", FAILED]
    assert "on cpu, torch 2.13.0, transformers 5.17.0" in lines


def test_a_failed_quality_case_has_a_separate_row():
    lines = print_table(run(timed(1, latency_p50_ms=1.0), quality(FAILED, "PictureError: a.png")))
    assert cells(lines, "quality") == ["quality", FAILED]
    assert "  failed: PictureError: a.png" in lines


# ----------------------------------------------------------------------------------------------------------- footnotes
def test_equal_conditions_of_all_runs_are_printed_once_below():
    lines = print_table(run(timed(1, latency_p50_ms=1.0)), run(timed(1, latency_p50_ms=1.0), model="vit_b16"))
    assert lines.count("on Xeon, 4 threads, torch 2.13.0, transformers 5.17.0") == 1


@pytest.mark.parametrize(("protocol", "noted"), [("quick", True), ("standard", False)])
def test_a_protocol_other_than_the_standard_has_a_footnote(protocol, noted):
    lines = print_table(run(timed(1, latency_p50_ms=1.0), protocol=protocol))
    assert any(line.startswith("measure=quick: not the standard protocol") for line in lines) is noted


def test_a_refused_metric_group_has_a_footnote_with_the_reason():
    rows = run(timed(1, latency_p50_ms=1.0), refused={"recall": "data=image_folder has no captions"}.items())
    assert "clip_tiny: no recall, because data=image_folder has no captions" in print_table(rows)


def test_random_weights_have_one_footnote_instead_of_one_per_refused_group():
    refused = {"recall": "random weights have no quality to measure"}
    lines = print_table(run(timed(1, latency_p50_ms=1.0), weights="random", refused=refused))
    notes = [line for line in lines if "random weights" in line]
    assert notes == ["clip_tiny: random weights; speed and memory are those of the real model, quality is refused"]


def test_a_launch_bound_run_has_a_footnote():
    lines = print_table(run(timed(1, latency_p50_ms=1.0, kernels_busy_fraction=0.07)))
    assert any(line.startswith("clip_tiny · cpu · fp32: launch-bound at batch size 1 (7%)") for line in lines)


def test_warnings_of_the_plan_are_printed_below():
    assert "fp16 is slow here" in print_table(run(timed(1, latency_p50_ms=1.0), warnings=["fp16 is slow here"]))


# ----------------------------------------------------------------------------------------------- repeats and pipeline
def test_repeats_have_a_column_of_the_spread_and_a_footnote_about_it():
    values = {"latency_p50_ms": 2.0, "latency_p50_across_processes_half_width_fraction": 0.043}
    lines = print_table(
        run(timed(1, **values), repeats={"wanted": 5, "measured": 5, "order_seed": 3, "started_at": []})
    )
    assert header(lines).split() == ["batch", "p50", "ms", "±"]
    assert cells(lines, 1) == ["1", "2", "4.3%"]
    assert any(line.startswith("5 fresh processes, order seed 3") for line in lines)


def test_repeated_windows_of_a_run_are_one_count_without_verbose():
    repeated = replace(timed(1, latency_p50_ms=1.0), labels={"latency_retried": "attempt 1: run_delay: 9 %"})
    lines = print_table(run(repeated), verbose=False)
    assert "1 invalid window was measured again" in lines
    assert not any("attempt 1" in line for line in lines)


def test_a_very_large_spread_is_not_written_out():
    repeats = {"wanted": 2, "measured": 2, "order_seed": 0, "started_at": ["a", "b"]}
    lines = print_table(
        run(timed(1, latency_p50_ms=1.0, latency_p50_across_processes_half_width_fraction=7.8e12), repeats=repeats)
    )
    assert cells(lines, 1) == ["1", "1", ">999%"]


def test_a_repeated_window_has_a_footnote():
    row = replace(timed(4, latency_p50_ms=1.0), labels={"latency_retried": "attempt 1: run_delay: 9 %"})
    lines = print_table(run(row))
    assert "clip_tiny · cpu · fp32: batch-4: latency retried, attempt 1: run_delay: 9 %" in lines


def test_the_pipeline_steps_have_a_table_with_the_limiting_resource():
    steps = {"read": 0.1, "decode": 1.7, "preprocess": 4.7, "copy": 0.06, "forward": 145.3, "postprocess": 0.2}
    values = {f"pipeline_{step}_ms": milliseconds for step, milliseconds in steps.items()}
    values |= {"pipeline_serial_ms": 152.1, "pipeline_serial_images_per_s": 6.5}
    values |= {"pipeline_overlapped_images_per_s": 1234.5, "pipeline_loaders_busy_fraction": 0.4}
    values |= {"pipeline_model_busy_fraction": 0.97, "pipeline_finisher_busy_fraction": 0.01}
    lines = print_table(run(timed(8, **values)))
    start = next(number for number, line in enumerate(lines) if line.startswith("from files to outputs"))
    assert lines[start + 1].split() == [
        "batch",
        "read",
        "decode",
        "prep",
        "copy",
        "model",
        "post",
        "sum",
        "img/s",
        "overlapped",
        "limit",
    ]
    assert lines[start + 2].split() == [
        "8",
        "0.10",
        "1.70",
        "4.70",
        "0.06",
        "145",
        "0.20",
        "152",
        "6.50",
        "1,234",
        "model",
        "97%",
    ]
    assert max(map(len, lines[start + 1 : start + 3])) <= 80


def test_the_upper_bound_of_the_overlapped_rate_is_beside_it():
    values = {"pipeline_serial_ms": 152.1, "pipeline_overlapped_images_per_s": 94.0}
    lines = print_table(run(timed(8, pipeline_bound_images_per_s=99.5, pipeline_model_busy_fraction=0.97, **values)))
    start = next(number for number, line in enumerate(lines) if line.endswith("overlapped and its upper bound"))
    assert lines[start + 1].split()[-3:] == ["overlap", "bound", "limit"]
    assert lines[start + 2].split()[-4:] == ["94.0", "99.5", "model", "97%"]
    assert max(map(len, lines[start + 1 : start + 3])) <= 80


# ----------------------------------------------------------------------------------------------------------- intervals
def test_quality_with_its_intervals_is_below_the_rows_of_its_run():
    values = {"recall_i2t_at_1_fraction": 0.98, "recall_t2i_at_1_fraction": 0.99}
    values |= {"recall_i2t_at_1_low_fraction": 0.971, "recall_i2t_at_1_high_fraction": 0.989}
    values |= {"recall_t2i_at_1_low_fraction": 0.946, "recall_t2i_at_1_high_fraction": 0.998}
    lines = print_table(run(timed(1, latency_p50_ms=1.0), quality(**values)))
    start = lines.index("quality with its 95 % interval over images")
    assert lines[start + 1] == "i→t R@1 0.980 ±0.009   t→i R@1 0.990 [0.946, 0.998]"
    assert cells(lines, 1) == ["1", "1", "0.980", "0.990"]


def test_a_line_of_intervals_requires_intervals_and_has_the_clusters():
    assert not any("interval" in line for line in print_table(run(quality(recall_i2t_at_1_fraction=0.98))))
    ends = {"recall_i2t_at_1_low_fraction": 0.971, "recall_i2t_at_1_high_fraction": 0.989}
    result = replace(quality(recall_i2t_at_1_fraction=0.98, **ends), labels={"interval_over": "9 clusters of pictures"})
    assert "quality with its 95 % interval over 9 clusters of images" in print_table(run(result))
