"""Small checkpoints of many kinds of models with random weights, as `save_pretrained` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as t

VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
DINOV2 = {**{key: value for key, value in VIT.items() if key != "intermediate_size"}, "mlp_ratio": 2}
STAGES = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
SWIN = {"patch_size": 4, "embed_dim": 8, "window_size": 4}
SQUARE = {"height": 32, "width": 32}
EDGES = {"shortest_edge": 32, "longest_edge": 64}
DECODER = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 5,
}


def _detr() -> Any:
    backbone = t.ResNetConfig(**STAGES, embedding_size=8, out_features=["stage4"])
    own = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "backbone_config": backbone}
    return t.DetrForObjectDetection(t.DetrConfig(**DECODER, **own))


def _mask2former() -> Any:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = t.SwinConfig(image_size=128, **SWIN, depths=[1] * 4, num_heads=[1] * 4, out_features=stages)
    own = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "num_attention_heads": 2, "num_queries": 4}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_feedforward_dim": 32, "dim_feedforward": 32}
    return t.Mask2FormerForUniversalSegmentation(t.Mask2FormerConfig(backbone_config=backbone, **own, **layers))


def _depth_anything() -> Any:
    backbone = t.Dinov2Config(**DINOV2, out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True)
    own = {"reassemble_hidden_size": 32, "patch_size": 8, "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
    return t.DepthAnythingForDepthEstimation(t.DepthAnythingConfig(backbone_config=backbone, **own, head_hidden_size=8))


def _dpt() -> Any:
    own = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
    return t.DPTForDepthEstimation(t.DPTConfig(**VIT, **own, reassemble_factors=[4, 2, 1, 0.5]))


def _segformer() -> Any:
    own = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_labels": 5, "decoder_hidden_size": 16}
    return t.SegformerForSemanticSegmentation(t.SegformerConfig(**own))


def _yolos() -> Any:
    config = t.YolosConfig(**{**VIT, "image_size": [32, 32]}, num_detection_tokens=5)
    return t.YolosForObjectDetection(config)


SAVED: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "dinov2": (lambda: t.Dinov2Model(t.Dinov2Config(**DINOV2)), lambda: t.ViTImageProcessor(size=SQUARE)),
    "convnextv2": (
        lambda: t.ConvNextV2Model(t.ConvNextV2Config(**STAGES)),
        lambda: t.ConvNextImageProcessor(size={"shortest_edge": 32}),
    ),
    "vit_mae": (
        lambda: t.ViTMAEModel(t.ViTMAEConfig(**VIT)),
        lambda: t.ViTImageProcessor(size=SQUARE),
    ),
    "siglip_vision": (
        lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**VIT)),
        lambda: t.SiglipImageProcessor(size=SQUARE),
    ),
    "resnet": (
        lambda: t.ResNetModel(t.ResNetConfig(**STAGES, embedding_size=8)),
        lambda: t.ViTImageProcessor(size=SQUARE),
    ),
    "yolos": (_yolos, lambda: t.YolosImageProcessor(size=EDGES)),
    "detr": (_detr, lambda: t.DetrImageProcessor(size=EDGES)),
    "segformer": (_segformer, lambda: t.SegformerImageProcessor(size=SQUARE)),
    "mask2former": (
        _mask2former,
        lambda: t.Mask2FormerImageProcessor(size={"shortest_edge": 128, "longest_edge": 128}),
    ),
    "depth_anything": (_depth_anything, lambda: t.DPTImageProcessor(size=SQUARE)),
    "dpt": (_dpt, lambda: t.DPTImageProcessor(size=SQUARE)),
    "swin2sr": (
        lambda: t.Swin2SRForImageSuperResolution(
            t.Swin2SRConfig(image_size=32, embed_dim=12, depths=[1], num_heads=[2], window_size=4)
        ),
        lambda: t.Swin2SRImageProcessor(),
    ),
}
"""Models without text, each with its image processor."""

FAMILIES = {
    "convnextv2": "feature_extractor",
    "depth_anything": "depth_estimator",
    "detr": "object_detector",
    "dinov2": "feature_extractor",
    "dpt": "depth_estimator",
    "mask2former": "semantic_segmenter",
    "resnet": "feature_extractor",
    "segformer": "semantic_segmenter",
    "siglip_vision": "feature_extractor",
    "vit_mae": "feature_extractor",
    "yolos": "object_detector",
}
"""The families of these models. Only the generic family reads the others."""


def save(name: str, folder: Path) -> Path:
    """Save the model and its image processor to a folder below this one, and return it."""
    build_model, build_processor = SAVED[name]
    return save_pair(build_model(), build_processor(), folder / name)


def save_pair(model: Any, processor: Any, folder: Path) -> Path:
    """Save a model and its image processor to this folder, and return it."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
