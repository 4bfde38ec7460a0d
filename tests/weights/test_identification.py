"""The kind of model in a checkpoint is compared with the family from config.json, before anything is loaded."""

import importlib.util
import json
from pathlib import Path

import pytest

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.registry import names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def check(tmp_path):
    """A function that checks a config.json with these values for a family."""

    def check(family, model_class, model_type, **values):
        content = {"model_type": model_type, **values}
        if model_class is not None:
            content["architectures"] = [model_class]
        (tmp_path / "config.json").write_text(json.dumps(content))
        model = ModelConfig("mine", family, str(tmp_path), trust_remote_code=values.get("trusted", False))
        weights.check_family(model, tmp_path)

    return check


@pytest.mark.parametrize("family", names("models"))
def test_a_family_reads_its_own_model_types(family, check):
    for model_type, model_class in weights.known_models(family).items():
        check(family, model_class, model_type)
        check(family, None, model_type)


@pytest.mark.parametrize(
    ("family", "model_class", "model_type", "message"),
    [
        ("captioner", "BlipForQuestionAnswering", "blip", "no family for visual question answering"),
        ("captioner", "BlipForImageTextRetrieval", "blip", "no family for scoring pairs of an image and a text"),
        ("captioner", "Kosmos2ForConditionalGeneration", "kosmos-2", "no family for text from models of this type"),
        ("captioner", "LlavaForConditionalGeneration", "llava", "no family for text from models of this type"),
        ("captioner", "CLIPModel", "clip", "use model.family=dual_encoder"),
        ("captioner", None, "llava", "no family for the model type llava; model.family=captioner reads blip, blip-2"),
        ("image_classifier", "DetrForObjectDetection", "detr", "use model.family=object_detector"),
        ("image_classifier", "OwlViTForObjectDetection", "owlvit", "use model.family=zero_shot_detector"),
        ("object_detector", "OwlViTForObjectDetection", "owlvit", "use model.family=zero_shot_detector"),
        (
            "object_detector",
            "DetrForSegmentation",
            "detr",
            "no family for segmentation other than semantic, without prompts",
        ),
        ("object_detector", "DetrModel", "detr", "it has no head for a task"),
        ("object_detector", "OmDetTurboForObjectDetection", "omdet-turbo", "no family for detectors of this kind"),
        ("image_classifier", "DPTForDepthEstimation", "dpt", "use model.family=depth_estimator"),
        ("image_classifier", "SegformerForSemanticSegmentation", "segformer", "use model.family=semantic_segmenter"),
        (
            "image_classifier",
            "Mask2FormerForUniversalSegmentation",
            "mask2former",
            "use model.family=semantic_segmenter",
        ),
        ("image_classifier", "OneFormerForUniversalSegmentation", "oneformer", "no family for segmentation other than"),
        ("semantic_segmenter", "SegformerForImageClassification", "segformer", "use model.family=image_classifier"),
        ("semantic_segmenter", "DPTForDepthEstimation", "dpt", "use model.family=depth_estimator"),
        ("image_classifier", "BertForSequenceClassification", "bert", "no family for text without images"),
        ("image_classifier", "ViTMAEForPreTraining", "vit_mae", "use model.family=feature_extractor"),
        ("image_classifier", "BertForPreTraining", "bert", "no family for pretraining"),
        ("image_classifier", "ViTModel", "vit", "use model.family=feature_extractor"),
        ("image_classifier", "CvtModel", "cvt", "it has no head for a task, so its answers would be random"),
        ("image_classifier", "Dinov2Model", "dinov2", "use model.family=feature_extractor"),
        ("image_classifier", "CLIPModel", "clip", "use model.family=dual_encoder"),
        ("image_classifier", None, "detr", "use model.family=object_detector"),
        ("image_classifier", None, "omdet-turbo", "no family for the model type omdet-turbo"),
        ("dual_encoder", "CLIPTextModelWithProjection", "clip_text_model", "only one encoder of a dual encoder"),
        ("dual_encoder", "CLIPVisionModel", "clip_vision_model", "use model.family=feature_extractor"),
        ("dual_encoder", "SiglipVisionModel", "siglip_vision_model", "use model.family=feature_extractor"),
        ("dual_encoder", "ViTForImageClassification", "vit", "use model.family=image_classifier"),
        ("dual_encoder", "SamModel", "sam", "use model.family=promptable_segmenter"),
        ("promptable_segmenter", "Sam3Model", "sam3", "no family for the model type sam3"),
        ("promptable_segmenter", "CLIPModel", "clip", "use model.family=dual_encoder"),
        ("image_classifier", None, None, "config.json has no model_type, so its architecture is unknown; add it"),
    ],
)
def test_another_kind_of_model_is_refused_in_one_line(family, model_class, model_type, message, check):
    with pytest.raises(ConfigError) as raised:
        check(family, model_class, model_type)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_class_of_the_users_own_is_read_by_its_model_type(check):
    check("dual_encoder", "MyCLIP", "clip")
    check("image_classifier", "MyViT", "vit")
    check("image_classifier", "TextNetForImageClassification", "a_new_type")


def test_a_model_with_code_is_read_only_if_its_code_is_trusted(check):
    auto_map = {"AutoModel": "mine.Model"}
    with pytest.raises(ConfigError, match="custom code; model.trust_remote_code=true would run it"):
        check("dual_encoder", "Mine", "mine", auto_map=auto_map)
    check("dual_encoder", "Mine", "mine", auto_map=auto_map, trusted=True)


def test_a_model_of_timm_needs_no_model_type_and_no_file_of_a_processor(tmp_path):
    model = ModelConfig("mine", "image_classifier", str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    for content in ({"architecture": "resnet18"}, {"model_type": "timm_wrapper"}):
        content |= {"pretrained_cfg": {}}
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert weights.find_checkpoint(model) == tmp_path
        weights.check_family(model, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    assert weights.find_checkpoint(model) is None


@pytest.mark.parametrize(
    ("installed", "missing"),
    [((), "timm and torchvision are"), (("timm",), "torchvision is"), (("torchvision",), "timm is")],
)
def test_a_model_of_timm_without_its_packages_is_an_error_that_names_the_extra(
    tmp_path, monkeypatch, installed, missing
):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": {}}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    with pytest.raises(ConfigError) as raised:
        weights.prepare_architecture("model.checkpoint=x", tmp_path)
    assert (
        str(raised.value)
        == f"model.checkpoint=x: a model of timm, and {missing} not installed; pip install 'visionbench[timm]'"
    )


def test_a_model_of_timm_with_its_packages_is_accepted(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": {}}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    weights.prepare_architecture("model.checkpoint=x", tmp_path)


def test_an_adapter_is_refused_with_the_way_to_merge_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"an adapter \(LoRA\) without its base model; merge both with merge_and"):
        weights.ensure_checkpoint(ModelConfig("mine", "image_classifier", str(tmp_path)))


def test_the_documented_table_of_model_types_is_that_of_the_families():
    spec = importlib.util.spec_from_file_location("model_tables", ROOT / "scripts" / "model_tables.py")
    model_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model_tables)
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    assert model_tables.written(page) == page, "run python scripts/model_tables.py"
