"""Runs are matched by their settings; only cases without a valid result are measured; conditions are never mixed."""

from dataclasses import replace

import pytest
from saved_runs import BATCH, record, row, save

from visionbench.core import Case, ConfigError
from visionbench.records import identity
from visionbench.records.identity import Identity
from visionbench.resume.choices import Choices
from visionbench.resume.earlier import EarlierSweep
from visionbench.resume.matching import Planned, assign, unplanned

SWEEP = "2026-01-02_03-04-05"
TWO = replace(BATCH, id="batch-2", batch_size=2)
QUALITY = Case("quality", 32, ("evaluation",), ("recall",))
CASES = (BATCH, TWO, QUALITY)


def planned(tmp_path, name="0_new", cases=CASES, processes=1, **more):
    one = record(cases=cases, **more)
    folder = tmp_path / SWEEP / name
    return Planned(one.plan, Identity.of_record(one), processes, processes > 1, folder)


def earlier(tmp_path, *rows, name="0_old", cases=CASES, **more):
    """Save a run of the sweep that planned all cases and has these rows."""
    folder = save(tmp_path / SWEEP / name, *rows, **more)
    plan = replace(folder.record().plan, cases=cases)
    folder.write_record(replace(folder.record(), plan=plan))
    return folder.path


def match(tmp_path, *runs, retry=(), on_change=None, with_overrides=False):
    sweep = EarlierSweep.find(tmp_path, SWEEP)
    return assign(sweep, runs, Choices.parse(retry, on_change, with_overrides))


def measured(assignment):
    return {case: reason for (_, case), reason in assignment.needed.items()}


def test_only_cases_without_a_valid_result_are_measured_in_the_folder_of_their_run(tmp_path):
    path = earlier(tmp_path, row(), row(TWO, "killed", "killed by SIGKILL"))
    (assignment,) = match(tmp_path, planned(tmp_path))
    assert assignment.folder == path
    assert measured(assignment) == {"batch-2": "killed", "quality": "no result"}
    assert assignment.kept == {"batch-1": "valid"}


def test_a_complete_run_is_not_measured(tmp_path):
    earlier(tmp_path, row(), row(TWO, verdict="warned", reasons=["autocorrelated: 0.4"]), row(QUALITY))
    (assignment,) = match(tmp_path, planned(tmp_path))
    assert assignment.is_complete
    assert assignment.kept["batch-2"] == "warned: autocorrelated"


ALL_RESULTS = [
    (row(TWO), "valid"),
    (row(TWO, verdict="warned", reasons=["run_delay: 3 %"]), "warned"),
    (row(TWO, verdict="invalid", reasons=["run_delay: 30 %"]), "invalid"),
    *[(row(TWO, status, "x"), status) for status in ("failed", "killed", "interrupted", "not_run")],
    *[(row(TWO, status, "x"), status) for status in ("out_of_memory", "skipped_after_oom")],
]


@pytest.mark.parametrize(("result", "name"), ALL_RESULTS, ids=[name for _, name in ALL_RESULTS])
@pytest.mark.parametrize(
    ("retry", "names"),
    [
        ((), {"failed", "killed", "interrupted", "not_run", "invalid"}),
        (("failed",), {"failed", "killed", "interrupted", "not_run"}),
        (("invalid",), {"invalid"}),
        (("invalid", "warned"), {"invalid", "warned"}),
        (("killed",), {"killed"}),
        (("out_of_memory",), {"out_of_memory", "skipped_after_oom"}),
        (("lost",), set()),
        (("all",), {name for _, name in ALL_RESULTS}),
    ],
)
def test_retry_names_the_results_that_are_measured_again(tmp_path, result, name, retry, names):
    earlier(tmp_path, row(), result)
    (assignment,) = match(tmp_path, planned(tmp_path), retry=retry)
    assert ("batch-2" in measured(assignment)) == (name in names)
    assert "quality" in measured(assignment)


