"""`experiment=tutorial` as a user types it, with the bundled models instead of the full-size ones."""

import json
import os

import coco_folder
import pytest
import yaml
from command_line import FEW_CALLS, call
from hub_server import Repository, serving

from visionbench.config import project_folder

PINNED = "1" * 40
NOWHERE = "http://127.0.0.1:9"
SWEEP = "hydra.sweep.dir=outputs/sweep"


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """The folder and the finished process of the tutorial, without access to the Hub and to COCO."""
    folder = tmp_path_factory.mktemp("offline")
    words = ["experiment=tutorial", "model=clip_tiny,sam_tiny,blip2_tiny", SWEEP, *FEW_CALLS]
    return folder, call(folder, "run", *words, HF_ENDPOINT=NOWHERE, VISIONBENCH_COCO_URL=NOWHERE)


def configs(folder):
    return [yaml.safe_load(path.read_text()) for path in sorted((folder / "outputs" / "sweep").glob("*/config.yaml"))]


def test_the_tutorial_shows_first_the_machine_and_the_fallback(offline):
    _, done = offline
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("machine  ") and "cores usable" in lines[0] and "GiB available" in lines[0]
    starts = [line.split("/")[0] for line in lines]
    assert starts.index("! data=coco: shapes is used instead, since http:") < starts.index("[1")
    assert done.stdout.count("data=coco: shapes is used instead") == 2  # then, and under the table


def test_the_tutorial_measures_speed_memory_and_quality_of_three_models(offline):
    folder, _ = offline
    values = {}
    for path in sorted((folder / "outputs" / "sweep").glob("*/results.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["case"]["id"] for row in rows] == ["batch-1", "batch-2", "batch-4", "quality"]
        values |= rows[0]["metrics"]["values"] | rows[-1]["metrics"]["values"]
    expected = {
        "latency_p50_ms",
        "throughput_images_per_s",
        "memory_process_peak_mib",
        "recall_i2t_at_1_fraction",
        "segmentation_box_miou_fraction",
        "captioning_cider_score",
    }
    assert expected <= set(values)


def test_the_saved_configuration_has_the_resolved_values(offline):
    saved = configs(offline[0])
    assert {config["model"]["weights"] for config in saved} == {"pretrained"}
    assert {config["data"]["name"] for config in saved} == {"shapes"}
    assert {config["data"]["options"]["samples"] for config in saved} == {40}


def test_the_tutorial_writes_a_report_and_attaches_it_in_mlflow(offline):
    folder, done = offline
    assert "report   outputs/sweep/report.html" in done.stdout
    assert "<html" in (folder / "outputs" / "sweep" / "report.html").read_text()
    (kept,) = (folder / "outputs" / "mlartifacts").rglob("report.html")
    assert (kept.parent / "report.md").is_file()


def test_the_tutorial_uses_the_hub_and_coco_and_random_weights_for_a_missing_repository(tmp_path):
    """COCO is in the folder of the tutorial. A report that cannot be written is reported in one line."""
    coco_folder.write(tmp_path / "data" / "coco" / "val2017-100")
    (tmp_path / "outputs" / "sweep" / "report.html").mkdir(parents=True)
    words = [
        "experiment=tutorial",
        "model=clip_tiny",
        "model.checkpoint=tiny/clip,tiny/clap",
        f"model.revision={PINNED}",
        "data.exif=turned",  # as the folder's masks are
    ]
    fast = [*(word for word in FEW_CALLS if "samples" not in word), "batch=single", "tracking=none", SWEEP]
    with serving({"tiny/clip": Repository({PINNED: project_folder("data") / "clip_tiny"})}) as hub:
        env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "VISIONBENCH_COCO_URL": NOWHERE}
        done = call(tmp_path, "run", *words, *fast, "hydra.sweep.subdir=${hydra.job.num}", **env)
    assert done.returncode == 0, done.stderr
    pretrained, random = configs(tmp_path)
    assert [config["model"]["weights"] for config in (pretrained, random)] == ["pretrained", "random"]
    assert pretrained["data"]["name"] == random["data"]["name"] == "coco"
    first, second = (json.loads((tmp_path / "outputs" / "sweep" / n / "run.json").read_text()) for n in "01")
    assert first["plan"]["warnings"] == [] and first["model"]["revision"] == PINNED
    (note,) = second["plan"]["warnings"]
    assert note.startswith("model.weights=auto: random for clip_tiny, since model.checkpoint=tiny/clap: the Hub has no")
    assert "quality" in (tmp_path / "outputs" / "sweep" / "0" / "results.jsonl").read_text()
    (line,) = done.stderr.splitlines()
    assert line.startswith("visionbench: report: IsADirectoryError: ")
    assert "report   " not in done.stdout and "results  outputs/sweep" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["report.language=fr"], "report.language=fr: there is no report in this language; there are: en, zh"),
        (["report.enabled=perhaps"], "report.enabled=perhaps: not true or false"),
        (["check=often"], "check=often: not true or false"),
        (["data.fallback=shaeps"], "data.fallback=shaeps: no such option of data; did you mean 'shapes'?"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_and_leaves_no_file(tmp_path, words, line):
    done = call(tmp_path, "run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"visionbench: {line}") and done.stderr.count("\n") == 1
    assert not os.listdir(tmp_path)
