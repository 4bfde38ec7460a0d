"""Promptable segmenters: SAM, whose image encoder runs once and whose small decoder answers points or boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row
from visionbench.registry import ConfigError, nearest, register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PARTS = ("encoder", "decoder", "both")
PROMPTS = ("point", "box")
PIXELS_AT_ONCE = 4 * 1024 * 1024
"""Of pictures that the encoder sees together for quality: four of SAM's. More would not be faster, and take memory."""
MASKS_AT_ONCE = 64
"""Prompts that the decoder answers together for quality."""


@register("models", "promptable_segmenter")
@dataclass
class PromptableSegmenter:
    """Options: the `part` that a timed call runs, the kind of prompt, and how many of them each image gets."""

    part: str = "both"
    prompt: str = "point"
    prompts_per_image: int = 1

    auto_class: ClassVar[str] = "AutoModelForMaskGeneration"
    task: ClassVar[str] = "promptable segmentation"
    predicts: ClassVar[frozenset[str]] = frozenset(
        {
            *("truth_masks", "mask_size", "empty_masks"),
            *(f"{prompt}_{column}" for prompt in PROMPTS for column in ("masks", "estimates")),
        }
    )

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ConfigError(f"model.options.part={self.part}: no such part{nearest(self.part, PARTS)}")
        if self.prompt not in PROMPTS:
            raise ConfigError(f"model.options.prompt={self.prompt}: no such prompt{nearest(self.prompt, PROMPTS)}")
        if self.prompts_per_image < 1:
            raise ConfigError(f"model.options.prompts_per_image={self.prompts_per_image}: must be at least 1")

    def uses(self) -> frozenset[str]:
        """Pictures alone: timing places its prompts on a grid."""
        return frozenset()

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """A SamModel with the processor that scales pictures and prompts to its frame."""
        from transformers import SamProcessor

        built = weights.build(model, self.auto_class, device, dtype)
        processor = SamProcessor(weights.image_processor(model, built.source))
        identity = {
            **built.identity,
            **weights.describe(processor.image_processor),
            "part": self.part,
            "prompt": self.prompt,
            "prompts_per_image": self.prompts_per_image,
        }
        return LoadedSegmenter(built.module, dtype, processor, self.part, self.prompt, self.prompts_per_image, identity)


@dataclass
class LoadedSegmenter:
    """A promptable segmenter on its device."""

    module: Any
    dtype: torch.dtype
    processor: Any
    part: str
    prompt: str
    prompts_per_image: int
    identity: Mapping[str, Any]
    scaled_sizes: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """By the size (height, width) of a picture, the size that preprocessing scales it to before it is padded."""

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Images, and the masks that are asked of them."""
        masks = {} if self.part == "encoder" else {"prompts": batch_size * self.prompts_per_image}
        return {"images": batch_size, **masks}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """`pixel_values` [B, 3, S, S], or for the decoder alone `image_embeddings` [B, C, S/16, S/16], and prompts:
        `input_points` [B, P, 1, 2] or `input_boxes` [B, P, 4] in the model's frame."""
        encoded = self.processor(images=list(images), return_tensors="pt", **self._prompts(images))
        self.scaled_sizes |= dict(zip(_sizes(images), _pairs(encoded["reshaped_input_sizes"]), strict=True))
        inputs = {"pixel_values": encoded["pixel_values"]}
        if self.part == "decoder":
            pixels = weights.place(inputs, self.module.device, self.dtype)["pixel_values"]
            inputs = {"image_embeddings": self.module.get_image_embeddings(pixels).cpu()}
        if self.part != "encoder":
            name = f"input_{'points' if self.prompt == 'point' else 'boxes'}"
            inputs[name] = encoded[name]
        return inputs

    def call(self, inputs: Inputs) -> Any:
        """The encoder's embeddings, or masks [B, P, 3, S/4, S/4] with the model's own estimate of their IoU."""
        if self.part == "encoder":
            return self.module.get_image_embeddings(inputs["pixel_values"])
        return self.module(**inputs, multimask_output=True)

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """`encoder` (pictures to embeddings) and `decoder` (embeddings and prompts to masks), as far as part goes."""
        asked = {name: tensor for name, tensor in inputs.items() if name.startswith("input_")}
        found = {}
        embeddings = inputs.get("image_embeddings")
        if embeddings is None:
            found["encoder"] = ModelPart(partial(self.module.get_image_embeddings, inputs["pixel_values"]))
            embeddings = found["encoder"].call() if asked else None
        if asked:
            found["decoder"] = ModelPart(
                partial(self.module, image_embeddings=embeddings, multimask_output=True, **asked)
            )
        return found

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Embeddings or mask logits."""
        output = self.call(inputs)
        return {"image": output if self.part == "encoder" else output.pred_masks}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """For each picture its masks [P, 3, H, W], boolean and of the picture's own size; the encoder's rows alone."""
        if self.part == "encoder":
            return list(output.float().cpu().numpy())
        sizes = _sizes(images)
        scaled = [self.scaled_sizes[size] for size in sizes]
        masks = self.processor.post_process_masks(output.pred_masks.float().cpu(), sizes, scaled)
        return [mask.numpy() for mask in masks]

    def evaluator(self, wanted: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Masks of every instance, asked for by one point and by its box."""
        return SegmenterEvaluator(self.module, self.dtype, self.processor.image_processor)

    def _prompts(self, images: Sequence[Image]) -> dict[str, Any]:
        """Points on the diagonal of each picture, or boxes of a third of its sides around them."""
        steps = [(k + 1) / (self.prompts_per_image + 1) for k in range(self.prompts_per_image)]
        centres = [[(step * image.width, step * image.height) for step in steps] for image in images]
        if self.prompt == "point":
            return {"input_points": [[[[x, y]] for x, y in of_one] for of_one in centres]}
        return {
            "input_boxes": [
                [
                    [x - image.width / 6, y - image.height / 6, x + image.width / 6, y + image.height / 6]
                    for x, y in of_one
                ]
                for image, of_one in zip(images, centres, strict=True)
            ]
        }


