"""Relative paths in a user's YAML files start at the folder of the file; on the command line at the current folder."""

from pathlib import Path

import pytest
from command_line import plan_runs

from visionbench.config import models
from visionbench.core import ConfigError

MODEL = "name: mine\nfamily: image_classifier\n"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A function that writes files of the user below the current folder."""
    monkeypatch.chdir(tmp_path)
    for folder in ("my_conf/model", "checkpoints/pets", "pictures"):
        (tmp_path / folder).mkdir(parents=True)

    def write(name, text):
        (tmp_path / "my_conf" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "my_conf" / name).write_text(text)

    return write


def composed(*words):
    ((config, _),) = plan_runs(["--config-dir", "my_conf", *words])
    return config


def test_a_checkpoint_of_a_file_starts_at_the_folder_of_the_file(files):
    files("model/mine.yaml", f"{MODEL}checkpoint: ../../checkpoints/pets\n")
    assert composed("model=mine").model.checkpoint == "./checkpoints/pets"
    assert models(Path("my_conf"))["mine"].checkpoint == "./checkpoints/pets"


def test_a_checkpoint_on_the_command_line_starts_at_the_current_folder(files):
    files("model/mine.yaml", f"{MODEL}checkpoint: ../../checkpoints/pets\n")
    assert composed("model=mine", "model.checkpoint=./elsewhere").model.checkpoint == "./elsewhere"


def test_a_path_of_a_file_that_another_file_builds_on_starts_at_its_folder(files):
    files("model/base.yaml", f"{MODEL}checkpoint: ../../checkpoints/pets\n")
    files("model/mine.yaml", "defaults: [base]\nseed: 3\n")
    assert composed("model=mine").model.checkpoint == "./checkpoints/pets"


def test_paths_of_an_experiment_start_at_its_folder(files):
    files(
        "experiment/mine.yaml",
        "# @package _global_\ndefaults:\n  - override /data: image_folder\n  - override /model: classifier_tiny\n"
        "model: {checkpoint: ../../checkpoints/pets}\ndata: {root: ../../pictures}\n",
    )
    run = composed("experiment=mine")
    assert (run.model.checkpoint, run.data.root) == ("./checkpoints/pets", "./pictures")


@pytest.mark.parametrize("checkpoint", ["openai/clip-vit-base-patch32", "bundled:clip_tiny", "/somewhere"])
def test_other_checkpoints_are_unchanged(files, checkpoint):
    files("model/mine.yaml", f"{MODEL}checkpoint: {checkpoint}\n")
    assert composed("model=mine").model.checkpoint == checkpoint


def test_a_path_that_only_exists_from_the_current_folder_is_refused_with_the_right_one(files):
    files("model/mine.yaml", f"{MODEL}checkpoint: ./checkpoints/pets\n")
    with pytest.raises(ConfigError) as raised:
        composed("model=mine")
    message = str(raised.value)
    assert "my_conf/model/checkpoints/pets, and a relative path starts at the folder of the file" in message
    assert message.endswith("; use ../../checkpoints/pets")
