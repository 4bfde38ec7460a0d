"""Captioners: BLIP-2 and BLIP, which see a picture and write a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Inputs, LoadedModel
from visionbench.registry import ConfigError, register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@register("models", "captioner")
@dataclass
class Captioner:
    """Options: the `prompt` before the caption, and how many tokens each timed call writes, neither more nor fewer."""

    prompt: str = ""
    new_tokens: int = 20

    auto_class: ClassVar[str] = "AutoModelForImageTextToText"
    task: ClassVar[str] = "image captioning"
    predicts: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.new_tokens < 1:
            raise ConfigError(f"model.options.new_tokens={self.new_tokens}: must be at least 1")

    def uses(self) -> frozenset[str]:
        """Pictures alone."""
        return frozenset()

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """An AutoModelForImageTextToText with its image processor, and its tokenizer unless weights are random."""
        from transformers import AutoTokenizer

        if model.weights == "random" and self.prompt:
            raise ConfigError(
                f"model.options.prompt='{self.prompt}': random weights come without a tokenizer; leave it empty"
            )
        built = weights.build(model, self.auto_class, device, dtype)
        processor = weights.image_processor(model, built.source)
        tokenizer = None if built.source is None else AutoTokenizer.from_pretrained(built.source, local_files_only=True)
        prompt_ids = tokenizer(self.prompt, add_special_tokens=False).input_ids if tokenizer and self.prompt else []
        identity = {
            **built.identity,
            "image_processor": type(processor).__name__,
            "tokenizer": type(tokenizer).__name__ if tokenizer else None,
            "prompt": self.prompt,
            "new_tokens": self.new_tokens,
        }
        return LoadedCaptioner(
            built.module, processor, tokenizer, _prompt(built.module.config, prompt_ids), self.new_tokens, identity
        )


@dataclass
class LoadedCaptioner:
    """A captioner on its device; `prompt_ids` is the whole prompt, image tokens included."""

    module: Any
    processor: Any
    tokenizer: Any
    prompt_ids: list[int]
    new_tokens: int
    identity: Mapping[str, Any]

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Images, and the tokens written for them."""
        return {"images": batch_size, "tokens": batch_size * self.new_tokens}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """`pixel_values` [B, 3, H, W] and the prompt's `input_ids` [B, L]."""
        import torch

        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "input_ids": torch.tensor([self.prompt_ids] * len(images))}

    def call(self, inputs: Inputs) -> torch.Tensor:
        """Greedy tokens [B, L′]: exactly `new_tokens` of them are new, so that work does not hang on what is said."""
        tokens: torch.Tensor = self.module.generate(
            **inputs,
            max_new_tokens=self.new_tokens,
            min_new_tokens=self.new_tokens,
            do_sample=False,
            num_beams=1,
        )
        return tokens

    def evidence(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Logits of the first new token."""
        return {"image": self.module(**inputs).logits[:, -1]}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """A caption for each picture; the new tokens' ids where random weights come without a tokenizer."""
        new = output[:, -self.new_tokens :].cpu()
        if self.tokenizer is None:
            return [" ".join(str(int(token)) for token in row) for row in new]
        return [text.strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]


def _prompt(config: Any, words: Sequence[int]) -> list[int]:
    """What stands before the caption. A model with query tokens wants one image token for each of them, then BOS; one
    without wants BOS, and takes off the last token, which its tokenizer would have put there."""
    text = config.text_config
    queries = getattr(config, "num_query_tokens", None)
    if queries:
        return [config.image_token_index] * queries + [text.bos_token_id, *words]
    return [text.bos_token_id, *words, text.sep_token_id]
