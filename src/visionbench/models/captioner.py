"""Captioners: BLIP-2, BLIP and GIT, which generate a text for an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row, Watch, Writing
from visionbench.registry import register
from visionbench.weights import generation

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
        "git": "GitForCausalLM",
    }

    def __post_init__(self) -> None:
        weights.check_image_size(self.image_size)
        generation.check_counts(self, "new_tokens", "caption_tokens", "beams")

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
        _set_start_token(built.module)
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
        return generation.generate_exactly(self.module, inputs, self.options.new_tokens)

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """Return the parts `vision` (image to the input of the language model), `prefill` (this input and the prompt to
        the first token), and `decode` (one more token, at the mean length over all tokens)."""
        steps, ids = _steps_of(self.module), inputs["input_ids"]
        encode = partial(steps.encode, self.module, inputs["pixel_values"])
        decode, prompt = partial(steps.decode, self.module, ids), steps.prompt(self.module, ids)
        return {
            "vision": ModelPart(encode),
            **generation.language_parts(decode, encode(), prompt, self.options.new_tokens),
        }

    def graphs(self) -> Mapping[str, torch.nn.Module]:
        """Return `vision`: pixels [B, 3, H, W] to the states [B, patches + 1, D] of the vision model. BLIP-2 also has
        `queries`: these states to the output [B, queries, D] of the Q-Former."""
        parts = {"vision": weights.as_graph(_vision(self.module), _states)}
        if _count_queries(self.module.config):
            parts["queries"] = weights.as_graph(_with_queries(self.module), _query_output)
        return parts

    def graph_inputs(self, part: str, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """Return the pixels, or the states of the vision model."""
        pixels = inputs["pixel_values"]
        return (pixels,) if part == "vision" else (_states(_vision(self.module), pixels),)

    def with_graphs(self, executed: Mapping[str, Any]) -> LoadedModel:
        """Return this captioner, whose vision model and Q-Former then call these functions."""
        if executed:
            owner, name = _vision_place(self.module)
            setattr(owner, name, _replaced(getattr(owner, name), "pixel_values", executed["vision"]))
        if "queries" in executed:
            self.module.qformer = _replaced(self.module.qformer, "encoder_hidden_states", executed["queries"])
        return self

    def other_work(self) -> str:
        """Return that torch runs the language model."""
        return "prefill, decode"

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Return the logits of the first new token."""
        start = {}
        if _is_seq2seq(self.module.config):
            start = {"decoder_input_ids": _start_tokens(self.module, inputs["input_ids"])}
        return {"image": self.module(**inputs, **start).logits[:, -1]}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return a caption for each image, or the ids of the new tokens if there is no tokenizer."""
        return self.to_texts(output[:, -self.options.new_tokens :].cpu())

    @property
    def tokens_before(self) -> int:
        """The number of tokens before the new ones in the output of `generate`."""
        return _steps_of(self.module).tokens_before(self.prompt_ids)

    @property
    def writing(self) -> Writing:
        """How captions are written. A caption continues the prompt of the options, and there is no other prompt."""
        text, encoder_decoder = self.module.config.get_text_config(), _is_seq2seq(self.module.config)
        return Writing(
            reads_prompts=False,
            tokens=self.options.caption_tokens,
            beams=self.options.beams,
            end_tokens=_end_tokens(self.module),
            positions=getattr(text, "max_position_embeddings", None),
            counts_prompt=not encoder_decoder,
            joins_words=generation.joins_words(self.tokenizer),
        )

    def prepare_request(self, image: Image, prompt: str) -> Inputs:
        """Return `pixel_values` [1, 3, H, W] and `input_ids` [1, L]. The prompt is that of the options."""
        return self.preprocess([image], [])

    def write(self, inputs: Inputs, most: int, watch: Watch | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return new tokens [B, L] and, for each image, whether any of its logits was NaN [B]."""
        return generation.generate_text(
            self.module, self.dtype, inputs, most, self.options.beams, self.tokens_before, watch
        )

    def to_texts(self, tokens: torch.Tensor) -> list[str]:
        """Return new tokens [B, L] as captions."""
        return generation.to_texts(self.tokenizer, tokens)

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
        return self.model.write(inputs, self.model.options.caption_tokens)

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return the `caption` of each image, or NaN if its logits were NaN."""
        tokens, has_nan = output
        return [{"caption": caption} for caption in generation.text_or_nan(self.model.to_texts(tokens), has_nan)]


@dataclass(frozen=True)
class Steps:
    """The steps of a call of one kind of captioner, each a function of the module."""

    encode: Callable[[Any, Any], Any]
    """From pixels [B, 3, H, W] to the input of the language model."""
    decode: Callable[[Any, Any, Any, Any, Any], Any]
    """`generation.Decode` of a module and the complete prompt [B, L]."""
    prompt: Callable[[Any, Any], Any]
    """From the complete prompt [B, L] to the tokens that the first step decodes."""
    tokens_before: Callable[[Sequence[int]], int]
    """From the complete prompt to the number of tokens before the new ones in the output of `generate`."""


def _steps_of(module: Any) -> Steps:
    if hasattr(module, "git"):
        return Steps(_encode_git, _decode_git, lambda _, prompt: prompt, len)
    if not _count_queries(module.config):
        return Steps(
            lambda module, pixels: _states(module.vision_model, pixels),
            _decode_blip,
            lambda _, prompt: prompt[:, :-1],
            lambda prompt: len(prompt) - 1,
        )
    if _is_seq2seq(module.config):
        return Steps(_encode_to_queries, _decode_seq2seq, _start_tokens, lambda _: 1)
    return Steps(_encode_to_queries, _decode_with_queries, lambda _, prompt: prompt, len)


def _encode_to_queries(module: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return projected query features [B, queries, D]."""
    states = module.vision_model(pixel_values=pixels).last_hidden_state
    features = module.qformer(
        query_embeds=module.query_tokens.expand(len(states), -1, -1), encoder_hidden_states=states
    )[0]
    projected: torch.Tensor = module.language_projection(features.to(states.dtype))
    return projected


