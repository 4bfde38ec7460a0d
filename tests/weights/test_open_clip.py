"""Checkpoints of open_clip: their conversion to CLIP of transformers, and models that cannot be converted.

open_clip needs torchvision; benchmarks/open_clip_parity.py compares the outputs with those of open_clip itself.
"""

import gzip
import json
import shutil

import photographs
import pytest
import torch
from open_clip_checkpoint import open_clip_state
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from visionbench import weights
from visionbench.config import ModelConfig, project_folder
from visionbench.core import ConfigError
from visionbench.datafiles.images import decode
from visionbench.models.dual_encoder import DualEncoder
from visionbench.weights import open_clip

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "mlp_ratio": 2.0}
TEXT = {"context_length": 32, "vocab_size": 200, "width": 32, "heads": 2, "layers": 3}
MODEL = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bilinear",
    "resize_mode": "shortest",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONBENCH_CACHE", str(tmp_path / "cache"))


def clip(**model_cfg):
    """A CLIP of transformers with random weights, which open_clip describes by MODEL."""
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(**open_clip.describe_model("m", {**MODEL, **model_cfg}))).eval()


def save(folder, module, model_cfg=MODEL, name="open_clip_model.safetensors", state=None):
    """Save a checkpoint in the form of open_clip, with the tokenizer of clip_tiny."""
    folder.mkdir(exist_ok=True)
    content = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    state = open_clip_state(module) if state is None else state
    if name.endswith(".safetensors"):
        save_file(state, folder / name)
    else:
        torch.save(state, folder / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(project_folder("data") / "clip_tiny" / file, folder / file)
    return ModelConfig(name="mine", family="dual_encoder", checkpoint=str(folder), options={})


def load(model):
    weights.obtain_checkpoint(model)
    return DualEncoder(text_tokens=32).load(model, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_the_outputs_are_those_of_the_same_weights_in_transformers(tmp_path, quick_gelu):
    expected = clip(quick_gelu=quick_gelu)
    loaded = load(save(tmp_path / "mine", expected, {**MODEL, "quick_gelu": quick_gelu}))
    assert loaded.module.config.vision_config.hidden_act == ("quick_gelu" if quick_gelu else "gelu")
    inputs = loaded.preprocess([decode(path) for path in photographs.ALL], ["a red ring", "a star", "two squares"])
    with torch.inference_mode():
        output = loaded.call(inputs)
        reference = expected(**inputs)
        images = expected.get_image_features(inputs["pixel_values"]).pooler_output
    assert torch.equal(output["image"], images)
    assert output["text"].shape == reference.text_embeds.shape
    other = clip(quick_gelu=not quick_gelu)
    other.load_state_dict(expected.state_dict())
    with torch.inference_mode():
        assert not torch.allclose(other.get_image_features(inputs["pixel_values"]).pooler_output, images, atol=1e-4)


def test_every_weight_keeps_its_values(tmp_path):
    expected = clip()
    converted = load(save(tmp_path / "mine", expected)).module.state_dict()
    assert set(converted) == set(expected.state_dict())
    assert all(torch.equal(tensor, converted[name]) for name, tensor in expected.state_dict().items())


def test_weights_of_the_class_with_a_separate_text_tower_are_the_same(tmp_path):
    expected = clip()
    state = {
        name if name.startswith("visual.") or name == "logit_scale" else f"text.{name}": tensor
        for name, tensor in open_clip_state(expected).items()
    }
    state["logit_scale"] = state["logit_scale"].reshape(1)
    converted = load(save(tmp_path / "mine", expected, {**MODEL, "custom_text": True}, state=state)).module.state_dict()
    assert all(torch.equal(tensor, converted[name]) for name, tensor in expected.state_dict().items())


def test_the_image_processor_has_the_values_of_the_checkpoint(tmp_path):
    processor = load(save(tmp_path / "mine", clip())).processor
    assert (tuple(processor.image_mean), tuple(processor.image_std), processor.resample) == ((0.5,) * 3, (0.25,) * 3, 2)
    assert dict(processor.crop_size) == {"height": 32, "width": 32} and processor.size["shortest_edge"] == 32


def test_an_image_that_is_squashed_is_not_cropped():
    content = {"model_cfg": MODEL, "preprocess_cfg": {"resize_mode": "squash"}}
    described = open_clip.describe_processor("m", content)
    assert described["size"] == {"height": 32, "width": 32} and not described["do_center_crop"]
    assert described["resample"] == 3 and described["image_mean"] == list(open_clip.MEAN)


def test_a_checkpoint_is_converted_once_and_again_if_it_changes(tmp_path, monkeypatch):
    model = save(tmp_path / "mine", clip())
    assert weights.find_checkpoint(model) is None
    converted = weights.obtain_checkpoint(model)
    assert weights.find_checkpoint(model) == converted
    with monkeypatch.context() as patched:
        patched.setattr(open_clip, "_write", None)
        assert weights.obtain_checkpoint(model) == converted
    save(tmp_path / "mine", clip(), {**MODEL, "quick_gelu": True})
    assert weights.obtain_checkpoint(model) != converted


def test_a_pickle_is_read_only_if_it_is_allowed(tmp_path):
    expected = clip()
    model = save(tmp_path / "mine", expected, name="open_clip_pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"open_clip_pytorch_model\.bin is a pickle, .*model\.pickled_weights=true"):
        weights.obtain_checkpoint(model)
    model.pickled_weights = True
    assert torch.equal(load(model).module.visual_projection.weight, expected.visual_projection.weight)


class Code:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_with_code_is_refused_without_running_it(tmp_path, capsys):
    model = save(tmp_path / "mine", clip(), name="open_clip_pytorch_model.bin", state={"logit_scale": Code()})
    model.pickled_weights = True
    with pytest.raises(ConfigError) as caught:
        weights.obtain_checkpoint(model)
    assert "executed" not in capsys.readouterr().out
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "pool_type", "last"),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "proj_bias", True),
        ("text_cfg", "tokenizer_kwargs", {"clean": "canonicalize"}),
        ("text_cfg", "embed_cls", True),
        ("vision_cfg", "timm_model_name", "vit_base_patch16_siglip_224"),
        ("vision_cfg", "layers", [3, 4, 6, 3]),
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "no_ln_pre", True),
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "ls_init_value", 0.1),
        ("vision_cfg", "a_new_key", "x"),
        ("model_cfg", "init_logit_bias", -10),
        ("model_cfg", "multimodal_cfg", {"layers": 2}),
    ],
)
def test_a_model_that_transformers_does_not_have_is_refused_with_the_key(section, key, value):
    model_cfg = {**MODEL, "vision_cfg": dict(VISION), "text_cfg": dict(TEXT)}
    (model_cfg if section == "model_cfg" else model_cfg[section])[key] = value
    with pytest.raises(ConfigError) as caught:
        open_clip.describe_model("model.checkpoint=x", model_cfg)
    assert f"{key}=" in str(caught.value) and "\n" not in str(caught.value)


