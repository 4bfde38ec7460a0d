"""Several processes for a run: their order, and the combination of their rows."""

import json
from dataclasses import replace
from platform import node

import numpy as np
import pytest
from saved_runs import record

from visionbench.core import (
    FAILED,
    INVALID,
    OK,
    VALID,
    WARNED,
    Case,
    CaseResult,
    Metrics,
    Reason,
    RunPlan,
    Samples,
    Validity,
)
from visionbench.records.folder import RunFolder
from visionbench.records.process import current
from visionbench.records.record import Repeats
from visionbench.results import archive, declared, repeats
from visionbench.results.repeats import across, combine, folders, order, planned, write

CASE = Case("batch-2", 2, ("latency",), ("latency",))
QUALITY = Case("quality", 32, ("evaluation",), ("recall",))


def row(p50=None, case=CASE, validity=None, labels=None, **values):
    values = {"latency_p50_ms": p50, **values}
    reasons = {name: "too few" for name, value in values.items() if value is None}
    return CaseResult(case, OK, None, Metrics(values, reasons), validity or Validity(), labels or {})


def gather(processes):
    return repeats.gather(processes, declared.bundled())


def failed(reason):
    return CaseResult(CASE, FAILED, reason)


# --------------------------------------------------------------------------------------------------------------- turns
def test_every_run_has_its_first_turn_before_any_has_its_second():
    turns = order([3, 3, 3, 3], seed=1)
    assert [repeat for repeat, _ in turns] == [1] * 4 + [2] * 4 + [3] * 4
    for repeat in (1, 2, 3):
        assert sorted(index for turn, index in turns if turn == repeat) == [0, 1, 2, 3]


def test_the_order_depends_only_on_the_seed_and_differs_between_rounds():
    turns = order([4] * 8, seed=5)
    assert turns == order([4] * 8, seed=5) != order([4] * 8, seed=6)
    rounds = {tuple(index for turn, index in turns if turn == repeat) for repeat in (1, 2, 3, 4)}
    assert len(rounds) == 4


def test_each_run_has_its_number_of_turns():
    turns = order([1, 3], seed=0)
    assert sorted(turns) == [(1, 0), (1, 1), (2, 1), (3, 1)]
    assert order([], seed=0) == []


def test_only_the_first_process_measures_quality():
    plan = RunPlan("a", "a", "", "cpu", "fp32", (CASE, QUALITY))
    assert planned(plan, 1).cases == (CASE, QUALITY)
    assert planned(plan, 2).cases == (CASE,)


# ----------------------------------------------------------------------------------------------------------- gathering
def test_latency_is_the_geometric_mean_with_its_interval_across_processes():
    [(result, samples)] = gather([[row(1.0)], [row(float(np.e**2))]])
    assert samples.get("across/latency_p50_ms").tolist() == [1.0, np.e**2]
    values = result.metrics.values
    assert values["latency_p50_ms"] == pytest.approx(np.e)
    assert np.log(values["latency_p50_across_processes_low_ms"]) == pytest.approx(1 - 12.7062, rel=1e-4)
    assert np.log(values["latency_p50_across_processes_high_ms"]) == pytest.approx(1 + 12.7062, rel=1e-4)
    assert result.labels["processes"] == "2"
    assert across(samples, declared.bundled()).values == values


def test_extremes_are_kept_and_equal_values_do_not_change():
    peaks = {"memory_process_peak_mib": 300.0}, {"memory_process_peak_mib": 310.0}
    first = row(1.0, latency_max_ms=5.0, latency_min_ms=0.5, load_s=0.1, latency_autocorrelation_ratio=-0.1, **peaks[0])
    second = row(1.0, latency_max_ms=9.0, latency_min_ms=0.4, load_s=0.1, latency_autocorrelation_ratio=0.3, **peaks[1])
    values = gather([[first], [second]])[0][0].metrics.values
    assert (values["latency_max_ms"], values["latency_min_ms"], values["load_s"]) == (9.0, 0.4, 0.1)
    assert values["memory_process_peak_mib"] == 310.0
    assert values["latency_autocorrelation_ratio"] == pytest.approx(0.1)


def test_a_value_that_one_process_does_not_have_is_none_with_the_reason():
    [(result, _)] = gather([[row(1.0, latency_p99_ms=2.0)], [row(1.0, latency_p99_ms=None)]])
    assert result.metrics.values["latency_p99_ms"] is None
    assert result.metrics.reasons["latency_p99_ms"] == "1 of 2 processes have none: too few"


def test_the_combined_verdict_is_the_worst_and_counts_the_processes_of_each_reason():
    invalid, doubt = (
        Validity(INVALID, (Reason("run_delay", "9 %"),)),
        Validity(WARNED, (Reason("run_delay", "3 %"), Reason("drift", "up"))),
    )
    [(result, _)] = gather([[row(1.0, validity=invalid)], [row(1.0, validity=doubt)], [row(1.0)]])
    assert result.validity == Validity(
        INVALID, (Reason("run_delay", "9 % (in 2 of 3 processes)"), Reason("drift", "up (in 1 of 3 processes)"))
    )


