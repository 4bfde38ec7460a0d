"""Sweeps with other launchers: each job is measured separately, in any process, into the folder of the sweep."""

import json

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
