"""best.yaml: what it selects and sets, and the files that it needs."""

import yaml

from visionbench.tuning import best


def test_only_keys_that_differ_are_set():
    values = {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": 4}}, "g": [1], "h": {"i": 5}}
    defaults = {"a": 1, "b": {"c": 0, "d": {"e": 3, "f": 0}}, "g": [1, 2], "h": {"i": 5}}
    assert best.differences(values, defaults) == {"b": {"c": 2, "d": {"f": 4}}, "g": [1]}


def test_a_null_that_the_defaults_lack_is_set():
    assert best.differences({"a": None, "b": None}, {"b": None}) == {"a": None}


def test_the_file_selects_the_options_and_keeps_the_folders_out(tmp_path):
    choices = {"model": "clip_tiny", "metrics": ("latency", "memory")}
    values = {"batch": {"sizes": [16]}, "output_dir": "elsewhere", "check": True}
    path = best.write(tmp_path, choices, values, {"batch": {"sizes": [1]}}, ["a comment"], None)
    text = path.read_text()
    assert path == tmp_path / "experiment" / "best.yaml"
    assert text.startswith("# @package _global_\n# visionbench run --config-dir ")
    content = yaml.safe_load(text)
    assert content["defaults"] == [
        {"override /model": "clip_tiny"},
        {"override /metrics": ["latency", "memory"]},
        "_self_",
    ]
    assert content["batch"] == {"sizes": [16]}
    assert set(content) == {"defaults", "batch"}


def test_option_files_of_the_user_are_copied(tmp_path):
    own = tmp_path / "own"
    for group, name in (("model", "mine"), ("model", "base_of_mine"), ("data", "other")):
        (own / group).mkdir(parents=True, exist_ok=True)
        (own / group / f"{name}.yaml").write_text(f"name: {name}\n")
    folder = tmp_path / "search"
    best.write(folder, {"model": "mine", "data": "shapes"}, {}, {}, [], own)
    assert {path.name for path in (folder / "model").iterdir()} == {"mine.yaml", "base_of_mine.yaml"}
    assert not (folder / "data").exists()


def test_the_command_quotes_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert best.command(tmp_path / "a b") == "visionbench run --config-dir 'a b' experiment=best"
