"""The decision of the finals: ratios with intervals, bounds, doubts, and results that cannot be distinguished."""

from dataclasses import replace

import pytest

from visionbench.core import FAILED, INVALID, OK, WARNED
from visionbench.records.tuning import BROKEN, HELD, OPEN, Figure, Measurement, Quality
from visionbench.tuning.finals import Entry, decide, describe
from visionbench.tuning.objectives import Limits, Objective
from visionbench.tuning.space import BASELINE, Combination

BF16, INT8 = Combination("bf16", "openvino"), Combination("int8_dynamic", "eager")
EXACT = Quality("R@1", 0.9, Figure(1.0, 0.998, 1.002))


def one(speed, verdict="valid", p95=None, peak=100.0):
    latency = 8e3 / speed
    figures = (Figure(speed), Figure(latency, latency, latency), p95 or Figure(latency, latency, latency), peak)
    return Measurement(8, OK, verdict, "run_delay" * (verdict != "valid"), *figures)


def entry(combination, speeds, baseline=False, verdict="valid", searched=True, quality=EXACT, **figures):
    processes = [one(speed, **figures) for speed in speeds]
    mean = sum(speeds) / len(speeds)
    gathered = one(mean, verdict, **figures)
    return Entry(combination, gathered, processes, quality, baseline, searched)


def decided(*entries, objective="throughput", **bounds):
    return decide(entries, Objective(objective), Limits(**bounds))


def test_the_fastest_wins_and_has_a_ratio_to_the_baseline_with_an_interval():
    finalists, best, notes = decided(entry(BASELINE, [10, 10.1, 9.9], baseline=True), entry(BF16, [30, 30.3, 29.7]))
    assert best == 1
    assert finalists[1].ratio.value == pytest.approx(3, rel=1e-3)
    assert finalists[1].ratio.low < 3 < finalists[1].ratio.high
    assert finalists[0].ratio is None
    assert finalists[1].to_best is None
    assert notes == []


def test_a_smaller_latency_wins_if_latency_is_the_objective():
    finalists, best, _ = decided(
        entry(BASELINE, [10, 10.1], baseline=True), entry(BF16, [20, 20.2]), objective="latency_p50"
    )
    assert best == 1
    assert finalists[1].ratio.value == pytest.approx(0.5, rel=1e-3)


def test_an_invalid_result_cannot_win():
    finalists, best, _ = decided(
        entry(BASELINE, [10, 10.1], baseline=True), entry(BF16, [50, 50.1], verdict=INVALID), entry(INT8, [20, 20.1])
    )
    assert best == 2
    assert finalists[1].excluded == "invalid: run_delay"
    assert finalists[1].ratio is None


def test_a_questionable_result_can_win_and_is_named():
    _, best, notes = decided(entry(BASELINE, [10, 10.1], baseline=True), entry(BF16, [50, 50.1], verdict=WARNED))
    assert best == 1
    assert notes == ["the best result is questionable: run_delay"]


def test_a_questionable_baseline_makes_the_ratio_questionable():
    _, _, notes = decided(entry(BASELINE, [10, 10.1], baseline=True, verdict=WARNED), entry(BF16, [50, 50.1]))
    assert notes == ["the ratio is questionable, because the baseline is: run_delay"]


def test_an_invalid_baseline_gives_no_ratio():
    finalists, best, notes = decided(
        entry(BASELINE, [10, 10.1], baseline=True, verdict=INVALID), entry(BF16, [50, 50.1])
    )
    assert best == 1
    assert finalists[1].ratio is None
    assert notes == ["there is no ratio, because the baseline is invalid: run_delay"]


def test_a_failed_finalist_cannot_win():
    failed = Entry(BF16, Measurement(8, FAILED, reason="the parity is too low"), [])
    finalists, best, _ = decided(entry(BASELINE, [10, 10.1], baseline=True), failed)
    assert best == 0
    assert finalists[1].excluded == "failed: the parity is too low"


def test_finalists_within_their_intervals_are_named():
    _, best, notes = decided(
        entry(BASELINE, [10, 10.1, 9.9], baseline=True), entry(BF16, [30, 33, 27]), entry(INT8, [29, 32, 26])
    )
    assert best == 1
    assert notes == [
        "not distinguishable from the best within the intervals: int8_dynamic · eager, batch size 8",
    ]


