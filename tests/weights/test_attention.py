"""`model.attention=auto` is the best implementation that a model has, and the identity has the one that is used."""

import pytest
import torch

from visionbench import weights
from visionbench.config import ModelConfig, models
from visionbench.core import ConfigError
from visionbench.registry import find

META = torch.device("meta")


def identity(name, attention):
    model = ModelConfig(**{**vars(models()[name]), "attention": attention, "weights": "random"})
    return weights.build_model(model, find("models", model.family).auto_class, META, torch.float32).identity


@pytest.mark.parametrize(
    ("name", "used"),
    [("clip_tiny", "sdpa"), ("sam_tiny", "sdpa"), ("blip2_tiny", "sdpa"), ("vit_b16", "sdpa"), ("blip_base", "eager")],
)
def test_auto_is_the_best_implementation_of_the_model(name, used):
    assert identity(name, "auto")["attention"] == identity(name, None)["attention"] == used
    assert identity(name, used)["attention"] == used
    assert identity(name, "eager")["attention"] == "eager"


def test_a_model_without_attention_layers_has_no_implementation():
    assert identity("resnet50", "auto")["attention"] is None
    assert identity("resnet50", "eager")["attention"] is None


def test_an_implementation_that_the_model_does_not_have_is_refused_with_those_that_it_has():
    with pytest.raises(ConfigError) as raised:
        identity("blip_base", "sdpa")
    supported = "BlipForConditionalGeneration supports only eager; use model.attention=auto"
    assert str(raised.value) == f"model.attention=sdpa: {supported}"


def test_flash_attention_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="the package flash-attn is not installed; install it, or use auto"):
        identity("clip_tiny", "flash_attention_2")
