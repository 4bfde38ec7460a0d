"""Each runtime executes the bundled models with the results of eager, from the command line."""

import json

import pytest
from command_line import call

from visionbench.results import archive

TINY = ("clip_tiny", "sam_tiny", "blip2_tiny", "classifier_tiny", "segformer_tiny")
COMPILED = "classifier_tiny"
"""The model that is compiled. Compiling all models takes several minutes."""
METRICS = "metrics=[latency,load,parity,recall,segmentation,semantic_segmentation,captioning,classification]"
SHORT = ["measure.warmup.calls=1", "measure.latency.calls=6", "measure.retries=0", "data.options.samples=24"]
SHORT += ["tracking=none", "report.enabled=false", "device.threads=1", "batch.sizes=[1,3]"]
QUALITY = {
    "clip_tiny": "recall_i2t_at_1_fraction",
    "sam_tiny": "segmentation_point_miou_fraction",
    "blip2_tiny": "captioning_cider_score",
    "classifier_tiny": "classification_top_1_fraction",
    "segformer_tiny": "semantic_segmentation_miou_fraction",
}
EXECUTED_BY_TORCH = {
    "sam_tiny": "torch executes: decoder of boxes, for quality",
    "blip2_tiny": "torch executes: prefill, decode",
}
PARTS = {"clip_tiny": "image, text", "sam_tiny": "encoder, decoder", "blip2_tiny": "vision, queries"}


FROM_FILES = ("onnxruntime", "openvino")
"""The runtimes that read converted parts. Both read the same files."""
EXECUTED = [*((model, runtime) for model in TINY for runtime in FROM_FILES), (COMPILED, "compile")]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return runs of the bundled models in eager and in other runtimes, by model and runtime."""
    folder = tmp_path_factory.mktemp("runtimes")
    ways = ("eager", *FROM_FILES)
    for models, runtimes in (((COMPILED,), ("compile",)), (TINY[:2], ways), (TINY[2:], ways)):
        words = ["run", "-m", f"model={','.join(models)}", f"runtime={','.join(runtimes)}", METRICS, *SHORT]
        done = call(folder, *words, VISIONBENCH_CACHE=str(folder / "cache"))
        assert done.returncode == 0, done.stdout + done.stderr
    return {(run.record.plan.model, run.record.plan.runtime): run for run in archive.read(folder / "outputs")}


@pytest.mark.parametrize(("model", "runtime"), EXECUTED)
def test_a_runtime_gives_the_outputs_and_the_quality_of_eager(measured, model, runtime):
    run, eager = measured[model, runtime], measured[model, "eager"]
    assert [row.status for row in run.results] == ["ok"] * 3
    for row in run.results:
        if row.case.timed:
            assert row.metrics.values["parity_cosine_ratio"] > 0.9999
            assert row.metrics.values["parity_error_fraction"] < 0.01
        assert row.labels.get("runtime_eager") == EXECUTED_BY_TORCH.get(model)
    own, expected = (one.results[-1].metrics.values[QUALITY[model]] for one in (run, eager))
    assert own == pytest.approx(expected, abs=0.02)
    assert "parity_cosine_ratio" not in eager.results[0].metrics.values


@pytest.mark.parametrize("model", PARTS)
def test_the_row_of_a_runtime_names_the_parts_that_it_executes(measured, model):
    for runtime in FROM_FILES:
        assert measured[model, runtime].record.model.values["runtime_parts"] == PARTS[model]


def test_each_batch_size_is_compiled_before_its_warm_up(measured):
    compiled = [row.metrics.values["load_compile_s"] for row in measured[COMPILED, "compile"].timed]
    assert len(set(compiled)) == 2
    assert "load_file_mib" not in measured[COMPILED, "compile"].timed[0].metrics.values


@pytest.mark.parametrize("model", TINY)
def test_a_part_is_converted_once_for_both_runtimes_that_read_files(measured, model):
    files = [measured[model, name].timed[0].metrics for name in FROM_FILES]
    assert files[0].values["load_file_mib"] == files[1].values["load_file_mib"] > 0.1
    seconds = [metrics.values["load_export_s"] for metrics in files]
    assert sorted(value is None for value in seconds) == [False, True]
    assert any("read from the cache" in metrics.reasons.get("load_export_s", "") for metrics in files)


def test_the_runtime_is_a_fact_of_the_run(measured):
    run = measured["clip_tiny", "openvino"]
    assert run.facts()["runtime"] == "openvino"
    assert run.record.plan.varied["runtime.name"] == "openvino"
    assert run.record.plan.name.endswith("runtime openvino")
    assert run.record.model.values["runtime_parts"] == "image, text"
    assert run.record.model.values["runtime_threads"] == "1"


def test_runs_in_different_runtimes_are_not_compared_as_equal(measured, tmp_path):
    folders = [str(measured["clip_tiny", name].folder.path) for name in ("eager", "openvino")]
    done = call(tmp_path, "compare", *folders)
    assert done.returncode == 3
    assert "runtime: eager in the base, openvino in the candidate" in done.stdout


def test_a_run_whose_outputs_differ_too_much_fails_with_the_cosine(tmp_path):
    words = ["run", "precision=bf16", "metrics=[latency]", *SHORT]
    done = call(tmp_path, *words, "measure.parity.min_cosine.bfloat16=1")
    assert done.returncode == 1
    [path] = tmp_path.glob("outputs/*/results.jsonl")
    for line in path.read_text().splitlines():
        row = json.loads(line)
        assert row["status"] == "failed"
        assert "differs from eager fp32: cosine 0.99" in row["reason"]
        assert "measure.parity.min_cosine.bfloat16 is 1" in row["reason"]


def test_a_precision_is_compared_with_fp32(tmp_path):
    done = call(tmp_path, "run", "precision=bf16", "metrics=[latency,parity]", *SHORT)
    assert done.returncode == 0, done.stderr
    [run] = archive.read(tmp_path / "outputs")
    assert 0.99 < run.timed[0].metrics.values["parity_cosine_ratio"] < 1
