"""Captioners: BLIP-2 and BLIP, which generate a text for an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row
from visionbench.registry import register

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@register("models", "captioner")
@dataclass
class Captioner:
    """Options: the `prompt` before the caption, and `new_tokens`, the exact number of tokens that a timed call writes.

    For quality, a caption ends at the model's end token, or after `caption_tokens`, and the best of `beams` is used
    (1 is greedy). `image_size` is the side of the square images in pixels, null for the model's own.
    """

    prompt: str = ""
    new_tokens: int = 20
    caption_tokens: int = 30
    beams: int = 1
    image_size: int | None = None

    auto_class: ClassVar[str] = "AutoModelForImageTextToText"
    task: ClassVar[str] = "image captioning"
    predicts: ClassVar[frozenset[str]] = frozenset({"caption"})
    model_types: ClassVar[Mapping[str, str]] = {
        "blip": "BlipForConditionalGeneration",
        "blip-2": "Blip2ForConditionalGeneration",
    }

    def __post_init__(self) -> None:
        weights.check_image_size(self.image_size)
        for option in ("new_tokens", "caption_tokens", "beams"):
            if (value := getattr(self, option)) < 1:
                raise ConfigError(f"model.options.{option}={value}: must be at least 1")

    def uses(self) -> frozenset[str]:
        """Return an empty set: only images are used."""
        return frozenset()

    def graph_names(self) -> tuple[str, ...]:
        """Return the vision model. A runtime also executes a Q-Former, but not the language model."""
        return ("vision",)

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load an AutoModelForImageTextToText with its image processor, and its tokenizer unless weights are random."""
        if model.weights == "random" and self.prompt:
            raise ConfigError(
                f"model.options.prompt='{self.prompt}': random weights have no tokenizer", "leave the prompt empty"
            )
        built = weights.build_model(model, self.auto_class, device, dtype, self.image_size)
        processor = weights.load_image_processor(model, built.source, self.image_size)
        tokenizer = None if built.source is None else weights.load_tokenizer(model, built)
        words = tokenizer(self.prompt, add_special_tokens=False).input_ids if tokenizer and self.prompt else []
        identity = {
            **built.identity,
            **weights.describe_processor(processor),
            "tokenizer": type(tokenizer).__name__ if tokenizer else None,
            "prompt": self.prompt,
            "new_tokens": self.new_tokens,
            "caption_tokens": self.caption_tokens,
            "beams": self.beams,
        }
        prompt_ids = _build_prompt(built.module.config, words)
        longest = max(self.new_tokens, self.caption_tokens)
        keys = f"model.options.new_tokens={self.new_tokens}, model.options.caption_tokens={self.caption_tokens}"
        weights.check_length(built, len(prompt_ids) + longest, f"{keys}, with the prompt")
        return LoadedCaptioner(built.module, dtype, processor, tokenizer, prompt_ids, self, identity)


