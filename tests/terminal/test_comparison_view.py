"""The output of a comparison: readable at every width, the runs of one side in one line, the outcome at the end."""

import json

import pytest
from rich.console import Console
from saved_runs import QUALITY, processes, row, run

from visionbench.results import gate
from visionbench.results.comparison import compare
from visionbench.terminal import comparison_view

STEADY = (10.0, 10.1, 9.9, 10.05, 9.95)


def noisy(scale=1.0, **more):
    """Return five runs with all kinds of metrics, whose names and numbers are long."""
    return [
        run(
            row(
                latency_p50_ms=1234.5 * scale * value,
                throughput_images_per_s=0.04321 * value,
                memory_process_peak_mib=12345.0 * value,
            ),
            row(QUALITY, segmentation_point_miou_fraction=0.98765, recall_i2t_at_1_fraction=0.54321),
            **more,
        )
        for value in STEADY
    ]


COMPARISON = compare(
    noisy(name="a_model_with_a_very_long_name_of_a_person"),
    noisy(1.3, name="a_model_with_a_very_long_name_of_a_person"),
)


def printed(comparison, width, verbose=False):
    console = Console(width=width, record=True, file=None, color_system=None)
    with console.capture() as capture:
        comparison_view.show(comparison, gate.judge(comparison), console, verbose)
    return capture.get()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_number_and_no_name_of_a_metric_is_cut_at_any_width(width):
    text = printed(COMPARISON, width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines()[:-1])
    for compared in COMPARISON.rows:
        *_, base, candidate, ratio, interval, verdict = comparison_view._terminal_cells(compared)
        lines = [line for line in text.splitlines() if base in line and candidate in line and ratio in line]
        assert lines
        assert width < 120 or any(interval in line and verdict in line for line in lines)
        assert compared.metric.removesuffix("_fraction") in text


def test_a_narrow_terminal_shows_a_list_with_intervals():
    text = printed(COMPARISON, 60)
    assert "  batch 1, latency_p50_ms: slower\n" in text
    assert ", ratio 1.300 (1.2" in text
    assert "  quality, recall_i2t_at_1: same\n" in text


def test_runs_of_one_side_only_are_one_line():
    many = [one for index in range(23) for one in processes(STEADY[:1], name=f"model_{index:02}")]
    comparison = compare([*many, *processes(STEADY)], processes(STEADY))
    text = printed(comparison, 120)
    assert "only in the base: 23 cases of 23 runs (--verbose lists them), not compared" in text
    assert "model_07" not in text
    assert "model_07 · cpu · fp32" in printed(comparison, 10_000, verbose=True)
    markdown = comparison_view.markdown(comparison, gate.judge(comparison))
    assert "model_07" not in markdown
    assert "- only in the base: 23 cases of 23 runs" in markdown
    assert sum("model_" in each["run"] for each in json.loads(as_json(comparison))["rows"]) == 23


def as_json(comparison):
    return comparison_view.json_text(comparison, gate.judge(comparison))


def test_the_last_line_of_every_format_is_the_outcome():
    outcome = "exit code 1: regression in 1 of 1 compared run"
    assert printed(COMPARISON, 200).splitlines()[-1] == outcome
    markdown = comparison_view.markdown(COMPARISON, gate.judge(COMPARISON))
    assert markdown.splitlines()[-1] == f"**{outcome}**"
    content = json.loads(as_json(COMPARISON))
    assert list(content)[-2:] == ["exit_code", "outcome"]
    assert (content["exit_code"], content["outcome"]) == (1, outcome)


def test_equal_causes_are_one_line_with_the_number_of_rows():
    invalid = [
        run(*(row(latency_p50_ms=1.0, verdict="invalid", reasons=(f"run_delay: {index} %",)),), name=f"model_{index}")
        for index in range(9)
    ]
    comparison = compare(invalid, [run(*each.results, name=each.model) for each in invalid])
    text = printed(comparison, 200)
    line = "inconclusive (9 rows): the base is invalid (run_delay); visionbench doctor checks this machine"
    assert text.count("inconclusive (") == text.count(line) == 1
    assert "run_delay: 7 %" in printed(comparison, 200, verbose=True)


def test_details_contain_the_digests_that_the_verdict_leaves_out():
    other = processes(STEADY, data={"contents_sha256": "0123456789ab" * 5})
    comparison = compare(processes(STEADY), other)
    assert "0123456789ab" not in printed(comparison, 200)
    assert "digest 0123456789ab in the candidate" in printed(comparison, 200, verbose=True)
    assert "0123456789ab" in as_json(comparison)


def test_a_comparison_of_many_runs_shows_those_with_the_worst_verdicts():
    def side(slow=None):
        return [each for n in range(60) for each in processes([20 if n == slow else 10] * 5, name=f"model_{n:02}")]

    comparison = compare(side(), side(slow=55))
    text = printed(comparison, 120)
    most = comparison_view.MOST_RUNS
    assert "model_55 · cpu · fp32" in text and "model_54" not in text
    assert f"{most} of 60 runs are shown" in text
    assert "model_54 · cpu · fp32" in printed(comparison, 120, verbose=True)