def test_an_unknown_word_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="^retry=invalid,faild: there is no result 'faild'; did you mean 'failed'"):
        Choices.parse(("invalid", "faild"))
    with pytest.raises(ConfigError, match="^on_change=mesure: no such value; did you mean 'measure'"):
        Choices.parse((), "mesure")


def test_runs_are_matched_by_settings_and_not_by_folders(tmp_path):
    first = earlier(tmp_path, row(), name="0_a", config={"model": {"seed": 1}})
    second = earlier(tmp_path, row(), name="1_b", config={"model": {"seed": 0}})
    runs = [planned(tmp_path, "0_a"), planned(tmp_path, "1_b", config={"model": {"seed": 1}})]
    assert [one.folder for one in match(tmp_path, *runs)] == [second, first]


def test_runs_with_equal_settings_have_different_folders(tmp_path):
    paths = [earlier(tmp_path, row(), name=name) for name in ("0_a", "1_b")]
    runs = [planned(tmp_path, name) for name in ("0_a", "1_b", "2_c")]
    assert [one.folder for one in match(tmp_path, *runs)] == [*paths, tmp_path / SWEEP / "2_c"]


def test_a_further_batch_size_is_measured_in_the_same_run(tmp_path):
    path = earlier(tmp_path, row(), cases=(BATCH,))
    (assignment,) = match(tmp_path, planned(tmp_path, config={"batch": {"sizes": [1, 2]}}))
    assert (assignment.folder, set(measured(assignment))) == (path, {"batch-2", "quality"})


def test_a_case_with_other_options_of_its_metrics_is_measured_again(tmp_path):
    earlier(tmp_path, row(), row(TWO), row(QUALITY))
    (assignment,) = match(tmp_path, planned(tmp_path, config={"metrics": {"recall": {"ks": [1]}}}))
    assert measured(assignment) == {"quality": "other metrics"}


def test_another_model_is_a_new_run_of_the_sweep_and_the_others_are_unchanged(tmp_path):
    earlier(tmp_path, row())
    one = record("sam_tiny", cases=CASES, config={"model": {"name": "sam_tiny"}})
    run = Planned(one.plan, Identity.of_record(one), 1, False, tmp_path / SWEEP / "0_old")
    sweep = EarlierSweep.find(tmp_path, SWEEP)
    (assignment,) = assign(sweep, [run], Choices.parse())
    assert assignment.folder == tmp_path / SWEEP / "0_old_2"
    assert set(measured(assignment)) == {"batch-1", "batch-2", "quality"}
    assert [other.name for other in unplanned(sweep, [assignment])] == ["clip_tiny · cpu · fp32"]


CHANGES = [
    ({"host": {"torch": "2.12.0"}}, "torch 2.12.0 → 2.13.0"),
    ({"device": {"driver": "550.1"}}, None),
    ({"device": {"threads": 4}}, "device.threads 4 → 2"),
    ({"host": {"host": "other"}}, "host other → box"),
    ({"config": {"model": {"seed": 7}}}, "model.seed 7 → 0"),
    ({"config": {"measure": {"latency": {"calls": 19}}}}, "measure.latency.calls 19 → 20"),
]


@pytest.mark.parametrize("with_overrides", [False, True])
@pytest.mark.parametrize(("more", "text"), CHANGES)
def test_changed_conditions_are_refused_with_what_differs(tmp_path, more, text, with_overrides):
    earlier(tmp_path, row(), **more)
    if text is None:  # only one side knows it
        assert match(tmp_path, planned(tmp_path))
        return
    with pytest.raises(ConfigError) as caught:
        match(tmp_path, planned(tmp_path), with_overrides=with_overrides)
    alone = ""
    if "config" in more and with_overrides:
        alone = f"give resume={SWEEP} without overrides to repeat the command of the sweep; "
    assert str(caught.value).startswith(
        f"resume={SWEEP}: conditions changed since clip_tiny · cpu · fp32 was measured: {text}; {alone}"
        "on_change=measure measures 3 cases of 1 run again"
    )
    assert "\n" not in str(caught.value)


