"""`visionbench doctor`: the missing libraries that it reports as problems."""

import pytest

from visionbench import diagnosis, machine
from visionbench.devices.cuda import Cuda


@pytest.fixture
def without(monkeypatch, tmp_path):
    """A function that examines this machine as if a package were not installed."""
    real = machine.fingerprint()

    def examine(name):
        monkeypatch.setattr(machine, "fingerprint", lambda: {**real, name: None})
        monkeypatch.setattr(diagnosis, "_busy_fraction", lambda: 0.0)
        monkeypatch.setattr(
            Cuda, "why_absent", lambda device: "no GPU"
        )  # a CUDA build of torch starts a process to find one
        return diagnosis.examine(tmp_path)

    return examine


def test_a_missing_mlflow_is_no_problem(without):
    result = without("mlflow")
    assert result.facts["mlflow"] == "not installed: runs need tracking=none"
    assert not [problem for problem, _ in result.problems if "mlflow" in problem]


def test_another_missing_library_is_a_problem(without):
    assert [problem for problem, _ in without("pillow").problems if "pillow" in problem] == ["not installed: pillow"]
