"""Dual encoders for image-text retrieval: CLIP, SigLIP, and what follows their interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from zlib import crc32

import numpy as np

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import CAPTIONS_CUT, Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row
from visionbench.registry import ConfigError, nearest, register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PARTS = {"image": ("images",), "text": ("texts",), "both": ("images", "texts")}
"""What a timed call encodes, and the units of work in it."""
TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a close-up photo of a {}.",
)
LOGIT_SCALE = 100.0
"""What cosines are multiplied by to become class scores, as CLIP's own temperature ends up at; ranks do not change."""


@register("models", "dual_encoder")
@dataclass
class DualEncoder:
    """Options: the `part` that a timed call runs, the fixed number of tokens that texts are padded to, and the
    `templates` that make a class's name a text: the class is the mean of what they give."""

    part: str = "both"
    text_tokens: int = 77
    templates: list[str] = field(default_factory=lambda: list(TEMPLATES))

    auto_class: ClassVar[str] = "AutoModel"
    task: ClassVar[str] = "image-text retrieval"
    names_classes: ClassVar[bool] = True
    """Whether a class is scored by texts that name it, so that its name must be a word."""
    predicts: ClassVar[frozenset[str]] = frozenset({"image_embedding", "caption_embeddings", "class_scores"})

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ConfigError(f"model.options.part={self.part}: no such part{nearest(self.part, PARTS)}")
        if self.text_tokens < 1:
            raise ConfigError(f"model.options.text_tokens={self.text_tokens}: must be at least 1")
        if wrong := next((template for template in self.templates or [""] if template.count("{}") != 1), None):
            raise ConfigError(f"model.options.templates: '{wrong}' must hold {{}} once, where the class's name goes")
        if not self.templates:
            raise ConfigError("model.options.templates=[]: give at least one, as in ['a photo of a {}.']")

    def uses(self) -> frozenset[str]:
        """Captions, wherever texts are encoded."""
        return frozenset() if self.part == "image" else frozenset({"captions"})

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """An AutoModel with its image processor, and its tokenizer or, with random weights, a stand-in for it."""
        built = weights.build(model, self.auto_class, device, dtype)
        if self.part != "image":
            weights.check_length(built, self.text_tokens, f"model.options.text_tokens={self.text_tokens}")
        processor = weights.image_processor(model, built.source)
        if built.source is None:
            tokenizer: Any = HashedTokenizer(built.module.config.text_config)
        else:
            tokenizer = weights.tokenizer(model, built)
            if self.text_tokens <= (own := tokenizer.num_special_tokens_to_add()):
                raise ConfigError(
                    f"model.options.text_tokens={self.text_tokens}: the tokenizer adds {own} tokens to each text, so "
                    f"that none of the text is left",
                    f"give at least {own + 1}",
                )
        identity = {
            **built.identity,
            **weights.describe(processor),
            "tokenizer": type(tokenizer).__name__,
            "part": self.part,
            "text_tokens": self.text_tokens,
            "templates": list(self.templates),
        }
        return LoadedDualEncoder(
            built.module, dtype, processor, tokenizer, self.part, self.text_tokens, self.templates, identity
        )


