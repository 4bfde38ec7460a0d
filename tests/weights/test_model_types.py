"""The documented model types exist in transformers with the documented classes."""

import pytest
from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto

from visionbench import weights

MAPPINGS = {
    "image_classifier": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "captioner": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "promptable_segmenter": modeling_auto.MODEL_FOR_MASK_GENERATION_MAPPING_NAMES,
    "dual_encoder": modeling_auto.MODEL_MAPPING_NAMES,
    "object_detector": modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
    "zero_shot_detector": modeling_auto.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES,
}


@pytest.mark.parametrize("family", MAPPINGS)
def test_the_class_of_each_model_type_is_that_of_transformers(family):
    classes = {kind: MAPPINGS[family][kind] for kind in weights.known_models(family) if kind in CONFIG_MAPPING}
    assert classes
    for kind, model_class in classes.items():
        assert weights.known_models(family)[kind] in ((model_class,) if isinstance(model_class, str) else model_class)
