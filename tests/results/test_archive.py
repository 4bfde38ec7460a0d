"""Runs on disk: search, reading, grouping by sweep and filters; an unreadable run does not affect other runs."""

import json
import shutil

import pytest

from visionbench.core import Case, CaseResult, ConfigError, Metrics, Samples
from visionbench.records.folder import RunFolder
from visionbench.records.record import RunRecord
from visionbench.results import archive


def write(path, sweep="s", started="2026-01-01T00:00:00.000+00:00", model="clip_tiny", precision="fp32", results=()):
    """Write the folder of a run with the conditions that every run has."""
    folder = RunFolder.create(path, "")
    folder.write_record(
        RunRecord.from_json(
            {
                "uid": path.name,
                "sweep": sweep,
                "started_at": started,
                "status": "finished",
                "git_commit": None,
                "host": {"host": "here"},
                "device": {"device_name": "Xeon", "threads": 4},
                "plan": {
                    "name": f"{model} · cpu · {precision}",
                    "model": model,
                    "task": "classification",
                    "device": "cpu",
                    "precision": precision,
                    "cases": [],
                    "protocol": "standard",
                },
                "config": {
                    "model": {"family": "image_classifier", "weights": "pretrained"},
                    "data": {"name": "shapes"},
                },
            }
        )
    )
    for result in results:
        folder.append(result, Samples())
    return folder


def timed_row(batch_size):
    case = Case(f"batch-{batch_size}", batch_size, ("latency",), ("latency",))
    return CaseResult(case, "ok", metrics=Metrics({"latency_p50_ms": float(batch_size)}))


def uids(runs):
    return [run.record.uid for run in runs]


# -------------------------------------------------------------------------------------------------------------- search
def test_runs_at_any_depth_are_listed_in_the_order_of_their_paths(tmp_path):
    for name in ("b/1_x", "a", "b/0_y"):
        write(tmp_path / name)
    assert [folder.path.relative_to(tmp_path).as_posix() for folder in archive.folders(tmp_path)] == [
        "a",
        "b/0_y",
        "b/1_x",
    ]


def test_the_output_folder_may_be_the_folder_of_a_run(tmp_path):
    write(tmp_path / "a")
    assert [folder.path for folder in archive.folders(tmp_path / "a")] == [tmp_path / "a"]


def test_repeats_are_part_of_their_run(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "a" / "repeats" / "1")
    assert [folder.path for folder in archive.folders(tmp_path)] == [tmp_path / "a"]
    assert [folder.path for folder in archive.folders(tmp_path / "a" / "repeats")] == [tmp_path / "a/repeats/1"]


def test_runs_below_the_folder_of_a_run_are_listed(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "a" / "later")
    assert uids(archive.read(tmp_path)) == ["a", "later"]


def test_copies_in_a_tracking_store_are_not_runs(tmp_path):
    write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "mlartifacts" / "1" / "copy")
    assert [folder.path for folder in archive.folders(tmp_path)] == [tmp_path / "a"]


def test_a_missing_folder_has_no_runs(tmp_path):
    assert archive.folders(tmp_path / "none") == []


# ------------------------------------------------------------------------------------------------------------- reading
def test_runs_are_read_with_their_rows_in_the_order_of_their_start(tmp_path):
    write(tmp_path / "a", started="2026-01-02T00:00:00.000+00:00", results=[timed_row(8), timed_row(1)])
    write(tmp_path / "b", started="2026-01-01T00:00:00.000+00:00")
    runs = archive.read(tmp_path)
    assert uids(runs) == ["b", "a"]
    assert [row.case.batch_size for row in runs[1].timed] == [1, 8]
    assert runs[1].folder == RunFolder(tmp_path / "a")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: (path / "run.json").write_text('{"uid": "x", "swe'), "is not valid JSON"),
        (lambda path: (path / "run.json").write_text(""), "is not valid JSON"),
        (lambda path: (path / "run.json").write_bytes(b"\xff\xfe\x00"), "is not UTF-8 text"),
        (lambda path: (path / "run.json").write_text("{}"), "run.json.uid is missing"),
        (lambda path: (path / "run.json").write_text("3"), "run.json is not an object"),
        (lambda path: (path / "results.jsonl").unlink(), "results.jsonl cannot be read (No such file or directory)"),
        (lambda path: (path / "results.jsonl").write_text('{"sch\n{}\n'), "is not valid JSON"),
        (lambda path: (path / "results.jsonl").write_text(json.dumps({"schema": 99}) + "\n"), "newer visionbench"),
    ],
    ids=["cut short", "empty", "not text", "no conditions", "not an object", "no rows", "broken row", "newer"],
)
def test_an_unreadable_run_is_left_out_and_reported_in_one_line(tmp_path, damage, error):
    write(tmp_path / "good")
    write(tmp_path / "bad", results=[timed_row(1)])
    damage(tmp_path / "bad")
    lines = []
    assert uids(archive.read(tmp_path, lines.append)) == ["good"]
    (line,) = lines
    assert line.startswith(f"left out {tmp_path / 'bad'}: ") and error in line and "\n" not in line


def test_a_run_that_is_left_out_is_reported_on_standard_error(tmp_path, capsys):
    write(tmp_path / "bad")
    (tmp_path / "bad" / "run.json").write_text("{")
    assert archive.read(tmp_path) == []
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("visionbench: left out ") and err.count("\n") == 1


