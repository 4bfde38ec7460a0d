"""The generic family: the Auto class, the inputs and the output that its options name."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from saved_models import save

from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.model_check import call_with_shapes
from visionbench.model_inspection import inspect
from visionbench.parts import find_adapter

CPU = torch.device("cpu")
IMAGES = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save("yolos", tmp_path_factory.mktemp("generic"))


def load(checkpoint, device=CPU, **options):
    options = {"auto_class": "AutoModelForObjectDetection", **options}
    model = ModelConfig(name="mine", family="generic", checkpoint=str(checkpoint), options=options)
    return find_adapter(model).load(model, device, torch.float32)


def test_the_output_is_its_first_tensor_or_the_field_with_the_name(checkpoint):
    first, boxes = load(checkpoint), load(checkpoint, output="pred_boxes")
    with torch.inference_mode():
        inputs = first.preprocess(IMAGES, ["", ""])
        output = first.module(**inputs)
        assert torch.equal(first.call(inputs), output.logits)
        assert torch.equal(boxes.call(inputs), output.pred_boxes)
    assert first.work(2) == {"images": 2}
    assert boxes.identity["output"] == "pred_boxes"


def test_several_inputs_are_passed_by_their_names(checkpoint):
    masked = load(checkpoint, inputs=["pixel_values", "pixel_mask"])
    passed = {}
    masked.module.forward = lambda **inputs: passed.update(inputs) or {"logits": inputs["pixel_values"]}
    masked.call({"pixel_values": torch.ones(1), "pixel_mask": torch.zeros(1)})
    assert passed == {"pixel_values": torch.ones(1), "pixel_mask": torch.zeros(1)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auto_class": "YolosModel"}, "auto_class=YolosModel: not an Auto class"),
        ({"auto_class": "AutoModelForObjectDetektion"}, "no Auto class .* did you mean 'AutoModelForObjectDetection'"),
        ({"inputs": []}, r"inputs=\[\]: not a name or a list of names"),
        ({"inputs": [1]}, r"inputs=\[1\]: not a name"),
        ({"inputs": "pixels"}, "inputs=pixels: .* does not give it; it gives .*pixel_values"),
        ({"output": "boxes"}, "output=boxes: not a tensor of YolosObjectDetectionOutput"),
        ({"auto_class": "AutoModel"}, "no place for|lacks|does not fit"),
        ({"image_size": 0}, "image_size=0: must be at least 1"),
    ],
)
def test_a_wrong_option_is_refused_before_weights_are_loaded(checkpoint, options, message):
    with pytest.raises(ConfigError, match=message):
        call_with_shapes(load(checkpoint, device=torch.device("meta"), **options))


def test_a_frozen_batch_normalisation_has_values_with_random_weights(tmp_path):
    """Its buffers are copied from parameters that have no values yet."""
    model = inspect(str(save("detr", tmp_path))).model
    loaded = find_adapter(model).load(replace(model, weights="random"), CPU, torch.float32)
    buffers = {name: buffer for name, buffer in loaded.module.named_buffers() if "normalization" in name}
    expected = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
    assert len(buffers) > 20
    assert [name for name, buffer in buffers.items() if not (buffer == expected[name.rpartition(".")[2]]).all()] == []


def test_a_runtime_gets_the_part_that_a_call_runs(checkpoint):
    model = load(checkpoint, output="logits")
    inputs = model.preprocess(IMAGES, [])

    assert list(model.graphs()) == ["image"]
    torch.testing.assert_close(model.graphs()["image"](*model.graph_inputs("image", inputs)), model.call(inputs))
    executed = model.with_graphs({"image": lambda pixels: pixels.mean((2, 3))})
    assert executed.call(inputs).shape == (2, 3)
