"""Train `data/blip2_tiny`, a BLIP-2 with fewer than a million parameters, on the train split of `shapes`.

    python scripts/train_blip2_tiny.py                  # about ten minutes on one core
    python scripts/train_blip2_tiny.py --steps 20 --out /tmp/blip2_tiny

The vision tower starts from the weights of `data/clip_tiny`. Its shape is the same, except that CLIP normalises before
its layers; this normalisation is approximated by a linear map in the patch embedding. A temporary head reads the
attributes of both objects from the output of the Q-Former. The model learns only the first of the five captions of an
image, so its captions always have the same form; any of the five is correct. At the end the model is read from disk
and measured on the 1,000 images of the test split, and its card (README.md) is written.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tiny import (
    ATTRIBUTES,
    SIZE,
    adamw,
    arguments,
    attribute_indices,
    build_tokenizer,
    check_pictures,
    facts,
    measure,
    normalised,
    provenance,
    read_attributes,
    rendered,
    save,
    side_by_side,
    steps,
    take_step,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    CLIPModel,
)

from visionbench.data.shapes import Shapes, compositions
from visionbench.datafiles.images import decode

QUERIES, LONGEST = 8, 20
BATCH, PEAK_LEARNING_RATE, ATTRIBUTE_WEIGHT, VARIANTS = 128, 1.5e-3, 0.5, 2
STEPS = 900
SPECIAL = ("[PAD]", "[BOS]", "[UNK]", "[EOS]", "<image>")
PAD, BOS, UNKNOWN, EOS, IMAGE = range(len(SPECIAL))


def build_processor() -> Blip2Processor:
    """Return the preprocessing of images and texts, which is saved with the weights."""
    texts = (caption for split in ("train",) for part in compositions(split) for caption in part.captions)
    tokenizer = build_tokenizer(texts, SPECIAL, template="[BOS] $A")
    images = BlipImageProcessor(size={"height": SIZE, "width": SIZE})
    return Blip2Processor(images, tokenizer, num_query_tokens=QUERIES)


def build_model(vocabulary: int) -> Blip2ForConditionalGeneration:
    """Return a BLIP-2 of a ViT with 4 layers, a Q-Former with 2 and an OPT with 2, all 96 wide."""
    wide = {"hidden_size": 96, "num_attention_heads": 4}
    special = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    config = Blip2Config(
        vision_config={
            **wide,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "image_size": SIZE,
            "patch_size": 8,
            "initializer_range": 0.02,
        },
        qformer_config={
            **wide,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "encoder_hidden_size": 96,
            "cross_attention_frequency": 1,
            "vocab_size": vocabulary,
        },
        text_config={
            **wide,
            **special,
            "model_type": "opt",
            "vocab_size": vocabulary,
            "ffn_dim": 192,
            "num_hidden_layers": 2,
            "word_embed_proj_dim": 96,
            "max_position_embeddings": 64,
            "dropout": 0.0,
        },
        num_query_tokens=QUERIES,
        image_token_index=IMAGE,
    )
    config.qformer_config.hidden_dropout_prob = config.qformer_config.attention_probs_dropout_prob = 0.0
    model = Blip2ForConditionalGeneration(config)
    with torch.no_grad():  # all queries start at zero and would stay equal
        model.query_tokens.normal_(std=0.02)
    for name, token in special.items():
        setattr(model.generation_config, name, token)
    return model


@torch.no_grad()
def start_from_clip(model: Blip2ForConditionalGeneration, folder: Path, pixels: Tensor) -> None:
    """Copy the vision tower of a tiny CLIP. `pixels` (n, 3, SIZE, SIZE) give the spread of its inputs."""
    source = CLIPModel.from_pretrained(folder, local_files_only=True).vision_model
    target = model.vision_model
    before = source.embeddings(pixels)  # (n, tokens, 96)
    norm = source.pre_layrnorm
    scale = norm.weight / before.std(-1, unbiased=False).mean()
    patches = source.embeddings.patch_embedding.weight
    places = source.embeddings.position_embedding.weight
    first = source.embeddings.class_embedding
    target.embeddings.patch_embedding.weight.copy_((patches - patches.mean(0)) * scale.view(-1, 1, 1, 1))
    target.embeddings.patch_embedding.bias.zero_()
    target.embeddings.position_embedding.copy_((places - places.mean(1, keepdim=True)) * scale + norm.bias)
    target.embeddings.class_embedding.copy_((first - first.mean()) * scale)
    for layer, clip_layer in zip(target.encoder.layers, source.encoder.layers, strict=True):
        attention = clip_layer.self_attn
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        layer.self_attn.qkv.weight.copy_(torch.cat([part.weight for part in projections]))
        layer.self_attn.qkv.bias.copy_(torch.cat([part.bias for part in projections]))
        for mine, other in (
            (layer.self_attn.projection, attention.out_proj),
            (layer.layer_norm1, clip_layer.layer_norm1),
            (layer.layer_norm2, clip_layer.layer_norm2),
            (layer.mlp.fc1, clip_layer.mlp.fc1),
            (layer.mlp.fc2, clip_layer.mlp.fc2),
        ):
            mine.load_state_dict(other.state_dict())
    target.post_layernorm.load_state_dict(source.post_layernorm.state_dict())


# ------------------------------------------------------------------------------------------------------------- training
def caption_ids(processor: Blip2Processor) -> Tensor:
    """Return token ids (N, tokens) of the train split: image tokens, begin, the first caption, end, padding."""
    texts = [part.captions[0] for part in compositions("train")]
    words = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    longest = max(map(len, words))
    rows = [[IMAGE] * QUERIES + [BOS, *ids, EOS] + [PAD] * (longest - len(ids)) for ids in words]
    return torch.tensor(rows)


def train(
    model: Blip2ForConditionalGeneration, processor: Blip2Processor, args: argparse.Namespace, clip: Path
) -> tuple[int, float]:
    """Train in place. Return the number of steps and the seconds, rendering included."""
    began = time.perf_counter()
    parts = compositions("train")
    pictures, _ = rendered(parts, VARIANTS)
    images = processor.image_processor
    check_pictures(pictures[0, :8], images)
    start_from_clip(model, clip, normalised(pictures[0, :64], images))
    ids, targets = caption_ids(processor), attribute_indices(parts)
    head = nn.Linear(QUERIES * model.config.text_config.hidden_size, sum(map(len, ATTRIBUTES)))
    projected: list[Tensor] = []
    model.language_projection.register_forward_hook(lambda _, __, output: projected.append(output))
    optimizer = adamw(model, head)
    rng = np.random.default_rng(args.seed)
    model.train()
    step = 0
    for step, seconds, last in steps(optimizer, PEAK_LEARNING_RATE, args):
        rows, variants = rng.integers(len(parts), size=BATCH), rng.integers(VARIANTS, size=BATCH)
        batch = ids[rows]
        output = model(
            pixel_values=normalised(pictures[variants, rows], images),
            input_ids=batch,
            attention_mask=(batch != PAD).long(),
        )
        words = batch[:, QUERIES + 1 :]
        logits = output.logits[:, QUERIES:-1]
        caption = cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=PAD)
        attributes, right = read_attributes(head(projected.pop().flatten(1)), targets[rows])
        take_step(optimizer, model, caption + ATTRIBUTE_WEIGHT * attributes)
        if step % 50 == 0 or last:
            exact = ((logits.argmax(-1) == words) | (words == PAD)).all(1).float().mean()
            print(
                f"step {step:5d}  {seconds:6.0f} s  caption {caption.item():.3f}  attributes {attributes.item():.3f} "
                f"({right.item():.3f} right)  captions right, given the words before each word, {exact.item():.3f}",
                flush=True,
            )
    return step, time.perf_counter() - began


# ----------------------------------------------------------------------------------------------------------- evaluation
@torch.inference_mode()
def evaluate(folder: Path, split: str, cache_dir: str, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Read the model from disk and caption a split that it was not trained on from its JPEG files, greedily.

    `exact`: the share of captions that are one of the five captions of the image. `words in place`: the share of words
    that are equal to the word at the same place of the first caption.
    """
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
    images = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    examples = Shapes(split=split, cache_dir=cache_dir).examples()
    exact, words = [], []
    for first in range(0, len(examples), 100):
        part = examples[first : first + 100]
        pixels = images([decode(example.image) for example in part], return_tensors="pt")["pixel_values"]
        prompt = torch.tensor([[IMAGE] * QUERIES + [BOS]] * len(part))
        tokens = model.generate(
            pixel_values=pixels.to(dtype), input_ids=prompt, max_new_tokens=LONGEST, do_sample=False, num_beams=1
        )
        for text, example in zip(
            tokenizer.batch_decode(tokens[:, prompt.shape[1] :], skip_special_tokens=True), part, strict=True
        ):
            exact.append(text.strip() in example.captions)
            reference, written = example.captions[0].split(), text.split()
            words.append(np.mean([a == b for a, b in zip(reference, written + [""] * len(reference), strict=False)]))
    return {"exact": float(np.mean(exact)), "words in place": float(np.mean(words))}


