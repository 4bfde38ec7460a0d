"""`visionbench doctor`: what it reports as a problem, and what it does not."""

import pytest

from visionbench import machine
from visionbench.commands import doctor


@pytest.fixture
def lacking(monkeypatch, tmp_path):
    """A function that examines this machine as if a package were not installed."""
    real = machine.fingerprint()

    def examine(name):
        monkeypatch.setattr(machine, "fingerprint", lambda: {**real, name: None})
        monkeypatch.setattr(doctor, "_busy_elsewhere", lambda: 0.0)
        return doctor.examine(tmp_path)

    return examine


def test_without_mlflow_there_is_no_problem_but_a_way_to_run(lacking):
    facts = lacking("mlflow")
    assert facts.found["mlflow"] == "not installed: runs need tracking=none"
    assert not [problem for problem, _ in facts.troubles if "mlflow" in problem]


def test_without_another_library_there_is(lacking):
    assert [problem for problem, _ in lacking("pillow").troubles if "pillow" in problem] == ["not installed: pillow"]