def test_the_baseline_can_win_if_it_is_part_of_the_search():
    _, best, notes = decided(entry(BASELINE, [30, 30.1], baseline=True), entry(BF16, [20, 20.1]))
    assert best == 0
    assert notes == ["no configuration is better than the baseline"]


def test_a_baseline_outside_the_search_cannot_win():
    finalists, best, _ = decided(entry(BASELINE, [30, 30.1], baseline=True, searched=False), entry(BF16, [20, 20.1]))
    assert best == 1
    assert finalists[0].excluded == "it is not part of the search"
    assert finalists[1].ratio.value == pytest.approx(2 / 3, rel=1e-2)


@pytest.mark.parametrize(
    ("p95", "state", "best"),
    [(Figure(40, 38, 49), HELD, 1), (Figure(48, 40, 52), OPEN, 0), (Figure(60, 55, 65), BROKEN, 0)],
)
def test_the_bound_of_latency_must_be_held_with_its_interval(p95, state, best):
    finalists, winner, _ = decided(
        entry(BASELINE, [10, 10.1], baseline=True, p95=Figure(30, 29, 31)),
        entry(BF16, [20, 20.1], p95=p95),
        latency_p95_ms=50,
    )
    assert winner == best
    assert finalists[1].measurement.bounds == state
    assert bool(finalists[1].excluded) == (best == 0)


def test_the_bound_of_latency_must_be_held_in_each_process():
    slow = entry(BF16, [20, 20.1], p95=Figure(40, 38, 45))
    slow = replace(slow, processes=[slow.processes[0], replace(slow.processes[1], p95=Figure(60, 55, 65))])
    finalists, best, _ = decided(
        entry(BASELINE, [10, 10.1], baseline=True, p95=Figure(30, 29, 31)), slow, latency_p95_ms=50
    )
    assert best == 0
    assert "p95 60 ms [55, 65] is above 50 ms" in finalists[1].excluded
    assert finalists[1].measurement.p95.ends == (38, 65)


def test_the_bound_of_memory_excludes_a_finalist():
    finalists, best, _ = decided(
        entry(BASELINE, [10, 10.1], baseline=True), entry(BF16, [20, 20.1], peak=300.0), memory_mib=200.0
    )
    assert best == 0
    assert finalists[1].excluded == "300 MiB is above 200 MiB"


def test_the_bound_of_quality_excludes_a_finalist():
    poor = Quality("R@1", 0.8, Figure(0.9, 0.88, 0.92), BROKEN, "R@1 is 0.9 of eager fp32, below 0.99")
    finalists, best, _ = decided(
        entry(BASELINE, [10, 10.1], baseline=True), entry(BF16, [20, 20.1], quality=poor), quality=0.99
    )
    assert best == 0
    assert finalists[1].excluded == poor.reason


def test_without_a_valid_finalist_there_is_no_best():
    finalists, best, notes = decided(entry(BASELINE, [10, 10.1], baseline=True, verdict=INVALID))
    assert best is None
    assert notes == []
    assert describe(finalists[0]) == "fp32 · eager, batch size 8"


@pytest.mark.parametrize(
    ("ratio", "images_differ", "state"),
    [
        (Figure(1.0, 0.995, 1.005), True, HELD),
        (Figure(0.995, 0.97, 1.02), True, OPEN),
        (Figure(0.97, 0.95, 0.985), True, BROKEN),
        (Figure(0.98, 0.95, 1.01), True, BROKEN),
        (Figure(1.0, 0.96, 1.04), False, HELD),
        (Figure(1.0), True, OPEN),
        (None, True, OPEN),
    ],
)
def test_the_interval_of_the_quality_decides_unless_no_image_differs(ratio, images_differ, state):
    assert Limits(quality=0.99).judge_quality(Quality("R@1", 0.9, ratio), images_differ)[0] == state


def test_without_a_bound_of_quality_it_is_held():
    assert Limits().judge_quality(Quality("", None, None), True) == (HELD, "")
