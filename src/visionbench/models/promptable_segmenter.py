"""Promptable segmenters: SAM and SAM 2, with a large image encoder and a small decoder for points or boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row
from visionbench.registry import nearest, register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PARTS = ("encoder", "decoder", "both")
PROMPTS = ("point", "box")
INPUTS = {"point": "input_points", "box": "input_boxes"}
"""Kind of prompt to the name of the model's input."""
ENCODER_PIXELS = 4 * 1024 * 1024
"""Pixels of an encoder's batch for quality: four of SAM's images. A larger batch uses more memory and is not faster."""
DECODER_PROMPTS = 64
"""Prompts of a decoder's batch for quality."""
EMBEDDINGS = "image_embeddings"
"""The input of a decoder without its encoder; finer embeddings of SAM 2 have a number after this name."""
Embeddings = tuple["torch.Tensor", ...]
"""Embeddings of images, the finest first: one of SAM, three of SAM 2."""


@register("models", "promptable_segmenter")
@dataclass
class PromptableSegmenter:
    """Options: the `part` that a timed call runs, the kind of `prompt`, `prompts_per_image`, and `image_size`, the side
    of the square images in pixels, null for the model's own."""

    part: str = "both"
    prompt: str = "point"
    prompts_per_image: int = 1
    image_size: int | None = None

    auto_class: ClassVar[str] = "AutoModelForMaskGeneration"
    task: ClassVar[str] = "promptable segmentation"
    model_types: ClassVar[Mapping[str, str]] = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
    without_head: ClassVar[str] = r"^Sam2VideoModel$"
    """The memory of SAM 2 for videos is left out."""
    predicts: ClassVar[frozenset[str]] = frozenset(
        {
            *("truth_masks", "mask_size", "empty_masks"),
            *(f"{prompt}_{column}" for prompt in PROMPTS for column in ("masks", "estimates")),
        }
    )

    def __post_init__(self) -> None:
        weights.check_image_size(self.image_size)
        if self.part not in PARTS:
            raise ConfigError(f"model.options.part={self.part}: no such part{nearest(self.part, PARTS)}")
        if self.prompt not in PROMPTS:
            raise ConfigError(f"model.options.prompt={self.prompt}: no such prompt{nearest(self.prompt, PROMPTS)}")
        if self.prompts_per_image < 1:
            raise ConfigError(f"model.options.prompts_per_image={self.prompts_per_image}: must be at least 1")

    def uses(self) -> frozenset[str]:
        """Return an empty set: only images are used. Timed calls have prompts at fixed positions."""
        return frozenset()

    def graph_names(self) -> tuple[str, ...]:
        """Return those of `encoder` and `decoder` that a timed call runs."""
        return ("encoder", "decoder") if self.part == "both" else (self.part,)

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load a SamModel or a Sam2Model with its image processor."""
        built = weights.build_model(model, self.auto_class, device, dtype, self.image_size)
        processor = weights.load_image_processor(model, built.source, self.image_size)
        identity = {
            **built.identity,
            **weights.describe_processor(processor),
            "part": self.part,
            "prompt": self.prompt,
            "prompts_per_image": self.prompts_per_image,
        }
        frame = Frame if hasattr(processor, "mask_pad_size") else SquareFrame
        return LoadedSegmenter(
            built.module, dtype, processor, frame, self.part, self.prompt, self.prompts_per_image, identity
        )


Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Frame:
    """The square of pixels that SAM receives: an image is scaled to it with its aspect ratio, and padded."""

    image_processor: Any

    def place(self, images: Sequence[Image]) -> tuple[torch.Tensor, list[Size]]:
        """Return `pixel_values` [B, 3, S, S], and the size of each image in the square."""
        encoded = self.image_processor(list(images), return_tensors="pt")
        return encoded["pixel_values"], _pairs(encoded["reshaped_input_sizes"])

    def read_masks(self, logits: torch.Tensor, size: Size, placed: Size) -> torch.Tensor:
        """Return masks bool [..., H, W] in an image's own size, from logits [..., h, w] of the square."""
        masks: torch.Tensor = self.image_processor.post_process_masks([logits], [size], [placed])[0]
        return masks


@dataclass(frozen=True)
class SquareFrame(Frame):
    """The square of pixels that SAM 2 receives: an image is scaled to it without its aspect ratio."""

    def place(self, images: Sequence[Image]) -> tuple[torch.Tensor, list[Size]]:
        """Return `pixel_values` [B, 3, S, S], and the size of the square for each image."""
        pixels = self.image_processor(list(images), return_tensors="pt")["pixel_values"]
        return pixels, [(int(pixels.shape[-2]), int(pixels.shape[-1]))] * len(images)

    def read_masks(self, logits: torch.Tensor, size: Size, placed: Size) -> torch.Tensor:
        """Return masks bool [..., H, W] in an image's own size, from logits [..., h, w] of the square."""
        from torch.nn.functional import interpolate

        return interpolate(logits, size, mode="bilinear", align_corners=False) > 0


