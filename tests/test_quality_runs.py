"""Quality from the command line: the bundled models on their tasks, on folders in COCO's layout, and on data with
problems."""

import json

import coco_folder
import pytest
import yaml
from command_line import here

from visionbench.devices.cuda import Cuda
from visionbench.records.folder import RunFolder

QUALITY = "metrics=[recall,segmentation,semantic_segmentation,captioning,classification,evaluation]"
TINY = ("clip_tiny", "sam_tiny", "blip2_tiny", "classifier_tiny", "segformer_tiny")
NO_SWEEP = ["tracking=none", "device.threads=1"]


def runs(folder):
    """Return the run folders of every command in this folder, by model."""
    runs = [RunFolder.open(path.parent) for path in sorted((folder / "outputs").rglob("results.jsonl"))]
    return {run.record().plan.model: run for run in runs}


def quality_row(run):
    (row,) = [row for row in run.results() if row.case.id == "quality"]
    return row


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Run the bundled models, only for quality."""
    folder = tmp_path_factory.mktemp("swept")
    done = here(folder, "run", "-m", f"model={','.join(TINY)}", QUALITY, "data.options.samples=120", *NO_SWEEP)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.parametrize(
    ("model", "metric", "least"),
    [
        ("clip_tiny", "recall_i2t_at_1_fraction", 0.9),
        ("clip_tiny", "classification_top_1_fraction", 0.7),
        ("sam_tiny", "segmentation_point_miou_fraction", 0.9),
        ("sam_tiny", "segmentation_box_miou_fraction", 0.9),
        ("blip2_tiny", "captioning_exact_match_fraction", 0.9),
        ("blip2_tiny", "captioning_bleu_4_fraction", 0.9),
        ("classifier_tiny", "classification_top_1_fraction", 0.9),
        ("segformer_tiny", "semantic_segmentation_miou_fraction", 0.8),
        ("segformer_tiny", "semantic_segmentation_pixel_accuracy_fraction", 0.95),
    ],
)
def test_a_bundled_model_performs_its_task(swept, model, metric, least):
    values = quality_row(runs(swept[0])[model]).metrics.values
    assert least < values[metric] <= 1
    assert values["evaluation_images_count"] == 120
    assert values["evaluation_left_out_count"] == 0


def test_the_features_of_a_bundled_model_predict_the_classes(tmp_path):
    words = ["run", "model=features_tiny", "metrics=[features,evaluation]", "data.options.samples=600", *NO_SWEEP]
    done = here(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    values = quality_row(runs(tmp_path)["features_tiny"]).metrics.values
    assert 0.9 < values["features_knn_top_1_fraction"] <= 1
    assert 0.9 < values["features_linear_probe_top_1_fraction"] <= 1
    assert (values["features_classes_count"], values["features_pictures_count"]) == (15, 600)


def test_each_model_has_only_the_quality_metrics_of_its_task(swept):
    groups = {model: set(quality_row(run).case.metrics) - {"evaluation"} for model, run in runs(swept[0]).items()}
    assert groups == {
        "clip_tiny": {"recall", "classification"},
        "sam_tiny": {"segmentation"},
        "blip2_tiny": {"captioning"},
        "classifier_tiny": {"classification"},
        "segformer_tiny": {"semantic_segmentation"},
    }


def test_the_table_shows_the_quality_metrics_and_the_pass_over_the_data(swept):
    stdout = swept[1].stdout
    for headline in ("R@1 ", "mIoU ", "CIDEr ", "top-1 "):
        assert headline in stdout
    assert stdout.count("quality over 120 images of shapes") == 1
    verbose = here(swept[0], "results", "latest", "--verbose").stdout
    for heading in ("i→t R@1", "point mIoU", "box mIoU", "CIDEr", "BLEU-4", "top-1"):
        assert heading in verbose
    assert verbose.count("quality over 120 images of shapes") == 5


def test_predictions_are_stored_and_every_figure_can_be_computed_again(swept):
    for model, run in runs(swept[0]).items():
        predictions = run.predictions()
        assert len(predictions.ids) == 120, model
        done = here(swept[0], "summarize", str(run.path))
        assert done.returncode == 0, done.stdout
        assert "all as reported" in done.stdout


def test_a_repeated_run_has_the_same_predictions(swept, tmp_path):
    done = here(
        tmp_path,
        *("run", "model=blip2_tiny", QUALITY, "data.options.samples=120", "measure.evaluation.workers=1", *NO_SWEEP),
    )
    assert done.returncode == 0, done.stderr
    first, again = (runs(folder)["blip2_tiny"].predictions() for folder in (swept[0], tmp_path))
    assert again.columns["caption"] == first.columns["caption"]
    assert list(again.ids) == list(first.ids)


# --------------------------------------------------------------------------------------------------- in COCO's layout
@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    coco_folder.write(root, images=6)
    return root


@pytest.mark.parametrize(
    ("model", "data", "metric", "least"),
    [
        ("clip_tiny", "coco_captions", "recall_i2t_at_1_fraction", 0.6),
        ("blip2_tiny", "coco_captions", "captioning_token_f1_fraction", 0.6),
        ("blip2_tiny", "coco_karpathy", "captioning_token_f1_fraction", 0.6),
        ("sam_tiny", "coco_instances", "segmentation_box_miou_fraction", 0.8),
    ],
)
def test_a_folder_in_cocos_layout_is_measured_with_every_data_set(tmp_path, coco, model, data, metric, least):
    turned = ["data.exif=turned"] if data == "coco_instances" else []
    words = [f"model={model}", f"data={data}", f"data.root={coco}", *turned, QUALITY, *NO_SWEEP]
    done = here(tmp_path, "run", *words)
    assert done.returncode == 0, done.stderr
    values = quality_row(runs(tmp_path)[model]).metrics.values
    assert values["evaluation_images_count"] == 6
    assert values[metric] > least


# ------------------------------------------------------------------------------------------------------- with problems
@pytest.fixture
def damaged(tmp_path):
    """A captioned folder of images in COCO's layout, and a function that damages one."""
    root = tmp_path / "coco"
    coco_folder.write(root, images=12)

    def damage(index, how):
        path = root / "val2017" / coco_folder.file_name(index)
        if how == "missing":
            path.unlink()
        elif how == "zero bytes":
            path.write_bytes(b"")
        elif how == "truncated":
            path.write_bytes(path.read_bytes()[:-900])
        return path.name

    return root, damage