def _decode_with_queries(
    module: Any, prompt: torch.Tensor, features: torch.Tensor, tokens: torch.Tensor, cache: Any
) -> Any:
    """Run the language model on query features instead of their tokens, followed by the words; with a cache, only on
    the tokens."""
    import torch

    language = module.language_model
    if cache is not None:
        return language(input_ids=tokens, past_key_values=cache, use_cache=True)
    words = language.get_input_embeddings()(tokens[:, features.shape[1] :])
    return language(inputs_embeds=torch.cat([features, words], dim=1), use_cache=True, logits_to_keep=1)


def _is_seq2seq(config: Any) -> bool:
    """Return whether the language model has an encoder and a decoder, as T5."""
    return bool(config.get_text_config().is_encoder_decoder)


def _set_start_token(module: Any) -> None:
    """Let the decoder of T5 start with its padding token if neither configuration has a token."""
    if not _is_seq2seq(module.config):
        return
    text, generation_config = module.config.text_config, module.language_model.generation_config
    known = (generation_config.decoder_start_token_id, getattr(text, "decoder_start_token_id", None))
    token = next((one for one in known if one is not None), text.pad_token_id)
    text.decoder_start_token_id = generation_config.decoder_start_token_id = token


def _end_tokens(module: Any) -> frozenset[int]:
    """Return the tokens that end a caption: those of the model that generates it."""
    if module.config.model_type == "blip":
        return generation.find_end_tokens(module.config.text_config.sep_token_id)
    writer = module.language_model if _count_queries(module.config) else module
    return generation.find_end_tokens(writer.generation_config.eos_token_id)


