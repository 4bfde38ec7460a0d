"""The expected time of a case is that of the same case, under the same settings, in the latest result on this host."""

import os
from dataclasses import replace

import pytest
from saved_runs import BATCH, row, save

from visionbench.records.identity import Identity
from visionbench.results.durations import Durations

TWO = replace(BATCH, id="batch-2", batch_size=2)


@pytest.fixture
def output(tmp_path):
    for age, (name, seconds) in enumerate([("new", 4.0), ("old", 7.0)]):
        folder = save(tmp_path / name, row(), row(TWO, "failed", "x"), case_seconds={"": 2.0, "batch-1": seconds})
        os.utime(folder.path / "run.json", (1e9 - age, 1e9 - age))
    return tmp_path


def identity(folder, **settings):
    one = Identity.of_record(save(folder, row(), **settings).record())
    return one


def test_the_time_of_a_case_is_that_of_its_latest_result(output, tmp_path_factory):
    durations, same = Durations.read(output, "box"), identity(tmp_path_factory.mktemp("other") / "run")
    assert durations.of_case(same, BATCH) == 4.0
    assert durations.of_start(same) == 2.0


def test_failed_cases_other_settings_and_other_hosts_have_no_time(output, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    durations, same = Durations.read(output, "box"), identity(folder / "one")
    assert durations.of_case(same, TWO) is None
    assert durations.of_case(identity(folder / "two", config={"model": {"seed": 1}}), BATCH) is None
    assert Durations.read(output, "another").of_case(same, BATCH) is None


def test_a_damaged_run_costs_only_its_own_times(output, tmp_path_factory):
    (output / "new" / "results.jsonl").write_text("{\n")
    (output / "gone").mkdir()
    (output / "gone" / "run.json").symlink_to(output / "nothing")
    same = identity(tmp_path_factory.mktemp("other") / "run")
    assert Durations.read(output, "box").of_case(same, BATCH) == 7.0


def test_a_negative_time_of_a_damaged_run_is_not_used(output, tmp_path_factory):
    same = identity(tmp_path_factory.mktemp("other") / "run")
    path = output / "new" / "run.json"
    path.write_text(path.read_text().replace("4.0", "-4.0"))
    os.utime(path, (2e9, 2e9))
    assert Durations.read(output, "box").of_case(same, BATCH) == 7.0
