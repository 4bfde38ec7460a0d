"""The documented model types exist in transformers with the documented classes."""

import pytest
from transformers import CONFIG_MAPPING, AutoModelForImageClassification
from transformers.models.auto import modeling_auto

from visionbench import architectures, weights

MAPPINGS = {
    "image_classifier": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "vision_language": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "captioner": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "promptable_segmenter": modeling_auto.MODEL_FOR_MASK_GENERATION_MAPPING_NAMES,
    "dual_encoder": modeling_auto.MODEL_MAPPING_NAMES,
    "object_detector": modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
    "zero_shot_detector": modeling_auto.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES,
}


@pytest.mark.parametrize("family", MAPPINGS)
def test_the_class_of_each_model_type_is_that_of_transformers(family):
    known = set(weights.known_models(family)) - architectures.names()
    classes = {kind: MAPPINGS[family][kind] for kind in known if kind in CONFIG_MAPPING}
    assert classes
    for kind, model_class in classes.items():
        assert weights.known_models(family)[kind] in ((model_class,) if isinstance(model_class, str) else model_class)


@pytest.mark.parametrize("kind", sorted(architectures.names()))
def test_the_class_of_each_own_architecture_is_built_by_its_auto_class(kind):
    architectures.register(kind)
    assert AutoModelForImageClassification._model_mapping[CONFIG_MAPPING[kind]].__name__ == weights.known_models(
        "image_classifier"
    ).get(kind)
    assert kind not in MAPPINGS["image_classifier"], "transformers has it now"
