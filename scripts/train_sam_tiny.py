"""Train `data/sam_tiny`, a SAM with fewer than a million parameters, on the train split of `shapes`.

    python scripts/train_sam_tiny.py                  # about six minutes on one core
    python scripts/train_sam_tiny.py --steps 20 --out /tmp/sam_tiny

Each image has prompts for both of its objects: one point in half of the batches, a box in the other half. Of the three
predicted masks, mainly the best one is trained on the true mask, and the IoU estimates on all three. Every third batch
predicts a single mask instead. At the end the model is read from disk and measured on the 1,000 images of the test
split, and its card (README.md) is written.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from tiny import (
    SIZE,
    adamw,
    arguments,
    check_pictures,
    facts,
    measure,
    provenance,
    rendered,
    save,
    side_by_side,
    steps,
    take_step,
)
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, mse_loss
from transformers import (
    AutoModelForMaskGeneration,
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from visionbench.data.shapes import Shapes, compositions
from visionbench.datafiles.images import decode

FRAME, PATCH, WIDTH = 96, 8, 80
"""The input of the model is 96 × 96 pixels, its embeddings are 12 × 12, its masks 48 × 48."""
BATCH, STEPS, PEAK_LEARNING_RATE, VARIANTS = 32, 900, 1.5e-3, 2


def build_processor() -> SamProcessor:
    """Return the preprocessing of images, which is saved with the weights."""
    mask = 4 * FRAME // PATCH
    return SamProcessor(
        SamImageProcessor(
            size={"longest_edge": FRAME},
            pad_size={"height": FRAME, "width": FRAME},
            mask_size={"longest_edge": mask},
            mask_pad_size={"height": mask, "width": mask},
        )
    )


def build_model() -> SamModel:
    """Return a SAM with a ViT of 3 layers, 80 wide, and a decoder of 2 layers."""
    frame = {"image_size": FRAME, "patch_size": PATCH}
    model = SamModel(
        SamConfig(
            vision_config=SamVisionConfig(
                **frame,
                hidden_size=WIDTH,
                mlp_dim=2 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                output_channels=WIDTH,
                num_pos_feats=WIDTH // 2,
                window_size=0,
                global_attn_indexes=[0, 1, 2],
                initializer_range=0.02,
            ),
            prompt_encoder_config=SamPromptEncoderConfig(**frame, hidden_size=WIDTH, mask_input_channels=8),
            mask_decoder_config=SamMaskDecoderConfig(
                hidden_size=WIDTH,
                mlp_dim=2 * WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                iou_head_depth=3,
                iou_head_hidden_dim=WIDTH,
            ),
            initializer_range=0.02,
        )
    )
    with torch.no_grad():  # with SAM's default deviation, distant positions would differ no more than neighbours
        model.shared_image_embedding.positional_embedding.normal_()
    model.shared_image_embedding.positional_embedding.requires_grad_(False)
    model.prompt_encoder.shared_embedding.positional_embedding = model.shared_image_embedding.positional_embedding
    return model


def framed(pictures: np.ndarray, images: SamImageProcessor) -> Tensor:
    """Return the output of the image processor for uint8 images (n, 3, SIZE, SIZE), scaled by Pillow."""
    from PIL import Image

    scaled = [
        np.asarray(Image.fromarray(picture.transpose(1, 2, 0)).resize((FRAME, FRAME), images.resample))
        for picture in pictures
    ]
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (images.image_mean, images.image_std))
    return (torch.from_numpy(np.stack(scaled).transpose(0, 3, 1, 2)).float() / 255 - mean) / std


# -------------------------------------------------------------------------------------------------------------- prompts
def middle(mask: np.ndarray) -> tuple[int, int]:
    """Return x and y of the pixel of a mask (SIZE, SIZE) that is farthest from its edge."""
    y, x = np.unravel_index(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].argmax(), mask.shape)
    return int(x), int(y)


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the tight box of a mask, xyxy."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def draw_prompts(masks: np.ndarray, kind: str, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return prompts in the model's frame for masks (n, 2, SIZE, SIZE): a point, or a box with noise."""
    prompts = []
    for mask in masks.reshape(-1, SIZE, SIZE):
        if kind == "box":
            prompts.append(np.array(box(mask)) + rng.integers(-1, 2, 4) * (rng.random() < 0.3))
        elif rng.random() < 0.6:
            prompts.append(middle(mask))
        else:
            ys, xs = np.nonzero(mask)
            pixel = rng.integers(len(ys))
            prompts.append((xs[pixel], ys[pixel]))
    scaled = torch.tensor(np.array(prompts), dtype=torch.float32) * (FRAME / SIZE)
    return {"input_boxes": scaled.view(-1, 2, 4)} if kind == "box" else {"input_points": scaled.view(-1, 2, 1, 2)}


