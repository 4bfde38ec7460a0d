"""No damage of a run's files stops a reader: the other runs are shown, the folder is named, and the exit code is 1."""

import random
import shutil

import damaged_folders
import pytest
from damaged_folders import DAMAGED, FILES, ROWS, SLOW, damages_of_files, faults, good, load, random_damage

QUICK = [command for command in damaged_folders.COMMANDS if command not in SLOW]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return a folder with undamaged results."""
    folder = tmp_path_factory.mktemp("originals")
    good(folder)
    return folder


@pytest.fixture
def sweep(originals, tmp_path, monkeypatch):
    """Return the folder of a sweep of four runs. The current folder contains it and a copy with other ids."""
    damaged_folders.without_images(monkeypatch)
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "outputs" / damaged_folders.SWEEP


@pytest.mark.parametrize("damage", [one for file in FILES for one in damages_of_files(file)], ids=str)
def test_a_file_that_cannot_be_read_costs_only_its_own_part(sweep, damage):
    commands = QUICK if damage.file in ROWS else [*SLOW, "advise", "compare --strict"]
    assert list(faults(damage, sweep, tuple(commands))) == []


@pytest.mark.parametrize("number", range(40))
def test_random_damage_costs_only_its_own_part(sweep, number):
    content = {file: load(sweep / DAMAGED / file) for file in ROWS}
    damage = random_damage(random.Random(f"test/{number}"), content)
    assert list(faults(damage, sweep, QUICK)) == []


@pytest.mark.parametrize("damage", list(damages_of_files("../sweep.json")), ids=str)
def test_a_damaged_plan_of_the_sweep_costs_no_run(sweep, damage):
    assert [line for line in faults(damage, sweep, QUICK) if "named" not in line] == []
