"""Feature extractors: DINOv2, ViT-MAE, ConvNeXt V2, and other vision backbones without a head."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Evaluator, Inputs, LoadedModel, Picture, Row
from visionbench.registry import nearest, register
from visionbench.weights import LoadedImageModel

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

POOLER, CLS, MEAN = "pooler", "cls", "mean"
POOLS = (POOLER, CLS, MEAN)
MOST_PREFIX_TOKENS = 16
"""Most tokens before the patches: a class token, a distillation token, and registers."""


@register("models", "feature_extractor")
@dataclass
class FeatureExtractor(weights.ImageFamily):
    """From images to one embedding each. Options: `pool`, how the embedding is made from the model's output (`pooler`,
    `cls` or `mean`); `image_size`, the side of its square images in pixels, or null for the model's own.

    A dual encoder gives the embeddings of its image encoder. Its text encoder is loaded, too, but not called. The head
    of a checkpoint, such as a classifier or the decoder of a masked autoencoder, is left out. A masked autoencoder gets
    all patches in their order, instead of a random choice of them.
    """

    pool: str = POOLER

    auto_class: ClassVar[str] = "AutoModel"
    task: ClassVar[str] = "image features"
    predicts: ClassVar[frozenset[str]] = frozenset({"features"})
    without_head: ClassVar[str] = r"For(ImageClassification|PreTraining|MaskedImageModeling|MaskedImageModelling)$"
    """The family also reads the classes of its model types with this in their name, without their head."""
    inspected_options: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"pool": CLS}, {"pool": MEAN})
    """The options that `visionbench models inspect` tries, in this order."""
    model_types: ClassVar[Mapping[str, str]] = {
        "beit": "BeitModel",
        "bit": "BitModel",
        "clip": "CLIPModel",
        "clip_vision_model": "CLIPVisionModel",
        "convnext": "ConvNextModel",
        "convnextv2": "ConvNextV2Model",
        "data2vec-vision": "Data2VecVisionModel",
        "deit": "DeiTModel",
        "dinov2": "Dinov2Model",
        "dinov2_with_registers": "Dinov2WithRegistersModel",
        "dinov3_convnext": "DINOv3ConvNextModel",
        "dinov3_vit": "DINOv3ViTModel",
        "efficientnet": "EfficientNetModel",
        "focalnet": "FocalNetModel",
        "hiera": "HieraModel",
        "ijepa": "IJepaModel",
        "mobilenet_v2": "MobileNetV2Model",
        "mobilevit": "MobileViTModel",
        "pvt_v2": "PvtV2Model",
        "regnet": "RegNetModel",
        "resnet": "ResNetModel",
        "siglip": "SiglipModel",
        "siglip_vision_model": "SiglipVisionModel",
        "swin": "SwinModel",
        "swinv2": "Swinv2Model",
        "vit": "ViTModel",
        "vit_mae": "ViTMAEModel",
        "vit_msn": "ViTMSNModel",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool not in POOLS:
            raise ConfigError(f"model.options.pool={self.pool}: no such way to pool{nearest(self.pool, POOLS)}")

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load an AutoModel with its image processor."""
        built = weights.build_model(model, self.auto_class, device, dtype, self.image_size)
        processor = weights.load_image_processor(model, built.source, self.image_size)
        identity: dict[str, Any] = {**built.identity, **weights.describe_processor(processor), "pool": self.pool}
        if getattr(built.module.config, "mask_ratio", None):
            built.module.config.mask_ratio = 0.0
            identity["mask_ratio"] = 0.0
        return LoadedFeatureExtractor(built.module, dtype, processor, identity, {}, self.pool)


@dataclass
class LoadedFeatureExtractor(LoadedImageModel):
    """A feature extractor on its device."""

    pool: str = POOLER

    def forward(self, module: Any, *tensors: torch.Tensor) -> torch.Tensor:
        """Return embeddings [B, D] of pixels [B, 3, H, W]. Raises ConfigError if the model has no such embedding."""
        import torch

        (pixels,) = tensors
        arguments = {}
        if "noise" in inspect.signature(module.forward).parameters:  # its order is that of the patches
            patches = (pixels.shape[-2] // module.config.patch_size) * (pixels.shape[-1] // module.config.patch_size)
            arguments["noise"] = torch.arange(patches, device=pixels.device).expand(len(pixels), patches)
        embedding: torch.Tensor | None
        if hasattr(module, "get_image_features"):
            if self.pool != POOLER:
                raise ConfigError(
                    f"model.options.pool={self.pool}: {type(module).__name__} gives only pooled embeddings",
                    "give pooler",
                )
            projected: torch.Tensor = module.get_image_features(pixel_values=pixels).pooler_output
            return projected
        output = module(pixel_values=pixels, **arguments)
        if self.pool == POOLER:
            if (embedding := getattr(output, "pooler_output", None)) is None:
                raise ConfigError(
                    f"model.options.pool=pooler: {type(module).__name__} has no pooled output", "give cls or mean"
                )
            pooled: torch.Tensor = embedding.flatten(1)
            return pooled
        hidden: torch.Tensor = output.last_hidden_state
        if self.pool == CLS:
            if hidden.ndim != 3 or not _prefix(module, pixels, hidden):
                raise ConfigError(
                    f"model.options.pool=cls: {type(module).__name__} has no class token", "give pooler or mean"
                )
            return hidden[:, 0]
        return hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden[:, _prefix(module, pixels, hidden) :].mean(1)

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return the embedding [D] of each image in fp32, with length 1."""
        rows = output.float()
        return list((rows / rows.norm(dim=-1, keepdim=True)).cpu().numpy())

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return an evaluator for embeddings."""
        return FeatureEvaluator(self, tuple(classes))


@dataclass(frozen=True)
class FeatureEvaluator:
    """The evaluation of a feature extractor; see `core.Evaluator`."""

    model: LoadedFeatureExtractor
    classes: Sequence[str]

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Return `pixel_values` [B, 3, H, W]."""
        return self.model.preprocess([picture.image for picture in pictures], [])

    def forward(self, inputs: Inputs) -> np.ndarray:
        """Return embeddings [B, D] in fp32, not normalised."""
        embeddings: np.ndarray = self.model.call_on_host(inputs)
        return embeddings

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return `features` [D] for each image."""
        return [{"features": embedding} for embedding in output]


def _prefix(module: Any, pixels: torch.Tensor, hidden: torch.Tensor) -> int:
    """Return the number of tokens [B, N, D] that are not patches, such as a class token and registers.

    A model without patches of a fixed size in its output, such as Swin, has none.
    """
    patch = getattr(module.config, "patch_size", None)
    if not isinstance(patch, int):
        return 0
    patches = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
    return max(0, hidden.shape[1] - patches) if hidden.shape[1] - patches <= MOST_PREFIX_TOKENS else 0
