"""The bundled models in each precision that torch adds to a model in float32, from the command line."""

import pytest
from command_line import call

from visionbench.results import archive

TINY = ("clip_tiny", "sam_tiny", "blip2_tiny", "classifier_tiny", "segformer_tiny")
METRICS = "metrics=[latency,memory,parity,recall,segmentation,semantic_segmentation,captioning,classification]"
SHORT = ["measure.warmup.calls=1", "measure.latency.calls=6", "measure.retries=0", "data.options.samples=24"]
SHORT += ["tracking=none", "report.enabled=false", "device.threads=1", "batch.sizes=[2]"]
QUALITY = {
    "clip_tiny": "recall_i2t_at_1_fraction",
    "sam_tiny": "segmentation_point_miou_fraction",
    "blip2_tiny": "captioning_cider_score",
    "classifier_tiny": "classification_top_1_fraction",
    "segformer_tiny": "semantic_segmentation_miou_fraction",
}
CAST = {"autocast_bf16": "bfloat16", "autocast_fp16": "float16"}
QUANTIZED = ("int8_dynamic", "int8_weight_only")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return runs of the bundled models by model and precision."""
    folder = tmp_path_factory.mktemp("precisions")
    precisions = ",".join(("fp32", *CAST, *QUANTIZED))
    done = call(folder, "run", "-m", f"model={','.join(TINY)}", f"precision={precisions}", METRICS, *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    return {(run.record.plan.model, run.record.plan.precision): run for run in archive.read(folder / "outputs")}


@pytest.mark.parametrize("precision", [*CAST, *QUANTIZED])
@pytest.mark.parametrize("model", TINY)
def test_a_precision_has_almost_the_outputs_and_the_quality_of_fp32(measured, model, precision):
    run, full = measured[model, precision], measured[model, "fp32"]
    assert [row.status for row in run.results] == ["ok"] * 2
    assert 0.98 < run.timed[0].metrics.values["parity_cosine_ratio"] < 1
    own, expected = (one.results[-1].metrics.values[QUALITY[model]] for one in (run, full))
    assert own == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("model", TINY)
def test_autocast_leaves_the_weights_in_float32(measured, model):
    full = measured[model, "fp32"].record.model.values
    for precision, dtype in CAST.items():
        values = measured[model, precision].record.model.values
        assert (values["dtype"], values["autocast"]) == ("float32", dtype)
        assert values["weights_bytes"] == full["weights_bytes"]
    assert "autocast" not in full


@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize("model", TINY)
def test_quantised_layers_are_counted_and_take_less_memory(measured, model, precision):
    run, full = measured[model, precision], measured[model, "fp32"]
    values = run.record.model.values
    assert 0 < values["quantized_layers"] <= values["linear_layers"]
    assert values["weights_bytes"] < full.record.model.values["weights_bytes"]
    mib = [one.timed[0].metrics.values["memory_weights_mib"] for one in (run, full)]
    assert mib[0] == pytest.approx(values["weights_bytes"] / 2**20) and mib[0] < mib[1]
    assert not any(reason.kind == "kernels_skipped" for reason in run.timed[0].validity.reasons)


def test_a_quantised_run_has_its_own_limit_of_parity(tmp_path):
    words = ["run", "model=sam_tiny", "precision=int8_dynamic", "metrics=[latency]", *SHORT]
    done = call(tmp_path, *words, "measure.parity.min_cosine.int8=1")
    assert done.returncode == 1
    assert "measure.parity.min_cosine.int8 is 1" in done.stdout + done.stderr


def test_int8_is_compiled(tmp_path):
    words = ["run", "model=classifier_tiny", "precision=int8_weight_only", "runtime=compile"]
    done = call(tmp_path, *words, "metrics=[latency,parity]", *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = archive.read(tmp_path / "outputs")
    assert run.timed[0].metrics.values["parity_cosine_ratio"] > 0.98
    assert run.record.model.values["quantized_layers"] > 0


def test_autocast_is_compiled(tmp_path):
    words = ["run", "model=classifier_tiny", "precision=autocast_bf16", "runtime=compile"]
    done = call(tmp_path, *words, "metrics=[latency,parity]", *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = archive.read(tmp_path / "outputs")
    assert 0.98 < run.timed[0].metrics.values["parity_cosine_ratio"] < 1
