"""Captioners: BLIP-2 and BLIP, which see a picture and write a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row
from visionbench.registry import ConfigError, register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@register("models", "captioner")
@dataclass
class Captioner:
    """Options: the `prompt` before the caption, and how many tokens each timed call writes, neither more nor fewer.

    For quality a caption ends where the model ends it, after `caption_tokens` at the latest, and the best of `beams` is
    taken (1 is greedy).
    """

    prompt: str = ""
    new_tokens: int = 20
    caption_tokens: int = 30
    beams: int = 1

    auto_class: ClassVar[str] = "AutoModelForImageTextToText"
    task: ClassVar[str] = "image captioning"
    predicts: ClassVar[frozenset[str]] = frozenset({"caption"})

    def __post_init__(self) -> None:
        for option in ("new_tokens", "caption_tokens", "beams"):
            if (value := getattr(self, option)) < 1:
                raise ConfigError(f"model.options.{option}={value}: must be at least 1")

    def uses(self) -> frozenset[str]:
        """Pictures alone."""
        return frozenset()

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """An AutoModelForImageTextToText with its image processor, and its tokenizer unless weights are random."""
        if model.weights == "random" and self.prompt:
            raise ConfigError(
                f"model.options.prompt='{self.prompt}': random weights come without a tokenizer", "leave it empty"
            )
        built = weights.build(model, self.auto_class, device, dtype)
        processor = weights.image_processor(model, built.source)
        tokenizer = None if built.source is None else weights.tokenizer(model, built)
        prompt_ids = tokenizer(self.prompt, add_special_tokens=False).input_ids if tokenizer and self.prompt else []
        identity = {
            **built.identity,
            **weights.describe(processor),
            "tokenizer": type(tokenizer).__name__ if tokenizer else None,
            "prompt": self.prompt,
            "new_tokens": self.new_tokens,
            "caption_tokens": self.caption_tokens,
            "beams": self.beams,
        }
        whole_prompt = _prompt(built.module.config, prompt_ids)
        longest = max(self.new_tokens, self.caption_tokens)
        keys = f"model.options.new_tokens={self.new_tokens}, model.options.caption_tokens={self.caption_tokens}"
        weights.check_length(built, len(whole_prompt) + longest, f"{keys}, with the prompt")
        return LoadedCaptioner(built.module, dtype, processor, tokenizer, whole_prompt, self, identity)


@dataclass
class LoadedCaptioner:
    """A captioner on its device; `prompt_ids` is the whole prompt, image tokens included."""

    module: Any
    dtype: torch.dtype
    processor: Any
    tokenizer: Any
    prompt_ids: list[int]
    options: Captioner
    identity: Mapping[str, Any]

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Images, and the tokens written for them."""
        return {"images": batch_size, "tokens": batch_size * self.options.new_tokens}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """`pixel_values` [B, 3, H, W] and the prompt's `input_ids` [B, L]."""
        import torch

        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "input_ids": torch.tensor([self.prompt_ids] * len(images))}

    def call(self, inputs: Inputs) -> torch.Tensor:
        """Greedy tokens [B, L′]: exactly `new_tokens` of them are new, so that work does not hang on what is said."""
        tokens: torch.Tensor = self.module.generate(
            **inputs,
            max_new_tokens=self.options.new_tokens,
            min_new_tokens=self.options.new_tokens,
            do_sample=False,
            num_beams=1,
        )
        return tokens

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """`vision` (the picture to what the language model reads of it), `prefill` (that and the prompt to the first
        token), and `decode`, one more token for the length that is the mean over all of them."""
        import torch

        vision = self._vision_of_queries if _queries(self.module.config) else self._vision
        language = self._language_of_queries if _queries(self.module.config) else self._language
        seen = vision(inputs["pixel_values"])
        prompt = inputs["input_ids"][:, : self.tokens_before or None]
        found = {
            "vision": ModelPart(partial(vision, inputs["pixel_values"])),
            "prefill": ModelPart(partial(language, seen, prompt, None)),
        }
        if (steps := self.options.new_tokens - 1) > 0:
            token = prompt[:, -1:]
            halfway = torch.cat([prompt, *[token] * ((steps - 1) // 2)], dim=1)
            cache = language(seen, halfway, None).past_key_values
            found["decode"] = ModelPart(partial(_one_more, language, seen, token, cache), steps)
        return found

    def _vision_of_queries(self, pixels: torch.Tensor) -> torch.Tensor:
        """Projected query features [B, queries, D]."""
        module = self.module
        states = module.vision_model(pixel_values=pixels).last_hidden_state
        features = module.qformer(
            query_embeds=module.query_tokens.expand(len(states), -1, -1), encoder_hidden_states=states
        )[0]
        projected: torch.Tensor = module.language_projection(features.to(states.dtype))
        return projected

    def _language_of_queries(self, seen: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Any:
        """The language model on query features in the places of their tokens, then the words; with a cache on the
        tokens alone."""
        import torch

        language = self.module.language_model
        if cache is not None:
            return language(input_ids=tokens, past_key_values=cache, use_cache=True)
        words = language.get_input_embeddings()(tokens[:, seen.shape[1] :])
        return language(inputs_embeds=torch.cat([seen, words], dim=1), use_cache=True, logits_to_keep=1)

    def _vision(self, pixels: torch.Tensor) -> torch.Tensor:
        """The vision model's states [B, patches + 1, D]."""
        states: torch.Tensor = self.module.vision_model(pixel_values=pixels).last_hidden_state
        return states

    def _language(self, seen: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Any:
        """The decoder on tokens, with cross-attention to the picture's states."""
        return self.module.text_decoder(
            input_ids=tokens, encoder_hidden_states=seen, past_key_values=cache, use_cache=True
        )

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Logits of the first new token."""
        return {"image": self.module(**inputs).logits[:, -1]}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """A caption for each picture; the new tokens' ids where random weights come without a tokenizer."""
        return self.texts(output[:, -self.options.new_tokens :].cpu())

    @property
    def tokens_before(self) -> int:
        """How many tokens of what `generate` returns stand before the new ones."""
        return len(self.prompt_ids) - (0 if _queries(self.module.config) else 1)

    def texts(self, tokens: torch.Tensor) -> list[str]:
        """New tokens [B, L] as captions."""
        if self.tokenizer is None:
            return [" ".join(str(int(token)) for token in row) for row in tokens]
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    def evaluator(self, wanted: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Captions."""
        return CaptionerEvaluator(self)


@dataclass(frozen=True)
class CaptionerEvaluator:
    """A captioner at work for quality; see `core.Evaluator`."""

    model: LoadedCaptioner
    classes: Sequence[str] = ()

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """`pixel_values` [B, 3, H, W] and `input_ids` [B, L]."""
        return self.model.preprocess([picture.image for picture in pictures], [])

    def forward(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """New tokens [B, L] and, for each picture, whether any of its logits was NaN [B]."""
        from transformers import LogitsProcessorList

        placed = weights.place(inputs, self.model.module.device, self.model.dtype)
        watch = NanWatch(len(placed["input_ids"]))
        tokens = self.model.module.generate(
            **placed,
            max_new_tokens=self.model.options.caption_tokens,
            num_beams=self.model.options.beams,
            do_sample=False,
            logits_processor=LogitsProcessorList([watch]),
        )
        return tokens[:, self.model.tokens_before :].cpu(), watch.seen.cpu()

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """`caption`, NaN instead where the logits were."""
        tokens, nan = output
        return [
            {"caption": float("nan") if bad else text}
            for text, bad in zip(self.model.texts(tokens), nan.tolist(), strict=True)
        ]


class NanWatch:
    """Looks at the logits of every step of `generate`, and remembers the pictures for which one was NaN."""

    def __init__(self, pictures: int) -> None:
        import torch

        self.seen = torch.zeros(pictures, dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [B · beams, vocabulary] as they came."""
        bad = scores.isnan().any(dim=-1).view(len(self.seen), -1).any(dim=-1)
        self.seen = self.seen.to(bad.device) | bad
        return scores


def _one_more(language: Any, seen: torch.Tensor, token: torch.Tensor, cache: Any) -> Any:
    """One step with a cache, which is as long afterwards as before."""
    output = language(seen, token, cache)
    cache.crop(-token.shape[1])
    return output.logits


def _prompt(config: Any, words: Sequence[int]) -> list[int]:
    """What stands before the caption. A model with query tokens wants one image token for each of them, then BOS; one
    without wants BOS, and takes off the last token, which its tokenizer would have put there."""
    text = config.text_config
    if queries := _queries(config):
        return [config.image_token_index] * queries + [text.bos_token_id, *words]
    return [text.bos_token_id, *words, text.sep_token_id]


def _queries(config: Any) -> int:
    return getattr(config, "num_query_tokens", None) or 0
