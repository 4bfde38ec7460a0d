"""ONNX Runtime and OpenVINO quantise the bundled models, from the command line."""

import pytest
from command_line import call

from visionbench.data.shapes import Shapes
from visionbench.results import archive

TINY = ("clip_tiny", "sam_tiny", "blip2_tiny", "classifier_tiny")
WAYS = (("openvino", "int8_static"), ("onnxruntime", "int8_static"), ("onnxruntime", "int8_dynamic"))
METRICS = "metrics=[latency,load,parity,recall,segmentation,semantic_segmentation,captioning,classification]"
SHORT = ["measure.warmup.calls=1", "measure.latency.calls=6", "measure.retries=0", "data.options.samples=24"]
SHORT += ["tracking=none", "report.enabled=false", "device.threads=1", "batch.sizes=[2]"]
QUALITY = {
    "clip_tiny": "recall_i2t_at_1_fraction",
    "sam_tiny": "segmentation_point_miou_fraction",
    "blip2_tiny": "captioning_cider_score",
    "classifier_tiny": "classification_top_1_fraction",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("int8")


@pytest.fixture(scope="module")
def measured(folder):
    """Return runs of the bundled models in fp32 and in int8, by model, runtime and precision."""
    for models, *words in (
        (TINY, "precision=fp32"),
        (TINY[:2], "precision=int8_static", "precision.calibration_images=16", "runtime=onnxruntime,openvino"),
        (TINY[2:], "precision=int8_static", "precision.calibration_images=16", "runtime=onnxruntime,openvino"),
        (TINY, "precision=int8_dynamic", "runtime=onnxruntime"),
    ):
        run = ["run", "-m", f"model={','.join(models)}", METRICS, *SHORT, *words]
        done = call(folder, *run, VISIONBENCH_CACHE=str(folder / "cache"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Statistics" not in done.stdout + done.stderr and "WARNING" not in done.stdout + done.stderr
    runs = [(run.record.plan, run) for run in archive.read(folder / "outputs")]
    return {(plan.model, plan.runtime, plan.precision): run for plan, run in runs}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", TINY)
def test_a_quantised_model_has_almost_the_outputs_and_the_quality_of_fp32(measured, model, way):
    run, full = measured[model, *way], measured[model, "eager", "fp32"]
    assert [row.status for row in run.results] == ["ok"] * 2
    assert 0.98 < run.timed[0].metrics.values["parity_cosine_ratio"] < 1
    own, expected = (one.results[-1].metrics.values[QUALITY[model]] for one in (run, full))
    assert own == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", TINY)
def test_the_conditions_have_the_layers_and_the_calibration(measured, model, way):
    run, (runtime, precision) = measured[model, *way], way
    values, metrics = run.record.model.values, run.timed[0].metrics.values
    assert values["quantization"] == precision
    assert 0 < values["quantized_layers"] <= values["linear_layers"]
    assert values["quantized_parameters"] > 0
    assert values["nncf" if runtime == "openvino" else "onnxruntime"]
    assert metrics["load_quantize_s"] > 0
    assert metrics["load_file_mib"] > 0
    if precision == "int8_static":
        assert (values["calibration_images"], values["calibration_source"]) == (16, "shapes, split train")
        assert run.timed[0].labels["calibration"] == "16 images: shapes, split train"
    else:
        assert "calibration_images" not in values


@pytest.mark.parametrize("model", ["clip_tiny", "classifier_tiny"])
def test_the_file_of_a_model_with_static_scales_is_smaller_than_its_weights_in_fp32(measured, model):
    """The files of the smaller bundled models consist mostly of the description of their layers."""
    full = measured[model, "eager", "fp32"].record.model.values["parameters"] * 4 / 2**20
    for way in (way for way in WAYS if way[1] == "int8_static"):
        assert measured[model, *way].timed[0].metrics.values["load_file_mib"] < full


def test_no_image_of_the_calibration_is_evaluated(measured, folder):
    import pandas

    run = measured["clip_tiny", "openvino", "int8_static"]
    evaluated = set(pandas.read_parquet(run.folder.path / "predictions.parquet")["id"])
    used = Shapes(samples=24, cache_dir=str(folder / "data/cache")).examples()
    assert evaluated == {example.id for example in used}
    calibrated = Shapes(samples=24, cache_dir=str(folder / "data/cache")).other_images(64).examples()
    assert not evaluated & {example.id for example in calibrated}
    assert not {one.image.read_bytes() for one in used} & {one.image.read_bytes() for one in calibrated}


def test_quantised_parts_are_used_again_until_the_calibration_or_the_weights_change(measured, folder):
    """The first run reads the parts of the fixture from the cache."""
    words = ["run", "model=classifier_tiny", "precision=int8_static", "runtime=openvino", "metrics=[latency,load]"]
    for changes, is_new in (
        (["precision.calibration_images=16"], False),
        (["precision.calibration_images=12"], True),
        (["precision.calibration_images=12", "model.weights=random"], True),
    ):
        where = folder / "-".join(["again", *changes])
        where.mkdir()
        done = call(where, *words, *SHORT, *changes, VISIONBENCH_CACHE=str(folder / "cache"))
        assert done.returncode == 0, done.stdout + done.stderr
        [run] = archive.read(where / "outputs")
        metrics = run.timed[0].metrics
        assert (metrics.values["load_quantize_s"] is not None) == is_new
        assert is_new or "read from the cache" in metrics.reasons["load_quantize_s"]
        assert run.record.model.values["quantized_layers"] > 0


def test_a_quantised_run_that_differs_too_much_fails_with_the_cosine(tmp_path, folder):
    words = ["run", "model=classifier_tiny", "precision=int8_static", "runtime=openvino", "metrics=[latency]", *SHORT]
    done = call(tmp_path, *words, "measure.parity.min_cosine.int8=1", VISIONBENCH_CACHE=str(folder / "cache"))
    assert done.returncode == 1
    assert "measure.parity.min_cosine.int8 is 1" in done.stdout + done.stderr


def test_data_without_further_images_is_refused_before_anything_is_measured(tmp_path):
    from PIL import Image

    root = tmp_path / "images" / "cat"
    root.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (64, 64), (60 * number, 0, 0)).save(root / f"{number}.png")
    words = ["run", "data=image_folder", f"data.root={root.parent}", "model=classifier_tiny", "metrics=[latency]"]
    done = call(tmp_path, *words, "precision=int8_static", "runtime=openvino", "tracking=none")
    assert done.returncode == 2
    assert "data=image_folder: the run uses all of its 4 images, and none is left for the calibration" in done.stderr
    assert not (tmp_path / "outputs").exists()