def test_on_change_measure_measures_all_cases_as_another_run(tmp_path):
    path = earlier(tmp_path, row(), host={"torch": "2.12.0"})
    (assignment,) = match(tmp_path, planned(tmp_path), on_change="measure")
    assert assignment.folder != path and assignment.joined is None
    assert measured(assignment) == {"batch-1": "other conditions", "batch-2": "no result", "quality": "no result"}
    ((moved, cases),) = assignment.moved
    assert (moved.path, cases) == (path, {"batch-2", "quality"})


def test_on_change_keep_measures_only_missing_cases_as_another_run(tmp_path):
    path = earlier(tmp_path, row(), host={"torch": "2.12.0"})
    (assignment,) = match(tmp_path, planned(tmp_path), on_change="keep")
    assert assignment.folder != path and assignment.joined is None
    assert set(measured(assignment)) == {"batch-2", "quality"}
    assert assignment.kept == {"batch-1": "valid, measured under other conditions"}


def test_a_second_resume_continues_the_run_of_the_present_conditions(tmp_path):
    earlier(tmp_path, row(), row(TWO), row(QUALITY), name="0_old", host={"torch": "2.12.0"})
    path = earlier(tmp_path, row(TWO), name="0_old_2")
    (assignment,) = match(tmp_path, planned(tmp_path), on_change="measure")
    assert (assignment.folder, set(measured(assignment))) == (path, {"batch-1", "quality"})
    (assignment,) = match(tmp_path, planned(tmp_path), on_change="keep")
    assert assignment.is_complete


def test_a_run_without_numbers_is_replaced_under_other_conditions(tmp_path):
    path = earlier(tmp_path, row(BATCH, "failed", "no kernel image"), host={"torch": "2.12.0"})
    (assignment,) = match(tmp_path, planned(tmp_path))
    assert assignment.folder == path and assignment.emptied
    assert set(measured(assignment)) == {"batch-1", "batch-2", "quality"}


def repeat(path, number, *rows, **more):
    save(path / "repeats" / str(number), *rows, **more)


def test_a_missing_process_of_a_repeated_run_is_measured(tmp_path):
    path = tmp_path / SWEEP / "0_old"
    (path / "samples").mkdir(parents=True)
    (path / "results.jsonl").touch()
    repeat(path, 1, row(), row(TWO), row(QUALITY))
    repeat(path, 2, row(), row(TWO, "interrupted", "interrupted from the keyboard"))
    (assignment,) = match(tmp_path, planned(tmp_path, processes=3, config={"measure": {"repeats": 3}}))
    assert assignment.folder == path
    assert assignment.needed == {
        (2, "batch-2"): "interrupted",
        (3, "batch-1"): "no result",
        (3, "batch-2"): "no result",
    }
    assert assignment.kept == {"quality": "valid"}


def test_a_run_of_one_process_does_not_become_a_repeated_run(tmp_path):
    earlier(tmp_path, row())
    with pytest.raises(ConfigError, match="measure.repeats 1 → 3"):
        match(tmp_path, planned(tmp_path, processes=3, config={"measure": {"repeats": 3}}))


def test_each_run_and_each_planned_run_is_digested_once(tmp_path, monkeypatch):
    config = record().config
    seeds = [{**config, "model": {**config["model"], "seed": seed}} for seed in range(6)]
    paths = [earlier(tmp_path, row(), name=f"{seed}_old", config=content) for seed, content in enumerate(seeds)]
    runs = [planned(tmp_path, config=content) for content in seeds]
    digests = []
    digest = identity._digest
    monkeypatch.setattr(identity, "_digest", lambda value: digests.append(value) or digest(value))
    assert [assignment.folder for assignment in match(tmp_path, *runs)] == paths
    assert len(digests) == len(paths) + len(runs)
