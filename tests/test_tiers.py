"""The guard of the quick tests, and the list of the slow ones."""

import ast
import importlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys

import pytest
import tiers
import torch


class ModelOfTransformers(torch.nn.Module):
    """A module that looks like one of transformers."""

    __module__ = "transformers.models.none"

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)


def start_multiprocessing(method):
    return lambda: multiprocessing.get_context(method).Process(target=int).start()


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda: subprocess.run([sys.executable, "-c", "pass"]), "starts a process"),
        (lambda: os.system("true"), "starts a process"),
        (lambda: os.fork(), "starts a process"),
        (start_multiprocessing("fork"), "starts a process"),
        (start_multiprocessing("spawn"), "starts a process"),
        (start_multiprocessing("forkserver"), "starts a process"),
        (ModelOfTransformers, "builds a model of transformers"),
        (lambda: importlib.import_module("mlflow"), "imports MLflow"),
        (lambda: sqlite3.dbapi2.connect(":memory:"), "opens MLflow's database"),
    ],
    ids=["subprocess", "system", "fork", "mp-fork", "mp-spawn", "mp-forkserver", "model", "mlflow", "database"],
)
def test_a_quick_test_fails_if_it_does_what_only_slow_tests_may_do(monkeypatch, action, reason):
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    with tiers.guard() as reasons, pytest.raises(pytest.fail.Exception, match="list the test in SLOW"):
        action()
    assert reasons == [reason]


def test_the_guard_ends_with_its_test():
    with tiers.guard():
        pass
    assert subprocess.run([sys.executable, "-c", "pass"]).returncode == 0
    assert ModelOfTransformers().layer.in_features == 1


def test_a_quick_test_may_build_its_modules():
    with tiers.guard() as reasons:
        torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert not reasons


@pytest.mark.parametrize("entry", tiers.SLOW)
def test_every_entry_of_the_list_of_slow_tests_exists(entry):
    file, _, function = entry.partition("::")
    tree = ast.parse((tiers.TESTS / file).read_text(encoding="utf-8"))
    assert function in {"", *(node.name for node in tree.body if isinstance(node, ast.FunctionDef))}
