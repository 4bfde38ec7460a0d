"""Small models with random weights that give a map in the size of the image, and their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from visionbench.config import ModelConfig, models
from visionbench.core import Example, Picture
from visionbench.parts import find_adapter

CPU = torch.device("cpu")
SMALL: dict[str, dict[str, Any]] = {
    "segformer_b0": {
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
        "num_labels": 7,
    },
    "mask2former_swin_tiny": {
        "num_labels": 7,
        "num_queries": 4,
        "hidden_dim": 32,
        "feature_size": 32,
        "mask_feature_size": 32,
        "num_attention_heads": 2,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_feedforward_dim": 32,
        "dim_feedforward": 32,
        "backbone_config": {
            "model_type": "swin",
            "image_size": 128,
            "patch_size": 4,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 1, 1],
            "window_size": 4,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
    },
    "depth_anything_v2_small": {
        "reassemble_hidden_size": 32,
        "patch_size": 14,
        "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8,
        "head_hidden_size": 8,
        "backbone_config": {
            "model_type": "dinov2",
            "image_size": 518,
            "patch_size": 14,
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "mlp_ratio": 2,
            "out_indices": [1, 2, 3, 4],
            "reshape_hidden_states": False,
        },
    },
    "dpt_large": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 384,
        "patch_size": 16,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8,
    },
}
"""The `architecture:` of models in conf/, with smaller sizes."""


def small(name: str, **options: Any) -> ModelConfig:
    """Return the YAML of a model in conf/, with random weights and smaller sizes."""
    model = models()[name]
    model.weights = "random"
    model.architecture = {"model_type": model.architecture["model_type"], **SMALL[name]}
    model.options = {**model.options, **options}
    return model


def load(model: ModelConfig, dtype: torch.dtype = torch.float32) -> Any:
    """Load a model on the CPU."""
    return find_adapter(model).load(model, CPU, dtype)


def photographs() -> list[Image.Image]:
    """Return the two photographs of scikit-learn, 640 × 427 pixels."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def pictures_of(images: Sequence[Image.Image]) -> list[Picture]:
    """Return images as pictures of a data set."""
    return [Picture(Example(str(index), Path(str(index))), image) for index, image in enumerate(images)]


def predict(loaded: Any, images: Sequence[Image.Image], column: str, classes: Sequence[str] = ()) -> list[Any]:
    """Return the column of predictions for images, as in the evaluation stage."""
    pictures = pictures_of(images)
    with torch.inference_mode():
        evaluator = loaded.evaluator(frozenset({column}), classes)
        return [row[column] for row in evaluator.finish(evaluator.forward(evaluator.prepare(pictures)), pictures)]
