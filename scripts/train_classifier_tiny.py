"""Train `data/classifier_tiny`, a ResNet with a head for the 15 pairs of shapes, on the train split of `shapes`.

    python scripts/train_classifier_tiny.py                  # a minute on one core
    python scripts/train_classifier_tiny.py --steps 20 --out /tmp/classifier_tiny

At the end the model is read from disk and measured on the 1,000 images of the test split, and its card (README.md) is
written.
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
from torch.nn.functional import cross_entropy
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessor,
)

from visionbench.data.shapes import LABELS, Shapes, compositions
from visionbench.datafiles.images import decode

BATCH, PEAK_LEARNING_RATE, VARIANTS = 128, 1.5e-3, 2
STEPS = 280
"""Training ends before the model is perfect, so that a precision or a broken pipeline can change its accuracy."""


def build_model() -> ResNetForImageClassification:
    """Return a ResNet of four stages with one basic block each, up to 96 channels wide."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 32, 64, 96],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            id2label=dict(enumerate(LABELS)),
            label2id={label: index for index, label in enumerate(LABELS)},
        )
    )


def train(model: nn.Module, images: ViTImageProcessor, args: argparse.Namespace) -> tuple[int, float]:
    """Train in place. Return the number of steps and the seconds, rendering included."""
    began = time.perf_counter()
    parts = compositions("train")
    pictures, _ = rendered(parts, VARIANTS)
    check_pictures(pictures[0, :8], images)
    labels = torch.tensor([LABELS.index(part.label) for part in parts])
    optimizer = adamw(model)
    rng = np.random.default_rng(args.seed)
    model.train()
    step = 0
    for step, seconds, last in steps(optimizer, PEAK_LEARNING_RATE, args):
        rows, variants = rng.integers(len(parts), size=BATCH), rng.integers(VARIANTS, size=BATCH)
        logits = model(pixel_values=normalised(pictures[variants, rows], images)).logits
        loss = cross_entropy(logits, labels[rows])
        take_step(optimizer, model, loss)
        if step % 50 == 0 or last:
            right = (logits.argmax(1) == labels[rows]).float().mean()
            print(f"step {step:5d}  {seconds:6.0f} s  loss {loss.item():.3f}  right {right.item():.3f}", flush=True)
    return step, time.perf_counter() - began


@torch.inference_mode()
def evaluate(folder: Path, split: str, cache_dir: str, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Read the model from disk and classify a split that it was not trained on from its JPEG files."""
    model = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
    images = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    examples = Shapes(split=split, cache_dir=cache_dir).examples()
    top1, top5 = [], []
    for first in range(0, len(examples), 100):
        part = examples[first : first + 100]
        pixels = images([decode(example.image) for example in part], return_tensors="pt")["pixel_values"]
        order = model(pixel_values=pixels.to(dtype)).logits.argsort(dim=1, descending=True)
        for best, example in zip(order, part, strict=True):
            names = [model.config.id2label[int(index)] for index in best[:5]]
            top1.append(names[0] == example.label)
            top5.append(example.label in names)
    return {"top-1": float(np.mean(top1)), "top-5": float(np.mean(top5))}


def write_card(
    out: Path, model: nn.Module, figures: dict[str, dict[str, float]], training: str, args: argparse.Namespace
) -> None:
    """Write the model card with the figures that this run measured."""
    layers = f"ResNet, four stages of one basic block, 16 to 96 channels, {SIZE} × {SIZE} pixels"
    table = facts(out, model, args, training, vision=layers, classes=str(len(LABELS)))
    rows = side_by_side(figures)
    (out / "README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: image-classification
---
# classifier_tiny

A small trained `transformers.ResNetForImageClassification`. It is bundled, so that quality can be measured without a
network. It predicts which two shapes an image of the `shapes` data set contains, and is trained only on these images.

{table}

## Results on the test split

`shapes`, test split, seed 0: 1,000 images, read from the JPEG files of the data set. Their compositions are not in the
training data. Random guessing has a top-1 accuracy of {1 / len(LABELS):.3f}.

| accuracy | fp32 | bf16 |
|---|---|---|
{rows}

{provenance("train_classifier_tiny.py", VARIANTS)} No other
data, no other weights.
""",
        "utf-8",
    )


def main() -> None:
    args = arguments(__doc__, STEPS, "classifier_tiny")
    images, model = ViTImageProcessor(size={"height": SIZE, "width": SIZE}), build_model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    count, seconds = train(model, images, args)
    save(args.out, model, images)
    figures = measure(evaluate, args)
    training = f"{count:,} steps of {BATCH} images, {seconds / 60:.1f} minutes including rendering"
    write_card(args.out, model, figures, training, args)


if __name__ == "__main__":
    main()
