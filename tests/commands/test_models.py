"""`visionbench models` and `visionbench models fetch` with a folder of the user's own."""

import pytest

from visionbench.commands import models
from visionbench.core import ConfigError

NOTE = "! model=clip_tiny: my_conf/model/clip_tiny.yaml replaces the bundled file of the same name"


@pytest.fixture
def my_conf(tmp_path, monkeypatch):
    """A folder with a model that has the name of a bundled one, and whose checkpoint is a local folder."""
    checkpoint = tmp_path / "my_checkpoint"
    checkpoint.mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (checkpoint / name).write_text("{}")
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    yaml = "name: clip_tiny\nfamily: dual_encoder\nweights: pretrained\ncheckpoint: ../../my_checkpoint\n"
    (tmp_path / "my_conf" / "model" / "clip_tiny.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "my_conf"


def test_the_list_shows_the_users_model_and_states_that_it_replaces_a_bundled_one(my_conf, capsys):
    assert models.show(my_conf.relative_to(my_conf.parent)) == 0
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.startswith("clip_tiny ")]
    assert row.split() == ["clip_tiny", "image-text", "retrieval", "–", "yes", "./my_checkpoint"]
    assert NOTE in printed.splitlines()


def test_fetch_takes_the_users_model_and_states_that_it_replaces_a_bundled_one(my_conf, capsys):
    assert models.fetch(["clip_tiny"], my_conf.relative_to(my_conf.parent)) == 0
    note, fetched = capsys.readouterr().out.splitlines()
    assert note == NOTE
    assert fetched.startswith("clip_tiny: ") and fetched.endswith("my_checkpoint")


def test_fetch_names_the_file_that_is_missing_in_the_users_folder(my_conf):
    (my_conf.parent / "my_checkpoint" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"model\.safetensors or pytorch_model\.bin is missing in my_checkpoint"):
        models.fetch(["clip_tiny"], my_conf.relative_to(my_conf.parent))


def test_fetch_without_the_users_folder_takes_the_bundled_model(my_conf, capsys):
    assert models.fetch(["clip_tiny"], None) == 0
    assert "my_checkpoint" not in capsys.readouterr().out