def test_keys_that_change_no_output_are_accepted():
    harmless = {
        **MODEL,
        "init_logit_scale": 2.6,
        "vision_cfg": {**VISION, "patch_dropout": 0.5, "pool_type": "tok", "norm_kwargs": {"eps": 1e-6}},
        "text_cfg": {**TEXT, "pool_type": "argmax", "proj_type": "linear", "hf_tokenizer_name": None},
    }
    described = open_clip.describe_model("m", harmless)
    assert described["vision_config"]["layer_norm_eps"] == 1e-6 and described["text_config"]["layer_norm_eps"] == 1e-5


@pytest.mark.parametrize("lost", ["visual.proj", "transformer.resblocks.2.mlp.c_fc.weight"])
def test_missing_weights_are_an_error(tmp_path, lost):
    state = open_clip_state(clip())
    del state[lost]
    with pytest.raises(ConfigError, match=r"its weights lack .* of the model that open_clip_config\.json describes"):
        weights.obtain_checkpoint(save(tmp_path / "mine", clip(), state=state))


def test_weights_of_another_model_are_an_error(tmp_path):
    smaller = {**MODEL, "text_cfg": {**TEXT, "layers": 2}}
    with pytest.raises(ConfigError, match=r"it contains text_model\.encoder\.layers\.2\..*, which the model of"):
        weights.obtain_checkpoint(save(tmp_path / "mine", clip(), smaller))
    narrower = {**MODEL, "embed_dim": 8}
    with pytest.raises(ConfigError, match=r"has the shape \[16, .*\], but open_clip_config\.json describes \[8, "):
        weights.obtain_checkpoint(save(tmp_path / "mine", clip(), narrower))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_cfg": 1}', '{"model_cfg": {}}'])
def test_a_damaged_configuration_is_an_error_of_one_line(tmp_path, text):
    model = save(tmp_path / "mine", clip())
    (tmp_path / "mine" / "open_clip_config.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        weights.obtain_checkpoint(model)
    assert "open_clip_config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_failed_conversion_leaves_no_entry(tmp_path):
    state = open_clip_state(clip())
    del state["visual.proj"]
    with pytest.raises(ConfigError):
        weights.obtain_checkpoint(save(tmp_path / "mine", clip(), state=state))
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_error_for_a_checkpoint_without_tokenizer_names_the_extra(tmp_path, monkeypatch):
    model = save(tmp_path / "mine", clip())
    for file in (tmp_path / "mine").glob("tokenizer*"):
        file.unlink()
    monkeypatch.setattr(open_clip.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"has no tokenizer .*pip install 'visionbench\[open-clip\]'"):
        weights.obtain_checkpoint(model)


def test_the_vocabulary_has_the_bytes_the_merges_and_two_special_tokens(tmp_path):
    (tmp_path / "merges.txt.gz").write_bytes(gzip.compress(b"#version\nt h\nth e</w>"))
    vocabulary, pairs = open_clip.read_vocabulary(tmp_path / "merges.txt.gz")
    assert pairs == ["t h", "th e</w>"]
    assert len(vocabulary) == 256 * 2 + 2 + 2
    assert (vocabulary["!"], vocabulary["!</w>"], vocabulary["th"], vocabulary["the</w>"]) == (0, 256, 512, 513)
    assert list(vocabulary)[-2:] == ["<|startoftext|>", "<|endoftext|>"]


def test_a_folder_with_both_forms_is_read_in_the_form_of_transformers(tmp_path):
    folder = shutil.copytree(project_folder("data") / "clip_tiny", tmp_path / "mine")
    (folder / "open_clip_config.json").write_text("{}")
    model = ModelConfig(name="mine", family="dual_encoder", checkpoint=str(folder), options={})
    assert weights.find_checkpoint(model) == folder
