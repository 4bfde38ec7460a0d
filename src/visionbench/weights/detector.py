"""A model on its device that predicts boxes: inputs of several sizes, its call, and the boxes of an image."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench.core import ConfigError, Evaluator, Inputs, Picture, Row
from visionbench.weights.image_model import PIXELS, LoadedImageModel
from visionbench.weights.tensors import place_inputs

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PIXEL_MASK = "pixel_mask"
"""The input that is 1 for pixels of an image and 0 for padding."""
FORWARD_PIXELS = 4 * 1024 * 1024
"""Most pixels of a batch for quality. A larger batch uses more memory and is hardly faster."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of an image, from the highest score to the lowest."""

    boxes: np.ndarray
    """[N, 4] as x, y, width and height in pixels of the image."""
    scores: np.ndarray
    """[N]."""
    labels: np.ndarray
    """[N], the indices of the classes of the model."""


@dataclass
class LoadedDetector(LoadedImageModel):
    """A detector on its device.

    Images of several sizes have one size in a timed call: they are padded at the right and at the bottom to the largest
    height and width, with a pixel mask if the model takes one. For quality, images of one size are in one call, so that
    no image is padded and the boxes do not depend on the other images of a batch.
    """

    most_boxes: int = 100
    image_inputs: tuple[str, ...] = (PIXELS,)
    """The results of the image processor that the model takes."""
    frame: list[int] = field(default_factory=list)
    """The height and width to which timed inputs are padded, once they are known."""

    def names(self) -> tuple[str, ...]:
        """Return the names of the inputs."""
        return self.image_inputs

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Return `pixel_values` [B, 3, H, W], and `pixel_mask` [B, H, W] if the model takes it.

        Raises ConfigError if a runtime executes the model and the images have another size than its inputs.
        """
        processed = self.processor(images=list(images), return_tensors="pt")
        inputs = {name: processed[name] for name in self.image_inputs}
        return self.fit(inputs) if self.executed and self.frame else inputs

    def pad(self, singles: Sequence[Inputs]) -> tuple[list[Inputs], str]:
        """Return inputs of one image each in one common size, and a description of the padding, or ''."""
        sizes = [tuple(single[PIXELS].shape[-2:]) for single in singles]
        if len(set(sizes)) < 2:
            self.frame[:] = sizes[0] if sizes else []
            return list(singles), ""
        self.frame[:] = [max(sides) for sides in zip(*sizes, strict=True)]
        own = sum(height * width for height, width in sizes)
        share = 1 - own / (len(sizes) * self.frame[0] * self.frame[1])
        mask = "with a pixel mask" if PIXEL_MASK in self.image_inputs else "without a pixel mask"
        text = f"images of {len(set(sizes))} sizes are padded to {self.frame[0]}x{self.frame[1]} {mask}: {share:.0%}"
        return [self._pad(single) for single in singles], f"{text} of the pixels are padding"

    def fit(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch in the size of the timed inputs, which a runtime executes. Raises ConfigError."""
        height, width = inputs[PIXELS].shape[-2:]
        if [height, width] == self.frame:
            return dict(inputs)
        if PIXEL_MASK in inputs and height <= self.frame[0] and width <= self.frame[1]:
            return self._pad(inputs)
        executed = "x".join(map(str, self.frame))
        raise ConfigError(
            f"the runtime executes images of {executed} pixels, and an image has {height}x{width} pixels",
            "give all images one size, as in model.options.image_size=640",
        )

    def call(self, inputs: Inputs) -> Any:
        """Return logits [B, boxes, classes] and boxes [B, boxes, 4]."""
        if "image" in self.executed:
            return self.executed["image"](*(inputs[name] for name in self.names()))
        return self.detect(self.module, {name: inputs[name] for name in self.names() if name in inputs})

    def forward(self, module: Any, *tensors: torch.Tensor) -> Any:
        """Return logits and boxes of the tensors of `names`."""
        return self.detect(module, dict(zip(self.names(), tensors, strict=True)))

    def detect(self, module: Any, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and the boxes, as centre, width and height in fractions of the image."""
        output = module(**inputs)
        return output.logits, output.pred_boxes

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return the `Boxes` of each image."""
        logits, boxes = (tensor.float().cpu() for tensor in output)
        return self.find_boxes(logits, boxes, [(image.height, image.width) for image in images])

    def find_boxes(self, logits: torch.Tensor, boxes: torch.Tensor, sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
        """Return the boxes of each image in the size of the image, all with a score above 0, by the processor."""
        outputs = SimpleNamespace(logits=logits, pred_boxes=boxes)
        detected = self.processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=list(sizes))
        return [_sorted(one["boxes"].numpy(), one["scores"].numpy(), one["labels"].numpy()) for one in detected]

    def _pad(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        from torch.nn.functional import pad

        padded = dict(inputs)
        for name in self.image_inputs:
            height, width = inputs[name].shape[-2:]
            padded[name] = pad(inputs[name], (0, self.frame[1] - width, 0, self.frame[0] - height))
        return padded


@dataclass(frozen=True)
class DetectorEvaluator:
    """The evaluation of a detector; see `core.Evaluator`."""

    model: LoadedDetector
    classes: Sequence[str]
    indices: Mapping[int, int]
    """The indices in `classes` of the labels of the model. Other labels are no class of the data."""
    texts: Mapping[str, Any] = field(default_factory=dict)
    """Further inputs that are equal for all images, each [1, …]."""

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Return the inputs of each image by itself, so that no image is padded, and the `sizes` of the images."""
        processed = [self.model.processor(images=[picture.image], return_tensors="pt") for picture in pictures]
        images = [{name: one[name] for name in self.model.image_inputs} for one in processed]
        return {"images": images, "sizes": [(picture.image.height, picture.image.width) for picture in pictures]}

    def forward(self, inputs: Inputs) -> list[Boxes]:
        """Return the boxes of each image. Images of one size are in one call, up to `FORWARD_PIXELS`."""
        images, sizes = inputs["images"], inputs["sizes"]
        if self.model.executed and self.model.frame:
            images = [self.model.fit(one) for one in images]
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, one in enumerate(images):
            groups[tuple(one[PIXELS].shape)].append(index)
        boxes: dict[int, Boxes] = {}
        for shape, indices in groups.items():
            step = max(1, FORWARD_PIXELS // (shape[-2] * shape[-1]))
            for start in range(0, len(indices), step):
                own = indices[start : start + step]
                detected = self._detect([images[index] for index in own], [sizes[index] for index in own])
                boxes |= dict(zip(own, detected, strict=True))
        return [boxes[index] for index in range(len(images))]

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return `boxes`, `box_scores` and `box_classes` of the best boxes of classes of the data, for each image."""
        rows: list[Row] = []
        for one in output:
            kinds = np.array([self.indices.get(label, -1) for label in one.labels.tolist()], np.int64)
            kept = np.flatnonzero(kinds >= 0)[: self.model.most_boxes]
            rows.append({"boxes": one.boxes[kept], "box_scores": one.scores[kept], "box_classes": kinds[kept]})
        return rows

    def _detect(self, images: Sequence[Inputs], sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
        import torch

        batch = {name: torch.cat([one[name] for one in images]) for name in images[0]}
        batch |= {name: tensor.expand(len(images), *tensor.shape[1:]) for name, tensor in self.texts.items()}
        placed = place_inputs(batch, self.model.module.device, self.model.dtype)
        logits, boxes = (tensor.float().cpu() for tensor in self.model.call(placed))
        return self.model.find_boxes(logits, boxes, sizes)


def make_evaluator(
    model: LoadedDetector, classes: Sequence[str], labels: Mapping[int, str], texts: Mapping[str, Any] | None = None
) -> Evaluator:
    """Return the evaluator of a detector. `labels` are the names of its labels by index; the data has `classes`."""
    places = {name: index for index, name in enumerate(classes)}
    indices = {index: places[name] for index, name in labels.items() if name in places}
    return DetectorEvaluator(model, classes, indices, texts or {})


def check_most_boxes(count: int) -> None:
    """Raise ConfigError if the number of boxes of an image is not positive."""
    if count < 1:
        raise ConfigError(f"model.options.most_boxes={count}: must be at least 1", "COCO evaluates 100")


def find_image_inputs(module: Any, processor: Any) -> tuple[str, ...]:
    """Return the results of an image processor that a model takes: `pixel_values`, and `pixel_mask` if both have it."""
    from PIL import Image

    processed = processor(images=[Image.new("RGB", (64, 64))], return_tensors="pt")
    parameters = inspect.signature(module.forward).parameters
    return tuple(name for name in (PIXELS, PIXEL_MASK) if name in processed and name in parameters)


def _sorted(corners: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Boxes:
    """Return boxes [N, 4], given by their corners, from the highest score to the lowest."""
    order = np.argsort(-scores, kind="stable")
    corners = corners[order].astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return Boxes(boxes, scores[order].astype(np.float64), labels[order].astype(np.int64))