@dataclass
class LoadedDualEncoder:
    """A dual encoder on its device."""

    module: Any
    dtype: torch.dtype
    processor: Any
    tokenizer: Any
    part: str
    text_tokens: int
    templates: Sequence[str]
    identity: Mapping[str, Any]
    counter: Any = field(init=False)
    """The tokenizer for `cut`. A tokenizer keeps truncation and padding as its state, and several threads use both at
    once: with one tokenizer, a text could be encoded without its truncation while another is counted."""

    def __post_init__(self) -> None:
        """Copy the tokenizer, so that counting does not change it."""
        self.counter = deepcopy(self.tokenizer)

    def work(self, batch_size: int) -> Mapping[str, int]:
        """As many images, texts or both as the batch is large."""
        return dict.fromkeys(PARTS[self.part], batch_size)

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """`pixel_values` [B, 3, H, W] and the tokenizer's tensors [B, text_tokens], as far as the part needs them."""
        inputs: dict[str, Any] = {}
        if self.part != "text":
            inputs |= self.pixels(images)
        if self.part != "image":
            inputs |= self.tokens(captions)
        return inputs

    def call(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Projected embeddings [B, D] by part, not normalised."""
        return {name: part.call() for name, part in self.parts(inputs).items()}

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """`image` and `text`, each an encoder with its projection, as far as there are inputs for it."""
        pixels = {name: tensor for name, tensor in inputs.items() if name == "pixel_values"}
        tokens = {name: tensor for name, tensor in inputs.items() if name != "pixel_values"}
        found = {}
        if pixels:
            found["image"] = ModelPart(lambda: self.module.get_image_features(**pixels).pooler_output)
        if tokens:
            found["text"] = ModelPart(lambda: self.module.get_text_features(**tokens).pooler_output)
        return found

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """The embeddings of each part: each must follow its own input."""
        return self.call(inputs)

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Embeddings in fp32 of unit length, a mapping of parts for each row of the batch."""
        unit = {part: rows.float() / rows.float().norm(dim=-1, keepdim=True) for part, rows in output.items()}
        rows = {part: tensor.cpu().numpy() for part, tensor in unit.items()}
        return [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]

    def evaluator(self, wanted: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Embeddings of pictures and their captions; class scores by texts that the templates make of the classes."""
        scored = classes if "class_scores" in wanted else ()
        for name in scored:
            if self.cut(self._texts_of(name)):
                raise ConfigError(
                    f"model.options.text_tokens={self.text_tokens}: the texts of the class '{name}' are longer and "
                    "would be cut",
                    "give more tokens, or shorter names or model.options.templates",
                )
        vectors = np.stack([self._class_vector(name) for name in scored]) if scored else None
        return DualEncoderEvaluator(self, wanted, tuple(scored), vectors)

    def encode_images(self, pixels: Mapping[str, Any]) -> np.ndarray:
        """Embeddings [B, D] in fp32 on the host, not normalised."""
        return self._on_host(self.call(self._place(pixels))["image"])

    def encode_texts(self, tokens: Mapping[str, Any], at_once: int) -> np.ndarray:
        """Embeddings [M, D] in fp32 on the host, not normalised, of so many tokenized texts at a time."""
        count = len(tokens["input_ids"])
        parts = [
            {name: tensor[at : at + at_once] for name, tensor in tokens.items()} for at in range(0, count, at_once)
        ]
        return np.concatenate([self._on_host(self.call(self._place(part))["text"]) for part in parts])

    def pixels(self, images: Sequence[Image]) -> dict[str, Any]:
        """`pixel_values` [B, 3, H, W]."""
        return {"pixel_values": self.processor(images=list(images), return_tensors="pt")["pixel_values"]}

    def tokens(self, texts: Sequence[str]) -> dict[str, Any]:
        """The tokenizer's tensors [B, text_tokens]."""
        return dict(
            self.tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.text_tokens, return_tensors="pt"
            )
        )

    def cut(self, texts: Sequence[str]) -> int:
        """How many of the texts have more than `text_tokens` tokens, so that `tokens` cuts them."""
        if isinstance(self.tokenizer, HashedTokenizer) or not texts:
            return 0
        whole = self.counter(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]
        return sum(len(ids) > self.text_tokens for ids in whole)

    def _class_vector(self, name: str) -> np.ndarray:
        """The class's direction [D]: unit embeddings of its texts, their mean brought to unit length again."""
        texts = unit(self.encode_texts(self.tokens(self._texts_of(name)), 32))
        return unit(texts.mean(axis=0))

    def _texts_of(self, name: str) -> list[str]:
        """The text of a class by each template. An underscore in a name, as in that of a folder, is read as a blank."""
        words = " ".join(name.replace("_", " ").split())
        return [template.format(words) for template in self.templates]

    def _on_host(self, embeddings: torch.Tensor) -> np.ndarray:
        array: np.ndarray = embeddings.float().cpu().numpy()
        return array

    def _place(self, inputs: Inputs) -> Inputs:
        return weights.place(inputs, self.module.device, self.dtype)


@dataclass(frozen=True)
class DualEncoderEvaluator:
    """A dual encoder at work for quality; see `core.Evaluator`."""

    model: LoadedDualEncoder
    wanted: frozenset[str]
    classes: Sequence[str]
    vectors: np.ndarray | None
    """[classes, D], of unit length."""

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """`pixel_values`, and where captions are wanted the tokens of all of them."""
        inputs = self.model.pixels([picture.image for picture in pictures])
        if "caption_embeddings" in self.wanted:
            inputs |= self.model.tokens([caption for picture in pictures for caption in picture.example.captions])
        return inputs

    def forward(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """`image` [B, D], and `text` [M, D] of the captions, in fp32; texts go through in batches as large as B."""
        pixels = {"pixel_values": inputs["pixel_values"]}
        tokens = {name: tensor for name, tensor in inputs.items() if name not in pixels}
        found = {"image": self.model.encode_images(pixels)}
        return found | ({"text": self.model.encode_texts(tokens, len(found["image"]))} if tokens else {})

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """`image_embedding` [D], `caption_embeddings` [C, D] and `class_scores` [classes], as wanted."""
        columns: dict[str, Sequence[Any]] = {"image_embedding": output["image"]}
        if "text" in output:
            ends = np.cumsum([len(picture.example.captions) for picture in pictures])[:-1]
            columns["caption_embeddings"] = np.split(output["text"], ends)
        if self.vectors is not None:
            columns["class_scores"] = LOGIT_SCALE * unit(output["image"]) @ self.vectors.T
        columns = {name: column for name, column in columns.items() if name in self.wanted}
        if "caption_embeddings" in columns:
            columns[CAPTIONS_CUT] = [self.model.cut(picture.example.captions) for picture in pictures]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def unit(rows: np.ndarray) -> np.ndarray:
    """Vectors along the last axis brought to unit length."""
    found: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return found


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
