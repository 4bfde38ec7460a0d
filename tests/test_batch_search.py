"""The search of batch=auto: the largest size within one step, in few trials, over simulated and real memory."""

import math
import random
from dataclasses import asdict, replace

import pytest
import yaml
from command_line import FEW_CALLS, call, fork_server

from visionbench import batch_search, core, runner
from visionbench import plan as planning
from visionbench.batch_search import MIB, Trial, find_largest, steps
from visionbench.config import BatchConfig
from visionbench.core import ConfigError, Counted, MemoryLimit
from visionbench.plan import plan
from visionbench.records.folder import RunFolder

LARGEST = 4096


def search(memory, limit, largest=LARGEST, killed_from=math.inf):
    """Return the trials of a search over a function from batch size to memory."""

    def try_size(size):
        if size >= killed_from:
            return Trial(size, None, False, core.KILLED)
        return Trial(size, memory(size), memory(size) <= limit)

    return find_largest(try_size, largest, lambda: limit)


def found(trials):
    return max((trial.size for trial in trials if trial.fits), default=0)


def assert_is_within_one_step(trials, fits, largest=LARGEST):
    """Check a search against all steps: the size fits and was tried, and so was the next step, which does not fit."""
    sizes = steps(largest)
    expected = max((size for size in sizes if fits(size)), default=0)
    assert found(trials) == expected
    tried = {trial.size: trial.fits for trial in trials}
    assert expected == 0 or tried[expected]
    larger = [size for size in sizes if size > expected]
    assert not larger or tried[larger[0]] is False


def most_trials(largest):
    """Return a limit of the trials: at most two predictions after each doubling or bisection."""
    return 3 * (math.ceil(math.log2(largest)) + 7)


def test_steps_are_single_up_to_64_and_then_at_most_four_percent():
    sizes = steps(LARGEST)
    assert sizes[:64] == list(range(1, 65))
    assert sizes[-1] == LARGEST
    assert all(0 < after - before <= max(1, before / 32) for before, after in zip(sizes, sizes[1:], strict=False))


@pytest.mark.parametrize("largest", [1, 2, 3, 63, 65, 100, 1000, 4095])
def test_the_largest_size_is_a_step(largest):
    sizes = steps(largest)
    assert sizes[0] == 1 and sizes[-1] == largest and sizes == sorted(set(sizes))


@pytest.mark.parametrize("seed", range(300))
def test_linear_memory_gives_the_largest_size_in_few_trials(seed):
    draw = random.Random(seed)
    base, each = draw.uniform(0, 1000), draw.uniform(0.01, 100)
    limit = draw.uniform(0, 3000)
    trials = search(lambda size: base + each * size, limit)
    assert_is_within_one_step(trials, lambda size: base + each * size <= limit)
    assert len(trials) <= math.log2(max(found(trials), 1)) + 5


@pytest.mark.parametrize("seed", range(300))
def test_stepwise_memory_gives_the_largest_size_in_a_logarithmic_number_of_trials(seed):
    draw = random.Random(seed)
    largest = draw.choice([1, 5, 64, 333, 4096])
    heights = [draw.choice([0.0, 0.0, 0.0, draw.expovariate(1 / 50)]) for _ in range(largest)]
    totals = [sum(heights[: index + 1]) for index in range(largest)] if largest < 500 else _running(heights)
    limit = draw.uniform(0, totals[-1] * 1.2 + 1)

    def memory(size):
        return totals[size - 1]

    trials = search(memory, limit, largest)
    assert_is_within_one_step(trials, lambda size: memory(size) <= limit, largest)
    assert len(trials) <= most_trials(largest)


def _running(heights):
    total, totals = 0.0, []
    for height in heights:
        total += height
        totals.append(total)
    return totals


@pytest.mark.parametrize("seed", range(100))
def test_a_size_without_a_peak_is_too_large(seed):
    draw = random.Random(seed)
    killed_from = draw.randint(1, LARGEST)
    trials = search(lambda size: 100.0 + size, 1e9, killed_from=killed_from)
    assert_is_within_one_step(trials, lambda size: size < killed_from)
    assert len(trials) <= most_trials(LARGEST)


def test_no_trial_needs_twice_the_limit_if_memory_grows_evenly():
    trials = search(lambda size: 10.0 + 10 * size, 5000)
    assert max(trial.peak_bytes for trial in trials) <= 1.05 * 5000


def test_memory_that_never_reaches_the_limit_gives_the_largest_size_that_is_tried():
    trials = search(lambda size: 1.0, 10, largest=100)
    assert found(trials) == 100
    assert [trial.size for trial in trials] == [1, 2, 4, 8, 16, 32, 64, 100]


