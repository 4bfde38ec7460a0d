"""Semantic segmenters: class maps in the size of the image, the order of the classes, and images of several sizes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from dense_models import load, photographs, pictures_of, predict, small
from PIL import Image
from saved_models import save

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.models.semantic_segmenter import METHOD

NAMES = ["segformer_b0", "mask2former_swin_tiny"]
COLUMN = "predicted_map"
WORDS = ["wall", "road, route", "sky", "tree", "car", "sea", "hill"]


def class_names(loaded):
    return list(loaded.module.config.id2label.values())


def named():
    """A small SegFormer with names of classes."""
    loaded = load(small("segformer_b0"))
    loaded.module.config.id2label = dict(enumerate(WORDS))
    return loaded


def checkpoint(name, folder, **options):
    return ModelConfig("mine", "semantic_segmenter", str(save(name, folder)), options=options)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_that_of_the_image_processor_in_the_size_of_the_image(name):
    loaded = load(small(name))
    images = [photographs()[0], photographs()[1].resize((80, 120))]
    maps = predict(loaded, images, COLUMN, class_names(loaded))
    with torch.inference_mode():
        inputs = loaded.processor(images=images, return_tensors="pt")
        output = loaded.module(pixel_values=inputs["pixel_values"])
        answers = loaded.postprocess(loaded.call(loaded.preprocess(images, ["", ""])), images)
    expected = getattr(loaded.processor, METHOD)(output, target_sizes=[(427, 640), (120, 80)])
    for one, answer, other in zip(maps, answers, expected, strict=True):
        assert one.shape == answer.shape == tuple(other.shape)
        assert (one == other.numpy()).mean() > 0.999  # batches of other sizes round differently
        assert (answer == other.numpy()).mean() > 0.999


def test_maps_have_the_order_of_the_datas_classes_and_one_number_for_all_others():
    loaded = named()
    everything = predict(loaded, photographs(), COLUMN, WORDS)
    chosen = predict(loaded, photographs(), COLUMN, ["tree", "route"])
    for one, complete in zip(chosen, everything, strict=True):
        assert np.array_equal(one, np.select([complete == 3, complete == 1], [0, 1], 2))


def test_a_class_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="does not have 1 of the data's 2 classes, such as 'rode'"):
        named().evaluator(frozenset({COLUMN}), ["wall", "rode"])


def test_logits_that_are_not_finite_give_a_map_that_is_left_out():
    loaded = named()
    loaded.module.decode_head.classifier.bias.data[0] = float("nan")
    assert all(np.isnan(one).all() for one in predict(loaded, photographs(), COLUMN, WORDS))


class KeepsAspectRatio:
    """An image processor that keeps the aspect ratio, as that of Depth Anything does."""

    def __init__(self, processor, height=64):
        self.processor, self.height = processor, height

    def __call__(self, images, return_tensors):
        width = round(self.height * images[0].width / images[0].height / 32) * 32
        unchanged = type(self.processor).from_dict({**self.processor.to_dict(), "do_resize": False})
        return unchanged(images=[image.resize((width, self.height)) for image in images], return_tensors=return_tensors)


def test_quality_keeps_the_aspect_ratio_if_the_image_processor_does():
    loaded = named()
    own = replace(loaded, own_processor=KeepsAspectRatio(loaded.processor))
    images = [photographs()[0], photographs()[1].resize((80, 120)), photographs()[1]]
    prepared = own.evaluator(frozenset({COLUMN}), WORDS).prepare(pictures_of(images))
    assert [tuple(tensor.shape[-2:]) for tensor in prepared["pixel_values"]] == [(64, 96), (64, 32), (64, 96)]
    for image, together in zip(images, predict(own, images, COLUMN, WORDS), strict=True):
        (alone,) = predict(own, [image], COLUMN, WORDS)
        assert together.shape == (image.height, image.width)
        assert (together == alone).mean() > 0.999


def test_a_runtime_of_one_size_refuses_quality_with_images_of_several_sizes():
    loaded = named()
    own = KeepsAspectRatio(loaded.processor)
    executed = replace(loaded, own_processor=own, executed={"image": lambda pixels: pixels})
    with pytest.raises(ConfigError, match="the runtime only takes one size; use runtime=eager, or square images"):
        executed.evaluator(frozenset({COLUMN}), WORDS)


@pytest.mark.parametrize(
    ("step", "message"), [("do_center_crop", "crops images"), ("do_pad", "pads images, so that a map does not fit")]
)
def test_a_processor_after_which_a_map_does_not_fit_the_image_is_refused(step, message):
    loaded = named()
    setattr(loaded.processor, step, True)
    with pytest.raises(ConfigError, match=message):
        loaded.evaluator(frozenset({COLUMN}), WORDS)


def test_an_image_that_its_processor_pads_is_refused():
    def padding(images, return_tensors):
        return {"pixel_values": torch.zeros(1, 3, 64, 64), "pixel_mask": torch.tensor([[[1, 0]]])}

    evaluator = replace(named(), processor=padding).evaluator(frozenset({COLUMN}), WORDS)
    with pytest.raises(ValueError, match="pads it"):
        evaluator.prepare(pictures_of(photographs()[:1]))


@pytest.mark.parametrize(
    ("name", "model_class"),
    [
        ("segformer", "SegformerForSemanticSegmentation"),
        ("mask2former", "Mask2FormerForUniversalSegmentation"),
    ],
)
def test_a_saved_checkpoint_is_loaded_with_its_auto_class(name, model_class, tmp_path):
    loaded = load(checkpoint(name, tmp_path))
    assert type(loaded.module).__name__ == loaded.identity["model_class"] == model_class


def test_timed_images_are_square_if_the_checkpoint_keeps_the_aspect_ratio(tmp_path):
    model = checkpoint("mask2former", tmp_path)
    edges = {"shortest_edge": 64, "longest_edge": 256}
    transformers.Mask2FormerImageProcessor(size=edges, size_divisor=32).save_pretrained(model.checkpoint)
    loaded = load(model)
    assert loaded.identity["timed_images"] == "square; quality keeps the aspect ratio"
    wide = Image.new("RGB", (120, 60), "red")
    assert loaded.preprocess([wide, wide.rotate(90, expand=True)], ["", ""])["pixel_values"].shape == (2, 3, 64, 64)
    evaluator = loaded.evaluator(frozenset({COLUMN}), class_names(loaded))
    assert evaluator.prepare(pictures_of([wide]))["pixel_values"][0].shape == (1, 3, 64, 128)
    model.options = {"image_size": 96}
    square = load(model)
    assert "timed_images" not in square.identity
    assert square.preprocess([wide], [""])["pixel_values"].shape == (1, 3, 96, 96)


def test_a_processor_without_the_method_of_class_maps_is_refused(tmp_path):
    model = checkpoint("segformer", tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(model.checkpoint)
    with pytest.raises(ConfigError, match=f"has no {METHOD}"):
        load(model)


def test_the_auto_class_is_the_first_that_builds_the_type_of_the_model():
    family = SimpleNamespace(auto_class="AutoModelForSemanticSegmentation", other_auto_classes=("AutoModel",))
    for model_type, expected in (("segformer", "AutoModelForSemanticSegmentation"), ("vit", "AutoModel")):
        model = ModelConfig("mine", "mine", None, weights="random", architecture={"model_type": model_type})
        assert weights.auto_class_for(family, model) == expected
    assert weights.auto_class_for(SimpleNamespace(auto_class="AutoModelForMine"), model) == "AutoModelForMine"
    assert weights.auto_class_for(SimpleNamespace(), model) is None
