"""Train `data/segformer_tiny`, a SegFormer for the background and the five shapes, on the train split of `shapes`.

    python scripts/train_segformer_tiny.py                  # about four minutes of processor time on one core
    python scripts/train_segformer_tiny.py --steps 20 --out /tmp/segformer_tiny

The logits have half the size of the image, and are trained at its full size. At the end the model is read from disk
and measured on the 1,000 images of the test split, and its card (README.md) is written.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tiny import (
    SIZE,
    adamw,
    arguments,
    check_pictures,
    facts,
    measure,
    normalised,
    provenance,
    rendered,
    save,
    side_by_side,
    steps,
    take_step,
)
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

from visionbench.data.shapes import MAP_CLASSES, Shapes, compositions
from visionbench.datafiles.images import decode

BATCH, STEPS, PEAK_LEARNING_RATE, VARIANTS = 32, 600, 2.5e-3, 1


def build_model() -> SegformerForSemanticSegmentation:
    """Return a SegFormer of four stages with one block each, 16 to 96 channels wide."""
    return SegformerForSemanticSegmentation(
        SegformerConfig(
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 64, 96],
            num_attention_heads=[1, 2, 4, 6],
            strides=[2, 2, 2, 2],
            patch_sizes=[5, 3, 3, 3],
            sr_ratios=[8, 4, 2, 1],
            mlp_ratios=[2, 2, 2, 2],
            decoder_hidden_size=64,
            drop_path_rate=0.0,
            classifier_dropout_prob=0.0,
            id2label=dict(enumerate(MAP_CLASSES)),
            label2id={name: index for index, name in enumerate(MAP_CLASSES)},
        )
    )


def class_maps(numbers: np.ndarray) -> np.ndarray:
    """Return the class of each pixel (variants, N, SIZE, SIZE) from the numbers of the objects, in the same shape."""
    parts = compositions("train")
    table = np.array([[0, *(MAP_CLASSES.index(one.shape) for one in (part.first, part.second))] for part in parts])
    return table[np.arange(len(parts))[None, :, None, None], numbers].astype(np.uint8)


def train(model: nn.Module, images: SegformerImageProcessor, args: argparse.Namespace) -> tuple[int, float]:
    """Train in place. Return the number of steps and the seconds, rendering included."""
    began = time.perf_counter()
    pictures, numbers = rendered(compositions("train"), VARIANTS)
    check_pictures(pictures[0, :8], images)
    maps = class_maps(numbers)
    optimizer = adamw(model)
    rng = np.random.default_rng(args.seed)
    model.train()
    step = 0
    for step, seconds, last in steps(optimizer, PEAK_LEARNING_RATE, args):
        rows, variants = rng.integers(pictures.shape[1], size=BATCH), rng.integers(VARIANTS, size=BATCH)
        logits = model(pixel_values=normalised(pictures[variants, rows], images)).logits
        logits = interpolate(logits, (SIZE, SIZE), mode="bilinear", align_corners=False)
        targets = torch.from_numpy(maps[variants, rows]).long()
        take_step(optimizer, model, cross_entropy(logits, targets))
        if step % 50 == 0 or last:
            confusion = count_pixels(targets.numpy(), logits.argmax(1).numpy())
            print(f"step {step:5d}  {seconds:6.0f} s  mIoU {ious(confusion).mean():.3f}", flush=True)
    return step, time.perf_counter() - began


def count_pixels(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of pixels [true class, predicted class]."""
    count = len(MAP_CLASSES)
    return np.bincount(true.ravel() * count + predicted.ravel(), minlength=count**2).reshape(count, count)


def ious(confusion: np.ndarray) -> np.ndarray:
    """Return the IoU of each class."""
    right = np.diag(confusion)
    return right / (confusion.sum(0) + confusion.sum(1) - right)


@torch.inference_mode()
def evaluate(folder: Path, split: str, cache_dir: str, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Read the model from disk and segment a split that it was not trained on, at the size of the JPEG files."""
    model = AutoModelForSemanticSegmentation.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
    images = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    examples = Shapes(split=split, cache_dir=cache_dir).examples()
    confusion = np.zeros((len(MAP_CLASSES), len(MAP_CLASSES)), np.int64)
    for first in range(0, len(examples), 50):
        part = examples[first : first + 50]
        pixels = images([decode(example.image) for example in part], return_tensors="pt")["pixel_values"]
        output = model(pixel_values=pixels.to(dtype))
        output.logits = output.logits.float()
        maps = images.post_process_semantic_segmentation(output, target_sizes=[(SIZE, SIZE)] * len(part))
        for predicted, example in zip(maps, part, strict=True):
            confusion += count_pixels(example.class_map().astype(np.int64), predicted.numpy())
    by_class = dict(zip(MAP_CLASSES, ious(confusion).tolist(), strict=True))
    return {
        "mIoU": float(ious(confusion).mean()),
        "pixel accuracy": float(np.diag(confusion).sum() / confusion.sum()),
        **{f"IoU of {name}": value for name, value in by_class.items()},
    }


def write_card(
    out: Path, model: nn.Module, figures: dict[str, dict[str, float]], training: str, args: argparse.Namespace
) -> None:
    """Write the model card with the figures that this run measured."""
    layers = f"SegFormer, four stages of one block, 16 to 96 channels, {SIZE} × {SIZE} pixels"
    table = facts(out, model, args, training, vision=layers, classes=", ".join(MAP_CLASSES))
    rows = side_by_side(figures)
    (out / "README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: image-segmentation
---
# segformer_tiny

A small trained `transformers.SegformerForSemanticSegmentation`. It is bundled, so that quality can be measured without
a network. It predicts the shape that each pixel belongs to, and is trained only on images of the `shapes` data set.

{table}

## Results on the test split

`shapes`, test split, seed 0: 1,000 images, read from the JPEG files of the data set. Their compositions are not in the
training data. The IoU of a class is over the pixels of all images together. Predicting only the background has a pixel
accuracy of about 0.9 and a mean IoU of about 0.15.

| figure | fp32 | bf16 |
|---|---|---|
{rows}

{provenance("train_segformer_tiny.py", VARIANTS)} No other
data, no other weights.
""",
        "utf-8",
    )


def main() -> None:
    args = arguments(__doc__, STEPS, "segformer_tiny")
    images, model = SegformerImageProcessor(size={"height": SIZE, "width": SIZE}), build_model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    count, seconds = train(model, images, args)
    save(args.out, model, images)
    figures = measure(evaluate, args)
    training = f"{count:,} steps of {BATCH} images, {seconds / 60:.1f} minutes including rendering"
    write_card(args.out, model, figures, training, args)


if __name__ == "__main__":
    main()
