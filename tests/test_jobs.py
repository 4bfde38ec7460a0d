"""Runs that other processes measure: which GPU each gets, and the rows of runs whose process ended early."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from command_line import plan_runs

from visionbench import jobs, registry, runner
from visionbench.config import ComposedConfig, ComposedRun
from visionbench.core import ConfigError
from visionbench.devices.cpu import Cpu
from visionbench.engines import End, Job
from visionbench.parts import devices_of_other_machines, find_device
from visionbench.records.folder import RunFolder
from visionbench.records.record import Host
from visionbench.session import Outcome


@dataclass
class FourGpus(Cpu):
    """A device of which there are four."""

    @property
    def id(self):
        return f"four_gpus:{self.index}"

    def count(self):
        return 4


@pytest.fixture
def composed(compose, monkeypatch):
    """Overrides to a run that Hydra composed, on a machine with four GPUs."""
    monkeypatch.setitem(registry._registered, ("devices", "four_gpus"), FourGpus)

    def composed(*overrides):
        config = ComposedConfig.of(compose("device=cpu", *overrides))
        return ComposedRun(config.with_changes({"device.name": "four_gpus"}), overrides)

    return composed


def indices(runs):
    return [run.config.values.device.index for run in runs]


@pytest.mark.parametrize(("gpus", "expected"), [("auto", [0, 1, 2, 3, 0]), ([3, 1], [3, 1, 3, 1, 3]), (None, [0] * 5)])
def test_runs_get_the_gpus_in_turn(composed, gpus, expected):
    assert indices(jobs.assign_gpus([composed()] * 5, gpus)) == expected


def test_a_run_on_the_cpu_gets_no_gpu(composed, compose):
    cpu = ComposedRun(ComposedConfig.of(compose("device=cpu")))
    assert indices(jobs.assign_gpus([composed(), cpu, composed()], [2, 3])) == [2, 0, 3]


def test_gpus_without_a_run_that_uses_them_are_refused(compose):
    with pytest.raises(ConfigError, match=r"^hydra.launcher.gpus=auto: no run of the sweep uses a GPU"):
        jobs.assign_gpus([ComposedRun(ComposedConfig.of(compose("device=cpu")))], "auto")


def test_two_selections_of_a_gpu_are_refused(composed):
    with pytest.raises(ConfigError, match="both select GPUs"):
        jobs.assign_gpus([composed("device.index=2")], "auto")


def test_a_machine_without_a_gpu_prepares_runs_for_machines_with_one(config):
    device = config("device=auto").device
    with devices_of_other_machines():
        assert find_device(device).kind == "cuda"
        assert find_device(replace(device, name="cuda", index=7)).id == "cuda:7"
    assert find_device(device).kind in ("cpu", "cuda")


@pytest.fixture
def plan():
    ((_, plan),) = plan_runs(["device=cpu", "batch.sizes=[1,2]", "metrics=[latency]"])
    return plan


def test_a_job_that_never_started_has_a_row_for_each_case(tmp_path, plan):
    folder = runner.close(tmp_path / "run", CONFIG, plan, "sweep", "no node was free")
    assert [(row.case.id, row.status, row.reason) for row in folder.results()] == [
        ("batch-1", "not_run", "no node was free"),
        ("batch-2", "not_run", "no node was free"),
    ]
    assert folder.record().status == "failed"


def test_the_rows_of_a_job_that_was_killed_are_kept(tmp_path, plan):
    started = runner.close(tmp_path / "run", CONFIG, plan, "sweep", "killed")
    lines = (started.path / "results.jsonl").read_text().splitlines()
    (started.path / "results.jsonl").write_text(lines[0].replace("killed", "measured") + "\n" + lines[1][:20])
    host = Host.from_fingerprint({"host": "node7"})
    started.write_record(replace(started.record(), status="running", host=host))
    rows = runner.close(started.path, CONFIG, plan, "sweep", "the time limit was exceeded").results()
    assert [(row.status, row.reason) for row in rows] == [
        ("not_run", "measured"),
        ("killed", "the time limit was exceeded"),
    ]


def test_a_run_that_ended_is_not_changed(tmp_path, plan):
    folder = runner.close(tmp_path / "run", CONFIG, plan, "sweep", "killed")
    before = (folder.path / "results.jsonl").read_text()
    assert RunFolder(runner.close(folder.path, CONFIG, plan, "sweep", "again").path).results() == folder.results()
    assert (folder.path / "results.jsonl").read_text() == before


@pytest.mark.parametrize("reason", ["", "the process of the task ended"])
def test_the_line_of_a_job_names_the_device_that_it_used(tmp_path, plan, reason, monkeypatch, capsys):
    """`device=auto` is planned for a GPU, and the machine of the job may have none."""
    lines = []
    started = runner.close(tmp_path / "run", CONFIG, plan, "sweep", "killed")
    planned = replace(plan, name=plan.name.replace("cpu", "cuda:0"), device="cuda:0")
    place = SimpleNamespace(folder=started.path, sweep="sweep")
    run = SimpleNamespace(plan=planned, yaml=CONFIG, request=SimpleNamespace(place=place))
    prepared = SimpleNamespace(runs=[run], previous=[run], queue=SimpleNamespace(unsent=[]))
    monkeypatch.setattr(jobs, "show", lambda prepared, line: lines.append(line))
    job = Job(0, planned.name, started.path, lambda beside: 0)
    jobs.add_end(prepared, job, End(int(bool(reason)), reason), Outcome())
    assert lines == [f"{plan.name}  failed"]
    assert capsys.readouterr().err == (f"visionbench: {plan.name}: {reason}\n" if reason else "")


CONFIG = """\
model: {name: clip_tiny, family: dual_encoder, weights: pretrained}
data: {name: shapes}
"""