def test_a_process_with_the_same_reason_in_two_windows_counts_once():
    combined = Validity(WARNED, (Reason("run_delay", "latency window"), Reason("run_delay", "throughput window")))
    [(result, _)] = gather([[row(1.0, validity=combined)], [row(1.0, validity=combined)]])
    assert result.validity.reasons == (Reason("run_delay", "latency window (in 2 of 2 processes)"),)
    [(alone, _)] = gather([[row(1.0, validity=combined)]])
    assert alone.validity == combined


def test_a_doubt_about_the_interval_within_a_process_is_dropped_for_several_processes():
    doubt = Validity(WARNED, (Reason("autocorrelated", "lag 1: 0.5"),))
    [(result, _)] = gather([[row(1.0, validity=doubt)], [row(1.0, validity=doubt)]])
    assert result.validity == Validity(VALID, ())
    [(alone, _)] = gather([[row(1.0, validity=doubt)]])
    assert alone.validity == doubt


def test_a_lost_process_raises_a_doubt_and_only_lost_processes_are_a_failure():
    [(result, samples)] = gather([[row(1.0)], [failed("no luck")], [row(1.0)]])
    assert (result.status, result.validity.verdict) == (OK, WARNED)
    assert samples.flags == {"processes_lost": "1 of 3: failed: no luck"}
    [(result, samples)] = gather([[failed("no luck")], [failed("again")]])
    assert (result.status, result.reason, dict(samples.series)) == (FAILED, "no luck", {})


def test_a_label_of_a_repeated_window_has_the_number_of_its_process():
    [(result, _)] = gather([[row(1.0)], [row(1.0, labels={"latency_retried": "attempt 1: run_delay"})]])
    assert result.labels["latency_retried_of_process_2"] == "attempt 1: run_delay"


def test_the_quality_row_of_the_first_process_is_not_changed():
    [(result, _)] = gather([[row(None, case=QUALITY, recall_i2t_at_1_fraction=0.5)]])
    assert result.metrics.values["recall_i2t_at_1_fraction"] == 0.5
    assert result.validity.verdict == VALID


def test_the_combined_record_is_that_of_the_first_process_with_the_worst_status_and_all_times():
    first = record(uid="a", started_at="1", ended_at="2", status="finished", seconds={"load": 1.0})
    last = record(uid="b", started_at="3", ended_at="4", status="failed", seconds={"load": 2.0})
    combined = combine([first, last], seed=7, planned=3)
    assert (combined.uid, combined.status, combined.ended_at, combined.seconds) == ("a", "failed", "4", {"load": 3.0})
    assert combined.repeats == Repeats(planned=3, measured=2, order_seed=7, started_at=("1", "3"))


def test_the_repeats_of_a_folder_are_combined_in_the_order_of_their_numbers(tmp_path):
    folder = RunFolder.create(tmp_path / "run", "a: 1")
    for number in range(1, 12):
        repeat = folder.repeat(number)
        repeat.append(row(float(number)), Samples())
        repeat.write_record(record(started_at=str(number)))
    assert [first.path.name for first in folders(folder)] == [str(number) for number in range(1, 12)]
    write(folder, seed=0, planned=11)
    [result] = folder.results()
    assert folder.samples(result.case.id).get("across/latency_p50_ms").tolist() == [float(n) for n in range(1, 12)]
    assert json.loads((folder.path / "run.json").read_text())["repeats"]["measured"] == 11


def test_a_run_with_fewer_processes_than_planned_was_interrupted():
    finished = [record(status="finished"), record(status="finished")]
    assert combine(finished, seed=0, planned=3).status == "interrupted"
    assert combine(finished, seed=0, planned=2).status == "finished"
    only_quality = record(status="finished", cases=[QUALITY])
    assert combine([only_quality], seed=0, planned=3).status == "finished"


def test_a_process_that_did_not_start_is_a_doubt():
    [(result, samples)] = repeats.gather([[row(1.0)], [row(1.0)]], declared.bundled(), planned=3)
    assert samples.flags == {"processes_lost": "1 of 3: the process did not start"}
    assert result.validity.verdict == WARNED
    [(quality, samples)] = repeats.gather([[row(case=QUALITY, recall_i2t_at_1_fraction=0.5)]], declared.bundled(), 3)
    assert quality.validity.verdict == VALID and samples.flags == {}


# --------------------------------------------------------------------------------------- repeats without a run.json
def ungathered(path, process, statuses=("finished", "finished"), planned=3):
    """Write the folder of a run of three planned processes that the command did not gather."""
    folder = RunFolder.create(path, "a: 1")
    for number, status in enumerate(statuses, 1):
        repeat = folder.repeat(number)
        if status == "finished":
            repeat.append(row(float(number)), Samples({"latency/host_s": np.ones(3)}))
        repeat.write_record(
            replace(
                record(cases=[CASE], status=status, host={"host": node()}, config={"measure": {"repeats": planned}}),
                process=process,
            )
        )
    return folder


