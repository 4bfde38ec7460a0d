"""The search of `visionbench tune` over simulated machines: the best configuration, bounds, pruning, continuing."""

import pytest
from tuning_surfaces import PAIRS, SIZES, Surface, search, space, start

from visionbench.records.tuning import BROKEN, FAILED, HELD, MEASURED, OPEN, PRUNED, Figure, Measurement, Tried
from visionbench.tuning.objectives import Limits, Objective, with_bounds
from visionbench.tuning.search import Walk
from visionbench.tuning.space import Combination, build, thread_counts
from visionbench.tuning.tune import default_trials

SEEDS = range(12)


def best_of(found):
    """Return the best throughput that a search has measured."""
    return next(found.ranked())[1].throughput.value


# ------------------------------------------------------------------------------------------------- finding the best
@pytest.mark.parametrize("seed", SEEDS)
def test_a_search_finds_the_best_of_all_within_5_percent_with_a_third_of_the_trials(seed):
    surface, everything = Surface(seed), space()
    found = search(surface, everything, budget=len(everything) // 3)
    assert best_of(found) >= 0.95 * surface.best(everything)
    assert len(surface.calls) <= len(everything) / 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_search_without_threads_and_attention_also_needs_at_most_a_third(seed):
    surface, everything = Surface(seed), space(attention=("auto",), threads=("null",))
    found = search(surface, everything, budget=len(everything) // 3)
    assert best_of(found) >= 0.95 * surface.best(everything)
    assert len(surface.calls) <= len(everything) / 3


def test_a_search_without_a_limit_ends_far_before_it_has_measured_everything():
    surface, everything = Surface(3), space()
    found = search(surface, everything)
    assert len(found.tried) == len(everything.combinations)
    assert len(surface.calls) < len(everything) / 3


def test_no_configuration_and_batch_size_is_measured_twice():
    surface = Surface(1)
    search(surface, space())
    assert len(set(surface.calls)) == len(surface.calls)


def test_a_configuration_is_loaded_at_most_twice():
    surface = Surface(1)
    search(surface, space())
    assert max(surface.loads.count(one) for one in surface.loads) <= 2


def test_each_precision_and_runtime_is_tried_before_variants_of_threads_and_attention():
    surface = Surface(2)
    found = search(surface, space())
    first = list(found.tried)[: len(PAIRS)]
    assert {one.pair for one in first} == set(PAIRS)


def test_equal_seeds_give_equal_searches():
    searches = []
    for _ in range(2):
        searches.append(search(Surface(5), space(), seed=7))
    assert list(searches[0].tried.items()) == list(searches[1].tried.items())


def test_the_limit_of_trials_is_never_exceeded():
    for budget in (1, 2, 7, 20):
        surface = Surface(4)
        found = search(surface, space(), budget=budget)
        assert len(surface.calls) == budget
        assert found.left == 0


def test_a_search_for_latency_finds_the_smallest_latency():
    everything = space(sizes=(1,))
    surface = Surface(6)
    found = search(surface, everything, objective="latency_p50", budget=len(everything) // 3)
    best = min(surface.figures(one, 1).p50.value for one in everything.combinations)
    assert next(found.ranked())[1].p50.value <= best / 0.95


# ------------------------------------------------------------------------------------------------------------ bounds
@pytest.mark.parametrize("seed", SEEDS)
def test_a_bound_of_latency_is_held_by_the_upper_end_of_the_interval(seed):
    limits, everything, surface = Limits(latency_p95_ms=60.0), space(), Surface(seed)
    found = search(surface, everything, limits=limits, budget=len(everything) // 3)
    leader = found.leader()
    assert leader is not None
    assert leader[1].p95.high <= 60.0
    assert leader[1].throughput.value >= 0.95 * surface.best(everything, lambda one: one.p95.high <= 60.0)


def test_larger_batches_than_one_that_breaks_the_latency_are_not_measured():
    limits, surface = Limits(latency_p95_ms=60.0), Surface(0)
    found = search(surface, space(), limits=limits)
    for tried in found.tried.values():
        broken = [one.batch_size for one in tried.measured if one.bounds == BROKEN]
        assert all(one.batch_size <= min(broken) or one.bounds == BROKEN for one in tried.measured if broken)
        assert len(broken) < len(SIZES) - 2


def test_a_bound_of_memory_excludes_larger_batches():
    found = search(Surface(0), space(), limits=Limits(memory_mib=100.0))
    assert found.leader()[1].peak_mib <= 100.0


@pytest.mark.parametrize(
    ("p95", "state"),
    [
        (Figure(40, 38, 49), HELD),
        (Figure(40, 38, 50), HELD),
        (Figure(49, 45, 53), OPEN),
        (Figure(60, 51, 70), BROKEN),
        (Figure(40), OPEN),
        (None, OPEN),
    ],
)
def test_an_interval_of_p95_decides_about_the_bound(p95, state):
    one = Measurement(1, "ok", throughput=Figure(10), p50=Figure(30, 29, 31), p95=p95)
    assert with_bounds(one, Limits(latency_p95_ms=50)).bounds == state


def test_a_median_above_the_bound_decides_without_an_interval_of_p95():
    one = Measurement(1, "ok", throughput=Figure(10), p50=Figure(60, 55, 65))
    assert with_bounds(one, Limits(latency_p95_ms=50)).bounds == BROKEN


def test_an_unknown_memory_is_not_within_a_bound():
    assert with_bounds(Measurement(1, "ok", p50=Figure(1)), Limits(memory_mib=50)).bounds == OPEN


def test_the_best_configuration_must_hold_the_bound_of_quality():
    surface = Surface(0, overrides={"int8_dynamic/eager": 5000.0}, qualities={"int8_dynamic": 0.95})
    found = search(surface, space(), limits=Limits(quality=0.99))
    assert found.leader()[0].precision != "int8_dynamic"
    assert all(one.precision != "int8_dynamic" for one, _ in found.finalists(5))
    assert "below 0.99" in found.unfit["int8_dynamic", "eager"]


def test_quality_is_measured_once_for_a_precision_and_runtime_and_only_for_those_that_can_win():
    surface = Surface(0)
    found = search(surface, space(), limits=Limits(quality=0.99))
    found.finalists(3)
    assert len(set(surface.quality_calls)) == len(surface.quality_calls)
    assert len(surface.quality_calls) < len(PAIRS) / 2


def test_without_a_bound_of_quality_none_is_measured():
    surface = Surface(0)
    search(surface, space()).finalists(3)
    assert surface.quality_calls == []


def test_variants_of_a_configuration_without_the_quality_are_not_measured():
    surface = Surface(0, overrides={"int8_dynamic/eager": 5000.0}, qualities={"int8_dynamic": 0.95})
    search(surface, space(), limits=Limits(quality=0.99))
    assert len({one for one, _ in surface.calls if one.pair == ("int8_dynamic", "eager")}) == 1


# ----------------------------------------------------------------------------------------------------------- pruning
def test_a_configuration_far_below_the_best_is_measured_at_one_batch_size():
    surface = Surface(0, overrides={"fp32/eager": 1000.0, "bf16/compile": 50.0})
    found = search(surface, space(threads=("null",), attention=("auto",)))
    pruned = found.tried[Combination("bf16", "compile")]
    assert pruned.outcome == PRUNED
    assert "cannot win" in pruned.reason


def test_wide_intervals_prune_less():
    counts = {}
    for spread in (0.01, 0.6):
        found = search(Surface(0, spread=spread), space())
        counts[spread] = sum(one.outcome == PRUNED for one in found.tried.values())
    assert counts[0.6] < counts[0.01]


def test_larger_batches_are_not_measured_after_one_without_a_gain():
    found = start(Surface(0), space())
    walk = Walk(found)
    speeds = {4: 100.0, 8: 180.0, 16: 181.0}
    reasons = [walk.climb(Measurement(size, "ok", throughput=Figure(speed))) for size, speed in speeds.items()]
    assert reasons == ["", "", "no gain from batch size 8 to batch size 16"]


def test_two_invalid_sizes_in_a_row_end_a_direction():
    surface = Surface(0, invalid=["/".join(pair) for pair in PAIRS])
    found = search(surface, space(threads=("null",), attention=("auto",)))
    assert found.leader() is None
    assert [one.batch_size for one in found.tried[Combination()].measured] == [2, 4, 8]
    assert "invalid at batch sizes 4 and 8" in found.tried[Combination()].reason


def test_smaller_batches_are_measured_if_the_first_one_does_not_fit():
    surface = Surface(0, out_of_memory_from=4)
    found = search(surface, space(threads=("null",), attention=("auto",)))
    assert found.leader()[1].batch_size == 2
    assert not any(size > 4 for _, size in surface.calls)


def test_a_failed_configuration_is_not_tried_with_other_threads():
    surface = Surface(0, fails=["bf16/openvino"])
    found = search(surface, space(attention=("auto",)))
    assert found.tried[Combination("bf16", "openvino")].outcome == FAILED
    assert found.tried[Combination("bf16", "openvino")].reason == "the parity is too low"
    assert not found.tried[Combination("bf16", "openvino", threads="1")].measured


# ------------------------------------------------------------------------------------------------- doubts, finalists
def test_an_invalid_configuration_cannot_win():
    surface = Surface(0, overrides={"bf16/compile": 9000.0}, invalid=["bf16/compile"])
    found = search(surface, space())
    assert all(one.pair != ("bf16", "compile") for one, _ in found.ranked())


def test_a_questionable_configuration_keeps_its_mark():
    surface = Surface(0, overrides={"bf16/compile": 9000.0}, questionable=["bf16/compile"])
    combination, one = search(surface, space()).finalists(1)[0]
    assert combination.pair == ("bf16", "compile")
    assert one.questionable


def test_a_finalist_certainly_holds_the_bounds_if_any_configuration_does():
    found = start(Surface(0), space())
    limits = Limits(latency_p95_ms=50)

    def tried(speed, p95):
        one = Measurement(8, "ok", throughput=Figure(speed, speed, speed), p50=Figure(1), p95=p95)
        return with_bounds(one, limits)

    open_, held = Figure(49, 40, 60), Figure(30, 29, 31)
    for index, (speed, p95) in enumerate([(100, open_), (99, open_), (98, open_), (50, held)]):
        combination = Combination(*PAIRS[index])
        found.tried[combination] = Tried(combination.values, MEASURED, "", (tried(speed, p95),))
    chosen = found.finalists(3)
    assert [one.bounds for _, one in chosen] == [OPEN, OPEN, HELD]


def test_finalists_that_are_much_slower_than_the_best_are_left_out():
    surface = Surface(0, overrides={"bf16/compile": 9000.0, "fp32/eager": 8500.0})
    names = {one.pair for one, _ in search(surface, space()).finalists(10)}
    assert names == {("bf16", "compile"), ("fp32", "eager")}


# -------------------------------------------------------------------------------------------------------- continuing
def test_an_interrupted_search_continues_without_measuring_anything_again(tmp_path):
    surface, everything = Surface(8), space(PAIRS[:6])
    surface.interrupt_after = 12
    first = start(surface, everything, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    surface.interrupt_after = None
    second = start(surface, everything, folder=tmp_path)
    for combination, tried in first.tried.items():
        second.restore(combination, tried)
    second.run()
    assert len(set(surface.calls)) == len(surface.calls)
    assert len(second.tried) == len(everything.combinations)
    assert best_of(second) >= 0.95 * surface.best(everything)


def test_the_trials_of_the_first_command_count_in_the_limit():
    surface, everything = Surface(8), space()
    first = search(surface, everything, budget=10)
    second = start(surface, everything, budget=15)
    for combination, tried in first.tried.items():
        second.restore(combination, tried)
    second.run()
    assert len(surface.calls) == 15


# ------------------------------------------------------------------------------------------------------------- space
def test_configurations_with_default_values_come_first():
    everything = space()
    assert [one.threads for one in everything.combinations[: len(PAIRS)]] == ["null"] * len(PAIRS)
    assert everything.baseline == Combination()


def test_given_values_of_other_parts_are_those_of_the_baseline():
    assert build([("bf16", "eager")], ["eager"], ["4"], [1], {}).baseline == Combination("fp32", "eager", "eager", "4")


@pytest.mark.parametrize(
    ("usable", "physical", "counts"),
    [(1, 1, ["null"]), (2, 2, ["null", "1"]), (8, 4, ["null", "8", "2"]), (16, 16, ["null", "8"])],
)
def test_threads_are_the_default_all_logical_cores_and_half_of_the_physical_cores(usable, physical, counts):
    assert list(thread_counts(usable, physical)) == counts


def test_the_score_of_a_latency_is_larger_if_the_latency_is_smaller():
    objective = Objective("latency_p50")
    score = objective.score(Measurement(1, "ok", p50=Figure(2.0, 1.6, 2.5)))
    assert (score.value, score.low, score.high) == (0.5, 0.4, 0.625)


@pytest.mark.parametrize(
    ("sizes", "threads", "trials"),
    [(SIZES, ("null",), 42), (SIZES, ("null", "1"), 84), ((1, 4), ("null",), 28), ((1,), ("null",), 14)],
)
def test_by_default_a_search_measures_a_third_but_enough_for_each_precision_and_runtime(sizes, threads, trials):
    assert default_trials(space(attention=("auto",), threads=threads, sizes=sizes)) == trials
