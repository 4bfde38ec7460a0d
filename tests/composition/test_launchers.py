"""Sweeps whose runs other processes measure: in parallel, with submitit, with Ray, and with launchers of Hydra."""

import json
import re
import shutil
from importlib.util import find_spec

import faulty_job
import pytest
from command_line import FEW_CALLS, call

WORDS = ["-m", "batch=single", "metrics=[latency]", "tracking=none", "hydra.sweep.dir=outputs/sweep", *FEW_CALLS]


LAUNCHERS = [["hydra/launcher=basic"]]


def records(folder):
    return [json.loads(path.read_text()) for path in sorted((folder / "outputs" / "sweep").glob("*/run.json"))]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_job_measures_alone_with_the_id_of_the_sweep(tmp_path, launcher):
    done = call(tmp_path, "run", *WORDS, "model.seed=0,1", *launcher)
    assert done.returncode == 0, done.stderr
    assert [(run["sweep"], run["status"], run["config"]["model"]["seed"]) for run in records(tmp_path)] == [
        ("sweep", "finished", 0),
        ("sweep", "finished", 1),
    ]
    listed = call(tmp_path, "results", "sweep")
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:4]] == ["seed", "0", "1"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_refused_job_is_exit_code_2_and_the_others_are_measured(tmp_path, launcher):
    done = call(tmp_path, "run", *WORDS, "model.weights=randm,random", *launcher)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "visionbench: model.weights=randm: no such value; did you mean 'random'?"
    assert [run["config"]["model"]["weights"] for run in records(tmp_path)] == ["random"]


# ------------------------------------------------------------------------------- launchers that prepare the whole sweep
PARALLEL = ["hydra.launcher.parallel=true"]
FAULTS = {
    "none": ("finished", "ok", ""),
    "raise": ("failed", "failed", "RuntimeError: the third layer is upside down"),
    "kill": ("failed", "killed", "the measuring process was killed by SIGKILL"),
    "exit": ("failed", "killed", "the measuring process ended by itself with exit code 3"),
    "kill_job": ("failed", "killed", "the process of the run was killed by SIGKILL"),
}
"""The status of the run, the status of its case, and the reason."""


def rows(folder):
    """The status of the run, of its case, and the reason, by the fault of the run."""
    found = {}
    for path in (folder / "outputs" / "sweep").glob("*/run.json"):
        record = json.loads(path.read_text())
        (row,) = [json.loads(line) for line in (path.parent / "results.jsonl").read_text().splitlines()]
        found[record["config"]["model"]["options"]["fault"]] = (record["status"], row["status"], row["reason"] or "")
    return found


def check_faults(folder, faults, *launcher, **env):
    """Run a job with each fault, and check their rows, the exit code, the table and the report."""
    config_dir = faulty_job.write_config(folder)
    words = [*WORDS, "--config-dir", config_dir, "model=faulty", f"model.options.fault={','.join(faults)}"]
    done = call(folder, "run", *words, *launcher, **env)
    found = rows(folder)
    assert {fault: row[:2] for fault, row in found.items()} == {fault: row[:2] for fault, row in faults.items()}
    assert [row for fault, row in found.items() if not re.match(faults[fault][2], row[2])] == []
    assert done.returncode == 1, done.stderr
    assert (folder / "outputs" / "sweep" / "report.html").is_file()
    assert "fault" in done.stdout
    return done


def test_parallel_runs_have_disjoint_cores_and_the_names_of_their_sweep(tmp_path):
    done = call(tmp_path, "run", *WORDS, "model.seed=0,1", *PARALLEL)
    assert done.returncode == 0, done.stderr
    runs = records(tmp_path)
    assert [run["plan"]["name"] for run in runs] == [
        "clip_tiny · cpu · fp32 · seed 0",
        "clip_tiny · cpu · fp32 · seed 1",
    ]
    assert [run["plan"]["varied"] for run in runs] == [{"model.seed": "0"}, {"model.seed": "1"}]
    assert [run["device"]["cores_usable"] for run in runs] == [1, 1]
    if len({run["device"]["cores"] for run in runs}) == 2:  # this machine has two cores
        assert all("up to 1 other run of the sweep" in run["plan"]["beside"] for run in runs)
        row = json.loads(next(tmp_path.glob("outputs/sweep/0*/results.jsonl")).read_text())
        assert f"parallel: {runs[0]['plan']['beside']}" in row["validity"]["reasons"]
        assert row["labels"]["other_runs"] == runs[0]["plan"]["beside"]


def test_a_parallel_run_that_fails_in_any_way_is_a_row_and_the_others_continue(tmp_path):
    check_faults(tmp_path, FAULTS, *PARALLEL)


HAS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
RAY = pytest.param(["hydra/launcher=ray"], marks=HAS_RAY)


@HAS_RAY
def test_a_run_that_fails_in_any_way_on_ray_is_a_row_and_the_others_continue(tmp_path):
    faults = {fault: FAULTS[fault] for fault in ("none", "kill_job")}
    faults["kill_worker"] = ("failed", "killed", r"the process of the task ended \(WorkerCrashedError")
    done = check_faults(tmp_path, faults, "hydra/launcher=ray")
    assert "submitted 3 tasks to Ray" in done.stdout


@HAS_RAY
def test_resources_that_ray_does_not_have_are_refused(tmp_path):
    done = call(tmp_path, "run", *WORDS, "hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=99")
    assert done.returncode == 2
    assert "visionbench: hydra.launcher.ray.remote.num_gpus=99: the cluster has " in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("launcher", [PARALLEL, RAY])
def test_a_wrong_run_is_refused_before_any_job_starts(tmp_path, launcher):
    done = call(tmp_path, "run", *WORDS, "model.weights=randm,random", *launcher)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "visionbench: model.weights=randm: no such value; did you mean 'random'?\n"
    assert list(tmp_path.iterdir()) == []


def test_slurm_without_its_commands_is_refused(tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "git").symlink_to(shutil.which("git"))
    done = call(tmp_path, "run", *WORDS, "hydra/launcher=submitit_slurm", PATH=str(commands))
    assert done.returncode == 2
    assert "submitit is not installed" in done.stderr or "there is no command sbatch" in done.stderr
