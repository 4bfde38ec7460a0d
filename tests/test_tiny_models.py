"""The bundled models: each loads offline with the Auto classes, is small, and matches its YAML and its model card."""

import re
from pathlib import Path

import pytest
import torch
import transformers

from visionbench import weights
from visionbench.config import models, project_folder

FILES = {
    "clip_tiny": ("CLIPModel", {"AutoProcessor", "AutoTokenizer", "AutoImageProcessor"}),
    "sam_tiny": ("SamModel", {"AutoProcessor", "AutoImageProcessor"}),
    "blip2_tiny": ("Blip2ForConditionalGeneration", {"AutoProcessor", "AutoTokenizer", "AutoImageProcessor"}),
    "classifier_tiny": ("ResNetForImageClassification", {"AutoImageProcessor"}),
    "segformer_tiny": ("SegformerForSemanticSegmentation", {"AutoImageProcessor"}),
    "detector_tiny": ("RTDetrV2ForObjectDetection", {"AutoImageProcessor"}),
}
AUTO = {
    "dual_encoder": "AutoModel",
    "promptable_segmenter": "AutoModelForMaskGeneration",
    "captioner": "AutoModelForImageTextToText",
    "image_classifier": "AutoModelForImageClassification",
    "object_detector": "AutoModelForObjectDetection",
    "semantic_segmenter": "AutoModelForSemanticSegmentation",
}
LEFT_OUT = {"dtype", "architectures", "transformers_version", "_name_or_path", "id2label", "label2id"}


def folder(name) -> Path:
    return project_folder("data") / name


@pytest.fixture(scope="module", params=FILES)
def loaded(request):
    auto = getattr(transformers, AUTO[models()[request.param].family])
    return request.param, auto.from_pretrained(folder(request.param), local_files_only=True).eval()


def test_each_model_loads_offline_with_the_auto_classes(loaded):
    name, model = loaded
    kind, parts = FILES[name]
    assert type(model).__name__ == kind
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for part in parts:
        assert getattr(transformers, part).from_pretrained(folder(name), local_files_only=True)


def test_each_model_is_small(loaded):
    name, model = loaded
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    assert (folder(name) / "model.safetensors").stat().st_size <= 5_000_000


def test_each_models_yaml_describes_its_architecture(loaded):
    name, model = loaded
    config = models()[name]
    auto = AUTO[config.family]
    assert weights.count_parameters(config, auto) == sum(parameter.numel() for parameter in model.parameters())

    def compared(value):
        return (
            {key: compared(item) for key, item in value.items() if key not in LEFT_OUT}
            if isinstance(value, dict)
            else value
        )

    assert compared(weights.build_config(config).to_dict()) == compared(model.config.to_dict())
    ours, theirs = weights.load_image_processor(config, None), weights.load_image_processor(config, folder(name))
    assert type(ours) is type(theirs)
    assert ours.to_dict() == theirs.to_dict()


def test_each_models_card_and_yaml_give_its_size(loaded):
    name, model = loaded
    card, yaml = (
        (folder(name) / "README.md").read_text(),
        (project_folder("conf") / "model" / f"{name}.yaml").read_text(),
    )
    count = f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    assert f"| parameters | {count} |" in card
    assert f"{count} parameters" in yaml
    megabytes = re.search(r"`model.safetensors` \| ([\d.]+) MB", card)
    assert float(megabytes[1]) == pytest.approx((folder(name) / "model.safetensors").stat().st_size / 1e6, abs=0.005)


def test_each_models_card_names_the_script_that_made_it(loaded):
    name, _ = loaded
    card = (folder(name) / "README.md").read_text()
    script = re.search(r"Made by `python (scripts/\w+\.py)`", card)
    assert (project_folder("conf").parent / script[1]).is_file()
    assert "No other" in card
