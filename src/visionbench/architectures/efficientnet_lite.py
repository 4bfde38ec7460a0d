"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6, and a stem and a head of fixed width.

The definition follows `models/official/efficientnet/lite` of github.com/tensorflow/tpu (Apache-2.0). Convolutions pad
as TensorFlow does. EfficientNet of transformers cannot describe this model, because all its blocks have
squeeze-and-excitation.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
"""The stages: expansion, output channels, blocks, kernel size, and stride of the first block."""
STEM, HEAD = 32, 1280
"""The channels of the first and of the last convolution, which do not depend on the width."""


class EfficientNetLiteConfig(PreTrainedConfig):  # type: ignore[misc]
    """The configuration. `width_coefficient` scales the channels, `depth_coefficient` the blocks of all stages but the
    first and the last."""

    model_type = "efficientnet_lite"

    num_channels: int = 3
    width_coefficient: float = 1.0
    depth_coefficient: float = 1.0
    batch_norm_eps: float = 0.001
    initializer_range: float = 0.02


class ConvLayer(nn.Module):
    """A convolution with TensorFlow's `SAME` padding, a batch normalisation and, if `activates`, ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        eps: float,
        stride: int = 1,
        groups: int = 1,
        activates: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(outputs, eps=eps)
        self.activation = nn.ReLU6() if activates else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return features [B, outputs, ceil(H / stride), ceil(W / stride)] of features [B, inputs, H, W]."""
        if self.convolution.stride[0] > 1:
            features = pad_same(features, self.convolution.kernel_size[0], self.convolution.stride[0])
        activated: Tensor = self.activation(self.normalization(self.convolution(features)))
        return activated


class Block(nn.Module):
    """An inverted residual block: expansion, depthwise convolution, projection, and the input if the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int, eps: float) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvLayer(inputs, inner, 1, eps) if expansion > 1 else nn.Identity()
        self.depthwise = ConvLayer(inner, inner, kernel, eps, stride, groups=inner)
        self.project = ConvLayer(inner, outputs, 1, eps, activates=False)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Return features [B, outputs, ceil(H / stride), ceil(W / stride)] of features [B, inputs, H, W]."""
        projected: Tensor = self.project(self.depthwise(self.expand(features)))
        return features + projected if self.adds_input else projected


class EfficientNetLiteForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """EfficientNet-Lite with a linear head over the mean of the features."""

    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        eps = config.batch_norm_eps
        self.stem = ConvLayer(config.num_channels, STEM, 3, eps, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM
        for number, (expansion, width, depth, kernel, first_stride) in enumerate(STAGES):
            outputs = scale_channels(width, config.width_coefficient)
            is_scaled = 0 < number < len(STAGES) - 1
            blocks = math.ceil(depth * config.depth_coefficient) if is_scaled else depth
            for index in range(blocks):
                stride = first_stride if index == 0 else 1
                self.blocks.append(Block(channels, outputs, expansion, kernel, stride, eps))
                channels = outputs
        self.head = ConvLayer(channels, HEAD, 1, eps)
        self.classifier = nn.Linear(HEAD, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> ImageClassifierOutputWithNoAttention:
        """Return the logits [B, labels] of pixels [B, 3, H, W]."""
        features = self.stem(pixel_values)
        for block in self.blocks:
            features = block(features)
        return ImageClassifierOutputWithNoAttention(logits=self.classifier(self.head(features).mean((2, 3))))


def scale_channels(channels: int, width: float) -> int:
    """Return the scaled number of channels, as the multiple of 8 that is nearest but not more than 10 % too small."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def pad_same(features: Tensor, kernel: int, stride: int) -> Tensor:
    """Return features [B, C, H, W] with TensorFlow's `SAME` padding, whose odd row and column are the last ones."""
    padding: list[int] = []
    for size in (features.shape[-1], features.shape[-2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return nn.functional.pad(features, padding)


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoModelForImageClassification.register(EfficientNetLiteConfig, EfficientNetLiteForImageClassification, exist_ok=True)