@dataclass
class LoadedCaptioner:
    """A captioner on its device. `prompt_ids` is the complete prompt, including image tokens."""

    module: Any
    dtype: torch.dtype
    processor: Any
    tokenizer: Any
    prompt_ids: list[int]
    options: Captioner
    identity: Mapping[str, Any]

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Return the number of images, and of the tokens that are written for them."""
        return {"images": batch_size, "tokens": batch_size * self.options.new_tokens}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Return `pixel_values` [B, 3, H, W] and the prompt's `input_ids` [B, L]."""
        import torch

        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "input_ids": torch.tensor([self.prompt_ids] * len(images))}

    def call(self, inputs: Inputs) -> torch.Tensor:
        """Return greedy tokens [B, L′], of which exactly `new_tokens` are new, so that the work does not depend on the
        image."""
        tokens: torch.Tensor = self.module.generate(
            **inputs,
            max_new_tokens=self.options.new_tokens,
            min_new_tokens=self.options.new_tokens,
            do_sample=False,
            num_beams=1,
        )
        return tokens

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """Return the parts `vision` (image to the input of the language model), `prefill` (this input and the prompt to
        the first token), and `decode` (one more token, at the mean length over all tokens)."""
        import torch

        encode = self._encode_to_queries if _count_queries(self.module.config) else self._encode
        decode = self._decode_with_queries if _count_queries(self.module.config) else self._decode
        encoded = encode(inputs["pixel_values"])
        prompt = inputs["input_ids"][:, : self.tokens_before or None]
        parts = {
            "vision": ModelPart(partial(encode, inputs["pixel_values"])),
            "prefill": ModelPart(partial(decode, encoded, prompt, None)),
        }
        if (steps := self.options.new_tokens - 1) > 0:
            token = prompt[:, -1:]
            halfway = torch.cat([prompt, *[token] * ((steps - 1) // 2)], dim=1)
            cache = decode(encoded, halfway, None).past_key_values
            parts["decode"] = ModelPart(partial(_decode_token, decode, encoded, token, cache), steps)
        return parts

    def graphs(self) -> Mapping[str, torch.nn.Module]:
        """Return `vision`: pixels [B, 3, H, W] to the states [B, patches + 1, D] of the vision model. BLIP-2 also has
        `queries`: these states to the output [B, queries, D] of the Q-Former."""
        parts = {"vision": weights.as_graph(self.module.vision_model, _states)}
        if _count_queries(self.module.config):
            parts["queries"] = weights.as_graph(_with_queries(self.module), _query_output)
        return parts

    def graph_inputs(self, part: str, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """Return the pixels, or the states of the vision model."""
        pixels = inputs["pixel_values"]
        return (pixels,) if part == "vision" else (_states(self.module.vision_model, pixels),)

    def with_graphs(self, executed: Mapping[str, Any]) -> LoadedModel:
        """Return this captioner, whose vision model and Q-Former then call these functions."""
        if executed:
            self.module.vision_model = _replaced(self.module.vision_model, "pixel_values", executed["vision"])
        if "queries" in executed:
            self.module.qformer = _replaced(self.module.qformer, "encoder_hidden_states", executed["queries"])
        return self

    def other_work(self) -> str:
        """Return that torch runs the language model."""
        return "prefill, decode"

    def _encode_to_queries(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return projected query features [B, queries, D]."""
        module = self.module
        states = module.vision_model(pixel_values=pixels).last_hidden_state
        features = module.qformer(
            query_embeds=module.query_tokens.expand(len(states), -1, -1), encoder_hidden_states=states
        )[0]
        projected: torch.Tensor = module.language_projection(features.to(states.dtype))
        return projected

    def _decode_with_queries(self, features: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Any:
        """Run the language model on query features instead of their tokens, followed by the words; with a cache, only
        on the tokens."""
        import torch

        language = self.module.language_model
        if cache is not None:
            return language(input_ids=tokens, past_key_values=cache, use_cache=True)
        words = language.get_input_embeddings()(tokens[:, features.shape[1] :])
        return language(inputs_embeds=torch.cat([features, words], dim=1), use_cache=True, logits_to_keep=1)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the vision model's states [B, patches + 1, D]."""
        states: torch.Tensor = self.module.vision_model(pixel_values=pixels).last_hidden_state
        return states

    def _decode(self, states: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Any:
        """Run the decoder on tokens, with cross-attention to the image's states."""
        return self.module.text_decoder(
            input_ids=tokens, encoder_hidden_states=states, past_key_values=cache, use_cache=True
        )

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Return the logits of the first new token."""
        return {"image": self.module(**inputs).logits[:, -1]}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return a caption for each image, or the ids of the new tokens if there is no tokenizer."""
        return self.to_texts(output[:, -self.options.new_tokens :].cpu())

    @property
    def tokens_before(self) -> int:
        """The number of tokens before the new ones in the output of `generate`."""
        return len(self.prompt_ids) - (0 if _count_queries(self.module.config) else 1)

    def to_texts(self, tokens: torch.Tensor) -> list[str]:
        """Return new tokens [B, L] as captions."""
        if self.tokenizer is None:
            return [" ".join(str(int(token)) for token in row) for row in tokens]
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return an evaluator that generates captions."""
        return CaptionerEvaluator(self)


@dataclass(frozen=True)
class CaptionerEvaluator:
    """The evaluation of a captioner; see `core.Evaluator`."""

    model: LoadedCaptioner
    classes: Sequence[str] = ()

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Return `pixel_values` [B, 3, H, W] and `input_ids` [B, L]."""
        return self.model.preprocess([picture.image for picture in pictures], [])

    def forward(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return new tokens [B, L] and, for each image, whether any of its logits was NaN [B]."""
        from transformers import LogitsProcessorList

        placed = weights.place_inputs(inputs, self.model.module.device, self.model.dtype)
        detector = NanDetector(len(placed["input_ids"]))
        tokens = self.model.module.generate(
            **placed,
            max_new_tokens=self.model.options.caption_tokens,
            num_beams=self.model.options.beams,
            do_sample=False,
            logits_processor=LogitsProcessorList([detector]),
        )
        return tokens[:, self.model.tokens_before :].cpu(), detector.has_nan.cpu()

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return the `caption` of each image, or NaN if its logits were NaN."""
        tokens, has_nan = output
        return [
            {"caption": float("nan") if nan else text}
            for text, nan in zip(self.model.to_texts(tokens), has_nan.tolist(), strict=True)
        ]


class NanDetector:
    """A logits processor that records the images for which a logit was NaN in any step of `generate`."""

    def __init__(self, images: int) -> None:
        import torch

        self.has_nan = torch.zeros(images, dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores [B · beams, vocabulary] unchanged."""
        nan = scores.isnan().any(dim=-1).view(len(self.has_nan), -1).any(dim=-1)
        self.has_nan = self.has_nan.to(nan.device) | nan
        return scores


def _states(vision_model: Any, pixels: torch.Tensor) -> torch.Tensor:
    states: torch.Tensor = vision_model(pixel_values=pixels).last_hidden_state
    return states


def _with_queries(model: Any) -> Any:
    """Return a module that has only the Q-Former of BLIP-2 and its query tokens."""
    import torch

    class WithQueries(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qformer, self.query_tokens = model.qformer, model.query_tokens

    return WithQueries().eval()


def _query_output(model: Any, states: torch.Tensor) -> torch.Tensor:
    """Return the output of the Q-Former [B, queries, D], in the dtype of the states."""
    queries = model.query_tokens.expand(states.shape[0], -1, -1)  # len() would make the batch size a constant
    output: torch.Tensor = model.qformer(query_embeds=queries, encoder_hidden_states=states)[0]
    return output.to(states.dtype)


def _replaced(module: Any, name: str, call: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a module in the place of another that calls a function of its input `name`. It keeps the weights."""
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    class Replaced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.replaced = module
            self.config = module.config

        def forward(self, *tensors: torch.Tensor, **named: Any) -> Any:
            tensor = named[name] if name in named else tensors[0]
            return BaseModelOutputWithPooling(last_hidden_state=call(tensor))

    return Replaced().eval()


def _decode_token(decode: Any, encoded: torch.Tensor, token: torch.Tensor, cache: Any) -> Any:
    """Run one step with a cache, and restore the length of the cache."""
    output = decode(encoded, token, cache)
    cache.crop(-token.shape[1])
    return output.logits


def _build_prompt(config: Any, words: Sequence[int]) -> list[int]:
    """Return the tokens before the caption.

    A model with query tokens needs one image token for each of them, then BOS. A model without them needs BOS, and
    removes the last token, which its tokenizer would have added.
    """
    text = config.text_config
    if queries := _count_queries(config):
        return [config.image_token_index] * queries + [text.bos_token_id, *words]
    return [text.bos_token_id, *words, text.sep_token_id]


def _count_queries(config: Any) -> int:
    return getattr(config, "num_query_tokens", None) or 0
