"""The folder of converted parts: digests of parts, and entries that are complete."""

import pytest
import torch

from visionbench.core import ConfigError
from visionbench.exports import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def linear(seed=0, features=3, bias=True):
    torch.manual_seed(seed)
    return torch.nn.Linear(2, features, bias=bias)


def test_equal_parts_have_the_same_digest():
    assert cache.digest(linear(), {"opset": 20}) == cache.digest(linear(), {"opset": 20})


@pytest.mark.parametrize(
    "other",
    [
        (linear(seed=1), {"opset": 20}),
        (linear(features=4), {"opset": 20}),
        (linear(bias=False), {"opset": 20}),
        (linear().to(torch.bfloat16), {"opset": 20}),
        (torch.nn.Sequential(linear()), {"opset": 20}),
        (linear(), {"opset": 21}),
        (linear(), {"opset": 20, "torch": "2.13.0"}),
    ],
)
def test_other_weights_layers_types_or_facts_have_another_digest(other):
    assert cache.digest(*other) != cache.digest(linear(), {"opset": 20})


def test_an_entry_is_built_once(folder):
    built = []

    def build(draft):
        built.append(draft)
        (draft / "file").write_text("content")

    first, second = cache.entry("name", build), cache.entry("name", build)
    assert [first[1], second[1]] == [True, False]
    assert first[0] == second[0] == folder / "name"
    assert len(built) == 1
    assert (folder / "name" / "file").read_text() == "content"
    assert cache.size_bytes(folder / "name") == len("content")


def test_a_build_that_fails_leaves_nothing(folder):
    def build(draft):
        (draft / "file").write_text("half")
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError):
        cache.entry("name", build)
    assert list(folder.iterdir()) == []


def test_an_entry_that_another_process_built_meanwhile_is_kept(folder):
    def build(draft):
        (draft / "file").write_text("mine")
        (folder / "name").mkdir()
        (folder / "name" / "file").write_text("of the other process")

    place, _ = cache.entry("name", build)
    assert (place / "file").read_text() == "of the other process"
    assert [path.name for path in folder.iterdir()] == ["name"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VISIONBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match="set VISIONBENCH_CACHE to a folder that can be written"):
        cache.entry("name", lambda draft: None)


def test_without_the_variable_the_users_folder_for_caches_is_used(tmp_path, monkeypatch):
    monkeypatch.delenv("VISIONBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "visionbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "visionbench"
