"""The state of a checkpoint's files changes with their content, and not with their folder."""

import shutil

from visionbench.config import models, project_folder
from visionbench.weights import describe_state, state


def copied(tmp_path, name):
    shutil.copytree(project_folder("data") / "clip_tiny", tmp_path / name)
    model = models()["clip_tiny"]
    model.checkpoint = str(tmp_path / name)
    return model


def test_a_copy_of_a_folder_has_the_same_state(tmp_path):
    assert describe_state(copied(tmp_path, "one")) == describe_state(copied(tmp_path, "two"))
    assert describe_state(models()["clip_tiny"]) == describe_state(copied(tmp_path, "three"))


def test_changed_weights_have_another_state(tmp_path, monkeypatch):
    model = copied(tmp_path, "one")
    weights = tmp_path / "one" / "model.safetensors"
    digests = [describe_state(model)]
    weights.write_bytes(weights.read_bytes() + b"x")
    digests.append(describe_state(model))
    monkeypatch.setattr(state, "LARGEST_DIGESTED", 0)
    digests.append(describe_state(model))
    assert len({each["sha256"] for each in digests}) == 3


def test_random_weights_and_a_missing_checkpoint_have_no_digest():
    model = models()["clip_tiny"]
    model.weights = "random"
    assert describe_state(model) == {"kind": "random"}
    model.weights, model.checkpoint = "pretrained", "/nowhere"
    assert describe_state(model) == {}
