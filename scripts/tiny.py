"""The common code of the training scripts: images, tokenizer, optimizer, command line and model card."""

from __future__ import annotations

import argparse
import io
import math
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from visionbench.data.shapes import COLOURS, RADII, RELATIONS, SHAPES, Composition, compositions, render, save_jpeg

SIZE = 64
ATTRIBUTES = (tuple(RADII), tuple(COLOURS), SHAPES, tuple(RADII), tuple(COLOURS), SHAPES, RELATIONS)


def attributes(composition: Composition) -> tuple[str, ...]:
    """Return the seven words of a composition: size, colour and shape of both objects, and their relation."""
    return (*composition.first, *composition.second, composition.relation)


def attribute_indices(parts: Sequence[Composition]) -> Tensor:
    """Return the words of each composition as indices into ATTRIBUTES (N, 7)."""
    return torch.tensor([[known.index(w) for known, w in zip(ATTRIBUTES, attributes(p), strict=True)] for p in parts])


# --------------------------------------------------------------------------------------------------------------- images
def rendered(parts: Sequence[Composition], variants: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (variants, N, 3, SIZE, SIZE), after JPEG, and masks uint8 (variants, N, SIZE, SIZE).

    The seeds begin at 1, so that even the noise differs from that of the evaluation.
    """
    pictures = np.empty((variants, len(parts), 3, SIZE, SIZE), np.uint8)
    masks = np.empty((variants, len(parts), SIZE, SIZE), np.uint8)
    began = time.perf_counter()
    for variant in range(variants):
        for index, part in enumerate(parts):
            picture, masks[variant, index] = render(part, variant + 1, SIZE)
            pictures[variant, index] = through_jpeg(picture)
    print(f"rendered {variants * len(parts)} images in {time.perf_counter() - began:.0f} s", flush=True)
    return pictures, masks


def through_jpeg(picture: np.ndarray) -> np.ndarray:
    """Encode and decode an image (SIZE, SIZE, 3) like the data set's files; return it with the channels first."""
    file = io.BytesIO()
    save_jpeg(picture, file)
    return np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1)


def normalised(pictures: np.ndarray, images: Any) -> Tensor:
    """Return the output of the image processor for uint8 images (n, 3, SIZE, SIZE), for one batch at once."""
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (images.image_mean, images.image_std))
    return (torch.from_numpy(pictures).float() / 255 - mean) / std


def check_pictures(pictures: np.ndarray, images: Any, ours: Callable[[np.ndarray, Any], Tensor] = normalised) -> None:
    """Raise an error unless training uses the output of the saved processor for the same images (n, 3, SIZE, SIZE)."""
    theirs = images([Image.fromarray(picture.transpose(1, 2, 0)) for picture in pictures], return_tensors="pt")
    torch.testing.assert_close(ours(pictures, images), theirs["pixel_values"], atol=1e-5, rtol=0)


# ---------------------------------------------------------------------------------------------------------------- words
def build_tokenizer(texts: Iterable[str], special: Sequence[str], template: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one lower-case token for each word or punctuation mark of `texts`.

    `template` adds special tokens to a text. `special` holds the tokens for padding, begin, unknown and end in this
    order, then any others.
    """
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    vocabulary = {word: index for index, word in enumerate((*special, *words))}
    pad, bos, unknown, eos, *more = special
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, vocabulary[token]) for token in (bos, eos)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        bos_token=bos,
        unk_token=unknown,
        eos_token=eos,
        model_max_length=32,
        **({"additional_special_tokens": more} if more else {}),
    )


# ------------------------------------------------------------------------------------------------------------- training
def adamw(model: nn.Module, *heads: nn.Module, betas: tuple[float, float] = (0.9, 0.98)) -> torch.optim.AdamW:
    """Return AdamW over all trainable parameters, with weight decay only on the model's matrices."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    others = [
        p for p in (*trained, *(p for head in heads for p in head.parameters())) if all(p is not m for m in matrices)
    ]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=betas)


def steps(optimizer: torch.optim.Optimizer, peak: float, args: argparse.Namespace) -> Iterator[tuple[int, float, bool]]:
    """Yield the number of each step, the seconds so far, and whether this step is the last.

    The learning rate warms up to `peak` and then falls along a cosine. `args` holds the number of steps, or of minutes.
    """
    step, progress, start = 0, 0.0, time.perf_counter()
    while progress < 1:
        warm_up = min(1.0, (step + 1) / 100)
        rate = peak * warm_up * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        step += 1
        seconds = time.perf_counter() - start
        progress = step / args.steps if args.minutes is None else seconds / (60 * args.minutes)
        yield step, seconds, progress >= 1


def take_step(optimizer: torch.optim.Optimizer, model: nn.Module, loss: Tensor) -> None:
    """Compute the gradients, clip them at 1, and take one step."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def read_attributes(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of logits (n, all words) for indices (n, 7), and the share of correct rows."""
    parts = logits.split([len(known) for known in ATTRIBUTES], dim=1)
    losses = [nn.functional.cross_entropy(part, targets[:, index]) for index, part in enumerate(parts)]
    guesses = torch.stack([part.argmax(1) for part in parts], dim=1)
    return torch.stack(losses).mean(), (guesses == targets).all(1).float().mean()


# --------------------------------------------------------------------------------------------- command line and results
def arguments(description: str | None, steps: int, name: str) -> argparse.Namespace:
    """Return the options of a training script, and set threads and seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps, help="training steps (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, help="train for this time instead of --steps; the result depends on the machine"
    )
    parser.add_argument("--out", type=Path, default=Path("data") / name, help="folder to write (default: %(default)s)")
    parser.add_argument(
        "--cache-dir", default="data/cache", help="folder of the images for the evaluation (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args


def save(out: Path, model: Any, processor: Any) -> None:
    """Write weights, configs and processor."""
    model.eval().save_pretrained(out)
    processor.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # safetensors makes the file readable only for its owner


def measure(evaluate: Callable[..., dict[str, float]], args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the figures of the saved model on the test split, in fp32 and in bf16. Those on validation are printed."""
    print("validation:", evaluate(args.out, "validation", args.cache_dir))
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    figures = {name: evaluate(args.out, "test", args.cache_dir, dtype) for name, dtype in dtypes.items()}
    print("test:", figures)
    return figures


def side_by_side(figures: dict[str, dict[str, float]]) -> str:
    """Return rows of a table with a name, its value in fp32 and its value in bf16."""
    return "\n".join(
        f"| {name} | {value:.3f} | {figures['bf16'][name]:.3f} |" for name, value in figures["fp32"].items()
    )


def facts(out: Path, model: nn.Module, args: argparse.Namespace, training: str, **rows: str) -> str:
    """Return the first table of the card: size, the given rows, training and libraries."""
    megabytes = (out / "model.safetensors").stat().st_size / 1e6
    machine = f"{args.threads} CPU thread{'s' * (args.threads > 1)} ({platform.machine()})"
    libraries = ", ".join(f"{part.__name__} {part.__version__}" for part in (torch, transformers, tokenizers, np))
    known = {
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "`model.safetensors`": f"{megabytes:.2f} MB, fp32",
        **rows,
        "training": f"{training}, {machine}, seed {args.seed}",
        "libraries": libraries,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in known.items())])


def provenance(script: str, variants: int) -> str:
    """Return the last section of the card."""
    each = f"{variants} image{'s' * (variants > 1)} each"
    return f"""## Provenance

Made by `python scripts/{script}` of this repository, from images and captions that
`visionbench.data.shapes` generates ({len(compositions("train")):,} compositions, {each})."""
