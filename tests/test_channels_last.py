"""`model.channels_last`: the memory format of the weights of convolutions."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from visionbench.config import models
from visionbench.core import ConfigError, Precision
from visionbench.devices.cpu import Cpu
from visionbench.parts import find_adapter
from visionbench.stages import load
from visionbench.tuning.space import build

CPU = torch.device("cpu")
TINY = models()["classifier_tiny"]


def loaded(model):
    return find_adapter(model).load(model, CPU, torch.float32)


@pytest.mark.parametrize("kind", ["pretrained", "random"])
def test_weights_of_convolutions_are_stored_with_the_channels_last_and_give_the_same_output(kind):
    default = loaded(replace(TINY, weights=kind))
    changed = loaded(replace(TINY, weights=kind, channels_last=True))
    convolutions = [weight for weight in changed.module.parameters() if weight.ndim == 4 and min(weight.shape) > 1]
    assert len(convolutions) > 5
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions)
    assert not any(weight.is_contiguous() for weight in convolutions if max(weight.shape[2:]) > 1)
    assert changed.identity["memory_format"] == "channels_last"
    assert "memory_format" not in default.identity
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    inputs = default.preprocess([Image.fromarray(pixels)] * 2, ["", ""])
    with torch.inference_mode():
        torch.testing.assert_close(changed.call(inputs), default.call(inputs), rtol=1e-4, atol=1e-4)


def test_a_model_without_convolutions_is_refused(monkeypatch):
    monkeypatch.setattr("visionbench.weights.building.count_convolutions", lambda module: 0)
    with pytest.raises(ConfigError, match="channels_last=true: ResNetForImageClassification has no convolution"):
        loaded(replace(TINY, channels_last=True))


def test_a_family_that_does_not_use_the_key_is_refused():
    own = SimpleNamespace(load=lambda model, place, dtype: SimpleNamespace(identity={"weights_bytes": 1}))
    device = Cpu(0)
    device.setup(Precision("fp32", "float32"), None)
    with pytest.raises(ConfigError, match="channels_last=true: model.family=image_classifier does not use it"):
        load.load(own, replace(TINY, channels_last=True), device, CPU, torch.float32)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_with_its_own_layout_is_refused(refusal, runtime):
    message = refusal("model=classifier_tiny", "model.channels_last=true", f"runtime={runtime}", "device=cpu")
    assert message == f"model.channels_last=true: runtime={runtime} chooses the layout of its weights; remove it"


def test_a_search_has_both_formats_in_the_runtimes_of_torch_only():
    pairs = [("fp32", "eager"), ("fp32", "openvino")]
    space = build(pairs, ["auto"], ["null"], [1], {}, ["false", "true"], {"openvino"})
    assert [(one.runtime, one.channels_last) for one in space.combinations] == [
        ("eager", "false"),
        ("openvino", "false"),
        ("eager", "true"),
    ]
