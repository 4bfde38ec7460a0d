"""`visionbench models inspect`: the YAML of a checkpoint, which is then built and called."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from command_line import FEW_CALLS, call
from PIL import Image
from saved_models import FAMILIES, SAVED, SQUARE, save
from tiny_vision_language import NAMES
from tiny_vision_language import save as save_vision_language

from visionbench.commands import models
from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.model_inspection import inspect
from visionbench.parts import find_adapter

CPU = torch.device("cpu")
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: save(name, folder) for name in SAVED}


def read(file):
    return ModelConfig(**yaml.safe_load(file.read_text()))


@pytest.mark.parametrize("name", SAVED)
def test_a_yaml_that_is_written_is_built_and_called_with_both_kinds_of_weights(checkpoints, name, tmp_path):
    file = tmp_path / "my_conf" / "model" / "mine.yaml"
    assert models.inspect(str(checkpoints[name]), None, file) == 0
    model = read(file)
    assert (model.name, model.family, model.weights) == ("mine", FAMILIES.get(name, "generic"), "pretrained")
    class_name = type(SAVED[name][0]()).__name__
    expected = sum(parameter.numel() for parameter in SAVED[name][0]().parameters())
    assert f"# {class_name}: {expected:,} parameters" in file.read_text().splitlines()
    image = Image.effect_mandelbrot((60, 50), (-2, -1.5, 1, 1.5), 80).convert("RGB")
    for weights in ("pretrained", "random"):
        own = ModelConfig(**{**yaml.safe_load(file.read_text()), "weights": weights})
        loaded = find_adapter(own).load(own, CPU, torch.float32)
        assert sum(parameter.numel() for parameter in loaded.module.parameters()) == expected
        with torch.inference_mode():
            output = loaded.call(loaded.preprocess([image, image], ["", ""]))
            assert (output[0] if isinstance(output, tuple) else output).isfinite().all()


@pytest.mark.parametrize("name", ["detr", "yolos"])
def test_a_detector_gets_its_family_and_is_built_with_both_kinds_of_weights(checkpoints, name, tmp_path):
    file = tmp_path / "my_conf" / "model" / "mine.yaml"
    assert models.inspect(str(checkpoints[name]), None, file) == 0
    assert read(file).family == "object_detector"
    expected = sum(parameter.numel() for parameter in SAVED[name][0]().parameters())
    image = Image.effect_mandelbrot((60, 50), (-2, -1.5, 1, 1.5), 80).convert("RGB")
    for weights in ("pretrained", "random"):
        own = ModelConfig(**{**yaml.safe_load(file.read_text()), "weights": weights})
        loaded = find_adapter(own).load(own, CPU, torch.float32)
        assert sum(parameter.numel() for parameter in loaded.module.parameters()) == expected
        with torch.inference_mode():
            output = loaded.call(loaded.preprocess([image, image], ["", ""]))
            assert all(tensor.isfinite().all() for tensor in output)
            assert all(len(one.boxes) for one in loaded.postprocess(output, [image, image]))


@pytest.mark.parametrize("name", NAMES)
def test_a_vision_language_model_gets_its_family_and_the_arguments_of_its_processor(name, tmp_path):
    folder = save_vision_language(name, tmp_path / "checkpoint", chat=False)
    file = tmp_path / "my_conf" / "model" / "mine.yaml"
    assert models.inspect(str(folder), None, file) == 0
    assert read(file).family == "vision_language"
    image = Image.effect_mandelbrot((60, 50), (-2, -1.5, 1, 1.5), 80).convert("RGB")
    for weights in ("pretrained", "random"):
        own = ModelConfig(**{**yaml.safe_load(file.read_text()), "weights": weights})
        loaded = find_adapter(own).load(own, CPU, torch.float32)
        with torch.inference_mode():
            assert loaded.probe_outputs(loaded.preprocess([image, image], ["", ""]))["image"].isfinite().all()


def test_a_model_of_a_family_gets_this_family(tmp_path):
    config = transformers.SwinConfig(image_size=32, embed_dim=8, depths=[1], num_heads=[2], window_size=4, num_labels=7)
    transformers.SwinForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size=SQUARE).save_pretrained(tmp_path)
    inspection = inspect(str(tmp_path), "mine")
    assert (inspection.model.family, inspection.task) == ("image_classifier", "image classification")
    assert inspection.model.architecture["num_labels"] == 7
    assert inspection.model.options == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing in"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json is missing in"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors or pytorch_model.bin is missing"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "its weights are an adapter"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: edit(folder, model_type=None), "has no model_type"),
        (lambda folder: edit(folder, model_type="mine", auto_map={"AutoModel": "mine.Mine"}), "is Python code of"),
        (lambda folder: edit(folder, model_type="mine", architectures=["Mine"]), "no Auto class .* builds Mine"),
        (lambda folder: shutil.rmtree(folder), "there is no folder"),
    ],
)
def test_what_prevents_a_measurement_is_one_line(checkpoints, tmp_path, change, message):
    folder = tmp_path / "mine"
    shutil.copytree(checkpoints["swin2sr"], folder)
    change(folder)
    with pytest.raises(ConfigError, match=message):
        inspect(str(folder))


def edit(folder, **values):
    content = json.loads((folder / "config.json").read_text())
    changed = {key: value for key, value in {**content, **values}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(changed))


@pytest.mark.parametrize("key", ["patch_size", "hidden_size", "image_size"])
@pytest.mark.parametrize("value", ["many", [], {"a": 1}])
def test_a_configuration_with_a_value_of_a_wrong_type_is_one_line(checkpoints, tmp_path, key, value):
    folder = shutil.copytree(checkpoints["dinov2"], tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    assert key in config
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ConfigError) as caught:
        inspect(str(folder), None)
    assert "\n" not in str(caught.value)


def test_a_model_that_reads_text_is_refused(tmp_path):
    transformers.BertModel(transformers.BertConfig(**TEXT, vocab_size=99)).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size=SQUARE).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="BertModel reads input_ids, and visionbench measures models"):
        inspect(str(tmp_path))


def test_pickled_weights_are_allowed_in_the_yaml_with_a_note(checkpoints, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(checkpoints["dinov2"], folder)
    (folder / "model.safetensors").unlink()
    torch.save(SAVED["dinov2"][0]().state_dict(), folder / "pytorch_model.bin")
    text = inspect(str(folder)).to_yaml("")
    assert "\npickled_weights: true\n" in text
    assert "the weights are a pickle" in text


@pytest.mark.parametrize(
    ("file", "message"),
    [("mine.yaml", "not the place"), ("model/mine.txt", "not the place"), ("model/existing.yaml", "it exists")],
)
def test_a_file_in_the_wrong_place_is_refused(checkpoints, tmp_path, file, message):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "existing.yaml").write_text("name: mine")
    with pytest.raises(ConfigError, match=message):
        models.inspect(str(checkpoints["dinov2"]), None, tmp_path / file)
    assert (tmp_path / "model" / "existing.yaml").read_text() == "name: mine"


def test_a_yaml_that_is_written_is_measured(checkpoints, tmp_path):
    written = call(tmp_path, "models", "inspect", str(checkpoints["swin2sr"]), "--write", "my_conf/model/mine.yaml")
    assert written.returncode == 0, written.stderr
    words = ["--config-dir", "my_conf", "model=mine", "batch.sizes=[1]", "metrics=[latency,flops,recall]", *FEW_CALLS]
    done = call(tmp_path, "run", *words, "tracking=none")
    assert done.returncode == 0, done.stderr
    assert "no recall, because model.family=generic gives no predictions" in done.stdout
    assert Path(tmp_path / "outputs").is_dir()
