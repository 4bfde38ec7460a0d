"""Runs with another input pipeline than the reference, from the command line."""

import json

import pytest
from command_line import call
from PIL import Image

from visionbench.results import archive

METRICS = "metrics=[pipeline,parity,recall,segmentation,semantic_segmentation,captioning,classification]"
SHORT = ["measure.warmup.calls=1", "measure.retries=0", "tracking=none", "report.enabled=false", "device.threads=1"]
SHORT += ["device=cpu", "batch.sizes=[3]", "measure.pipeline.min_batches=2", "measure.pipeline.min_seconds=0"]
SHAPES = ["data.options.samples=24", "data.options.size=256"]
QUALITY = {
    "clip_tiny": "recall_i2t_at_1_fraction",
    "sam_tiny": "segmentation_point_miou_fraction",
    "blip2_tiny": "captioning_cider_score",
    "classifier_tiny": "classification_top_1_fraction",
    "segformer_tiny": "semantic_segmentation_miou_fraction",
}
DECODED = [*((model, "simplejpeg") for model in QUALITY), ("clip_tiny", "pillow_draft"), ("blip2_tiny", "pillow_draft")]


def runs_of(folder, *words):
    done = call(folder, "run", *words, *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    return archive.read(folder / "outputs")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return runs of the bundled models by model, and by their decoder or by `device` for data.preprocess=device."""
    folder = tmp_path_factory.mktemp("decoders")
    models = ",".join(QUALITY)
    runs_of(folder, "-m", f"model={models}", "data.decoder=pillow,simplejpeg", METRICS, *SHAPES)
    runs_of(folder, "-m", f"model={models}", "data.preprocess=device", METRICS, *SHAPES)
    words = ["-m", "model=clip_tiny,blip2_tiny", "data.decoder=pillow_draft", METRICS, *SHAPES]
    keyed = {}
    for run in runs_of(folder, *words):
        plan = run.record.plan
        keyed[plan.model, "device" if plan.preprocess == "device" else plan.decoder] = run
    return keyed


@pytest.mark.parametrize(("model", "decoder"), DECODED)
def test_a_decoder_gives_the_quality_of_pillow_and_its_difference_is_in_each_row(measured, model, decoder):
    run, reference = measured[model, decoder], measured[model, "pillow"]
    assert [row.status for row in run.results] == ["ok"] * 2
    for row in run.results:
        assert "left_to_pillow" not in row.labels
    timed, quality = (row.metrics.values for row in run.results)
    assert timed["pipeline_overlapped_images_per_s"] > 0
    reduced = decoder == "pillow_draft"
    assert timed["parity_decoder_max_levels"] == (None if reduced else 0.0)
    assert (timed["parity_input_mean_levels"] > 0) == reduced
    assert "parity_cosine_ratio" not in timed
    name = QUALITY[model]
    assert quality[name] == pytest.approx(reference.results[-1].metrics.values[name], abs=0.1 if reduced else 0)


@pytest.mark.parametrize("model", QUALITY)
def test_preprocessing_on_the_device_gives_the_quality_of_transformers_within_half_a_level(measured, model):
    run, reference = measured[model, "device"], measured[model, "pillow"]
    assert [row.status for row in run.results] == ["ok"] * 2
    timed, quality = (row.metrics.values for row in run.results)
    assert timed["parity_decoder_mean_levels"] is None
    assert 0 < timed["parity_input_mean_levels"] < 0.5
    assert timed["parity_input_max_levels"] <= 3
    name = QUALITY[model]
    assert quality[name] == pytest.approx(reference.results[-1].metrics.values[name], abs=0.05)
    assert run.facts()["preprocess"] == "device"
    assert run.record.model.values["image_backend"] == "torch"
    assert run.record.model.values["image_size"] == reference.record.model.values["image_size"]


def test_the_decoder_is_a_fact_of_the_run(measured):
    run = measured["clip_tiny", "simplejpeg"]
    assert run.facts()["decoder"] == "simplejpeg"
    assert run.record.plan.varied["data.decoder"] == "simplejpeg"
    assert run.record.plan.name.endswith("decoder simplejpeg")


def test_runs_with_different_decoders_are_not_compared_as_equal(measured, tmp_path):
    folders = [str(measured["clip_tiny", name].folder.path) for name in ("pillow", "simplejpeg")]
    done = call(tmp_path, "compare", *folders)
    assert done.returncode == 3
    assert "decoder: pillow in the base, simplejpeg in the candidate" in done.stdout


@pytest.mark.parametrize("model", ["clip_tiny", "sam_tiny", "blip2_tiny"])
def test_loaders_can_be_processes(tmp_path, model):
    words = [f"model={model}", "precision=autocast_bf16", "data.preprocess=device", "metrics=[pipeline]", *SHAPES]
    [run] = runs_of(tmp_path, *words, "measure.pipeline.processes=true", "measure.evaluation.workers=2")
    [row] = run.results
    assert row.status == "ok"
    assert row.metrics.values["pipeline_overlapped_images_per_s"] > 0
    assert row.metrics.values["pipeline_loaders_start_s"] > 0


def test_the_row_says_which_images_pillow_decoded(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(4):
        kind = "png" if number else "jpg"
        Image.effect_noise((96, 64), 60 + number).save(tmp_path / "images" / f"{number}.{kind}")
    data = ["data=image_folder", f"data.root={tmp_path / 'images'}", "model.options.part=image"]
    [run] = runs_of(tmp_path, *data, "data.decoder=simplejpeg", "metrics=[pipeline]")
    [row] = run.results
    assert row.labels["left_to_pillow"] == "Pillow decoded 3 of 4 images instead of simplejpeg (3 PNG)"
    assert "decoder_unused" not in [reason.kind for reason in row.validity.reasons]


def test_a_run_without_the_key_of_a_later_version_has_the_reference_pipeline(measured):
    path = measured["clip_tiny", "pillow"].folder.path / "run.json"
    content = json.loads(path.read_text())
    for key in ("decoder", "preprocess"):
        assert content["config"]["data"].pop(key) == content["plan"].pop(key)
    record = type(measured["clip_tiny", "pillow"].record).from_json(content)
    assert record.plan.decoder == record.config["data"]["decoder"] == "pillow"
    assert record.plan.preprocess == record.config["data"]["preprocess"] == "transformers"


def test_a_run_whose_images_differ_too_much_fails_with_the_difference(tmp_path):
    words = ["run", "data.decoder=pillow_draft", "metrics=[pipeline]", *SHAPES, *SHORT]
    done = call(tmp_path, *words, "measure.parity.max_levels.draft=0")
    assert done.returncode == 1
    [path] = tmp_path.glob("outputs/*/results.jsonl")
    row = json.loads(path.read_text())
    assert row["status"] == "failed"
    assert "data.decoder=pillow_draft: the inputs of test-" in row["reason"]
    assert "measure.parity.max_levels.draft is 0" in row["reason"]