def test_a_limit_below_the_first_size_ends_the_search():
    trials = search(lambda size: 50.0, 10)
    assert [(trial.size, trial.fits) for trial in trials] == [(1, False)]


def test_a_trial_shows_its_peak_or_its_failure():
    assert str(Trial(16, 512.25 * MIB, True)) == "16: 512.2 MiB"
    assert str(Trial(20, 600 * MIB, False)) == "20: 600.0 MiB (too much)"
    assert str(Trial(32, None, False, core.OUT_OF_MEMORY)) == "32: out of memory"


# ------------------------------------------------------------------------------------------------------------ the plan
def test_the_plan_has_one_case_whose_size_is_open(config):
    planned = plan(config("batch=auto"))
    assert [(case.id, case.batch_size, case.size) for case in planned.cases if case.timed] == [
        ("batch-auto", 0, "auto")
    ]


def test_a_run_without_timed_metrics_needs_no_search(config):
    assert [case.id for case in plan(config("batch=auto", "metrics=[recall]")).cases] == ["quality"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["batch=auto", "batch.sizes=[4,8]"],
            "batch.auto=true and batch.sizes=[4,8]: a run has either a search or sizes; "
            "use batch=auto without batch.sizes, or batch.sizes=[4,8] without batch.auto",
        ),
        (["batch=auto", "batch.margin=1"], "batch.margin=1.0: must be less than 1"),
        (["batch=auto", "batch.margin=-0.1"], "batch.margin=-0.1: must be at least 0"),
        (["batch=auto", "batch.max_memory_mib=0"], "batch.max_memory_mib=0: must be at least 1"),
        (["batch=auto", "batch.largest=0"], "batch.largest=0: must be at least 1"),
        (
            ["batch=small", "batch.max_memory_mib=500"],
            "batch.max_memory_mib=500: only batch=auto uses it; add batch=auto, or remove it",
        ),
    ],
)
def test_wrong_values_are_refused(config, words, message):
    with pytest.raises(ConfigError) as refused:
        plan(config(*words))
    assert str(refused.value) == message


def test_a_device_that_does_not_report_its_memory_is_refused(config, monkeypatch):
    monkeypatch.setattr(planning, "LimitsMemory", Counted)  # a protocol that the CPU does not have
    with pytest.raises(ConfigError, match=r"batch=auto: device=cpu does not report its memory; give batch.sizes="):
        plan(config("batch=auto", "device=cpu"))


# ---------------------------------------------------------------------------------------------------------------- a run
def run(config, tmp_path, fault="none", at_batch=1, **keys):
    """Run `own_parts` with batch=auto, and return its folder and rows."""
    fork_server()
    model = replace(config.model, options={"fault": fault, "at_batch": at_batch})
    config = replace(config, model=model, batch=BatchConfig(sizes=[], auto=True, **keys))
    folder = RunFolder.create(tmp_path / f"run_{fault}", yaml.safe_dump(asdict(config)))
    rows = runner.run(config, plan(config), folder, "a sweep", lambda _: None, {})
    return folder, rows


@pytest.mark.parametrize(("fault", "shown"), [("memory", "out of memory"), ("kill", "killed")])
def test_the_row_has_the_largest_size_that_did_not_fail_and_the_sizes_that_were_tried(
    own_config, tmp_path, fault, shown
):
    folder, (row,) = run(own_config, tmp_path, fault, 11, largest=64)
    assert (row.case.id, row.case.batch_size, row.status) == ("batch-10", 10, core.OK)
    assert row.labels["batch_requested"] == "auto"
    tried = dict(entry.split(": ") for entry in row.labels["batch_tried"].split("; "))
    assert tried["11"] == shown
    assert tried["10"].endswith(" MiB")
    assert "free memory of the" in row.labels["batch_limit"] and "margin of 10%" in row.labels["batch_limit"]
    record = folder.record()
    assert [case.id for case in record.plan.cases] == ["batch-10"]
    assert record.plan.batch_search.batch_size == 10
    assert record.seconds["search"] > 0


def test_a_limit_that_not_even_one_image_fits_is_a_failed_case(own_config, tmp_path):
    folder, (row,) = run(own_config, tmp_path, max_memory_mib=1)
    assert (row.case.id, row.status) == ("batch-1", core.FAILED)
    assert row.reason.startswith("batch=auto: batch size 1 does not fit (")
    assert row.reason.endswith("MiB, and the limit is 0.9 MiB: 1.0 MiB (batch.max_memory_mib) without a margin of 10%)")
    assert folder.record().status == "failed"


