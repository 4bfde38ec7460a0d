"""Weights: complete checkpoints on this machine, and models with random weights.

Fetching from a Hub is tested in test_hub.py.
"""

import json
import shutil
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from visionbench import weights
from visionbench.config import ModelConfig, build_part, project_folder
from visionbench.core import ConfigError
from visionbench.registry import find
from visionbench.stages.load import check_output_follows_input

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = {**TOWER, "image_size": 32, "patch_size": 8}
SQUARE = {"height": 32, "width": 32}
MODELS = {
    "clip": ModelConfig(
        family="dual_encoder",
        options={"text_tokens": 16},
        architecture={
            "model_type": "clip",
            "projection_dim": 32,
            "text_config": {
                **TOWER,
                "vocab_size": 99,
                "max_position_embeddings": 16,
                "bos_token_id": 1,
                "eos_token_id": 2,  # as in released CLIP, whose true end token is the highest id
                "pad_token_id": 0,
            },
            "vision_config": VISION,
        },
        image_processor={
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": 32},
            "crop_size": SQUARE,
        },
    ),
    "siglip": ModelConfig(
        family="dual_encoder",
        options={"text_tokens": 16},
        architecture={
            "model_type": "siglip",
            "text_config": {
                **TOWER,
                "vocab_size": 99,
                "max_position_embeddings": 16,
                "projection_size": 32,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "pad_token_id": 0,
            },
            "vision_config": VISION,
        },
        image_processor={"image_processor_type": "SiglipImageProcessor", "size": SQUARE},
    ),
    "vit": ModelConfig(
        family="image_classifier",
        architecture={"model_type": "vit", "num_labels": 10, **VISION},
        image_processor={"image_processor_type": "ViTImageProcessor", "size": SQUARE},
    ),
    "resnet": ModelConfig(
        family="image_classifier",
        attention=None,
        architecture={
            "model_type": "resnet",
            "num_labels": 10,
            "embedding_size": 8,
            "hidden_sizes": [16, 32],
            "depths": [1, 2],
        },
        image_processor={"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}},
    ),
    "sam": ModelConfig(
        family="promptable_segmenter",
        options={"prompts_per_image": 2},
        architecture={
            "model_type": "sam",
            "vision_config": {
                "hidden_size": 32,
                "mlp_dim": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "output_channels": 16,
                "num_pos_feats": 8,
                "image_size": 64,
                "patch_size": 8,
                "window_size": 4,
                "global_attn_indexes": [1],
            },
            "prompt_encoder_config": {
                "hidden_size": 16,
                "image_size": 64,
                "patch_size": 8,
                "mask_input_channels": 4,
            },
            "mask_decoder_config": {
                "hidden_size": 16,
                "mlp_dim": 32,
                "num_attention_heads": 2,
                "iou_head_hidden_dim": 16,
            },
        },
        image_processor={
            "image_processor_type": "SamImageProcessor",
            "size": {"longest_edge": 64},
            "pad_size": {"height": 64, "width": 64},
            "mask_size": {"longest_edge": 32},
            "mask_pad_size": SQUARE,
        },
    ),
    "blip": ModelConfig(
        family="captioner",
        attention="eager",
        options={"new_tokens": 5},
        architecture={
            "model_type": "blip",
            "text_config": {
                **TOWER,
                "vocab_size": 99,
                "encoder_hidden_size": 32,
                "max_position_embeddings": 32,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "sep_token_id": 3,
                "pad_token_id": 0,
            },
            "vision_config": VISION,
        },
        image_processor={"image_processor_type": "BlipImageProcessor", "size": SQUARE},
    ),
    "blip-2": ModelConfig(
        family="captioner",
        options={"new_tokens": 5},
        architecture={
            "model_type": "blip-2",
            "num_query_tokens": 4,
            "image_token_index": 98,
            "vision_config": VISION,
            "qformer_config": {**TOWER, "vocab_size": 99, "encoder_hidden_size": 32},
            "text_config": {
                "model_type": "opt",
                "vocab_size": 99,
                "hidden_size": 32,
                "ffn_dim": 64,
                "word_embed_proj_dim": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "max_position_embeddings": 64,
            },
        },
        image_processor={"image_processor_type": "BlipImageProcessor", "size": SQUARE},
    ),
}
for name, config in MODELS.items():
    config.name, config.weights = name, "random"

every_family = pytest.mark.parametrize("name", MODELS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def with_changes(model, **keys):
    return ModelConfig(**{**vars(model), **keys})


def auto_class(model):
    return weights.auto_class_for(find("models", model.family), model)


def build(model, dtype=torch.float32):
    return weights.build_model(model, auto_class(model), CPU, dtype).module


def load(model, dtype=torch.float32):
    return build_part("models", model.family, model.options, "model.options").load(model, CPU, dtype)


def tensors(module):
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}


def images():
    """Two images of noise with different sizes."""
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, size, dtype=np.uint8)) for size in [(40, 60, 3), (50, 30, 3)]]


