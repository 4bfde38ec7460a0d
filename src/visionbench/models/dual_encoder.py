"""Dual encoders for image-text retrieval: CLIP, SigLIP, and what follows their interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from zlib import crc32

import numpy as np

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Inputs, LoadedModel, Predictions
from visionbench.registry import ConfigError, nearest, register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PARTS = {"image": ("images",), "text": ("texts",), "both": ("images", "texts")}
"""What a timed call encodes, and the units of work in it."""


@register("models", "dual_encoder")
@dataclass
class DualEncoder:
    """Options: the `part` that a timed call runs, and the fixed number of tokens that texts are padded to."""

    part: str = "both"
    text_tokens: int = 77

    auto_class: ClassVar[str] = "AutoModel"
    task: ClassVar[str] = "image-text retrieval"
    predicts: ClassVar[frozenset[str]] = frozenset({"image_embeddings", "text_embeddings", "captions_per_image"})

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ConfigError(f"model.options.part={self.part}: no such part{nearest(self.part, PARTS)}")
        if self.text_tokens < 1:
            raise ConfigError(f"model.options.text_tokens={self.text_tokens}: must be at least 1")

    def uses(self) -> frozenset[str]:
        """Captions, wherever texts are encoded."""
        return frozenset() if self.part == "image" else frozenset({"captions"})

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """An AutoModel with its image processor, and its tokenizer or, with random weights, a stand-in for it."""
        from transformers import AutoTokenizer

        built = weights.build(model, self.auto_class, device, dtype)
        processor = weights.image_processor(model, built.source)
        if built.source is None:
            tokenizer: Any = HashedTokenizer(built.module.config.text_config)
        else:
            tokenizer = AutoTokenizer.from_pretrained(built.source, local_files_only=True)
        identity = {
            **built.identity,
            "image_processor": type(processor).__name__,
            "tokenizer": type(tokenizer).__name__,
            "part": self.part,
            "text_tokens": self.text_tokens,
        }
        return LoadedDualEncoder(built.module, processor, tokenizer, self.part, self.text_tokens, identity)


@dataclass
class LoadedDualEncoder:
    """A dual encoder on its device."""

    module: Any
    processor: Any
    tokenizer: Any
    part: str
    text_tokens: int
    identity: Mapping[str, Any]

    def work(self, batch_size: int) -> Mapping[str, int]:
        """As many images, texts or both as the batch is large."""
        return dict.fromkeys(PARTS[self.part], batch_size)

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """`pixel_values` [B, 3, H, W] and the tokenizer's tensors [B, text_tokens], as far as the part needs them."""
        inputs: dict[str, Any] = {}
        if self.part != "text":
            inputs |= self._pixels(images)
        if self.part != "image":
            inputs |= self._tokens(captions)
        return inputs

    def call(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Projected embeddings [B, D] by part, not normalised."""
        pixels = {name: tensor for name, tensor in inputs.items() if name == "pixel_values"}
        tokens = {name: tensor for name, tensor in inputs.items() if name != "pixel_values"}
        embeddings = {}
        if pixels:
            embeddings["image"] = self.module.get_image_features(**pixels).pooler_output
        if tokens:
            embeddings["text"] = self.module.get_text_features(**tokens).pooler_output
        return embeddings

    def evidence(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """The embeddings of each part: each must follow its own input."""
        return self.call(inputs)

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Embeddings in fp32 of unit length, a mapping of parts for each row of the batch."""
        unit = {part: rows.float() / rows.float().norm(dim=-1, keepdim=True) for part, rows in output.items()}
        rows = {part: tensor.cpu().numpy() for part, tensor in unit.items()}
        return [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]

    def predict(self, images: Sequence[Image], captions: Sequence[Sequence[str]]) -> Predictions:
        """Embeddings in fp32 of the pictures [B, D] and of all their captions [M, D], and captions per picture [B]."""
        texts = [caption for of_one in captions for caption in of_one]
        image = self.call(self._place(self._pixels(images)))["image"]
        parts = [
            self.call(self._place(self._tokens(texts[at : at + len(images)])))["text"]
            for at in range(0, len(texts), len(images))
        ]
        return {
            "image_embeddings": image.float().cpu().numpy(),
            "text_embeddings": np.concatenate([text.float().cpu().numpy() for text in parts]),
            "captions_per_image": np.array([len(of_one) for of_one in captions]),
        }

    def _pixels(self, images: Sequence[Image]) -> dict[str, Any]:
        return {"pixel_values": self.processor(images=list(images), return_tensors="pt")["pixel_values"]}

    def _tokens(self, texts: Sequence[str]) -> dict[str, Any]:
        return dict(
            self.tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.text_tokens, return_tensors="pt"
            )
        )

    def _place(self, inputs: Inputs) -> Inputs:
        return weights.place(inputs, self.module.device, self.module.dtype)


class HashedTokenizer:
    """A stand-in where random weights come without a vocabulary: every word becomes some id of it, always the same."""

    def __init__(self, config: Any) -> None:
        self.vocabulary = config.vocab_size
        self.begin, self.end = config.bos_token_id, config.eos_token_id
        if self.end == 2:  # CLIP as released: its config says 2, and it pools at the highest id, the true end token
            self.end = self.vocabulary - 1
        self.special = {self.begin, self.end, config.pad_token_id}

    def __call__(self, texts: Sequence[str], max_length: int, **_: Any) -> dict[str, Any]:
        """`input_ids` and `attention_mask` [B, max_length]: begin, words, end, then end again as padding."""
        import torch

        ids = torch.full((len(texts), max_length), self.end)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            words = [self._id(word) for word in text.lower().split()][: max_length - 2]
            ids[row, : len(words) + 1] = torch.tensor([self.begin, *words])
            mask[row, : len(words) + 2] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def _id(self, word: str) -> int:
        token = int(crc32(word.encode()) % self.vocabulary)
        while token in self.special:
            token = (token + 1) % self.vocabulary
        return token
