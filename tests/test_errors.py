"""The tree of errors: a problem and a remedy, apart and in one line."""

import importlib
import pickle
import pkgutil
import re
from pathlib import Path

import pytest

import visionbench
from visionbench.core import ConfigError, TrackingError, VisionbenchError, errors, problem_of
from visionbench.datafiles.images import PictureError


def subclasses(parent, depth=0):
    for child in sorted(parent.__subclasses__(), key=lambda item: item.__name__):
        if child.__module__.startswith("visionbench."):
            yield (depth, child.__name__, child.__module__)
            yield from subclasses(child, depth + 1)


def test_the_docstring_shows_the_tree_of_all_errors():
    for module in pkgutil.walk_packages(visionbench.__path__, "visionbench."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    drawn = re.findall(r"^([│ ]*)[├└]── (\w+) .*?(?:\(([\w.]+)\))?$", errors.__doc__, re.MULTILINE)
    tree = {
        (len(indent) // 4, name, f"visionbench.{room}" if room else "visionbench.core.errors")
        for indent, name, room in drawn
    }
    assert tree == set(subclasses(VisionbenchError))


def test_an_error_reads_as_its_problem_and_its_remedy_in_one_line():
    error = ConfigError("batch.sizes: 2 is listed twice", "list each size once")
    assert str(error) == "batch.sizes: 2 is listed twice; list each size once"
    assert (error.problem, error.remedy) == ("batch.sizes: 2 is listed twice", "list each size once")


def test_an_error_without_a_remedy_reads_as_its_problem():
    assert str(TrackingError("no answer in time")) == "no answer in time"


@pytest.mark.parametrize(
    "error",
    [ConfigError("a", "b"), ConfigError("a"), TrackingError("a", remedy="b"), PictureError(Path("a.jpg"), "empty")],
    ids=repr,
)
def test_an_error_crosses_a_process_boundary(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)
    assert (copy.problem, copy.remedy) == (error.problem, error.remedy)


def test_the_problem_of_any_error_is_one_line():
    assert problem_of(ConfigError("a", "b")) == "a"
    assert problem_of(OSError("first\nsecond")) == "first"
    assert problem_of(ValueError()) == "ValueError"