def test_an_error_that_is_not_about_memory_ends_the_search(own_config, tmp_path):
    folder, (row,) = run(own_config, tmp_path, "raise", 8)
    assert (row.case.id, row.status) == ("batch-8", core.FAILED)
    assert row.reason.startswith("batch=auto: the trial of batch size 8 failed: RuntimeError: the third layer")
    assert str(folder.log) in row.reason


def test_the_smaller_of_two_limits_counts():
    labels = batch_search._labels([], [MemoryLimit(100 * MIB, "batch.max_memory_mib"), MemoryLimit(MIB, "a test")], 0)
    assert labels["batch_limit"] == "1.0 MiB: 1.0 MiB (a test) without a margin of 0%"


def test_a_second_run_of_the_same_configuration_measures_the_same_size(own_config, tmp_path, monkeypatch):
    _, (first,) = run(own_config, tmp_path / "a", "memory", 5, largest=8)
    monkeypatch.setattr(batch_search, "search_in_processes", None)
    _, (second,) = run(own_config, tmp_path / "b", "memory", 5, largest=8)
    assert first.case == second.case
    assert first.labels["batch_tried"] == second.labels["batch_tried"]


def test_a_search_without_a_size_is_repeated_by_a_later_session(own_config, tmp_path, monkeypatch):
    folder, _ = run(own_config, tmp_path, "raise", 3)
    monkeypatch.setattr(runner, "_searches", {})
    config = replace(own_config, batch=BatchConfig(sizes=[], auto=True, largest=4))
    rows = runner.run(config, plan(config), folder, "a sweep", lambda _: None, {}, folder.record())
    assert [(row.case.id, row.status) for row in rows] == [("batch-4", core.OK)]
    assert [case.id for case in folder.record().plan.cases] == ["batch-4"]
    assert folder.record().status == "finished"


# ---------------------------------------------------------------------------------------------------------- the command
AUTO = ["run", "model=clip_tiny", "metrics=[throughput,memory]", "batch=auto", *FEW_CALLS, "tracking=none"]


def rows_of(folder):
    (path,) = folder.glob("outputs/*")
    return RunFolder(path).record(), RunFolder(path).results()


def test_clip_tiny_gets_the_largest_size_below_a_memory_limit_and_resume_keeps_it(tmp_path):
    smallest = call(tmp_path / ".", *AUTO, "batch.largest=1", "output_dir=outputs/smallest")
    assert smallest.returncode == 0, smallest.stderr
    (path,) = tmp_path.glob("outputs/smallest/*")
    (row,) = RunFolder(path).results()
    peak = float(row.labels["batch_tried"].removeprefix("1: ").removesuffix(" MiB"))

    limit = math.ceil(peak) + 8
    words = [*AUTO, f"batch.max_memory_mib={limit}", "batch.margin=0", "output_dir=outputs/limited"]
    dry = call(tmp_path, *words, "--dry-run")
    assert dry.returncode == 0 and "batch-auto" in dry.stdout
    done = call(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/limited/*")
    (row,) = RunFolder(path).results()
    tried = dict(entry.split(": ") for entry in row.labels["batch_tried"].split("; "))
    peaks = {int(size): float(text.split()[0].replace(",", "")) for size, text in tried.items()}
    sizes = steps(LARGEST)
    size = row.case.batch_size
    assert size > 1
    assert peaks[size] <= limit + 0.05
    assert peaks[sizes[sizes.index(size) + 1]] >= limit - 0.05
    assert row.metrics.values["memory_process_peak_mib"] < 1.1 * limit
    assert f"batch {size}" in done.stdout

    resumed = call(tmp_path, "run", f"resume={path.name}", "output_dir=outputs/limited", "retry=failed")
    assert resumed.returncode == 0, resumed.stderr
    assert "nothing to measure, 1 result kept" in resumed.stdout
    repeated = call(tmp_path, "run", f"resume={path.name}", "output_dir=outputs/limited", "retry=all")
    assert repeated.returncode == 0, repeated.stderr
    assert "search" not in repeated.stdout
    (again,) = RunFolder(path).results()
    assert again.case == row.case
    assert again.labels["batch_tried"] == row.labels["batch_tried"]


def test_all_processes_of_a_run_measure_the_same_size(tmp_path):
    done = call(tmp_path, *AUTO, "batch.largest=3", "measure.repeats=2")
    assert done.returncode == 0, done.stderr
    record, (row,) = rows_of(tmp_path)
    assert (row.case.id, row.labels["processes"], row.labels["batch_requested"]) == ("batch-3", "2", "auto")
    assert record.plan.batch_search.batch_size == 3
    assert done.stdout.count("batch 3  search") == 1
