"""Each model is built with shapes only before the first run: errors come before anything is measured."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from command_line import here
from safetensors.torch import load_file, save_file

from visionbench import model_check
from visionbench.config import ExperimentConfig, ModelConfig, PrecisionConfig, models, project_folder
from visionbench.core import ConfigError
from visionbench.weights.loading import read_shapes

FAST = ["batch=single", "tracking=none", "metrics=[latency]", "measure.warmup.calls=1", "measure.latency.calls=6"]


@pytest.fixture
def own(tmp_path):
    """A function that copies a bundled checkpoint, and returns the folder and a configuration of it."""

    def own(name, **options):
        folder = shutil.copytree(project_folder("data") / name, tmp_path / name)
        bundled = models()[name]
        model = ModelConfig(bundled.name, bundled.family, str(folder), options={**bundled.options, **options})
        return folder, ExperimentConfig(model=model, precision=PrecisionConfig("fp32", "float32"))

    return own


def check(*configs):
    return [model.warnings for model in model_check.build_shapes(configs)]


@pytest.mark.parametrize("name", ["clip_tiny", "sam_tiny", "blip2_tiny", "classifier_tiny", "segformer_tiny"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_complete_checkpoint_has_no_warning(own, name, file):
    folder, config = own(name)
    state = load_file(folder / "model.safetensors")
    if file == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / file)
        config.model.pickled_weights = True
    assert read_shapes(folder) == {name: list(tensor.shape) for name, tensor in state.items()}
    assert check(config) == [()]


def test_runs_that_differ_in_the_seed_only_are_checked_once(own):
    _, config = own("classifier_tiny")
    assert model_check._key(config) == model_check._key(replace(config, model=replace(config.model, seed=7)))
    assert model_check._key(config) != model_check._key(replace(config, model=replace(config.model, checkpoint="x")))


def test_missing_weights_are_an_error_without_reading_the_others(own):
    folder, config = own("classifier_tiny")
    state = {key: value for key, value in load_file(folder / "model.safetensors").items() if "classifier" not in key}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="it lacks classifier.* of ResNetForImageClassification; model.family"):
        check(config)


def test_a_head_with_another_number_of_classes_is_an_error(own):
    folder, config = own("classifier_tiny")
    content = json.loads((folder / "config.json").read_text())
    content |= {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"has the shape \[15.*but config.json describes \[2"):
        check(config)


def test_a_checkpoint_with_a_large_unused_part_is_that_of_another_model(own):
    folder, config = own("classifier_tiny")
    state = load_file(folder / "model.safetensors")
    save_file(state | {"text_encoder.weight": torch.ones(400, 400)}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"no place for 4\d% of its weights, such as text_encoder.weight, so it is"):
        check(config)


def test_a_size_that_is_no_multiple_of_the_patches_is_a_warning(own):
    _, config = own("clip_tiny", image_size=100)
    assert check(config) == [
        (
            "model.options.image_size=100: not a multiple of the model's patches of 8 px, so the model may ignore a "
            "border of 4 px; 96 or 104 would use all of the image",
        )
    ]


def test_a_size_that_a_convolution_cannot_process_is_an_error():
    model = ModelConfig("mine", "image_classifier", weights="random", options={"image_size": 4})
    model.architecture = {"model_type": "convnext", "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    model.image_processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}}
    config = ExperimentConfig(model=model, precision=PrecisionConfig("fp32", "float32"))
    with pytest.raises(ConfigError, match="image_size=4: ConvNextForImageClassification cannot process images of this"):
        check(config)


def test_flash_attention_needs_a_gpu(own):
    _, config = own("clip_tiny")
    config.model.attention, config.device.name = "flash_attention_2", "cpu"
    with pytest.raises(ConfigError, match="model.attention=flash_attention_2: it needs a GPU"):
        model_check.check_families([config])


def test_a_wrong_model_in_a_sweep_ends_the_command_before_the_first_run(own, tmp_path):
    folder, _ = own("classifier_tiny")
    content = json.loads((folder / "config.json").read_text()) | {"architectures": ["DetrForObjectDetection"]}
    (folder / "config.json").write_text(json.dumps(content))
    done = here(
        tmp_path, "run", "-m", "model=classifier_tiny", f"model.checkpoint=bundled:classifier_tiny,{folder}", *FAST
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "use model.family=object_detector" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_missing_weights_leave_no_folder_of_a_run(own, tmp_path):
    folder, _ = own("classifier_tiny")
    state = {key: value for key, value in load_file(folder / "model.safetensors").items() if "classifier" not in key}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    done = here(tmp_path, "run", "model=classifier_tiny", f"model.checkpoint={folder}", *FAST)
    assert done.returncode == 2 and "it lacks classifier" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_the_record_has_the_used_attention_and_image_size(tmp_path):
    done = here(tmp_path, "run", "model=clip_tiny", "model.options.image_size=72", "model.attention=auto", *FAST)
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "outputs").rglob("run.json")
    model = json.loads(record.read_text())["model"]
    assert (model["attention"], model["image_size"]) == ("sdpa", "72x72")
