"""Depth estimators: maps in the size of the image, the kind of the output, and images of several sizes."""

import numpy as np
import pytest
import torch
from dense_models import load, photographs, pictures_of, predict, small
from saved_models import save

from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.models.depth_estimator import METHOD

COLUMN = "predicted_depth"


def test_a_map_is_that_of_the_image_processor_in_the_size_of_the_image():
    loaded = load(small("dpt_large"))
    images = [photographs()[0], photographs()[1].resize((80, 120))]
    with torch.inference_mode():
        inputs = loaded.processor(images=images, return_tensors="pt")
        output = loaded.module(pixel_values=inputs["pixel_values"])
        answers = loaded.postprocess(loaded.call(loaded.preprocess(images, ["", ""])), images)
    expected = getattr(loaded.processor, METHOD)(output, target_sizes=[(427, 640), (120, 80)])
    for one, answer, other in zip(predict(loaded, images, COLUMN), answers, expected, strict=True):
        assert one.shape == answer.shape == tuple(other["predicted_depth"].shape)
        np.testing.assert_allclose(one, other["predicted_depth"].numpy(), atol=1e-4)
        np.testing.assert_allclose(answer, other["predicted_depth"].numpy(), atol=1e-4)


def test_depth_anything_is_timed_with_squares_and_scored_with_the_aspect_ratio_of_the_image():
    loaded = load(small("depth_anything_v2_small"))
    images = [photographs()[0], photographs()[1].rotate(90, expand=True)]
    assert loaded.identity["timed_images"] == "square; quality keeps the aspect ratio"
    assert loaded.preprocess(images, ["", ""])["pixel_values"].shape == (2, 3, 518, 518)
    prepared = loaded.evaluator(frozenset({COLUMN}), ()).prepare(pictures_of(images))
    assert [tuple(tensor.shape[-2:]) for tensor in prepared["pixel_values"]] == [(350, 518), (518, 350)]
    depths = predict(loaded, images, COLUMN)
    assert [depth.shape for depth in depths] == [(427, 640), (640, 427)]
    square = load(small("depth_anything_v2_small", image_size=140))
    assert square.preprocess(images, ["", ""])["pixel_values"].shape == (2, 3, 140, 140)
    prepared = square.evaluator(frozenset({COLUMN}), ()).prepare(pictures_of(images))
    assert [tuple(tensor.shape[-2:]) for tensor in prepared["pixel_values"]] == [(140, 140)] * 2


def test_a_depth_that_is_not_finite_is_left_out():
    loaded = load(small("dpt_large"))
    loaded.module.head.head[0].bias.data[:] = float("nan")
    assert all(np.isnan(depth).all() for depth in predict(loaded, photographs(), COLUMN))


@pytest.mark.parametrize(
    ("metric", "output", "expected"),
    [(False, None, "inverse_depth"), (True, None, "depth"), (False, "depth", "depth"), (True, "depth", "depth")],
)
def test_the_kind_of_the_output_is_that_of_the_option_or_of_the_config(metric, output, expected):
    model = small("depth_anything_v2_small", output=output)
    model.architecture |= {"depth_estimation_type": "metric", "max_depth": 20} if metric else {}
    loaded = load(model)
    assert loaded.identity["output"] == expected
    pictures = pictures_of(photographs()[:1])
    evaluator = loaded.evaluator(frozenset({COLUMN}), ())
    (row,) = evaluator.finish([np.ones((2, 2))], pictures)
    assert row["inverse_depth"] == (expected == "inverse_depth")


def test_inverse_depth_of_a_model_of_metric_depth_is_refused():
    model = small("depth_anything_v2_small", output="inverse_depth")
    model.architecture |= {"depth_estimation_type": "metric", "max_depth": 20}
    with pytest.raises(ConfigError, match="the checkpoint's config states metric depth; remove the option"):
        load(model)


def test_an_unknown_output_is_refused():
    with pytest.raises(ConfigError, match=r"model\.options\.output=disparity: no such output"):
        load(small("dpt_large", output="disparity"))


@pytest.mark.parametrize("name", ["depth_anything", "dpt"])
def test_a_saved_checkpoint_is_loaded(name, tmp_path):
    loaded = load(ModelConfig("mine", "depth_estimator", str(save(name, tmp_path)), options={}))
    assert type(loaded.module).__name__ == loaded.identity["model_class"]
    assert predict(loaded, photographs(), COLUMN)[0].shape == (427, 640)