def test_a_killed_run_of_several_processes_is_one_lost_run_with_those_that_exist(tmp_path):
    folder = ungathered(tmp_path / "a", replace(current(), started=1))
    (run,) = archive.read(tmp_path, pytest.fail)
    assert (run.record.status, run.record.repeats.planned, run.record.repeats.measured) == ("lost", 3, 2)
    assert [str(reason) for reason in run.results[0].validity.reasons] == [
        "processes_lost: 1 of 3: the process did not start",
        "processes_differ: the medians of 2 processes differ: p50 ms is known to ±4,087%, not ±10%",
    ]
    assert run.samples(CASE.id).get("across/latency_p50_ms").tolist() == [1.0, 2.0]
    assert run.samples_of_first_process(CASE.id).get("latency/host_s").tolist() == [1.0, 1.0, 1.0]
    assert not (folder.path / "run.json").exists()


def test_a_process_that_was_killed_in_a_killed_run_is_lost(tmp_path):
    ungathered(tmp_path / "a", replace(current(), started=1), ("running", "running"))
    (run,) = archive.read(tmp_path, pytest.fail)
    assert [(one.status, one.reason) for one in run.results] == [("lost", archive.NO_ROW)]
    assert run.record.status == "lost"


def test_the_repeats_of_a_running_command_are_pending(tmp_path):
    ungathered(tmp_path / "a", current())
    (run,) = archive.read(tmp_path, pytest.fail)
    assert [(one.status, one.reason) for one in run.results] == [
        ("pending", "not measured yet (2 of 3 processes have started)")
    ]
    assert run.record.status == "running"


def test_a_damaged_process_of_a_killed_run_is_named_and_the_others_are_gathered(tmp_path):
    folder = ungathered(tmp_path / "a", replace(current(), started=1))
    (folder.path / "repeats" / "2" / "run.json").write_text("{")
    (folder.path / "repeats" / "notes").mkdir()
    (folder.path / "repeats" / "notes" / "run.json").write_text("{}")
    damaged = []
    (run,) = archive.read(tmp_path, damaged.append)
    assert run.record.repeats.measured == 1
    assert [one.path for one in damaged] == [folder.path] and "repeats/2" in damaged[0].reason


def test_a_run_that_is_killed_while_its_repeats_are_gathered_has_no_record_yet(tmp_path, monkeypatch):
    folder = ungathered(tmp_path / "a", replace(current(), started=1))

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "write_record", fail)
    with pytest.raises(KeyboardInterrupt):
        write(folder, seed=0, planned=3)
    (run,) = archive.read(tmp_path, pytest.fail)
    assert (run.record.status, [one.status for one in run.results]) == ("lost", ["ok"])


# -------------------------------------------------------------------------------------------- processes that differ
def test_a_result_that_is_known_too_imprecisely_across_processes_is_questionable():
    """The medians of CLIP at batch size 8 on an H200."""
    [(result, _)] = gather([[row(13.57)], [row(9.46)]])
    assert result.validity == Validity(
        WARNED,
        (Reason("processes_differ", "the medians of 2 processes differ: p50 ms is known to ±490%, not ±10%"),),
    )


def test_throughput_is_checked_as_latency_is():
    rows = [[row(10.0, throughput_images_per_s=rate)] for rate in (100.0, 120.0)]
    [(result, _)] = gather(rows)
    [reason] = result.validity.reasons
    assert reason.kind == "processes_differ"
    assert reason.detail.startswith("the rates of 2 processes differ: img/s is known to ±")


@pytest.mark.parametrize(("within", "verdict"), [(0.02, WARNED), (0.1, VALID), (0.5, VALID)])
def test_the_interval_across_processes_may_extend_by_the_configured_fraction(within, verdict):
    rows = [[row(value)] for value in (10.0, 10.3, 10.1, 9.7, 9.9)]
    [(result, _)] = repeats.gather(rows, declared.bundled(), within=within)
    assert result.metrics.values["latency_p50_across_processes_half_width_fraction"] == pytest.approx(0.0284, abs=1e-3)
    assert result.validity.verdict == verdict


def test_an_invalid_process_keeps_the_combined_row_invalid_if_processes_differ():
    invalid = Validity(INVALID, (Reason("paused", "40 s"),))
    [(result, _)] = gather([[row(13.57, validity=invalid)], [row(9.46)]])
    assert result.validity.verdict == INVALID
    assert [reason.kind for reason in result.validity.reasons] == ["processes_differ", "paused"]


def test_one_process_has_no_difference():
    [(result, _)] = gather([[row(13.57)]])
    assert result.validity == Validity(VALID, ())


def test_latency_and_throughput_of_a_combined_row_come_from_the_same_processes():
    rows = [[row(10.0, throughput_images_per_s=100.0)], [row(10.0)], [failed("no luck")]]
    [(result, samples)] = gather(rows)
    assert result.metrics.values["throughput_images_per_s"] is None
    assert len(samples.get("across/latency_p50_ms")) == 2
    assert result.labels["processes"] == "2"