@dataclass
class LoadedSegmenter:
    """A promptable segmenter on its device."""

    module: Any
    dtype: torch.dtype
    processor: Any
    """The image processor."""
    frame_class: type[Frame]
    part: str
    prompt: str
    prompts_per_image: int
    identity: Mapping[str, Any]
    scaled_sizes: dict[Size, Size] = field(default_factory=dict)
    """Size (height, width) of an image to the size to which preprocessing scales it, before padding."""
    executed: Mapping[str, Any] = field(default_factory=dict)
    """The parts that a runtime executes; see `core.HasGraphs`."""

    @property
    def frame(self) -> Frame:
        """The square of pixels that the model receives."""
        return self.frame_class(self.processor)

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Return the number of images, and of prompts."""
        prompts = {} if self.part == "encoder" else {"prompts": batch_size * self.prompts_per_image}
        return {"images": batch_size, **prompts}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Return `pixel_values` [B, 3, S, S], or for the decoder `image_embeddings` [B, C, S/16, S/16] (and the finer
        ones of SAM 2), and prompts in the model's frame, `input_points` [B, P, 1, 2] or `input_boxes` [B, P, 4]."""
        pixels, placed = self.frame.place(images)
        self.scaled_sizes |= dict(zip(_sizes(images), placed, strict=True))
        inputs = {"pixel_values": pixels}
        if self.part == "decoder":
            on_device = weights.place_inputs(inputs, self.module.device, self.dtype)["pixel_values"]
            levels = self.encode(on_device)
            inputs = {name: level.cpu() for name, level in zip(_names(len(levels)), levels, strict=True)}
        if self.part != "encoder":
            inputs[INPUTS[self.prompt]] = self._make_prompts(_sizes(images), placed)
        return inputs

    def call(self, inputs: Inputs) -> Any:
        """Return the encoder's embeddings, or masks [B, P, 3, S/4, S/4] with the model's estimate of their IoU."""
        if self.part == "encoder":
            return self.encode(inputs["pixel_values"])[-1]
        if "pixel_values" in inputs and not self.executed:
            return self.module(**inputs, multimask_output=True)
        levels = self.encode(inputs["pixel_values"]) if "pixel_values" in inputs else _levels(inputs)
        return self.decode(self.prompt, levels, inputs[INPUTS[self.prompt]])

    def encode(self, pixels: torch.Tensor) -> Embeddings:
        """Return embeddings of pixels [B, 3, S, S]; the last is [B, C, S/16, S/16]."""
        return _as_tuple(self.executed.get("encoder", self.module.get_image_embeddings)(pixels))

    def decode(self, kind: str, embeddings: Embeddings, prompts: torch.Tensor) -> Any:
        """Return `pred_masks` [B, P, 3, S/4, S/4] and `iou_scores` [B, P, 3] of embeddings and prompts of a kind."""
        if "decoder" not in self.executed or kind != self.prompt:
            return _decode(self.module, embeddings, {INPUTS[kind]: prompts})
        masks, scores = self.executed["decoder"](*_one_prompt_each(embeddings, prompts))
        shape = prompts.shape[:2]
        return Masks(masks.view(*shape, *masks.shape[2:]), scores.view(*shape, *scores.shape[2:]))

    def graphs(self) -> Mapping[str, torch.nn.Module]:
        """Return those of `encoder` and `decoder` that a timed call runs: pixels to embeddings, and embeddings with one
        prompt each to masks and estimates."""
        name = INPUTS[self.prompt]

        def encode(model: Any, pixels: torch.Tensor) -> Any:
            levels = _as_tuple(model.get_image_embeddings(pixels))
            return levels if len(levels) > 1 else levels[0]

        def decode(model: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            output = _decode(model, tensors[:-1], {name: tensors[-1]})
            return output.pred_masks, output.iou_scores

        functions: dict[str, Callable[..., Any]] = {"encoder": encode, "decoder": decode}
        names = PARTS[:2] if self.part == "both" else (self.part,)
        return {part: weights.as_graph(self.module, functions[part]) for part in names}

    def graph_inputs(self, part: str, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """Return the pixels, or the embeddings of the encoder with one prompt each."""
        if part == "encoder":
            return (inputs["pixel_values"],)
        levels = _levels(inputs) or self.encode(inputs["pixel_values"])
        return _one_prompt_each(levels, inputs[INPUTS[self.prompt]])

    def with_graphs(self, executed: Mapping[str, Any]) -> LoadedModel:
        """Return the segmenter that calls these functions instead of its encoder and its decoder."""
        return replace(self, executed=executed)

    def other_work(self) -> str:
        """Return the parts that only quality needs, which torch runs."""
        other = {"point": "decoder of boxes", "box": "decoder of points"}[self.prompt]
        return {"encoder": "decoder, for quality", "decoder": f"encoder and {other}, for quality"}.get(
            self.part, f"{other}, for quality"
        )

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """Return those of `encoder` (images to embeddings) and `decoder` (embeddings and prompts to masks) that run."""
        prompts = {name: tensor for name, tensor in inputs.items() if name.startswith("input_")}
        parts = {}
        levels = _levels(inputs)
        if not levels:
            parts["encoder"] = ModelPart(partial(self.encode, inputs["pixel_values"]))
            levels = parts["encoder"].call() if prompts else ()
        if prompts:
            parts["decoder"] = ModelPart(partial(self.decode, self.prompt, levels, prompts[INPUTS[self.prompt]]))
        return parts

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Return embeddings or mask logits."""
        output = self.call(inputs)
        return {"image": output if self.part == "encoder" else output.pred_masks}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return for each image its masks bool [P, 3, H, W] in the image's own size, or its row of embeddings."""
        if self.part == "encoder":
            return list(output.float().cpu().numpy())
        sizes = _sizes(images)
        logits = output.pred_masks.float().cpu()
        return [
            self.frame.read_masks(one, size, self.scaled_sizes[size]).numpy()
            for one, size in zip(logits, sizes, strict=True)
        ]

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return an evaluator that predicts masks of every instance, from one point and from its box."""
        return SegmenterEvaluator(self.module, self.dtype, self.frame, self.encode, self.decode)

    def _make_prompts(self, sizes: Sequence[Size], placed: Sequence[Size]) -> torch.Tensor:
        """Return points on the diagonal of each image, or boxes around them with a third of the image's sides."""
        import torch

        steps = torch.arange(1, self.prompts_per_image + 1, dtype=torch.float64) / (self.prompts_per_image + 1)
        prompts = []
        for (height, width), (placed_height, placed_width) in zip(sizes, placed, strict=True):
            side = torch.tensor([width, height], dtype=torch.float64)
            scale = torch.tensor([placed_width / width, placed_height / height], dtype=torch.float64)
            centres = steps[:, None] * side
            if self.prompt == "point":
                prompts.append((centres * scale)[:, None])
            else:
                prompts.append(torch.cat([(centres - side / 6) * scale, (centres + side / 6) * scale], dim=1))
        return torch.stack(prompts).float()


@dataclass(frozen=True)
class Masks:
    """The output of a decoder that a runtime executes, with the names of transformers."""

    pred_masks: torch.Tensor
    iou_scores: torch.Tensor


def _as_tuple(embeddings: Any) -> Embeddings:
    """Return the embeddings of SAM, a tensor, or of SAM 2, a list, as a tuple."""
    return tuple(embeddings) if isinstance(embeddings, list | tuple) else (embeddings,)


def _names(count: int) -> list[str]:
    """Return the names of embeddings as inputs, the finest first."""
    return [*(f"{EMBEDDINGS}_{index}" for index in range(count - 1)), EMBEDDINGS]


def _levels(inputs: Inputs) -> Embeddings:
    """Return the embeddings among inputs, the finest first; none if the encoder runs."""
    count = sum(name.startswith(EMBEDDINGS) for name in inputs)
    return tuple(inputs[name] for name in _names(count)) if count else ()


def _decode(module: Any, embeddings: Embeddings, prompts: Mapping[str, torch.Tensor]) -> Any:
    """Return the output of a model for embeddings: a tensor for SAM, a list for SAM 2."""
    given: Any = list(embeddings) if len(embeddings) > 1 else embeddings[0]
    return module(image_embeddings=given, multimask_output=True, **prompts)


def _one_prompt_each(embeddings: Embeddings, prompts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return embeddings [B, …] and prompts [B, P, …] as B · P pairs of embeddings and one prompt [B · P, 1, …]."""
    count = prompts.shape[1]
    return (*(level.repeat_interleave(count, dim=0) for level in embeddings), prompts.flatten(0, 1).unsqueeze(1))


@dataclass(frozen=True)
class SegmenterEvaluator:
    """The evaluation of a promptable segmenter; see `core.Evaluator`.

    Independent of the options for timing, each instance has two prompts, and each prompt gives three masks."""

    module: Any
    dtype: torch.dtype
    frame: Frame
    encode: Callable[[torch.Tensor], Embeddings]
    """From pixels to embeddings."""
    decode: Callable[[str, Embeddings, torch.Tensor], Any]
    """From a kind of prompt, embeddings and prompts to masks and estimates."""
    classes: Sequence[str] = ()

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Return `pixel_values` [B, 3, S, S], and for each image its `frames` (own and scaled size) and its prompts in
        the model's frame: `point` [K, 1, 2] as xy and `box` [K, 4] as xyxy."""
        import torch

        images = [picture.image for picture in pictures]
        pixels, placed = self.frame.place(images)
        frames = list(zip(_sizes(images), placed, strict=True))
        prompts: dict[str, list[torch.Tensor]] = {name: [] for name in PROMPTS}
        for picture, ((height, width), (scaled_height, scaled_width)) in zip(pictures, frames, strict=True):
            scale = torch.tensor([scaled_width / width, scaled_height / height])
            masks = _find_masks_with_pixels(picture)
            points = torch.tensor(np.array([find_centre(mask) for mask in masks]), dtype=torch.float32).view(-1, 1, 2)
            boxes = torch.tensor(np.array([find_box(mask) for mask in masks]), dtype=torch.float32).view(-1, 2, 2)
            prompts["point"].append(points * scale)
            prompts["box"].append((boxes * scale).view(-1, 4))
        return {"pixel_values": pixels, "frames": frames, **prompts}

    def forward(self, inputs: Inputs) -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Return, by image and kind of prompt, masks bool [K, 3, H, W] and estimates [K, 3], NaN if a mask is NaN."""
        pixels = inputs["pixel_values"]
        batch_size = max(1, ENCODER_PIXELS // pixels[0, 0].numel())
        predictions = []
        for start in range(0, len(pixels), batch_size):
            placed = weights.place_inputs(
                {"pixel_values": pixels[start : start + batch_size]}, self.module.device, self.dtype
            )
            levels = self.encode(placed["pixel_values"])
            for index in range(start, start + len(levels[-1])):
                embeddings = tuple(level[index - start, None] for level in levels)
                frame = inputs["frames"][index]
                predictions.append(
                    {kind: self._predict(embeddings, kind, inputs[kind][index], frame) for kind in PROMPTS}
                )
        return predictions

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return `<prompt>_masks` and `<prompt>_estimates`, `truth_masks`, `mask_size` and `empty_masks`."""
        rows: list[Row] = []
        for predictions, picture in zip(output, pictures, strict=True):
            truths = _find_masks_with_pixels(picture)
            row: dict[str, Any] = {
                "truth_masks": encode_masks(truths),
                "mask_size": [picture.image.height, picture.image.width],
                "empty_masks": 0 if picture.masks is None else len(picture.masks) - len(truths),
            }
            for name, (masks, estimates) in predictions.items():
                row |= {f"{name}_masks": [encode_masks(three) for three in masks], f"{name}_estimates": estimates}
            rows.append(row)
        return rows

    def _predict(
        self, embeddings: Embeddings, kind: str, prompts: torch.Tensor, frame: tuple[Size, Size]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return masks and estimates of one image's instances, for one kind of prompt."""
        import torch

        size, placed = frame
        masks = [np.empty((0, 3, *size), bool)]
        estimates = [np.empty((0, 3), np.float32)]
        for batch in torch.split(prompts.to(embeddings[-1].device), DECODER_PROMPTS) if len(prompts) else ():
            output = self.decode(kind, embeddings, batch[None])
            logits = output.pred_masks.float()[0]
            finite = logits.isfinite().flatten(2).all(dim=2)
            for one in logits:  # the full-size masks of many instances at once would need gigabytes
                masks.append(self.frame.read_masks(one[None], size, placed).cpu().numpy())
            scores = torch.where(finite, output.iou_scores.float()[0], torch.nan)
            estimates.append(scores.cpu().numpy())
        return np.concatenate(masks), np.concatenate(estimates)


def _sizes(images: Sequence[Image]) -> list[Size]:
    return [(image.height, image.width) for image in images]


def _pairs(sizes: Any) -> list[Size]:
    """Return heights and widths [B, 2], in a tensor or in lists, as pairs of numbers."""
    return [(int(height), int(width)) for height, width in sizes]


def _find_masks_with_pixels(picture: Picture) -> np.ndarray:
    """Return the masks [K, H, W] with at least one pixel."""
    if picture.masks is None:
        return np.empty((0, picture.image.height, picture.image.width), bool)
    return picture.masks[picture.masks.any(axis=(1, 2))]


def find_centre(mask: np.ndarray) -> tuple[int, int]:
    """Return x and y of the first pixel with the largest distance from the mask's edge, which includes the border."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), mask.shape)
    return int(x), int(y)


def find_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the bounding box of a mask: x and y of the first pixel, and of the last plus one."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def encode_masks(masks: np.ndarray) -> list[str]:
    """Return masks [K, H, W] in COCO's compressed run lengths."""
    from pycocotools.mask import encode

    return [encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() for mask in masks]