def on(root, *words):
    return ["run", "model=clip_tiny", "data=coco_captions", f"data.root={root}", "metrics=[recall,evaluation]", *words]


def test_an_unusable_image_is_an_error_before_anything_is_loaded(damaged, tmp_path):
    root, damage = damaged
    first, second = damage(2, "missing"), damage(7, "zero bytes")
    done = here(tmp_path, *on(root, *NO_SWEEP))
    assert done.returncode == 2
    assert done.stderr == (
        f"visionbench: data=coco_captions: 2 of 12 images cannot be used: {first} (missing), {second} (zero bytes); "
        "correct them, or leave them out with data.on_error=skip\n"
    )
    assert not list(tmp_path.glob("outputs/*/results.jsonl"))


def test_with_skip_an_unusable_image_is_left_out_counted_and_named(damaged, tmp_path):
    root, damage = damaged
    names = [damage(2, "missing"), damage(7, "zero bytes")]
    done = here(tmp_path, *on(root, "data.on_error=skip", *NO_SWEEP))
    assert done.returncode == 0, done.stderr
    output = " ".join(done.stdout.split())
    assert f"pictures_left_out: 2 of 12: {names[0]} (missing), {names[1]} (zero bytes)" in output
    run = runs(tmp_path)["clip_tiny"]
    assert run.record().left_out == {names[0]: "missing", names[1]: "zero bytes"}
    row = quality_row(run)
    assert row.validity.verdict == "warned"
    assert row.metrics.values["evaluation_images_count"] == 10
    assert row.metrics.values["evaluation_left_out_count"] == 2


def test_an_image_that_fails_during_evaluation_fails_only_the_quality_row(damaged, tmp_path):
    root, damage = damaged
    name = damage(6, "truncated")
    words = ["measure.inputs.distinct_samples=2", "batch=single", "measure.warmup.calls=1", "measure.latency.calls=6"]
    done = here(tmp_path, *on(root, "metrics=[latency,recall,evaluation]", *words, *NO_SWEEP))
    assert done.returncode == 1
    timed, quality = runs(tmp_path)["clip_tiny"].results()
    assert (timed.status, quality.status) == ("ok", "failed")
    assert quality.reason.startswith(f"{name}: cannot be decoded") and "data.on_error=skip" in quality.reason
    assert name in done.stdout


def test_with_skip_an_image_that_fails_during_evaluation_is_left_out(damaged, tmp_path):
    root, damage = damaged
    name = damage(6, "truncated")
    done = here(tmp_path, *on(root, "data.on_error=skip", "measure.inputs.distinct_samples=2", *NO_SWEEP))
    assert done.returncode == 0, done.stderr
    row = quality_row(runs(tmp_path)["clip_tiny"])
    assert row.metrics.values["evaluation_images_count"] == 11
    assert any(name in reason.detail for reason in row.validity.reasons)


def test_an_empty_caption_and_an_unlisted_annotation_are_problems_of_the_data(damaged, tmp_path):
    root, _ = damaged
    path = root / "annotations" / "captions_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["caption"] = "  "
    content["annotations"].append({"id": 999, "image_id": 4242, "caption": "nowhere"})
    path.write_text(json.dumps(content))
    done = here(tmp_path, *on(root, *NO_SWEEP))
    assert done.returncode == 2
    assert "2 of 13 images cannot be used" in done.stderr
    assert "an empty caption" in done.stderr and "4242" in done.stderr


def test_the_run_lists_the_quality_metrics_that_were_not_requested(swept):
    plan = runs(swept[0])["sam_tiny"].record().plan
    assert set(plan.unsuited) == {"recall", "captioning", "classification", "semantic_segmentation"}
    assert plan.refused == {}
    assert yaml.safe_load((runs(swept[0])["sam_tiny"].path / "config.yaml").read_text())["data"]["on_error"] == "fail"


@pytest.mark.gpu
@pytest.mark.skipif(Cuda().why_absent() is not None, reason="this machine has no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_bundled_models_perform_equally_on_a_gpu(tmp_path, precision):
    words = [f"model={','.join(TINY)}", QUALITY, f"precision={precision}", "device=cuda", "tracking=none"]
    done = here(tmp_path, "run", "-m", *words, "data.options.samples=200")
    assert done.returncode == 0, done.stderr
    values = {model: quality_row(run).metrics.values for model, run in runs(tmp_path).items()}
    assert values["clip_tiny"]["recall_i2t_at_1_fraction"] > 0.9
    assert values["sam_tiny"]["segmentation_point_miou_fraction"] > 0.9
    assert values["blip2_tiny"]["captioning_exact_match_fraction"] > 0.85
    assert values["classifier_tiny"]["classification_top_1_fraction"] > 0.9
