"""The table of several runs: one row for each case or for each run, columns of what differs, one line of doubts."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from saved_runs import QUALITY, row, run

from visionbench.core import Case
from visionbench.terminal import table


def case(size):
    return Case(f"batch-{size}", size, ("latency", "throughput"), ("latency", "throughput"))


def threads(count, *rows, **more):
    """Return a run with this number of threads."""
    return run(*rows, **{"config": {"device": {"name": "cpu", "threads": count}}, "device": {"threads": count}, **more})


def timed(size, p50=2.0, **more):
    return row(case(size), latency_p50_ms=p50, throughput_images_per_s=1000 * size / p50, **more)


def print_runs(runs, width=200):
    file = StringIO()
    table.show(runs, Console(width=width, file=file))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_what_differs_is_a_column_and_what_is_equal_is_the_heading():
    lines = print_runs([threads(1, timed(1), timed(8)), threads(4, timed(1), timed(8))])
    assert lines[0] == "clip_tiny · cpu · fp32"
    assert lines[1].split("  ")[0] == "threads"
    assert [line.split()[:2] for line in lines[2:6]] == [["1", "1"], ["1", "8"], ["4", "1"], ["4", "8"]]
    assert not any("batch" in line for line in lines[2:])


def test_model_device_and_precision_are_columns_only_if_they_differ():
    lines = print_runs([run(timed(1)), run(timed(1), precision="bf16")])
    assert lines[0] == "clip_tiny · cpu"
    assert lines[1].startswith("precision")
    assert [line.split()[0] for line in lines[2:4]] == ["fp32", "bf16"]


def test_thirty_runs_of_three_batch_sizes_fit_on_a_screen():
    lines = print_runs([threads(count, *map(timed, (1, 4, 16))) for count in range(1, 31)])
    assert len(lines) < 40
    assert "30 runs, 90 cases: the best numbers of each run" in lines
    assert lines[1].split("  ") != []
    first = lines[2].split()
    assert first[:3] == ["1", "8,000", "16"]


def test_doubts_are_one_sentence_and_retries_are_one_count():
    doubt = {"verdict": "warned", "reasons": ["run_delay: threads waited for a core 3 % of the window"]}
    retried = replace(timed(2, **doubt), labels={"latency_retried": "attempt 1: run_delay: 9 %; attempt 2: run_delay"})
    lines = print_runs([threads(1, timed(1, **doubt), retried), threads(2, timed(1), timed(2))])
    assert sum("run_delay" in line for line in lines) == 0
    assert sum(line.startswith("2 of 4 cases are questionable: other programs used the cores; ") for line in lines) == 1
    assert "2 invalid windows were measured again" in lines


def test_a_failed_case_is_a_row_with_its_status_and_its_reason_is_printed_once():
    failed = [row(case(8), status="out_of_memory", reason="no room") for _ in range(2)]
    lines = print_runs([threads(1, timed(1), failed[0]), threads(2, timed(1), failed[1])])
    assert sum(line.endswith("out_of_memory") for line in lines) == 2
    assert lines.count("out_of_memory (2 cases): no room") == 1


def test_the_quality_of_several_tasks_has_the_name_of_its_metric():
    runs = [
        run(timed(1), row(QUALITY, recall_i2t_at_1_fraction=0.5)),
        run(timed(1), row(QUALITY, captioning_cider_score=6.5), name="blip"),
    ]
    text = "\n".join(print_runs(runs))
    assert "quality" in text and "i→t R@1 0.500" in text and "CIDEr 6.500" in text


def test_the_quality_of_one_task_has_columns():
    runs = [threads(count, timed(1), row(QUALITY, recall_i2t_at_1_fraction=0.5)) for count in (1, 2)]
    assert "i→t R@1" in print_runs(runs)[1]


def test_conditions_list_the_values_of_all_runs():
    lines = print_runs([threads(1, timed(1)), threads(4, timed(1))])
    assert "on a processor, 1 and 4 threads, torch 2.13.0, transformers 5.0.0" in lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_a_table_is_wrapped(width):
    name = "a_model_with_a_very_long_name_that_has_62_characters_in_total_"
    runs = [
        threads(count, timed(1, p50=1234567.0), timed(8), name=name, precision=p)
        for count in (1, 2)
        for p in ("fp32", "bf16")
    ]
    runs.append(run(timed(1), name="other"))
    lines = print_runs(runs, width)
    assert all(len(line) <= width for line in lines)
    assert sum("1,234,567" in line for line in lines) == 4