@dataclass(frozen=True)
class SegmenterEvaluator:
    """A promptable segmenter at work for quality; see `core.Evaluator`. Whatever the timed options are, each instance
    is asked for twice, and three masks are wanted each time."""

    module: Any
    dtype: torch.dtype
    image_processor: Any
    classes: Sequence[str] = ()

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """`pixel_values` [B, 3, S, S], and for each picture its `frames` (own and scaled size) and its prompts in the
        model's frame: `point` [K, 1, 2] and `box` [K, 4], xy and xyxy."""
        import torch

        encoded = self.image_processor([picture.image for picture in pictures], return_tensors="pt")
        frames = list(zip(encoded["original_sizes"].tolist(), encoded["reshaped_input_sizes"].tolist(), strict=True))
        prompts: dict[str, list[torch.Tensor]] = {name: [] for name in PROMPTS}
        for picture, ((height, width), (scaled_height, scaled_width)) in zip(pictures, frames, strict=True):
            scale = torch.tensor([scaled_width / width, scaled_height / height])
            masks = _with_pixels(picture)
            points = torch.tensor(np.array([middle(mask) for mask in masks]), dtype=torch.float32).view(-1, 1, 2)
            boxes = torch.tensor(np.array([box(mask) for mask in masks]), dtype=torch.float32).view(-1, 2, 2)
            prompts["point"].append(points * scale)
            prompts["box"].append((boxes * scale).view(-1, 4))
        return {"pixel_values": encoded["pixel_values"], "frames": frames, **prompts}

    def forward(self, inputs: Inputs) -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
        """For each picture and kind of prompt: masks bool [K, 3, H, W] and estimates [K, 3], NaN where a mask is."""
        pixels = inputs["pixel_values"]
        at_once = max(1, PIXELS_AT_ONCE // pixels[0, 0].numel())
        found = []
        for start in range(0, len(pixels), at_once):
            few = weights.place({"pixel_values": pixels[start : start + at_once]}, self.module.device, self.dtype)
            embeddings = self.module.get_image_embeddings(few["pixel_values"])
            for at, embedding in enumerate(embeddings, start=start):
                prompts = {name: inputs[name][at] for name in PROMPTS}
                found.append(
                    {name: self._masks(embedding, name, asked, inputs["frames"][at]) for name, asked in prompts.items()}
                )
        return found

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """`<prompt>_masks` and `<prompt>_estimates`, `truth_masks`, `mask_size` and `empty_masks`."""
        rows: list[Row] = []
        for found, picture in zip(output, pictures, strict=True):
            truths = _with_pixels(picture)
            row: dict[str, Any] = {
                "truth_masks": run_lengths(truths),
                "mask_size": [picture.image.height, picture.image.width],
                "empty_masks": 0 if picture.masks is None else len(picture.masks) - len(truths),
            }
            for name, (masks, estimates) in found.items():
                row |= {f"{name}_masks": [run_lengths(three) for three in masks], f"{name}_estimates": estimates}
            rows.append(row)
        return rows

    def _masks(
        self, embedding: torch.Tensor, prompt: str, asked: torch.Tensor, frame: tuple[Any, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks and estimates of one picture's instances, by one kind of prompt."""
        import torch

        size, scaled = frame
        masks = [np.empty((0, 3, *size), bool)]
        estimates = [np.empty((0, 3), np.float32)]
        for few in torch.split(asked.to(embedding.device), MASKS_AT_ONCE) if len(asked) else ():
            output = self.module(
                image_embeddings=embedding[None],
                **{f"input_{'points' if prompt == 'point' else 'boxes'}": few[None]},
                multimask_output=True,
            )
            logits = output.pred_masks.float()[0]
            finite = logits.isfinite().flatten(2).all(dim=2)
            for one in logits:  # full-size masks of many instances together would take gigabytes
                whole = self.image_processor.post_process_masks([one[None]], [size], [scaled])[0]
                masks.append(whole.cpu().numpy())
            scores = torch.where(finite, output.iou_scores.float()[0], torch.nan)
            estimates.append(scores.cpu().numpy())
        return np.concatenate(masks), np.concatenate(estimates)


def _sizes(images: Sequence[Image]) -> list[tuple[int, int]]:
    return [(image.height, image.width) for image in images]


def _pairs(sizes: Any) -> list[tuple[int, int]]:
    """Heights and widths [B, 2], of a tensor or of lists, as pairs of numbers."""
    return [(int(height), int(width)) for height, width in sizes]


def _with_pixels(picture: Picture) -> np.ndarray:
    """The masks [K, H, W] that have a pixel to point at."""
    if picture.masks is None:
        return np.empty((0, picture.image.height, picture.image.width), bool)
    return picture.masks[picture.masks.any(axis=(1, 2))]


def middle(mask: np.ndarray) -> tuple[int, int]:
    """x and y of the pixel that is farthest from the mask's edge, the first such; the picture's border is an edge."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), mask.shape)
    return int(x), int(y)


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Its tight box: x and y of the first pixel, and of the last plus one."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def run_lengths(masks: np.ndarray) -> list[str]:
    """Masks [K, H, W] in COCO's compressed run lengths."""
    from pycocotools.mask import encode

    return [encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() for mask in masks]