# ------------------------------------------------------------------------------------------------------------- training
def mask_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return cross-entropy plus Dice loss: logits (n, 2, masks, SIZE, SIZE), targets (n, 2, 1, SIZE, SIZE)."""
    targets = targets.expand_as(logits)
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((-2, -1))
    shares = logits.sigmoid()
    dice = 1 - (2 * (shares * targets).sum((-2, -1)) + 1) / (shares.sum((-2, -1)) + targets.sum((-2, -1)) + 1)
    return 4 * entropy + dice


def iou(masks: Tensor, targets: Tensor) -> Tensor:
    """Return the intersection over union along the last two axes."""
    intersection = (masks & targets).sum((-2, -1)).float()
    return intersection / (masks | targets).sum((-2, -1)).clamp(min=1)


def train(model: SamModel, images: SamImageProcessor, args: argparse.Namespace) -> tuple[int, float]:
    """Train in place. Return the number of steps and the seconds, rendering included."""
    began = time.perf_counter()
    pictures, numbers = rendered(compositions("train"), VARIANTS)
    check_pictures(pictures[0, :8], images, framed)
    optimizer = adamw(model)
    rng = np.random.default_rng(args.seed)
    model.train()
    step = 0
    for step, seconds, last in steps(optimizer, PEAK_LEARNING_RATE, args):
        rows, variants = rng.integers(pictures.shape[1], size=BATCH), rng.integers(VARIANTS, size=BATCH)
        masks = numbers[variants, rows][:, None] == np.arange(1, 3)[None, :, None, None]
        kind, three = ("point", "box")[step % 2], step % 6 < 4
        output = model(
            pixel_values=framed(pictures[variants, rows], images),
            **draw_prompts(masks, kind, rng),
            multimask_output=three,
        )
        logits = interpolate(output.pred_masks.flatten(0, 1), (SIZE, SIZE), mode="bilinear", align_corners=False)
        logits = logits.view(BATCH, 2, -1, SIZE, SIZE)
        targets = torch.from_numpy(masks)[:, :, None]
        losses = mask_losses(logits, targets.float())
        reached = iou(logits.detach() > 0, targets)
        loss = losses.min(2).values.mean() + 0.1 * losses.mean() + mse_loss(output.iou_scores, reached)
        take_step(optimizer, model, loss)
        if step % 50 == 0 or last:
            chosen = reached.gather(2, output.iou_scores.argmax(2, keepdim=True)).mean()
            print(
                f"step {step:5d}  {seconds:6.0f} s  {kind:5s} {'three' if three else 'one':5s}  "
                f"loss {loss.item():.3f}  chosen {chosen.item():.3f}  best {reached.max(2).values.mean().item():.3f}",
                flush=True,
            )
    return step, time.perf_counter() - began


# ----------------------------------------------------------------------------------------------------------- evaluation
@torch.inference_mode()
def evaluate(folder: Path, split: str, cache_dir: str, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Read the model from disk and segment a split that it was not trained on, at the size of the JPEG files."""
    model = AutoModelForMaskGeneration.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
    processor = SamProcessor.from_pretrained(folder, local_files_only=True)
    examples = Shapes(split=split, cache_dir=cache_dir).examples()
    chosen, best, filled = {"point": [], "box": []}, {"point": [], "box": []}, []
    for first in range(0, len(examples), 50):
        part = examples[first : first + 50]
        pictures = [decode(example.image) for example in part]
        masks = [example.masks() for example in part]
        boxes = [[list(box(mask)) for mask in instances] for instances in masks]
        for kind, prompts in (
            ("point", {"input_points": [[[list(middle(mask))] for mask in instances] for instances in masks]}),
            ("box", {"input_boxes": boxes}),
        ):
            inputs = processor(pictures, return_tensors="pt", **prompts)
            placed = {name: inputs[name].float() for name in prompts}
            output = model(pixel_values=inputs["pixel_values"].to(dtype), **placed, multimask_output=True)
            predicted = processor.post_process_masks(
                output.pred_masks.float(), inputs["original_sizes"], inputs["reshaped_input_sizes"]
            )
            for candidates, truth, estimates in zip(predicted, masks, output.iou_scores, strict=True):
                reached = iou(candidates, torch.from_numpy(truth)[:, None])
                chosen[kind] += reached.gather(1, estimates.argmax(1, keepdim=True)).flatten().tolist()
                best[kind] += reached.max(1).values.tolist()
        for sides, truth in zip(boxes, masks, strict=True):
            filled += [
                mask.sum() / ((x1 - x0) * (y1 - y0)) for (x0, y0, x1, y1), mask in zip(sides, truth, strict=True)
            ]
    return {
        **{kind: float(np.mean(values)) for kind, values in chosen.items()},
        **{f"best of three by {kind}": float(np.mean(values)) for kind, values in best.items()},
        "filling the box": float(np.mean(filled)),
    }


def write_card(
    out: Path, model: SamModel, figures: dict[str, dict[str, float]], training: str, args: argparse.Namespace
) -> None:
    """Write the model card with the figures that this run measured."""
    table = facts(
        out,
        model,
        args,
        training,
        vision=f"ViT, 3 layers, {WIDTH} wide, patch {PATCH}, {FRAME} × {FRAME} pixels",
        masks=f"{4 * FRAME // PATCH} × {4 * FRAME // PATCH} logits, three per prompt",
    )
    rows = side_by_side(figures)
    (out / "README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: mask-generation
---
# sam_tiny

A small trained `transformers.SamModel`. It is bundled, so that quality can be measured without a network. It is
trained only on images of the `shapes` data set.

{table}

## Results on the test split

`shapes`, test split, seed 0: 1,000 images of 64 × 64 pixels with two objects each, read from the JPEG files of the data
set. Their compositions are not in the training data. The values are the mean IoU over the 2,000 objects at the size of
the images. The mask is the one with the highest IoU estimate of the model, or the best of the three. The point is the
pixel of the true mask that is farthest from its edge. The box is the tight box of the true mask. The last row is the
result of filling the box.

| mean IoU by | fp32 | bf16 |
|---|---|---|
{rows}

{provenance("train_sam_tiny.py", VARIANTS)} No other
data, no other weights.
""",
        "utf-8",
    )


def main() -> None:
    args = arguments(__doc__, STEPS, "sam_tiny")
    processor, model = build_processor(), build_model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    count, seconds = train(model, processor.image_processor, args)
    save(args.out, model, processor)
    figures = measure(evaluate, args)
    training = f"{count:,} steps of {BATCH} images, {seconds / 60:.1f} minutes including rendering"
    write_card(args.out, model, figures, training, args)


if __name__ == "__main__":
    main()
