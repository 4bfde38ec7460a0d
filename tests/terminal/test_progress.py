"""Progress: plain lines without a terminal, and a bar with the remaining time on a terminal."""

from io import StringIO

import pytest
from rich.console import Console

from visionbench.config import MeasureConfig
from visionbench.core import Case, RunPlan
from visionbench.terminal import progress
from visionbench.terminal.progress import SweepProgress, steps

STAGES = ("warmup", "latency")
MEASURE = MeasureConfig(name="standard")


def plan(model="clip_tiny"):
    cases = (Case("batch-1", 1, STAGES, ()), Case("batch-2", 2, STAGES, ()), Case("quality", 32, ("evaluation",), ()))
    return RunPlan(f"{model} · cpu · fp32", model, "retrieval", "cpu", "fp32", cases)


def show_every_stage(sweep, run):
    """Show every stage of a run, as the runner does."""
    sweep.next_run()
    for stage, case, _ in steps(run, MEASURE):
        sweep.show(stage, case)


@pytest.fixture
def console():
    return Console(width=120, file=StringIO())


@pytest.fixture
def terminal():
    return Console(width=120, file=StringIO(), force_terminal=True, color_system=None)


def test_without_a_terminal_loading_and_each_case_print_one_line(console):
    sweep = SweepProgress([(plan(), MEASURE)], console)
    show_every_stage(sweep, plan())
    sweep.close()
    assert console.file.getvalue().splitlines() == [
        "clip_tiny · cpu · fp32  load",
        "clip_tiny · cpu · fp32  batch 1",
        "clip_tiny · cpu · fp32  batch 2",
        "clip_tiny · cpu · fp32  quality",
    ]


def test_several_runs_are_counted(console):
    runs = [plan(), plan("vit_b16")]
    sweep = SweepProgress([(run, MEASURE) for run in runs], console)
    for run in runs:
        show_every_stage(sweep, run)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "[1/2] clip_tiny · cpu · fp32  load"
    assert lines[4] == "[2/2] vit_b16 · cpu · fp32  load"
    assert len(lines) == len(set(lines)) == 8


def test_the_steps_of_a_plan_are_its_stages_in_order_with_their_minimum_seconds():
    assert [(stage, case) for stage, case, _ in steps(plan(), MEASURE)] == [
        ("load", ""),
        ("inputs", ""),
        ("first_call", ""),
        ("warmup", "batch-1"),
        ("latency", "batch-1"),
        ("warmup", "batch-2"),
        ("latency", "batch-2"),
        ("evaluation", "quality"),
    ]
    seconds = {stage: seconds for stage, _, seconds in steps(plan(), MEASURE)}
    assert (seconds["warmup"], seconds["latency"]) == (3.0, 10.0)


def test_every_stage_has_an_expected_time():
    from visionbench.plan import STAGES as all_stages

    complete = RunPlan("x", "x", "x", "cpu", "fp32", (Case("batch-1", 1, all_stages, ()),))
    expected = {stage: seconds for stage, _, seconds in steps(complete, MEASURE)}
    assert all(seconds > 0 for seconds in expected.values())
    assert (expected["telemetry"], expected["pipeline"]) == (
        3.0 + 10.0,
        2 * 10.0,
    )  # idle and busy; in series and overlapped


def test_a_terminal_shows_the_stage_and_the_remaining_time(terminal, monkeypatch):
    monkeypatch.setattr(progress, "monotonic", lambda: 0.0)
    sweep = SweepProgress([(plan(), MEASURE)], terminal, _began=0.0)
    sweep.next_run()
    sweep.show("latency", "batch-2")
    sweep.close()
    text = terminal.file.getvalue()
    # 2 + 2 s of loading and 3 + 10 + 3 s of batches are done; 10 s of latency and 5 s of evaluation remain
    assert "clip_tiny · cpu · fp32  batch 2  latency" in text
    assert "57 %  about 0:15 left" in text


def test_the_progress_of_the_evaluation_moves_the_bar(terminal, monkeypatch):
    monkeypatch.setattr(progress, "monotonic", lambda: 0.0)
    sweep = SweepProgress([(plan(), MEASURE)], terminal, _began=0.0)
    sweep.next_run()
    sweep.show("evaluation", "quality", 0.4)
    sweep.close()
    text = terminal.file.getvalue()
    # 35 s are expected: 30 s before the evaluation and 5 s of evaluation
    assert "quality  evaluation 40%" in text
    assert "91 %  about 0:03 left" in text


def test_without_a_terminal_progress_within_a_stage_prints_nothing(console):
    sweep = SweepProgress([(plan(), MEASURE)], console)
    sweep.next_run()
    for share in (0.0, 0.3, 0.9):
        sweep.show("evaluation", "quality", share)
    assert console.file.getvalue().splitlines() == ["clip_tiny · cpu · fp32  quality"]


def test_the_remaining_time_grows_if_stages_take_longer_than_expected(terminal, monkeypatch):
    monkeypatch.setattr(progress, "monotonic", lambda: 40.0)  # twice the expected 20 s
    sweep = SweepProgress([(plan(), MEASURE)], terminal, _began=0.0)
    sweep.next_run()
    sweep.show("latency", "batch-2")
    sweep.close()
    assert "about 0:30 left" in terminal.file.getvalue()


def test_the_bar_has_no_timer(terminal):
    sweep = SweepProgress([(plan(), MEASURE)], terminal)
    assert sweep._bar.live.auto_refresh is False
    sweep.close()
