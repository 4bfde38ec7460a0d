"""The plan of a command names each case with its reason and its time, and marks times that are only estimates."""

from visionbench.terminal.plan_view import PlannedCase, ShownRun, plan_lines

DRY = "dry run: nothing was measured, and nothing was written"
LEAST = "* the least time of the protocol, because there is no earlier result of the same case"


def test_a_plan_without_earlier_results_has_marked_times():
    cases = (PlannedCase("batch-1", 1, 60.0, False), PlannedCase("quality", 1, 5.4, False))
    run = ShownRun("clip_tiny · cpu · fp32", cases, {"captioning": "no captions"}, 4.0, False)
    assert plan_lines([run], ["! a note"]) == [
        "! a note",
        "run                      time  measured",
        "clip_tiny · cpu · fp32  1:09*  batch-1, quality",
        "",
        "skipped",
        "  captioning: no captions (clip_tiny · cpu · fp32)",
        "",
        "1 run, 2 cases, about 1:09*",
        LEAST,
        DRY,
    ]


def test_reasons_and_processes_are_shown_and_times_of_earlier_results_have_no_mark():
    cases = [PlannedCase("batch-1", number, 30.0, True, "no result") for number in (2, 3)]
    cases += [PlannedCase("batch-2", number, 1800.0, True, "killed") for number in (1, 2, 3)]
    some = ShownRun("a", tuple(cases), {"quality": "valid"}, 10.0, True, processes=3)
    none = ShownRun("b", (), {"quality": "valid"}, 0.0, True)
    assert plan_lines([some, none], []) == [
        "run     time  measured",
        "a    1:31:10  batch-1 (no result; process 2, 3), batch-2 (killed; 3 processes)",
        "b          –  nothing",
        "",
        "skipped",
        "  quality: valid (all 2 runs)",
        "",
        "1 run, 5 cases, about 1:31:10",
        DRY,
    ]
