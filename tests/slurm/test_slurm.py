"""Sweeps on a SLURM cluster of one node, which `one_node.sh` starts. Skipped if SLURM is not installed.

Debian's packages: slurmctld slurmd slurmdbd slurm-client munge mariadb-server. `.ci/run` installs them with CI=true and
VISIONBENCH_SLURM=1.
"""

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import FEW_CALLS, call
from composition.test_launchers import FAULTS, WORDS, check_faults, records

COMMANDS = ("sbatch", "slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db")
LAUNCHER = ["hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=2"]
GPUS = 2

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or find_spec("submitit") is None or not all(map(shutil.which, COMMANDS)),
    reason="SLURM of Debian and submitit are not installed, or this user is not root",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of one node with simulated GPUs; the environment of its commands."""
    folder = tmp_path_factory.mktemp("slurm")
    port = 20_000 + os.getpid() % 10_000 * 3
    script = Path(__file__).with_name("one_node.sh")
    process = subprocess.Popen([script, folder, str(GPUS), str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    process.stdout.close()


def test_a_run_that_fails_in_any_way_on_slurm_is_a_row_and_the_others_continue(tmp_path, cluster):
    faults = {fault: FAULTS[fault] for fault in ("none", "kill_job")}
    faults["kill_worker"] = ("failed", "killed", r"the job \d+_2 ended without a result \(state \w+\); its log is ")
    done = check_faults(tmp_path, faults, *LAUNCHER, **cluster)
    assert "submitted 3 jobs" in done.stdout


def test_runs_on_slurm_have_the_names_of_their_sweep_and_a_gpu_each(tmp_path, cluster):
    done = call(tmp_path, "run", *WORDS, "model.seed=0,1", *LAUNCHER, "hydra.launcher.gpus_per_node=1", **cluster)
    assert done.returncode == 0, done.stderr
    assert [run["plan"]["varied"] for run in records(tmp_path)] == [{"model.seed": "0"}, {"model.seed": "1"}]
    assert "seed" in done.stdout and (tmp_path / "outputs" / "sweep" / "report.html").is_file()


def test_a_gpu_is_checked_on_the_node_and_not_on_the_login_node(tmp_path, cluster):
    words = ["-m", "batch=single", "metrics=[latency]", "tracking=none", "device=cuda", "device.index=7", *FEW_CALLS]
    done = call(tmp_path, "run", *words, "model.seed=0,1", *LAUNCHER, "hydra.sweep.dir=outputs/sweep", **cluster)
    assert done.returncode == 1
    assert done.stderr.count("device=cuda, device.index=7: ") == 2


def test_a_job_that_slurm_refuses_is_one_line_and_leaves_no_results(tmp_path, cluster):
    words = [*WORDS, "model.seed=0,1", *LAUNCHER, "hydra.launcher.partition=nowhere"]
    done = call(tmp_path, "run", *words, **cluster)
    assert (done.returncode, (tmp_path / "outputs").exists()) == (2, False)
    assert "Invalid partition name specified; no job was submitted" in done.stderr.splitlines()[-1]


def test_a_cluster_that_does_not_answer_is_refused(tmp_path):
    words = [*WORDS, "model.seed=0,1", *LAUNCHER]
    done = call(tmp_path, "run", *words, SLURM_CONF=str(tmp_path / "nowhere.conf"))
    assert (done.returncode, done.stderr.count("\n"), (tmp_path / "outputs").exists()) == (2, 1, False)
    assert done.stderr.startswith("visionbench: hydra/launcher=submitit_slurm: SLURM does not answer (")


def test_a_wrong_run_is_refused_before_any_job_is_submitted(tmp_path, cluster):
    done = call(tmp_path, "run", *WORDS, "model.weights=randm,random", *LAUNCHER, **cluster)
    assert (done.returncode, done.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []
