"""Depth estimators: Depth Anything and DPT, which predict a depth or an inverse depth for each pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Evaluator, LoadedModel, Picture, Row
from visionbench.registry import nearest, register
from visionbench.weights import LoadedMapModel, MapEvaluator

if TYPE_CHECKING:
    import torch

INVERSE, DEPTH = OUTPUTS = ("inverse_depth", "depth")
METHOD = "post_process_depth_estimation"
"""The method of the image processor that makes a depth map of the model's output."""


@register("models", "depth_estimator")
@dataclass
class DepthEstimator(weights.ImageFamily):
    """From images to the depth of each pixel. Options: `output`, `depth` or `inverse_depth`, which is what the model
    predicts; null is `depth` if the checkpoint's config states metric depth, else `inverse_depth`. `image_size`, the
    side of its square images in pixels; null is the model's own."""

    output: str | None = None

    auto_class: ClassVar[str] = "AutoModelForDepthEstimation"
    task: ClassVar[str] = "depth estimation"
    predicts: ClassVar[frozenset[str]] = frozenset({"predicted_depth", "inverse_depth"})
    model_types: ClassVar[Mapping[str, str]] = {
        "depth_anything": "DepthAnythingForDepthEstimation",
        "dpt": "DPTForDepthEstimation",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and self.output not in OUTPUTS:
            raise ConfigError(f"model.options.output={self.output}: no such output{nearest(self.output, OUTPUTS)}")

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load an AutoModelForDepthEstimation with its image processor."""
        built = weights.build_model(model, self.auto_class, device, dtype, self.image_size)
        processors = weights.load_processors(model, built, METHOD, self.image_size)
        own = None if processors.own is processors.timed else processors.own
        is_metric = getattr(built.module.config, "depth_estimation_type", None) == "metric"
        if is_metric and self.output == INVERSE:
            raise ConfigError(
                f"model.options.output={INVERSE}: the checkpoint's config states metric depth", "remove the option"
            )
        output = self.output or (DEPTH if is_metric else INVERSE)
        identity = {**built.identity, **processors.describe(), "output": output}
        return LoadedDepthEstimator(
            built.module, dtype, processors.timed, identity, own_processor=own, inverse=output == INVERSE
        )


@dataclass
class LoadedDepthEstimator(LoadedMapModel):
    """A depth estimator on its device."""

    inverse: bool = True
    """Whether it predicts inverse depth."""

    def forward(self, module: Any, *tensors: torch.Tensor) -> torch.Tensor:
        """Return depths [B, h, w] of pixels [B, 3, H, W]."""
        depths: torch.Tensor = module(pixel_values=tensors[0]).predicted_depth
        return depths

    def to_map(self, output: Any, size: tuple[int, int]) -> torch.Tensor:
        """Return the depth of each pixel [H, W], by the method of the model's image processor."""
        named = SimpleNamespace(predicted_depth=output.float())
        depths: torch.Tensor = getattr(self.processor, METHOD)(named, target_sizes=[size])[0]["predicted_depth"]
        return depths.reshape(size)

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return an evaluator that predicts depth maps."""
        self.check_quality()
        return DepthEvaluator(self, inverse=self.inverse)


@dataclass(frozen=True)
class DepthEvaluator(MapEvaluator):
    """The evaluation of a depth estimator; see `core.Evaluator`."""

    inverse: bool = True

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return `predicted_depth` [H, W] and `inverse_depth`, whether it is an inverse depth, for each image."""
        return [{"predicted_depth": depth, "inverse_depth": self.inverse} for depth in output]
