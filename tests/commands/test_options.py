"""Options that several commands share, and the commands without arguments."""

import pytest
from bad_command_lines import without_effects
from command_line import here

from visionbench.commands import models
from visionbench.commands import run as run_command


@pytest.fixture
def read_folders(monkeypatch, tmp_path):
    """The folders that the commands `run`, `models` and `models fetch` read, in an empty working folder."""
    (tmp_path / "my_conf").mkdir()
    folders = []

    def run(words):
        folders.append(run_command.parse(words).config_dir)
        return 0

    monkeypatch.setattr(run_command, "run", run)
    monkeypatch.setattr(models, "show", lambda folder: folders.append(folder) or 0)
    monkeypatch.setattr(models, "fetch", lambda names, folder: folders.append(folder) or 0)
    return folders


@pytest.mark.parametrize(
    "line",
    [
        "--config-dir my_conf run batch=single",
        "run --config-dir my_conf batch=single",
        "run batch=single --config-dir=my_conf",
        "--config-dir my_conf models",
        "models --config-dir my_conf",
        "models --config-dir my_conf fetch clip_tiny",
        "models fetch clip_tiny --config-dir my_conf",
        "models fetch --config-dir my_conf clip_tiny",
        "--config-dir my_conf models fetch clip_tiny",
    ],
)
def test_config_dir_is_read_before_and_after_the_command(tmp_path, read_folders, line):
    done = here(tmp_path, *line.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert [str(folder) for folder in read_folders] == ["my_conf"]


def test_without_config_dir_no_folder_is_read(tmp_path, read_folders):
    for line in ("run", "models", "models fetch clip_tiny"):
        assert here(tmp_path, *line.split()).returncode == 0
    assert read_folders == [None, None, None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--config-dir my_conf results",
            "--config-dir my_conf: results does not read it; remove it; it belongs to run",
        ),
        ("--config-dir nowhere run", "Invalid value for '--config-dir': Directory 'nowhere' does not exist; see"),
        ("run --config-dir nowhere", "--config-dir nowhere: there is no such folder; give an existing one"),
        ("advise --p95-ms nan", "Invalid value for '--within-ms' / '--p95-ms': nan is not a finite number"),
        ("report --within inf", "Invalid value for '--quality-loss' / '--within': inf is not"),
        (
            "data prepare coco --samples 0",
            "Invalid value for '--samples': 0 is not in the range x>=1; see visionbench data",
        ),
        ("result", "No such command 'result'. Did you mean 'results'?; see visionbench --help"),
    ],
)
def test_a_bad_option_is_refused_in_one_line(tmp_path, read_folders, line, message):
    done = here(tmp_path, *line.split())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"visionbench: {message}")


@pytest.mark.parametrize(("words", "text"), [([], "Commands:"), (["data"], "prepare"), (["data", "prepare"], "coco")])
def test_a_command_that_needs_another_word_shows_its_help(tmp_path, monkeypatch, words, text):
    without_effects(monkeypatch)
    done = here(tmp_path, *words)
    assert (done.returncode, done.stderr) == (0, "") and text in done.stdout
