"""Checkpoints that are damaged, incomplete or of two models are an error of one line before anything is measured."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file

from visionbench.config import ModelConfig, project_folder
from visionbench.core import ConfigError
from visionbench.models.captioner import Captioner
from visionbench.models.dual_encoder import DualEncoder
from visionbench.models.image_classifier import ImageClassifier
from visionbench.models.semantic_segmenter import SemanticSegmenter

ADAPTERS = {
    "classifier_tiny": ImageClassifier(),
    "clip_tiny": DualEncoder(text_tokens=32),
    "blip2_tiny": Captioner(),
    "segformer_tiny": SemanticSegmenter(),
}
FAMILIES = {
    "classifier_tiny": "image_classifier",
    "clip_tiny": "dual_encoder",
    "blip2_tiny": "captioner",
    "segformer_tiny": "semantic_segmenter",
}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 901234\n"


@pytest.fixture
def folder(tmp_path):
    """A function that copies a bundled checkpoint, whose files a test may change."""

    def copy(name):
        return shutil.copytree(project_folder("data") / name, tmp_path / name)

    return copy


def load(folder, adapter=None):
    model = ModelConfig(
        name=folder.name, family=FAMILIES[folder.name], checkpoint=str(folder), weights="pretrained", attention="eager"
    )
    return (adapter or ADAPTERS[folder.name]).load(model, torch.device("cpu"), torch.float32)


def load_error(folder, adapter=None):
    with pytest.raises(ConfigError) as caught:
        load(folder, adapter)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_bundled_checkpoints_load(folder, name):
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
def test_the_error_for_a_git_lfs_pointer_names_the_command_that_fetches_the_file(folder, name, file):
    checkpoint = folder(name)
    (checkpoint / file).write_text(POINTER)
    assert f"{file} is a Git LFS pointer, not the file itself; run 'git lfs pull'" in load_error(checkpoint)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("text", ['{"model_type": "resnet",', "[1]", "", "null"])
def test_the_error_for_a_truncated_json_file_names_it(folder, file, text):
    checkpoint = folder("classifier_tiny")
    (checkpoint / file).write_text(text)
    assert file in load_error(checkpoint)


def test_a_config_without_model_type_is_an_error(folder):
    checkpoint = folder("classifier_tiny")
    change_config(checkpoint, model_type=None)
    assert "config.json has no model_type" in load_error(checkpoint)


@pytest.mark.parametrize("name", ["clip_tiny", "blip2_tiny"])
def test_a_checkpoint_without_a_tokenizer_is_an_error(folder, name):
    checkpoint = folder(name)
    for file in checkpoint.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer.json (or vocab.json, vocab.txt" in load_error(checkpoint)


@pytest.mark.parametrize("text", ["{}", '{"version": "1.0"', "\x00\x01"])
def test_a_damaged_tokenizer_is_an_error_of_one_line(folder, text):
    checkpoint = folder("clip_tiny")
    (checkpoint / "tokenizer.json").write_text(text)
    assert str(checkpoint) in load_error(checkpoint) or "tokenizer" in load_error(checkpoint)


def test_a_tokenizer_with_more_tokens_than_the_model_is_an_error(folder):
    checkpoint = folder("clip_tiny")
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    token = {"content": "<more>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"].append({"id": 100_000, "special": False} | token)
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        vocabulary["<more>"] = 100_000
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "its tokenizer has tokens up to 100000, but the model only has tokens below" in load_error(checkpoint)


def test_weights_of_another_shape_than_the_config_are_an_error(folder):
    checkpoint = folder("classifier_tiny")
    change_config(checkpoint, id2label={str(k): f"c{k}" for k in range(10)}, label2id={f"c{k}": k for k in range(10)})
    message = load_error(checkpoint)
    assert "has the shape [15" in message and "but config.json describes [10" in message


def test_a_checkpoint_with_more_layers_than_its_config_is_an_error(folder):
    checkpoint = folder("clip_tiny")
    config = json.loads((checkpoint / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 1
    change_config(checkpoint, **config)
    assert "which the model of config.json does not have" in load_error(checkpoint)


def test_unused_weights_of_other_parts_and_position_ids_are_accepted(folder):
    checkpoint = folder("classifier_tiny")
    state = load_file(checkpoint / "model.safetensors")
    extra = {"an_optimizer.step": torch.ones(1), "embeddings.position_ids": torch.arange(3)}
    save_file(state | extra, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert load(checkpoint).identity["parameters"]


def test_missing_weights_are_an_error(folder):
    checkpoint = folder("classifier_tiny")
    state = load_file(checkpoint / "model.safetensors")
    incomplete = {name: tensor for name, tensor in state.items() if "classifier" not in name}
    save_file(incomplete, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert "it lacks classifier" in load_error(checkpoint)


@pytest.mark.parametrize("keep", [4, 100, 5000])
def test_a_truncated_file_of_weights_is_an_error_of_one_line(folder, keep):
    checkpoint = folder("classifier_tiny")
    (checkpoint / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:keep])
    assert str(checkpoint) in load_error(checkpoint)


def test_the_error_for_more_tokens_than_positions_names_the_key(folder):
    message = load_error(folder("clip_tiny"), DualEncoder(text_tokens=77))
    assert message == "model.options.text_tokens=77: 77 tokens, and the model has 32 positions; give fewer tokens"
    message = load_error(folder("blip2_tiny"), Captioner(caption_tokens=5000))
    assert "model.options.caption_tokens=5000" in message and "positions; give fewer tokens" in message


def test_as_many_tokens_as_the_tokenizer_adds_are_an_error(folder):
    message = load_error(folder("clip_tiny"), DualEncoder(text_tokens=2))
    assert message == (
        "model.options.text_tokens=2: the tokenizer adds 2 tokens to each text, so that no token "
        "remains for the text; give at least 3"
    )


def test_captions_that_are_truncated_are_counted(folder):
    model = load(folder("clip_tiny"))
    assert model.count_truncated(["a red ring", "a red ring above a blue star " * 10, "a star"]) == 1
    assert model.count_truncated([]) == 0


def test_counting_truncated_captions_does_not_change_the_tokenizer(folder):
    model = load(folder("clip_tiny"))
    model.tokenize(["a star"])
    encoding = model.tokenizer.backend_tokenizer
    before = (encoding.truncation, encoding.padding)
    model.count_truncated(["a red ring"])
    assert (encoding.truncation, encoding.padding) == before
    assert before[0] is not None and before[1] is not None


def test_captions_can_be_encoded_and_counted_by_many_threads(folder):
    model = load(folder("clip_tiny"))
    texts = ["a red ring above a blue star " * 10, "a star"]

    def encode_or_count(number):
        return model.count_truncated(texts) if number % 2 else tuple(model.tokenize(texts)["input_ids"].shape)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(encode_or_count, range(2000))) == {1, (2, model.text_tokens)}


def test_id2label_and_label2id_that_disagree_are_an_error(folder):
    checkpoint = folder("classifier_tiny")
    model = ModelConfig(name="own", family="image_classifier", checkpoint=str(checkpoint), weights="pretrained")
    labels = ImageClassifier().class_names(model)
    turned = dict(enumerate([*labels[1:], labels[0]]))
    change_config(checkpoint, id2label=turned)
    with pytest.raises(ConfigError, match="id2label and label2id disagree on 15 classes, such as '.*', to which label"):
        ImageClassifier().class_names(model)
    change_config(checkpoint, label2id={name: str(index) for index, name in turned.items()} | {"LABEL_0": 0})
    assert ImageClassifier().class_names(model) == list(turned.values())
    change_config(checkpoint, id2label={0: "crane", 1: "gull", 2: "crane"}, label2id={"crane": 2, "gull": 1})
    assert ImageClassifier().class_names(model) == ["crane", "gull", "crane"]