def test_a_folder_without_a_record_and_a_truncated_last_row_are_skipped(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "killed_at_once", "")
    (tmp_path / "killed_at_once" / "run.json.draft").write_text('{"uid"')
    folder = write(tmp_path / "killed", results=[timed_row(1)])
    with (folder.path / "results.jsonl").open("a") as file:
        file.write('{"schema": 1, "case": {"id"')
    lines = []
    (run,) = archive.read(tmp_path, lines.append)
    assert lines == [] and [row.case.id for row in run.results] == ["batch-1"]


# -------------------------------------------------------------------------------------------------------------- sweeps
@pytest.fixture
def two_sweeps(tmp_path):
    """An older sweep of two runs in one folder, and a newer sweep of one run in another folder."""
    write(tmp_path / "monday" / "0_a", "monday", "2026-01-01T00:00:01.000+00:00")
    write(tmp_path / "monday" / "1_b", "monday", "2026-01-01T00:00:02.000+00:00", "vit_b16", "bf16")
    write(tmp_path / "elsewhere" / "c", "tuesday", "2026-01-02T00:00:00.000+00:00")
    return tmp_path


def test_a_sweep_is_selected_by_its_id_a_folder_or_latest(two_sweeps):
    assert uids(archive.of_sweep(two_sweeps, "monday")) == ["0_a", "1_b"]
    assert uids(archive.of_sweep(two_sweeps, "tuesday")) == ["c"]
    assert uids(archive.of_sweep(two_sweeps, "latest")) == ["c"]
    assert uids(archive.of_sweep(two_sweeps, str(two_sweeps / "monday" / "1_b"))) == ["1_b"]


def test_the_error_for_an_unknown_sweep_has_the_nearest_name(two_sweeps):
    with pytest.raises(ConfigError, match=r"'mondya': no such sweep in .*; did you mean 'monday'\?"):
        archive.of_sweep(two_sweeps, "mondya")


def test_a_folder_without_runs_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty: no run in this folder"):
        archive.of_sweep(tmp_path, str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="no run in it; measure something first"):
        archive.of_sweep(tmp_path, "latest")
    with pytest.raises(ConfigError, match="no run in it; measure something first"):
        archive.of_folder(tmp_path)


def test_runs_are_grouped_by_sweep_in_the_order_of_their_start(two_sweeps):
    assert [(sweep, uids(runs)) for sweep, runs in archive.sweeps(archive.of_folder(two_sweeps))] == [
        ("monday", ["0_a", "1_b"]),
        ("tuesday", ["c"]),
    ]


# ------------------------------------------------------------------------------------------------------------- filters
def test_a_filter_is_parsed_into_names_and_values():
    assert archive.parse_filter("", "--where") == {}
    assert archive.parse_filter("model=clip_tiny, data=a=b,", "--where") == {"model": "clip_tiny", "data": "a=b"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("model", "--where model: 'model' is not of the form name=value"),
        ("model=", "--where model=: 'model=' is not of the form name=value"),
        ("=x", "--where =x: '=x' is not of the form name=value"),
    ],
)
def test_the_error_for_a_malformed_filter_has_the_remedy(text, error):
    with pytest.raises(ConfigError) as error_info:
        archive.parse_filter(text, "--where")
    assert str(error_info.value).startswith(error)


def test_the_error_for_an_unknown_name_in_a_filter_has_the_nearest_name(two_sweeps):
    with pytest.raises(ConfigError, match=r"^--where modle=x: runs have no 'modle'; did you mean 'model'\?$"):
        archive.select(archive.of_folder(two_sweeps), {"modle": "x"}, "--where modle=x")


def test_a_comma_in_brackets_is_part_of_the_value():
    assert archive.parse_filter("batch.sizes=[1,2],model=a", "--where") == {"batch.sizes": "1,2", "model": "a"}


def test_every_fact_of_a_run_is_a_filter_name(two_sweeps):
    for run in archive.of_folder(two_sweeps):
        assert tuple(run.facts()) == archive.FACTS


def test_a_filter_selects_the_runs_that_have_all_its_values(two_sweeps):
    runs = archive.of_folder(two_sweeps)
    assert uids(archive.choose(runs, {"model": "clip_tiny"})) == ["0_a", "c"]
    assert uids(archive.choose(runs, {"model": "clip_tiny", "sweep": "tuesday"})) == ["c"]
    assert archive.choose(runs, {}) == runs
    assert archive.choose(runs, {"model": "none"}) == []
    assert uids(archive.select(runs, {"threads": "4", "precision": "bf16"}, "--where …")) == ["1_b"]


def test_the_error_for_a_filter_without_a_match_has_the_existing_values(two_sweeps):
    runs = archive.of_folder(two_sweeps)
    with pytest.raises(ConfigError, match=r"--where m: no run has model=clip; there are: clip_tiny, vit_b16$"):
        archive.select(runs, {"threads": "4", "model": "clip"}, "--where m")
    with pytest.raises(ConfigError, match=r"--where m: each of these occurs, but no run has all of them$"):
        archive.select(runs, {"model": "vit_b16", "precision": "fp32"}, "--where m")
