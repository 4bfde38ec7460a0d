"""Folders with a checkpoint that is damaged, not complete or of two models: one line before anything is measured."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file

from visionbench.config import ModelConfig, project_folder
from visionbench.models.captioner import Captioner
from visionbench.models.dual_encoder import DualEncoder
from visionbench.models.image_classifier import ImageClassifier
from visionbench.registry import ConfigError

ADAPTERS = {
    "classifier_tiny": ImageClassifier(),
    "clip_tiny": DualEncoder(text_tokens=32),
    "blip2_tiny": Captioner(),
}
FAMILIES = {"classifier_tiny": "image_classifier", "clip_tiny": "dual_encoder", "blip2_tiny": "captioner"}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 901234\n"


@pytest.fixture
def folder(tmp_path):
    """A function that copies a bundled checkpoint, whose files a test then changes."""

    def copy(name):
        return shutil.copytree(project_folder("data") / name, tmp_path / name)

    return copy


def load(folder, adapter=None):
    model = ModelConfig(
        name=folder.name, family=FAMILIES[folder.name], checkpoint=str(folder), weights="pretrained", attention="eager"
    )
    return (adapter or ADAPTERS[folder.name]).load(model, torch.device("cpu"), torch.float32)


def refused(folder, adapter=None):
    with pytest.raises(ConfigError) as caught:
        load(folder, adapter)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_bundled_checkpoints_load_as_they_are(folder, name):
    assert load(folder(name)).identity["model_class"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("classifier_tiny", "model.safetensors"),
        ("classifier_tiny", "config.json"),
        ("classifier_tiny", "preprocessor_config.json"),
        ("clip_tiny", "tokenizer.json"),
        ("blip2_tiny", "tokenizer_config.json"),
    ],
)
def test_a_git_lfs_pointer_is_named_with_the_command_that_brings_the_file(folder, name, file):
    own = folder(name)
    (own / file).write_text(POINTER)
    assert f"{file} is a Git LFS pointer, not the file itself; run 'git lfs pull'" in refused(own)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("text", ['{"model_type": "resnet",', "[1]", "", "null"])
def test_a_cut_file_of_json_is_named(folder, file, text):
    own = folder("classifier_tiny")
    (own / file).write_text(text)
    assert file in refused(own)


def test_a_config_without_model_type_is_named(folder):
    own = folder("classifier_tiny")
    change_config(own, model_type=None)
    assert "config.json names no model_type" in refused(own)


@pytest.mark.parametrize("name", ["clip_tiny", "blip2_tiny"])
def test_a_checkpoint_without_a_tokenizer_is_refused(folder, name):
    own = folder(name)
    for file in own.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer.json (or vocab.json, vocab.txt" in refused(own)


@pytest.mark.parametrize("text", ["{}", '{"version": "1.0"', "\x00\x01"])
def test_a_damaged_tokenizer_is_one_line(folder, text):
    own = folder("clip_tiny")
    (own / "tokenizer.json").write_text(text)
    assert str(own) in refused(own) or "tokenizer" in refused(own)


def test_a_tokenizer_with_more_tokens_than_the_model_embeds_is_refused(folder):
    own = folder("clip_tiny")
    tokenizer = json.loads((own / "tokenizer.json").read_text())
    token = {"content": "<more>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"].append({"id": 100_000, "special": False} | token)
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        vocabulary["<more>"] = 100_000
    (own / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "its tokenizer has tokens up to 100000, and the model knows those below" in refused(own)


def test_weights_of_another_shape_than_the_config_are_named(folder):
    own = folder("classifier_tiny")
    change_config(own, id2label={str(at): f"c{at}" for at in range(10)}, label2id={f"c{at}": at for at in range(10)})
    said = refused(own)
    assert "has the shape [15" in said and "and config.json describes [10" in said


def test_a_checkpoint_with_more_layers_than_its_config_is_refused(folder):
    own = folder("clip_tiny")
    config = json.loads((own / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 1
    change_config(own, **config)
    assert "which the model of config.json has no place for" in refused(own)


def test_weights_of_other_parts_and_position_ids_are_no_reason_to_refuse(folder):
    own = folder("classifier_tiny")
    state = load_file(own / "model.safetensors")
    extra = {"an_optimizer.step": torch.ones(1), "embeddings.position_ids": torch.arange(3)}
    save_file(state | extra, own / "model.safetensors", metadata={"format": "pt"})
    assert load(own).identity["parameters"]


def test_weights_that_are_missing_in_part_are_refused(folder):
    own = folder("classifier_tiny")
    state = load_file(own / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if "classifier" not in name}
    save_file(kept, own / "model.safetensors", metadata={"format": "pt"})
    assert "it lacks classifier" in refused(own)


@pytest.mark.parametrize("keep", [4, 100, 5000])
def test_a_cut_file_of_weights_is_one_line(folder, keep):
    own = folder("classifier_tiny")
    (own / "model.safetensors").write_bytes((own / "model.safetensors").read_bytes()[:keep])
    assert str(own) in refused(own)


def test_more_tokens_than_positions_name_the_key(folder):
    said = refused(folder("clip_tiny"), DualEncoder(text_tokens=77))
    assert said == "model.options.text_tokens=77: 77 tokens, and the model has 32 positions; give less"
    said = refused(folder("blip2_tiny"), Captioner(caption_tokens=5000))
    assert "model.options.caption_tokens=5000" in said and "positions; give less" in said


def test_fewer_tokens_than_the_tokenizer_adds_itself_are_refused(folder):
    said = refused(folder("clip_tiny"), DualEncoder(text_tokens=2))
    assert said == (
        "model.options.text_tokens=2: the tokenizer adds 2 tokens to each text, so that none of the text is left; give "
        "at least 3"
    )


def test_captions_that_are_too_long_are_counted(folder):
    model = load(folder("clip_tiny"))
    assert model.cut(["a red ring", "a red ring above a blue star " * 10, "a star"]) == 1
    assert model.cut([]) == 0


def test_counting_long_captions_leaves_the_tokenizer_as_threads_use_it_to_encode(folder):
    model = load(folder("clip_tiny"))
    model.tokens(["a star"])
    encoding = model.tokenizer.backend_tokenizer
    before = (encoding.truncation, encoding.padding)
    model.cut(["a red ring"])
    assert (encoding.truncation, encoding.padding) == before
    assert before[0] is not None and before[1] is not None


def test_captions_are_encoded_and_counted_by_many_threads_at_once(folder):
    model = load(folder("clip_tiny"))
    texts = ["a red ring above a blue star " * 10, "a star"]

    def encode_or_count(at):
        return model.cut(texts) if at % 2 else tuple(model.tokens(texts)["input_ids"].shape)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(encode_or_count, range(2000))) == {1, (2, model.text_tokens)}


def test_two_lists_of_labels_that_contradict_each_other_are_refused(folder):
    own = folder("classifier_tiny")
    model = ModelConfig(name="own", family="image_classifier", checkpoint=str(own), weights="pretrained")
    labels = ImageClassifier().class_names(model)
    turned = dict(enumerate([*labels[1:], labels[0]]))
    change_config(own, id2label=turned)
    with pytest.raises(ConfigError, match="id2label and label2id disagree on 15 classes, such as '.*', which label2id"):
        ImageClassifier().class_names(model)
    change_config(own, label2id={name: str(at) for at, name in turned.items()} | {"LABEL_0": 0})
    assert ImageClassifier().class_names(model) == list(turned.values())
    change_config(own, id2label={0: "crane", 1: "gull", 2: "crane"}, label2id={"crane": 2, "gull": 1})
    assert ImageClassifier().class_names(model) == ["crane", "gull", "crane"]