@pytest.fixture
def uninitialised_is_nan():
    """Make torch fill uninitialised memory with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function from the name of a tiny model to the folder where it is saved, with its image processor."""
    folders = {}

    def folder(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            build(MODELS[name]).save_pretrained(folders[name])
            weights.load_image_processor(MODELS[name], None).save_pretrained(folders[name])
        return folders[name]

    return folder


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy of the saved CLIP, which a test may damage, and the config that names it."""
    shutil.copytree(saved("clip"), tmp_path / "own")
    return tmp_path / "own", with_changes(MODELS["clip"], weights="pretrained", checkpoint=str(tmp_path / "own"))


# -------------------------------------------------------------------------------------------------------------- random
@every_family
def test_every_number_is_initialised_and_determined_by_the_seed(name, uninitialised_is_nan):
    first = tensors(build(MODELS[name]))
    torch.manual_seed(123)
    again = tensors(build(MODELS[name]))
    for key, tensor in first.items():
        assert tensor.isfinite().all(), key
        assert torch.equal(tensor, again[key]), key
    other = tensors(build(with_changes(MODELS[name], seed=1)))
    assert any(not torch.equal(tensor, other[key]) for key, tensor in first.items())


def test_building_does_not_change_the_global_random_state():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(MODELS["sam"])
    assert torch.equal(torch.rand(3), expected)


def test_no_two_weights_begin_with_the_same_numbers():
    """All weights are copied from one block of numbers, but from different offsets."""
    starts = [tuple(p.flatten()[:4].div(p.std()).tolist()) for p in build(MODELS["clip"]).parameters() if p.ndim > 1]
    assert len(set(starts)) == len(starts)


@every_family
@every_dtype
def test_random_and_saved_models_have_the_same_structure(name, dtype, saved):
    """Compare classes, dtypes (transformers keeps some in fp32), tied weights, mode, and attention."""
    model = MODELS[name]
    random = build(model, dtype)
    loaded = build(with_changes(model, weights="pretrained", checkpoint=str(saved(name))), dtype)
    assert type(random) is type(loaded)
    assert {key: tensor.dtype for key, tensor in tensors(random).items()} == {
        key: tensor.dtype for key, tensor in tensors(loaded).items()
    }
    assert tied(random) == tied(loaded)
    assert weights.count_bytes(random) == weights.count_bytes(loaded)
    assert not any(parameter.requires_grad for module in (random, loaded) for parameter in module.parameters())
    assert not any(child.training for module in (random, loaded) for child in module.modules())
    assert random.config._attn_implementation == loaded.config._attn_implementation


def tied(module):
    """Return groups of names of tied parameters."""
    addresses = sorted((tensor.data_ptr(), key) for key, tensor in tensors(module).items() if tensor.numel())
    groups = [[key for _, key in group] for _, group in groupby(addresses, key=lambda entry: entry[0])]
    return sorted(group for group in groups if len(group) > 1)


def test_a_language_models_output_layer_is_tied():
    assert any("lm_head.weight" in key for group in tied(build(MODELS["blip-2"])) for key in group)


def test_modules_that_transformers_keeps_in_fp32_are_in_fp32():
    dtypes = {key: tensor.dtype for key, tensor in tensors(build(MODELS["blip-2"], torch.float16)).items()}
    assert dtypes["query_tokens"] == dtypes["qformer.layernorm.weight"] == torch.float32
    assert dtypes["language_projection.weight"] == torch.float16


@every_family
@every_dtype
def test_outputs_are_finite_and_follow_the_inputs(name, dtype):
    loaded = load(MODELS[name], dtype)
    captions = ["a red ring over a blue disc", "a green square"]
    singles = [loaded.preprocess([image], [text]) for image, text in zip(images(), captions, strict=True)]
    check_output_follows_input(loaded, singles, CPU, dtype)


@pytest.mark.parametrize("name", ["blip", "blip-2"])
def test_captioners_write_exactly_the_configured_number_of_tokens(name):
    loaded = load(MODELS[name])
    with torch.inference_mode():
        inputs = loaded.preprocess(images(), ["", ""])
        answers = [loaded.call(inputs), loaded.call(inputs)]
    prompt = len(loaded.prompt_ids) - (name == "blip")  # BLIP removes the last token
    assert answers[0].shape == (2, prompt + 5)
    assert torch.equal(*answers)
    assert [len(text.split()) for text in loaded.postprocess(answers[0], images())] == [5, 5]


@pytest.mark.parametrize("prompt", ["point", "box"])
@pytest.mark.parametrize("part", ["both", "decoder"])
def test_segmenters_return_masks_of_the_images_size(prompt, part):
    loaded = load(with_changes(MODELS["sam"], options={"prompts_per_image": 2, "prompt": prompt, "part": part}))
    with torch.inference_mode():
        output = loaded.call(weights.place_inputs(loaded.preprocess(images(), ["", ""]), CPU, torch.float32))
    masks = loaded.postprocess(output, images())
    assert [mask.shape for mask in masks] == [(2, 3, 40, 60), (2, 3, 50, 30)]
    assert all(mask.dtype == bool for mask in masks)


# -------------------------------------------------------------------------------------------------------- architecture
@pytest.mark.parametrize(
    ("name", "count"),
    {
        "clip_vit_b32": 151_277_313,
        "clip_vit_l14": 427_616_513,
        # 93,735,472 and 641,090,608 without the 2 × 128 numbers of the position encoding, which were a buffer earlier.
        "sam_vit_b": 93_735_728,
        "sam_vit_h": 641_090_864,
        "vit_b16": 86_567_656,
        "resnet50": 25_557_032,
        # 3,744,679,936 before the vocabulary grew by 32 for the image token.
        "blip2_opt_2_7b": 3_744_761_856,
        # 247,414,076 with the output layer, which is tied to the word embeddings, counted separately.
        "blip_base": 223_971_644,
        "siglip2_base": 375_187_970,
        "detr_r50": 41_524_768,
        "rtdetr_v2_r18": 20_174_608,
        "yolos_tiny": 6_488_736,
        "segformer_b0": 3_752_694,
        "mask2former_swin_tiny": 47_441_169,
        "depth_anything_v2_small": 24_785_089,
        "dpt_large": 343_030_465,
    }.items(),
)
def test_parameters_of_the_bundled_configs_are_counted(name, count):
    model = ModelConfig(**yaml.safe_load((project_folder("conf") / "model" / f"{name}.yaml").read_text()))
    assert weights.count_parameters(model, auto_class(model)) == count


@every_family
def test_the_counted_parameters_are_those_of_the_model(name):
    built = weights.build_model(MODELS[name], auto_class(MODELS[name]), CPU, torch.float32)
    assert weights.count_parameters(MODELS[name], auto_class(MODELS[name])) == built.identity["parameters"]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({}, "model clip: random weights need an 'architecture:' with its model_type"),
        ({"model_type": "clap2"}, "model.architecture.model_type=clap2: not in transformers; did you mean 'clap'?"),
        (
            {"model_type": "vit", "hiden_size": 32},
            "there is no key 'model.architecture.hiden_size'; did you mean 'hidden_size'?",
        ),
        (
            {"model_type": "clip", "text_config": {"vocab": 99}},
            "there is no key 'model.architecture.text_config.vocab'; did you mean 'vocab_size'?",
        ),
        ({"model_type": "vit", "to_dict": 1}, "there is no key 'model.architecture.to_dict'; did you mean"),
        (
            {"model_type": "clip", "text_config": {"hidden_size": "big"}},
            "model.architecture.text_config: TypeError: Field 'hidden_size' expected int, got str (value: 'big')",
        ),
        ({"model_type": "clip", "text_config": 5}, "model.architecture: TypeError: Field 'text_config'"),
        ({"model_type": "vit", "num_labels": "many"}, "model.architecture: "),
        (
            {"model_type": "blip-2", "text_config": {"model_type": "optt"}},
            "model.architecture.text_config.model_type=optt: not in transformers; did you mean 'opt'?",
        ),
        ({"model_type": "clip", "text_config": {"hidden_size": 33}}, "model.architecture"),
    ],
)
def test_an_invalid_architecture_is_an_error_of_one_line(architecture, message):
    family = "image_classifier" if architecture.get("model_type") == "vit" else "dual_encoder"
    with pytest.raises(ConfigError) as raised:
        build(with_changes(MODELS["clip"], family=family, architecture=architecture))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_nested_config_of_another_type_has_its_own_keys():
    text = {"model_type": "t5", "d_model": 32, "d_ff": 64}
    model = with_changes(MODELS["blip-2"], architecture={"model_type": "blip-2", "text_config": text})
    assert weights.build_config(model).text_config.d_model == 32


def test_the_error_for_an_unsupported_attention_names_the_supported_ones():
    with pytest.raises(ConfigError) as raised:
        build(with_changes(MODELS["resnet"], attention="sdpa"))
    supported = "model.attention=sdpa: ResNetForImageClassification supports only eager; use model.attention=auto"
    assert str(raised.value) == supported


def test_random_weights_need_an_image_processor():
    with pytest.raises(ConfigError, match="need an 'image_processor:' with image_processor_type"):
        weights.load_image_processor(with_changes(MODELS["clip"], image_processor={}), None)


# ------------------------------------------------------------------------------------------------------------- folders
def test_a_complete_folder_is_found(checkpoint):
    folder, model = checkpoint
    assert weights.find_checkpoint(model) == folder
    weights.ensure_checkpoint(model)
    identity = weights.build_model(model, "AutoModel", CPU, torch.float32).identity
    assert (identity["weights"], identity["checkpoint"], identity["revision"]) == ("pretrained", str(folder), None)


def test_a_bundled_checkpoint_is_found_by_its_name():
    model = ModelConfig("clip_tiny", "dual_encoder", "bundled:clip_tiny")
    assert weights.find_checkpoint(model) == project_folder("data") / "clip_tiny"


def test_the_error_for_a_missing_folder_names_the_nearest_folder():
    with pytest.raises(ConfigError, match=r"^model\.checkpoint=bundled:clip_tinny: there is no folder .*'clip_tiny'"):
        weights.ensure_checkpoint(ModelConfig("clip_tiny", "dual_encoder", "bundled:clip_tinny"))
    with pytest.raises(
        ConfigError, match=r"^model\.checkpoint=\./nowhere/at/all: there is no folder /.*/nowhere/at/all$"
    ):
        weights.ensure_checkpoint(ModelConfig("m", "dual_encoder", "./nowhere/at/all"))


@pytest.mark.parametrize(
    ("lost", "missing"),
    [
        ("*", "config.json"),
        ("config.json", "config.json"),
        ("*processor_config.json", "preprocessor_config.json"),
        ("model.safetensors", "model.safetensors or pytorch_model.bin"),
    ],
)
def test_a_folder_with_a_missing_file_is_not_found(checkpoint, lost, missing):
    folder, model = checkpoint
    for file in folder.glob(lost):
        file.unlink()
    assert weights.find_checkpoint(model) is None
    with pytest.raises(ConfigError) as raised:
        weights.ensure_checkpoint(model)
    assert str(raised.value) == f"model.checkpoint={folder}: {missing} is missing in {folder}; add the file"


def test_every_shard_of_the_index_is_needed(checkpoint):
    folder, model = checkpoint
    module = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    module.save_pretrained(folder, max_shard_size="50KB")
    assert weights.find_checkpoint(model) == folder
    lost = sorted(folder.glob("model-*.safetensors"))[-1]
    lost.unlink()
    assert weights.find_checkpoint(model) is None
    with pytest.raises(ConfigError, match=f"{lost.name} is missing"):
        weights.ensure_checkpoint(model)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_one_file_and_several_files_give_the_same_model(checkpoint, suffix):
    folder, model = checkpoint
    expected = build(model).state_dict()
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, files = sorted(state), {"safetensors": "model", "bin": "pytorch_model"}
    halves = {f"{files[suffix]}-{part + 1:05}-of-00002.{suffix}": names[part::2] for part in range(2)}
    for file, half in halves.items():
        part = {name: state[name] for name in half}
        save_file(part, folder / file, {"format": "pt"}) if suffix == "safetensors" else torch.save(part, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, half in halves.items() for name in half}}
    (folder / f"{files[suffix]}.{suffix}.index.json").write_text(json.dumps(index))
    if suffix == "bin":
        with pytest.raises(ConfigError, match=r"pytorch_model\.bin\.index\.json is a pickle, .*pickled_weights=true"):
            build(model)
        model.pickled_weights = True
    loaded = build(model).state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in expected.items())


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "../model.safetensors", "/model.safetensors", "a/model.safetensors"]
)
def test_an_index_names_only_files_of_its_format_beside_it(checkpoint, name):
    """Otherwise an index of safetensors could name a pickle, which is then read although it is not allowed."""
    folder, model = checkpoint
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"logit_scale": name}}))
    with pytest.raises(ConfigError, match=r"index\.json: it names '.*', which is not a file \.safetensors beside it"):
        weights.find_checkpoint(model)


class Code:
    """An object whose pickle calls a function when it is read."""

    def __reduce__(self):
        return (print, ("executed",))


def test_the_code_in_a_pickle_is_not_run_although_pickles_are_allowed(checkpoint, capsys):
    folder, model = checkpoint
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**state, "logit_scale": Code()}, folder / "pytorch_model.bin")
    model.pickled_weights = True
    with pytest.raises(ConfigError, match=f"^model.checkpoint={folder}: "):
        build(model)
    assert "executed" not in capsys.readouterr().out


def test_an_invalid_index_is_an_error_of_one_line(checkpoint):
    folder, model = checkpoint
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}}))
    with pytest.raises(ConfigError, match=r"model\.safetensors\.index\.json: not an index of weights"):
        weights.find_checkpoint(model)


def test_a_damaged_file_is_an_error_of_one_line(checkpoint):
    folder, model = checkpoint
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ConfigError) as raised:
        build(model)
    assert str(raised.value).startswith(f"model.checkpoint={folder}: ")
    assert "\n" not in str(raised.value)


def test_a_pickle_that_runs_code_is_an_error(checkpoint):
    folder, model = checkpoint
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Path("anything but a tensor")}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"is a pickle, not safetensors; .*model\.pickled_weights=true"):
        build(model)
    model.pickled_weights = True
    with pytest.raises(ConfigError) as raised:
        build(model)
    assert str(raised.value).startswith(f"model.checkpoint={folder}: ")
    assert "\n" not in str(raised.value)


def test_a_checkpoint_that_fills_only_a_part_of_the_model_is_an_error(checkpoint):
    folder, model = checkpoint
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"it lacks visual_projection\.weight of CLIPModel; model\.family"):
        build(model)


def test_a_family_that_does_not_fit_the_checkpoint_is_an_error_of_one_line(checkpoint):
    _, model = checkpoint
    with pytest.raises(ConfigError, match="use model.family=dual_encoder or feature_extractor$") as raised:
        build(with_changes(model, family="promptable_segmenter"))
    assert "\n" not in str(raised.value)


def test_code_in_a_checkpoint_does_not_run_by_default(checkpoint, capsys):
    folder, model = checkpoint
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("print('the code ran')")
    with pytest.raises(ConfigError, match=r"custom code; model\.trust_remote_code=true would run it$"):
        build(model)
    assert "the code ran" not in capsys.readouterr().out


def test_building_without_a_checkpoint_is_an_error():
    model = with_changes(MODELS["clip"], weights="pretrained", checkpoint="./nowhere")
    with pytest.raises(ConfigError, match="model.checkpoint=./nowhere: not on this machine"):
        build(model)
