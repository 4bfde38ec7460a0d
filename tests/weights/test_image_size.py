"""Another image size: the processor, the configuration and the tables of positions follow, and the outputs are those of
transformers' own interpolation."""

import shutil

import pytest
import torch
import transformers
from PIL import Image

from visionbench.config import ModelConfig, models, project_folder
from visionbench.core import ConfigError
from visionbench.parts import find_adapter
from visionbench.stages import flops

CPU = torch.device("cpu")
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
BUNDLED = ["clip_tiny", "classifier_tiny", "sam_tiny", "blip2_tiny"]


def load(model, size, **changes):
    options = {**model.options, "image_size": size}
    model = ModelConfig(**{**vars(model), "options": options, **changes})
    return find_adapter(model).load(model, CPU, torch.float32)


def inputs(loaded):
    images = [Image.effect_noise((90, 70), 80).convert("RGB"), Image.new("RGB", (60, 80), (200, 10, 10))]
    return loaded.preprocess(images, ["a red ring", "a blue star"])


@pytest.mark.parametrize("weights", ["pretrained", "random"])
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("name", BUNDLED)
def test_every_family_has_another_image_size(name, size, weights):
    loaded = load(models()[name], size, weights=weights)
    batch = inputs(loaded)
    assert batch["pixel_values"].shape == (2, 3, size, size)
    with torch.inference_mode():
        for output in loaded.probe_outputs(batch).values():
            assert output.isfinite().all() and not torch.equal(output[0], output[1])
    work = flops.count(loaded, flops.copy_without_values(loaded), batch)
    assert all(part.flop > 0 for part in work.values())


@pytest.mark.parametrize("name", BUNDLED)
def test_the_models_own_size_changes_no_output(name):
    model = models()[name]
    own = load(model, None)
    batch = inputs(own)
    same = load(model, batch["pixel_values"].shape[-1])
    assert same.identity["parameters"] == own.identity["parameters"]
    with torch.inference_mode():
        for output, expected in zip(same.probe_outputs(batch).values(), own.probe_outputs(batch).values(), strict=True):
            assert torch.equal(output, expected)


def test_a_larger_clip_has_the_outputs_of_transformers_interpolation():
    loaded, own = load(models()["clip_tiny"], 96), load(models()["clip_tiny"], None)
    pixels = inputs(loaded)["pixel_values"]
    with torch.inference_mode():
        features = loaded.module.get_image_features(pixel_values=pixels).pooler_output
        expected = own.module.get_image_features(pixel_values=pixels, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_a_larger_classifier_has_the_outputs_of_transformers_interpolation(kind, tmp_path):
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[kind](**TINY, image_size=64, patch_size=8, num_labels=3)
    name = {"vit": "ViTForImageClassification", "deit": "DeiTForImageClassificationWithTeacher"}[kind]
    module = getattr(transformers, name)(config).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    module.save_pretrained(tmp_path)
    shutil.copy(project_folder("data") / "classifier_tiny" / "preprocessor_config.json", tmp_path)
    model = ModelConfig("mine", "image_classifier", str(tmp_path))
    for size in (96, 40):
        loaded = load(model, size)
        pixels = inputs(loaded)["pixel_values"]
        with torch.inference_mode():
            expected = module(pixels, interpolate_pos_encoding=True).logits
            torch.testing.assert_close(loaded.call({"pixel_values": pixels}), expected)


def test_a_processor_that_crops_keeps_the_ratio_of_both_sizes():
    model = ModelConfig("mine", "image_classifier", weights="random")
    model.architecture = {"model_type": "vit", **TINY, "image_size": 224, "patch_size": 16, "num_labels": 3}
    model.image_processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
    }
    processor = load(model, 336).processor
    assert processor.size["shortest_edge"] == 384
    assert (processor.crop_size["height"], processor.crop_size["width"]) == (336, 336)


def test_a_table_of_relative_positions_is_refused_with_its_name(tmp_path):
    config = transformers.BeitConfig(**TINY, image_size=64, patch_size=8, use_relative_position_bias=True)
    transformers.BeitForImageClassification(config).save_pretrained(tmp_path)
    shutil.copy(project_folder("data") / "classifier_tiny" / "preprocessor_config.json", tmp_path)
    with pytest.raises(
        ConfigError, match=r"relative_position_bias_table of BeitForImageClassification has a size that"
    ):
        load(ModelConfig("mine", "image_classifier", str(tmp_path)), 96)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("clip_tiny", 0, "must be at least 1"),
        ("clip_tiny", 4, "smaller than the model's patches of 8 px; give at least 8"),
        ("sam_tiny", 100, "masks need a multiple of the model's patches of 8 px; give 96 or 104"),
    ],
)
def test_an_impossible_size_is_refused_with_the_reason(name, size, message):
    with pytest.raises(ConfigError) as raised:
        load(models()[name], size)
    assert str(raised.value) == f"model.options.image_size={size}: {message}"