def _start_tokens(module: Any, prompt: torch.Tensor) -> torch.Tensor:
    """Return the first token [B, 1] of a decoder."""
    return prompt.new_full((len(prompt), 1), module.config.text_config.decoder_start_token_id)


def _decode_seq2seq(module: Any, prompt: torch.Tensor, features: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Any:
    """Run the decoder of T5 on tokens, and without a cache first its encoder on query features and the words."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    language = module.language_model

    def encode() -> torch.Tensor:
        words = language.get_input_embeddings()(prompt[:, features.shape[1] :])
        states: torch.Tensor = language.encoder(inputs_embeds=torch.cat([features, words], dim=1)).last_hidden_state
        return states

    def decode(tokens: torch.Tensor, states: torch.Tensor, cache: Any) -> Any:
        encoded = BaseModelOutput(last_hidden_state=states)
        return language(decoder_input_ids=tokens, encoder_outputs=encoded, past_key_values=cache, use_cache=True)

    return generation.decode_with_encoder(encode, decode, tokens, cache)


def _decode_blip(module: Any, prompt: torch.Tensor, states: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Any:
    """Run the decoder of BLIP on tokens, with cross-attention to the image's states."""
    return module.text_decoder(input_ids=tokens, encoder_hidden_states=states, past_key_values=cache, use_cache=True)


def _encode_git(module: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the projected states [B, patches + 1, D] of the vision model of GIT."""
    projected: torch.Tensor = module.git.visual_projection(_states(module.git.image_encoder, pixels))
    return projected


def _decode_git(module: Any, prompt: torch.Tensor, features: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Any:
    """Run GIT on the features of an image, which attend to each other, and the words after them; with a cache, only on
    the tokens."""
    import torch
    from transformers import DynamicCache
    from transformers.masking_utils import create_causal_mask
    from transformers.modeling_outputs import CausalLMOutputWithPast

    git = module.git
    length = cache.get_seq_length() - features.shape[1] if cache is not None else 0
    states = git.embeddings(input_ids=tokens, past_key_values_length=length)
    blocks = torch.full(states.shape[:2], -1, device=states.device)
    if cache is None:
        cache = DynamicCache(config=module.config)
        states = torch.cat([features, states], dim=1)
        blocks = torch.cat([torch.zeros_like(features[..., 0], dtype=blocks.dtype), blocks], dim=1)
    mask = create_causal_mask(
        config=module.config,
        inputs_embeds=states,
        attention_mask=None,
        past_key_values=cache,
        position_ids=None,
        block_sequence_ids=blocks,
    )
    states = git.encoder(states, attention_mask=mask, past_key_values=cache, use_cache=True).last_hidden_state
    return CausalLMOutputWithPast(logits=module.output(states[:, -1:]), past_key_values=cache)


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


def _vision_place(module: Any) -> tuple[Any, str]:
    """Return the module that holds the vision model of a captioner, and the name of the vision model in it."""
    return (module.git, "image_encoder") if hasattr(module, "git") else (module, "vision_model")


def _vision(module: Any) -> Any:
    owner, name = _vision_place(module)
    return getattr(owner, name)


def _build_prompt(config: Any, words: Sequence[int]) -> list[int]:
    """Return the tokens before the caption.

    A model with query tokens needs one image token for each of them, then BOS, or for an encoder and decoder such as T5
    an end token after the words. GIT needs BOS. BLIP needs BOS, and removes the last token, which its tokenizer would
    have added.
    """
    text = config.get_text_config()
    if queries := _count_queries(config):
        images = [config.image_token_index] * queries
        if _is_seq2seq(config):
            return [*images, *words, text.eos_token_id]
        return [*images, text.bos_token_id, *words]
    end = getattr(text, "sep_token_id", None) if config.model_type == "blip" else None
    return [text.bos_token_id, *words, *([] if end is None else [end])]


def _count_queries(config: Any) -> int:
    return getattr(config, "num_query_tokens", None) or 0
