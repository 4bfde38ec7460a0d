"""The record of a run: its keys and types are checked when it is read and written, and unknown keys are kept."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from saved_runs import QUALITY, record, row, run_json, save, speed

from visionbench.core import ConfigError
from visionbench.records.folder import RunFolder
from visionbench.records.record import SCHEMA_VERSION, DeviceIdentity, Host, RunRecord


def with_value(path, value):
    """The content of run.json with another value at a dotted path; None as the value removes the key."""
    content = run_json()
    *parents, last = path.split(".")
    part = content
    for name in parents:
        part = part[int(name)] if isinstance(part, list) else part[name]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return content


def test_a_record_that_is_written_reads_back_equal():
    first = record(repeats={"wanted": 5, "measured": 4, "order_seed": 1, "started_at": ["a", "b"]}, seconds={"load": 1})
    content = json.loads(json.dumps(first.to_json()))
    assert RunRecord.from_json(content) == first
    assert content["schema"] == SCHEMA_VERSION


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("uid", None, "run.json.uid is missing"),
        ("uid", 7, "run.json.uid is not a string"),
        ("host", [], "run.json.host is not an object"),
        ("host.cpu_cores", "4", "run.json.host.cpu_cores is not an integer"),
        ("device.threads", True, "run.json.device.threads is not an integer"),
        ("plan.name", None, "run.json.plan.name is missing"),
        ("plan.cases", {}, "run.json.plan.cases is not a list"),
        ("plan.cases.0.batch_size", 1.5, "run.json.plan.cases[0].batch_size is not an integer"),
        ("plan.warnings", "one", "run.json.plan.warnings is not a list"),
        ("config.model.family", None, "run.json.config.model.family is missing"),
        ("config.data", "shapes", "run.json.config.data is not an object"),
        ("left_out", {"a.jpg": 1}, "run.json.left_out.a.jpg is not a string"),
        ("seconds", {"load": "1"}, "run.json.seconds.load is not a number"),
        ("repeats", {"measured": 2}, "run.json.repeats.wanted is missing"),
        ("schema", SCHEMA_VERSION + 1, f"run.json: written by a newer visionbench (schema {SCHEMA_VERSION + 1})"),
    ],
)
def test_a_missing_or_wrongly_typed_key_is_one_error_that_names_it(path, value, error):
    with pytest.raises(ConfigError) as caught:
        RunRecord.from_json(with_value(path, value))
    assert caught.value.problem == error


def test_an_error_of_a_file_names_the_folder(tmp_path):
    folder = save(tmp_path / "run", speed(1.0))
    (folder.path / "run.json").write_text(json.dumps(with_value("plan.model", None)))
    with pytest.raises(ConfigError) as caught:
        folder.record()
    assert str(caught.value) == f"{folder.path}: run.json.plan.model is missing"


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda row: row.pop("status"), "line 1.status is missing"),
        (lambda row: row["metrics"]["values"].update(latency_p50_ms="fast"), "values.latency_p50_ms is not a number"),
        (lambda row: row["case"].pop("stages"), "line 1.case.stages is missing"),
        (lambda row: row["validity"].update(reasons="steal"), "line 1.validity.reasons is not a list"),
    ],
)
def test_a_row_with_a_missing_or_wrongly_typed_key_is_one_error_that_names_it(tmp_path, spoil, error):
    folder = save(tmp_path / "run", speed(1.0))
    content = json.loads((folder.path / "results.jsonl").read_text())
    spoil(content)
    (folder.path / "results.jsonl").write_text(json.dumps(content) + "\n")
    with pytest.raises(ConfigError) as caught:
        folder.results()
    assert str(caught.value).startswith(f"{folder.path}: results.jsonl, ") and str(caught.value).endswith(error)


def test_a_case_that_the_rows_do_not_have_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="results.jsonl has no case quality$"):
        save(tmp_path / "run", speed(1.0)).samples("quality")


def test_keys_that_this_version_does_not_define_are_kept():
    content = {**run_json(), "power_cap": {"watts": 300}}
    content["host"]["bios"], content["model"]["adapter"] = "1.2", ["a", 1]
    read = RunRecord.from_json(content)
    assert read.more == {"power_cap": {"watts": 300}}
    assert read.host.values["bios"] == "1.2" and read.model.values["adapter"] == ["a", 1]
    written = replace(read, status="failed").to_json()
    assert written["power_cap"] == {"watts": 300}
    assert written["host"]["bios"] == "1.2" and written["model"]["adapter"] == ["a", 1]


@pytest.mark.parametrize(
    ("value", "kind"), [(Path("x"), "PosixPath"), ({1, 2}, "set"), (np.int64(3), "int64"), (b"x", "bytes")]
)
def test_a_value_whose_type_json_does_not_have_is_an_error_that_names_the_key(value, kind):
    loaded = record().with_identities({"weights": "pretrained", "adapter": [{"layer": value}]}, {}, {}, {})
    with pytest.raises(ConfigError, match=rf"^run\.json\.model\.adapter\[0\]\.layer: .* has the type {kind}, which"):
        loaded.to_json()


def test_a_key_that_is_not_a_string_is_an_error():
    with pytest.raises(ConfigError, match=r"^run\.json\.model\.classes: the key 1 is not a string"):
        record().with_identities({"classes": {1: "ring"}}, {}, {}, {}).to_json()


def test_a_device_with_a_wrong_type_is_an_error_when_the_model_is_loaded():
    with pytest.raises(ConfigError, match=r"^run\.json\.device\.threads is not an integer$"):
        record().with_identities({}, {"threads": "two"}, {}, {})


def test_identities_have_no_values_until_the_model_is_loaded():
    content = {name: value for name, value in run_json().items() if name not in ("model", "device", "data")}
    started = RunRecord.from_json(content)
    assert started.device == DeviceIdentity() and not {"model", "device", "data"} & set(started.to_json())
    loaded = started.with_identities({"checkpoint": "org/x"}, {"threads": 4}, {"name": "shapes"}, {"a": "missing"})
    assert loaded.to_json()["device"] == {"threads": 4}
    assert (loaded.model.checkpoint, loaded.left_out) == ("org/x", {"a": "missing"})


def test_a_value_of_the_loaded_model_comes_before_the_configured_one():
    configured = record(model={"checkpoint": None, "revision": "abc"})
    assert configured.loaded_or_configured("checkpoint") is None
    assert configured.loaded_or_configured("revision") == "abc"
    assert configured.loaded_or_configured("weights") == "pretrained"


def test_facts_have_one_level_and_name_what_is_unknown():
    facts = record(host={"host": "box", "hydra-core": "1.3"}).facts()
    assert (facts["model"], facts["family"], facts["host"], facts["version_hydra_core"]) == (
        "clip_tiny",
        "dual_encoder",
        "box",
        "1.3",
    )
    assert facts["driver"] is None and facts["version_mlflow"] is None
    assert not [name for name, value in facts.items() if isinstance(value, dict | list)]


def test_each_process_has_its_start():
    assert record(started_at="1").starts == ("1",)
    assert record(repeats={"wanted": 2, "measured": 2, "order_seed": 0, "started_at": ["1", "2"]}).starts == ("1", "2")


def test_a_host_keeps_every_key():
    host = Host.from_fingerprint({"host": "box", "cpu_cores": 4, "torch": "2.13.0", "mlflow": None})
    assert (host.name, host.cpu_cores, host.version("torch"), host.version("mlflow")) == ("box", 4, "2.13.0", None)
    assert host.values["mlflow"] is None


def test_the_quality_case_reads_back_with_its_reasons(tmp_path):
    result = row(QUALITY, verdict="warned", reasons=("sample: 5 of 9", "steal: 3 %"), recall_i2t_at_1_fraction=0.5)
    assert RunFolder(save(tmp_path / "run", result).path).results() == [result]
