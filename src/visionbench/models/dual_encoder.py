"""Dual encoders for image-text retrieval: CLIP, SigLIP, and other models with their interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import CAPTIONS_CUT, ConfigError, Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row
from visionbench.registry import nearest, register
from visionbench.weights import HashedTokenizer

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PARTS = {"image": ("images",), "text": ("texts",), "both": ("images", "texts")}
"""The encoders of a timed call, and its units of work."""
TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a close-up photo of a {}.",
)
LOGIT_SCALE = 100.0
"""Factor from cosines to class scores: the final temperature of CLIP's training. It does not change ranks."""


@register("models", "dual_encoder")
@dataclass
class DualEncoder:
    """Options: the `part` that a timed call runs; `text_tokens`, the number of tokens to which texts are padded;
    `templates`, which convert a class name to texts, whose mean embedding represents the class; and `image_size`, the
    side of the square images in pixels, null for the model's own."""

    part: str = "both"
    text_tokens: int = 77
    templates: list[str] = field(default_factory=lambda: list(TEMPLATES))
    image_size: int | None = None

    auto_class: ClassVar[str] = "AutoModel"
    task: ClassVar[str] = "image-text retrieval"
    names_classes: ClassVar[bool] = True
    """Whether classes are scored by texts with their names, so that the names must be words."""
    predicts: ClassVar[frozenset[str]] = frozenset({"image_embedding", "caption_embeddings", "class_scores"})
    model_types: ClassVar[Mapping[str, str]] = {
        "aimv2": "Aimv2Model",
        "align": "AlignModel",
        "altclip": "AltCLIPModel",
        "blip": "BlipModel",
        "chinese_clip": "ChineseCLIPModel",
        "clip": "CLIPModel",
        "clipseg": "CLIPSegModel",
        "groupvit": "GroupViTModel",
        "metaclip_2": "MetaClip2Model",
        "siglip": "SiglipModel",
        "tipsv2": "Tipsv2Model",
        "vision-text-dual-encoder": "VisionTextDualEncoderModel",
    }

    def __post_init__(self) -> None:
        weights.check_image_size(self.image_size)
        if self.part not in PARTS:
            raise ConfigError(f"model.options.part={self.part}: no such part{nearest(self.part, PARTS)}")
        if self.text_tokens < 1:
            raise ConfigError(f"model.options.text_tokens={self.text_tokens}: must be at least 1")
        if invalid := next((template for template in self.templates or [""] if template.count("{}") != 1), None):
            raise ConfigError(
                f"model.options.templates: '{invalid}' must contain {{}} once, as the place of the class name"
            )
        if not self.templates:
            raise ConfigError(
                "model.options.templates=[]: no template", "give at least one, as in ['a photo of a {}.']"
            )

    def uses(self) -> frozenset[str]:
        """Return `captions` if texts are encoded."""
        return frozenset() if self.part == "image" else frozenset({"captions"})

    def graph_names(self) -> tuple[str, ...]:
        """Return the encoders of a timed call, which a runtime can execute."""
        return ("image", "text") if self.part == "both" else (self.part,)

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load an AutoModel with its image processor and its tokenizer, or a HashedTokenizer with random weights."""
        built = weights.build_model(model, self.auto_class, device, dtype, self.image_size)
        if self.part != "image":
            weights.check_length(built, self.text_tokens, f"model.options.text_tokens={self.text_tokens}")
        processor = weights.load_image_processor(model, built.source, self.image_size)
        if built.source is None:
            tokenizer: Any = HashedTokenizer(built.module.config.text_config)
        else:
            tokenizer = weights.load_tokenizer(model, built)
            if self.text_tokens <= (special := tokenizer.num_special_tokens_to_add()):
                raise ConfigError(
                    f"model.options.text_tokens={self.text_tokens}: the tokenizer adds {special} tokens to each text, "
                    "so that no token remains for the text",
                    f"give at least {special + 1}",
                )
        identity = {
            **built.identity,
            **weights.describe_processor(processor),
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
    executed: Mapping[str, Any] = field(default_factory=dict)
    """The parts that a runtime executes; see `core.HasGraphs`."""
    counter: Any = field(init=False)
    """The tokenizer for `count_truncated`. Truncation and padding are state of a tokenizer, and several threads encode
    and count texts at once: with a single tokenizer, a text could be encoded without truncation."""

    def __post_init__(self) -> None:
        """Copy the tokenizer, so that counting does not change it."""
        self.counter = deepcopy(self.tokenizer)

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Return the number of images, texts or both, which is the batch size."""
        return dict.fromkeys(PARTS[self.part], batch_size)

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Return `pixel_values` [B, 3, H, W] and the tokenizer's tensors [B, text_tokens], if the part needs them."""
        inputs: dict[str, Any] = {}
        if self.part != "text":
            inputs |= self.process_images(images)
        if self.part != "image":
            inputs |= self.tokenize(captions)
        return inputs

    def call(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Return projected embeddings [B, D] by part, not normalised."""
        return {name: part.call() for name, part in self.parts(inputs).items()}

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """Return the parts `image` and `text` that have inputs, each an encoder with its projection."""
        functions = self._functions(inputs)
        return {
            name: ModelPart(
                partial(self.executed.get(name, partial(function, self.module)), *self.graph_inputs(name, inputs))
            )
            for name, function in functions.items()
        }

    def graphs(self) -> Mapping[str, torch.nn.Module]:
        """Return those of `image` and `text` that a timed call runs: from tensors to embeddings [B, D]."""
        inputs = {"pixel_values": None} if self.part != "text" else {}
        if self.part != "image":
            inputs |= dict.fromkeys(self.tokenize([""]))
        return {name: weights.as_graph(self.module, function) for name, function in self._functions(inputs).items()}

    def graph_inputs(self, part: str, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """Return the pixels [B, 3, H, W], or the tokenizer's tensors [B, text_tokens]."""
        return tuple(tensor for name, tensor in inputs.items() if (name == "pixel_values") == (part == "image"))

    def with_graphs(self, executed: Mapping[str, Any]) -> LoadedModel:
        """Return the model that calls these functions instead of its encoders."""
        return LoadedDualEncoder(
            self.module,
            self.dtype,
            self.processor,
            self.tokenizer,
            self.part,
            self.text_tokens,
            self.templates,
            self.identity,
            executed,
        )

    def other_work(self) -> str:
        """Return which encoder is not part of a timed call, and is therefore executed by torch for quality."""
        return {"image": "text encoder, for quality", "text": "image encoder, for quality"}.get(self.part, "")

    def _functions(self, inputs: Inputs) -> dict[str, Callable[..., torch.Tensor]]:
        """Return the functions of a model and the tensors of these inputs, for the parts that have inputs."""
        names = [name for name in inputs if name != "pixel_values"]
        functions: dict[str, Callable[..., torch.Tensor]] = {}
        if "pixel_values" in inputs:
            functions["image"] = lambda model, pixels: model.get_image_features(pixel_values=pixels).pooler_output
        if names:
            functions["text"] = lambda model, *tokens: (
                model.get_text_features(**dict(zip(names, tokens, strict=True))).pooler_output
            )
        return functions

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Return the embeddings of each part, which must follow its input."""
        return self.call(inputs)

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return embeddings in fp32 of unit length, as a mapping of parts for each row of the batch."""
        unit = {part: rows.float() / rows.float().norm(dim=-1, keepdim=True) for part, rows in output.items()}
        rows = {part: self._to_host(embeddings) for part, embeddings in unit.items()}
        return [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return an evaluator for embeddings of images and captions, and class scores by texts from the templates."""
        scored = classes if "class_scores" in columns else ()
        for name in scored:
            if self.count_truncated(self._make_texts(name)):
                raise ConfigError(
                    f"model.options.text_tokens={self.text_tokens}: the texts of the class '{name}' are longer and "
                    "would be truncated",
                    "give more tokens, or shorter names or model.options.templates",
                )
        vectors = np.stack([self._encode_class(name) for name in scored]) if scored else None
        return DualEncoderEvaluator(self, columns, tuple(scored), vectors)

    def encode_images(self, pixels: Mapping[str, Any]) -> np.ndarray:
        """Return embeddings [B, D] in fp32 on the host, not normalised."""
        return self._to_host(self.call(self._place(pixels))["image"])

    def encode_texts(self, tokens: Mapping[str, Any], batch_size: int) -> np.ndarray:
        """Return embeddings [M, D] in fp32 on the host, not normalised, of tokenized texts in batches."""
        count = len(tokens["input_ids"])
        batches = [
            {name: tensor[start : start + batch_size] for name, tensor in tokens.items()}
            for start in range(0, count, batch_size)
        ]
        return np.concatenate([self._to_host(self.call(self._place(batch))["text"]) for batch in batches])

    def process_images(self, images: Sequence[Image]) -> dict[str, Any]:
        """Return `pixel_values` [B, 3, H, W]."""
        return {"pixel_values": self.processor(images=list(images), return_tensors="pt")["pixel_values"]}

    def tokenize(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return the tokenizer's tensors [B, text_tokens]."""
        return dict(
            self.tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.text_tokens, return_tensors="pt"
            )
        )

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of texts with more than `text_tokens` tokens, which `tokenize` truncates."""
        if isinstance(self.tokenizer, HashedTokenizer) or not texts:
            return 0
        tokens = self.counter(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]
        return sum(len(ids) > self.text_tokens for ids in tokens)

    def _encode_class(self, name: str) -> np.ndarray:
        """Return the class's unit vector [D]: the normalised mean of the normalised embeddings of its texts."""
        texts = normalize(self.encode_texts(self.tokenize(self._make_texts(name)), 32))
        return normalize(texts.mean(axis=0))

    def _make_texts(self, name: str) -> list[str]:
        """Return the text of a class for each template. An underscore in a name, as in that of a folder, is a space."""
        words = " ".join(name.replace("_", " ").split())
        return [template.format(words) for template in self.templates]

    def _to_host(self, embeddings: torch.Tensor) -> np.ndarray:
        array: np.ndarray = embeddings.float().cpu().numpy()
        return array

    def _place(self, inputs: Inputs) -> Inputs:
        return weights.place_inputs(inputs, self.module.device, self.dtype)


@dataclass(frozen=True)
class DualEncoderEvaluator:
    """The evaluation of a dual encoder; see `core.Evaluator`."""

    model: LoadedDualEncoder
    columns: frozenset[str]
    classes: Sequence[str]
    vectors: np.ndarray | None
    """Class vectors [classes, D] of unit length, or None if classes are not scored."""

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Return `pixel_values`, and the tokens of all captions if their embeddings are requested."""
        inputs = self.model.process_images([picture.image for picture in pictures])
        if "caption_embeddings" in self.columns:
            inputs |= self.model.tokenize([caption for picture in pictures for caption in picture.example.captions])
        return inputs

    def forward(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return `image` [B, D], and `text` [M, D] of the captions, in fp32. Texts are encoded in batches of B."""
        pixels = {"pixel_values": inputs["pixel_values"]}
        tokens = {name: tensor for name, tensor in inputs.items() if name not in pixels}
        embeddings = {"image": self.model.encode_images(pixels)}
        if tokens:
            embeddings["text"] = self.model.encode_texts(tokens, len(embeddings["image"]))
        return embeddings

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return the requested of `image_embedding` [D], `caption_embeddings` [C, D] and `class_scores` [classes]."""
        columns: dict[str, Sequence[Any]] = {"image_embedding": output["image"]}
        if "text" in output:
            ends = np.cumsum([len(picture.example.captions) for picture in pictures])[:-1]
            columns["caption_embeddings"] = np.split(output["text"], ends)
        if self.vectors is not None:
            columns["class_scores"] = LOGIT_SCALE * normalize(output["image"]) @ self.vectors.T
        columns = {name: column for name, column in columns.items() if name in self.columns}
        if "caption_embeddings" in columns:
            columns[CAPTIONS_CUT] = [self.model.count_truncated(picture.example.captions) for picture in pictures]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def normalize(rows: np.ndarray) -> np.ndarray:
    """Return vectors along the last axis with unit length."""
    normalized: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return normalized
