"""Train `data/detector_tiny`, an RT-DETRv2 with fewer than half a million parameters, on the train split of `shapes`.

    python scripts/train_detector_tiny.py                  # about six minutes on one idle core
    python scripts/train_detector_tiny.py --steps 20 --out /tmp/detector_tiny

The classes are the five shapes, and the boxes are those of the masks. Every second image is mirrored. At the end the
model is read from disk and measured on the 1,000 images of the test split by COCOeval, and its card (README.md) is
written.
"""

from __future__ import annotations

import argparse
import io
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
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
from transformers import (
    AutoImageProcessor,
    AutoModelForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

from visionbench.data.shapes import SHAPES, Shapes, compositions, make_box
from visionbench.datafiles.images import decode

BATCH, PEAK_LEARNING_RATE, VARIANTS = 32, 1e-3, 2
STEPS = 1216


def build_model() -> RTDetrV2ForObjectDetection:
    """Return an RT-DETRv2 with features at strides 8 and 16, 64 wide, with two layers of the decoder."""
    width = 64
    config = RTDetrV2Config(
        id2label=dict(enumerate(SHAPES)),
        label2id={shape: index for index, shape in enumerate(SHAPES)},
        backbone_config=RTDetrResNetConfig(
            embedding_size=24,
            hidden_sizes=[24, 48, 64],
            depths=[1, 1, 1],
            layer_type="basic",
            out_indices=[2, 3],
        ),
        freeze_backbone_batch_norms=False,
        encoder_in_channels=[48, 64],
        feat_strides=[8, 16],
        encode_proj_layers=[1],
        num_feature_levels=2,
        decoder_n_levels=2,
        encoder_hidden_dim=width,
        encoder_ffn_dim=2 * width,
        encoder_attention_heads=4,
        hidden_expansion=0.5,
        d_model=width,
        decoder_in_channels=[width] * 2,
        decoder_ffn_dim=2 * width,
        decoder_attention_heads=4,
        decoder_layers=2,
        num_queries=10,
        num_denoising=6,
    )
    return RTDetrV2ForObjectDetection(config)


def build_processor() -> RTDetrImageProcessor:
    """Return the preprocessing of images, which is saved with the weights."""
    return RTDetrImageProcessor(
        size={"height": SIZE, "width": SIZE}, do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def normalised(pictures: np.ndarray, images: Any) -> Tensor:
    """Return the output of the image processor for uint8 images (n, 3, SIZE, SIZE)."""
    return (torch.from_numpy(pictures).float() / 255 - 0.5) / 0.5


def list_targets(masks: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the classes (n, 2) and the boxes (variants, n, 2, 4), as centres and sizes in fractions of the image, of
    masks (variants, n, SIZE, SIZE) of the compositions of the train split."""
    shapes = [(part.first.shape, part.second.shape) for part in compositions("train")]
    kinds = torch.tensor([[SHAPES.index(shape) for shape in pair] for pair in shapes])
    boxes = np.empty((*masks.shape[:2], 2, 4), np.float32)
    for place in np.ndindex(*masks.shape[:2]):
        for number in (1, 2):
            box = make_box("", masks[place] == number)
            centre = box.x + box.width / 2, box.y + box.height / 2
            boxes[(*place, number - 1)] = np.array([*centre, box.width, box.height]) / SIZE
    return kinds, torch.from_numpy(boxes)


def train(model: Any, images: Any, args: argparse.Namespace) -> tuple[int, float]:
    """Train in place. Return the number of steps and the seconds, rendering included."""
    began = time.perf_counter()
    pictures, masks = rendered(compositions("train"), VARIANTS)
    check_pictures(pictures[0, :8], images, normalised)
    kinds, boxes = list_targets(masks)
    optimizer = adamw(model, betas=(0.9, 0.999))
    rng = np.random.default_rng(args.seed)
    model.train()
    step = 0
    for step, seconds, last in steps(optimizer, PEAK_LEARNING_RATE, args):
        rows, variants = rng.integers(len(kinds), size=BATCH), rng.integers(VARIANTS, size=BATCH)
        chosen, own = pictures[variants, rows], boxes[variants, rows].clone()
        mirrored = rng.random(BATCH) < 0.5
        chosen[mirrored] = chosen[mirrored][..., ::-1]
        own[mirrored, :, 0] = 1 - own[mirrored, :, 0]
        labels = [{"class_labels": kinds[row], "boxes": box} for row, box in zip(rows, own, strict=True)]
        loss = model(pixel_values=normalised(chosen, images), labels=labels).loss
        take_step(optimizer, model, loss)
        if step % 50 == 0 or last:
            print(f"step {step:5d}  {seconds:6.0f} s  loss {loss.item():.3f}", flush=True)
    return step, time.perf_counter() - began


@torch.inference_mode()
def evaluate(folder: Path, split: str, cache_dir: str, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Read the model from disk and detect the shapes of a split that it was not trained on in its JPEG files."""
    model = AutoModelForObjectDetection.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
    images = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    examples = Shapes(split=split, cache_dir=cache_dir).examples()
    results, truths = list[dict[str, Any]](), list[dict[str, Any]]()
    for first in range(0, len(examples), 100):
        part = examples[first : first + 100]
        pictures = [decode(example.image) for example in part]
        output = model(pixel_values=images(pictures, return_tensors="pt")["pixel_values"].to(dtype))
        output.logits, output.pred_boxes = output.logits.float(), output.pred_boxes.float()
        sizes = [(picture.height, picture.width) for picture in pictures]
        detected = images.post_process_object_detection(output, threshold=0.0, target_sizes=sizes)
        for number, (example, one) in enumerate(zip(part, detected, strict=True), start=first):
            for (x, y, right, bottom), score, label in zip(
                one["boxes"].tolist(), one["scores"].tolist(), one["labels"].tolist(), strict=True
            ):
                box = [x, y, right - x, bottom - y]
                results.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
            for box in example.boxes:
                truths.append(
                    {
                        "id": len(truths) + 1,
                        "image_id": number,
                        "category_id": SHAPES.index(box.name),
                        "bbox": [box.x, box.y, box.width, box.height],
                        "area": box.area,
                        "iscrowd": 0,
                    }
                )
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(len(examples))],
            "categories": [{"id": index} for index in range(len(SHAPES))],
            "annotations": truths,
        }
        truth.createIndex()
        evaluated = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    names = {"mAP": 0, "mAP50": 1, "mAP75": 2, "AR, 1 box": 6, "AR, 10 boxes": 7}
    return {name: float(evaluated.stats[index]) for name, index in names.items()}


def write_card(
    out: Path, model: Any, figures: dict[str, dict[str, float]], training: str, args: argparse.Namespace
) -> None:
    """Write the model card with the figures that this run measured."""
    layers = f"ResNet, 24 to 64 channels; encoder and decoder 64 wide, {SIZE} × {SIZE} pixels, 10 boxes"
    table = facts(out, model, args, training, architecture=layers, classes=", ".join(SHAPES))
    rows = side_by_side(figures)
    (out / "README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: object-detection
---
# detector_tiny

A small trained `transformers.RTDetrV2ForObjectDetection`. It is bundled, so that quality can be measured without a
network. It predicts the boxes of the shapes in an image of the `shapes` data set, and is trained only on these images.

{table}

## Results on the test split

`shapes`, test split, seed 0: 1,000 images, read from the JPEG files of the data set, with two boxes each. Their
compositions are not in the training data. The figures are those of COCOeval.

| figure | fp32 | bf16 |
|---|---|---|
{rows}

{provenance("train_detector_tiny.py", VARIANTS)} Every second
image is mirrored. No other data, no other weights.
""",
        "utf-8",
    )


def main() -> None:
    args = arguments(__doc__, STEPS, "detector_tiny")
    images, model = build_processor(), build_model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    count, seconds = train(model, images, args)
    save(args.out, model, images)
    figures = measure(evaluate, args)
    training = f"{count:,} steps of {BATCH} images, {seconds / 60:.1f} minutes including rendering"
    write_card(args.out, model, figures, training, args)


if __name__ == "__main__":
    main()