def write_card(
    out: Path, model: nn.Module, figures: dict[str, dict[str, float]], training: str, args: argparse.Namespace
) -> None:
    """Write the model card with the figures that this run measured."""
    table = facts(
        out,
        model,
        args,
        training,
        vision=f"ViT, 4 layers, 96 wide, patch 8, {SIZE} × {SIZE} pixels; starts from the weights of `clip_tiny`",
        queries=f"{QUERIES}, Q-Former of 2 layers, 96 wide",
        text="OPT of 2 layers, 96 wide, one token per word",
    )
    rows = side_by_side(figures)
    (out / "README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: image-to-text
---
# blip2_tiny

A small trained `transformers.Blip2ForConditionalGeneration`. It is bundled, so that quality can be measured without a
network. It is trained only on images of the `shapes` data set.

{table}

## Results on the test split

`shapes`, test split, seed 0: 1,000 images, read from the JPEG files of the data set. Their compositions are not in the
training data. Exact is the share of images whose greedy caption is one of the five captions of the image. The model is
trained on the first of the five captions only, so its captions always have the same form ("a large red ring above a
small blue star"). Metrics that compare with all five captions therefore stay below their maximum.

| share | fp32 | bf16 |
|---|---|---|
{rows}

{provenance("train_blip2_tiny.py", VARIANTS)} The vision
tower starts from the weights of `clip_tiny`, which are trained on the same data. No other data, no other weights.
""",
        "utf-8",
    )


def main() -> None:
    args = arguments(__doc__, STEPS, "blip2_tiny")
    processor = build_processor()
    model = build_model(len(processor.tokenizer))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens", flush=True)
    count, seconds = train(model, processor, args, Path("data/clip_tiny"))
    save(args.out, model, processor)
    figures = measure(evaluate, args)
    training = f"{count:,} steps of {BATCH} images, {seconds / 60:.1f} minutes including rendering"
    write_card(args.out, model, figures, training, args)


if __name__ == "__main__":
    main()
