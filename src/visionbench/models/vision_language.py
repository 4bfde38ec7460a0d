"""Vision-language models, which write a text about an image and a prompt: captions and answers to questions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Evaluator, Inputs, LoadedModel, ModelPart, Picture, Row, Watch, Writing
from visionbench.registry import register
from visionbench.weights import generation

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

IDS, MASK, GRID, PIXEL_MASK = "input_ids", "attention_mask", "image_grid_thw", "pixel_attention_mask"
TEXTS = (IDS, MASK, "mm_token_type_ids", "token_type_ids")
"""The inputs that have one number for each token of the prompt."""
NOT_INPUTS = ("labels",)
"""Results of processors that only training uses."""


@register("models", "vision_language")
@dataclass
class VisionLanguage:
    """Options: the `prompt` beside the image, in timed calls and for captions; `question`, the prompt for a question,
    which contains `{question}`; and `new_tokens`, the exact number of tokens that a timed call writes.

    The chat template of the checkpoint writes the prompt. `template`, a text with `{prompt}`, is used for a model
    without one, and for random weights; by default it is the image and the prompt. For quality, a text ends at the
    model's end token, or after `caption_tokens` or `answer_tokens`, and the best of `beams` is used (1 is greedy).
    `processor` has arguments of the processor's class for random weights.
    """

    prompt: str = "Describe this image in one sentence."
    question: str = "{question} Answer the question using a single word or phrase."
    template: str | None = None
    new_tokens: int = 20
    caption_tokens: int = 30
    answer_tokens: int = 10
    beams: int = 1
    processor: dict[str, Any] = field(default_factory=dict)

    auto_class: ClassVar[str] = "AutoModelForImageTextToText"
    task: ClassVar[str] = "text about images"
    predicts: ClassVar[frozenset[str]] = frozenset({"caption", "answers"})
    model_types: ClassVar[Mapping[str, str]] = {
        "florence2": "Florence2ForConditionalGeneration",
        "idefics3": "Idefics3ForConditionalGeneration",
        "llava_onevision": "LlavaOnevisionForConditionalGeneration",
        "paligemma": "PaliGemmaForConditionalGeneration",
        "qwen2_vl": "Qwen2VLForConditionalGeneration",
        "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
        "smolvlm": "SmolVLMForConditionalGeneration",
    }

    def __post_init__(self) -> None:
        generation.check_counts(self, "new_tokens", "caption_tokens", "answer_tokens", "beams")
        if not isinstance(self.prompt, str):
            raise ConfigError(f"model.options.prompt={self.prompt}: not a text", "put it in quotes")
        for option, part in (("question", "{question}"), ("template", "{prompt}")):
            text = getattr(self, option)
            if option == "template" and text is None:
                continue
            if not isinstance(text, str) or text.count(part) != 1:
                raise ConfigError(f"model.options.{option}={text}: it must contain {part} once", f"add {part}")

    @staticmethod
    def read_options(source: Path) -> dict[str, Any]:
        """Return the options that a checkpoint's folder gives, for `visionbench models inspect`."""
        arguments = weights.read_arguments(source)
        return {"processor": arguments} if arguments else {}

    def uses(self) -> frozenset[str]:
        """Return an empty set: a timed call has the same prompt for all images."""
        return frozenset()

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load an AutoModelForImageTextToText with its processor. With random weights, the tokenizer is a stand-in."""
        built = weights.build_model(model, self.auto_class, device, dtype)
        processor = weights.load_prompt_processor(model, built, self.processor)
        template = None if weights.chat_template(processor) else self.template or weights.default_template(processor)
        stand_in = built.source is None
        identity = {
            **built.identity,
            **weights.describe_processor(processor.image_processor),
            "processor": type(processor).__name__,
            "tokenizer": weights.STAND_IN if stand_in else type(processor.tokenizer).__name__,
            "template": template or "chat template",
            "prompt": self.prompt,
            "question": self.question,
            "new_tokens": self.new_tokens,
            "caption_tokens": self.caption_tokens,
            "answer_tokens": self.answer_tokens,
            "beams": self.beams,
        }
        return LoadedVisionLanguage(built.module, dtype, processor, self, identity, template, stand_in)


@dataclass
class LoadedVisionLanguage:
    """A vision-language model on its device."""

    module: Any
    dtype: torch.dtype
    processor: Any
    options: VisionLanguage
    identity: Mapping[str, Any]
    template: str | None
    """The text with `{prompt}`, or None if the chat template of the processor is used."""
    stand_in: bool
    """Whether the tokenizer is a stand-in, so that its texts are the ids of the tokens."""
    config: Any = None
    """The configuration of the model, also in a process without its weights."""

    host_inputs: ClassVar[frozenset[str]] = frozenset({GRID, PIXEL_MASK, "image_sizes", "batch_num_images"})
    """Inputs whose values determine the shapes of the computation."""

    def __post_init__(self) -> None:
        self.config = self.config or self.module.config

    def work(self, batch_size: int) -> Mapping[str, int]:
        """Return the number of images, and of the tokens that are written for them."""
        return {"images": batch_size, "tokens": batch_size * self.options.new_tokens}

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Return the inputs of the model for images with the prompt of a timed call."""
        return self.prepare(images, [self.options.prompt] * len(images))

    def prepare(self, images: Sequence[Image], prompts: Sequence[str]) -> Inputs:
        """Return the inputs of the model: `input_ids` and `attention_mask` [B, L], `pixel_values`, and others.

        Raises ValueError if a prompt with its image is longer than the model's positions.
        """
        texts = [self.render(prompt) for prompt in prompts]
        start = self.processor.tokenizer.bos_token
        options = {"add_special_tokens": False} if start and texts[0].startswith(start) else {}
        processed = self.processor(
            images=[[image] for image in images], text=texts, padding=True, return_tensors="pt", **options
        )
        inputs = {name: tensor for name, tensor in processed.items() if name not in NOT_INPUTS}
        self._check_length(inputs[IDS].shape[1])
        return inputs

    def render(self, prompt: str) -> str:
        """Return a prompt about one image as the template writes it."""
        if self.template is None:
            return weights.render_chat(self.processor, prompt)
        return self.template.replace("{prompt}", prompt)

    def collate(self, inputs: Sequence[Inputs]) -> Inputs:
        """Return one batch from the inputs of single images; see `core.Collates`.

        Texts are padded on the side of the tokenizer. Images with fewer tiles get tiles of zeros, which the models
        ignore.
        """
        tokenizer = self.processor.tokenizer
        values = {IDS: tokenizer.pad_token_id}
        return {
            name: _concatenate(
                [one[name] for one in inputs],
                values.get(name, 0),
                at_start=name in TEXTS and tokenizer.padding_side == "left",
            )
            for name in inputs[0]
        }

    def describe_inputs(self, inputs: Sequence[Inputs]) -> Mapping[str, str]:
        """Return the number of image tokens and of all tokens of the prompt; see `core.DescribesInputs`."""
        return {
            "image_tokens": _range_text([int((one[IDS] == self.image_token).sum()) for one in inputs]),
            "prompt_tokens": _range_text([one[IDS].shape[1] for one in inputs]),
        }

    @property
    def image_token(self) -> int:
        """The id of the token in whose place the model reads an image."""
        number: int = getattr(self.config, "image_token_id", None) or self.config.image_token_index
        return number

    def call(self, inputs: Inputs) -> torch.Tensor:
        """Return greedy tokens [B, L′], of which exactly `new_tokens` are new, so that the work does not depend on the
        text."""
        return generation.generate_exactly(self.module, inputs, self.options.new_tokens, **self.padding)

    @property
    def padding(self) -> Mapping[str, Any]:
        """The options of `generate` about padding."""
        return {"pad_token_id": self.processor.tokenizer.pad_token_id}

    @property
    def tokens_before(self) -> int | None:
        """The number of tokens before the new ones in the output of `generate`; None is the length of the prompt."""
        return 1 if self.config.is_encoder_decoder else None

    def parts(self, inputs: Inputs) -> Mapping[str, ModelPart]:
        """Return the parts `vision` (images to the input of the language model), `prefill` (this input and the prompt
        to the first token), and `decode` (one more token, at the mean length over all tokens)."""
        encode = partial(self._encode, inputs)
        ids, mask = inputs[IDS], inputs.get(MASK)
        if self.config.is_encoder_decoder:
            decode = partial(self._decode_with_encoder, ids, mask)
            prompt = ids.new_full((len(ids), 1), self.config.get_text_config().decoder_start_token_id)
        else:
            decode, prompt = partial(self._decode, mask), ids
        return {
            "vision": ModelPart(encode),
            **generation.language_parts(decode, encode(), prompt, self.options.new_tokens),
        }

    def _encode(self, inputs: Inputs) -> torch.Tensor:
        """Return the features [N, D] of all image tokens of a batch."""
        import torch

        module = self.module
        if inputs[weights.PIXELS].device.type == "meta" and PIXEL_MASK in inputs:
            features = _encode_shapes_of_tiles(module.model, inputs[weights.PIXELS], inputs[PIXEL_MASK])
            return features.reshape(-1, features.shape[-1])
        known = inspect.signature(module.get_image_features).parameters
        options = {name: tensor for name, tensor in inputs.items() if name in known and name not in TEXTS}
        if inputs[weights.PIXELS].device.type == "meta" and GRID in inputs:
            options |= _positions_of_grid(module.config.vision_config, inputs[GRID])
        features = module.get_image_features(**options).pooler_output
        if isinstance(features, list | tuple):
            features = torch.cat([one.reshape(-1, one.shape[-1]) for one in features])
        rows: torch.Tensor = features.reshape(-1, features.shape[-1])
        return rows

    def _embed(self, features: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings [B, L, D] of a prompt, with the features of images in the places of their tokens."""
        table = self.module.get_input_embeddings()
        place = ids == self.image_token
        words = table(ids.masked_fill(place, 0))
        merged: torch.Tensor = words.masked_scatter(place[..., None].expand_as(words), features.to(words.dtype))
        return merged

    def _decode(self, mask: torch.Tensor | None, features: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Any:
        """Run the language model on a prompt with its image; with a cache, only on the tokens."""
        from transformers.modeling_outputs import CausalLMOutputWithPast

        language, head = self.module.get_decoder(), self.module.get_output_embeddings()
        length = tokens.shape[1] + (cache.get_seq_length() if cache is not None else 0)
        given = {"input_ids": tokens} if cache is not None else {"inputs_embeds": self._embed(features, tokens)}
        output = language(**given, attention_mask=_extend(mask, length), past_key_values=cache, use_cache=True)
        return CausalLMOutputWithPast(
            logits=head(output.last_hidden_state[:, -1:]), past_key_values=output.past_key_values
        )

    def _decode_with_encoder(
        self, ids: torch.Tensor, mask: torch.Tensor | None, features: torch.Tensor, tokens: torch.Tensor, cache: Any
    ) -> Any:
        """Run the decoder on tokens, and without a cache first the encoder on the prompt with its image."""
        from transformers.modeling_outputs import CausalLMOutputWithPast

        module = self.module

        def encode() -> torch.Tensor:
            encoder = module.get_encoder()
            states: torch.Tensor = encoder(inputs_embeds=self._embed(features, ids), attention_mask=mask)[0]
            return states

        def decode(tokens: torch.Tensor, states: torch.Tensor, cache: Any) -> Any:
            output = module.model.language_model.decoder(
                input_ids=tokens,
                encoder_hidden_states=states,
                encoder_attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            )
            logits = module.get_output_embeddings()(output.last_hidden_state[:, -1:])
            return CausalLMOutputWithPast(logits=logits, past_key_values=output.past_key_values)

        return generation.decode_with_encoder(encode, decode, tokens, cache)

    def probe_outputs(self, inputs: Inputs) -> Mapping[str, torch.Tensor]:
        """Return the logits of the first new token."""
        return {"image": self.module(**inputs, logits_to_keep=1).logits[:, -1]}

    def postprocess(self, output: Any, images: Sequence[Image]) -> list[Any]:
        """Return a text for each image, or the ids of the new tokens if the tokenizer is a stand-in."""
        return self.to_texts(output[:, -self.options.new_tokens :].cpu())

    @property
    def writing(self) -> Writing:
        """How texts are written."""
        return Writing(
            reads_prompts=True,
            tokens=self.options.caption_tokens,
            beams=self.options.beams,
            end_tokens=generation.find_end_tokens(self.module.generation_config.eos_token_id),
            positions=getattr(self.config.get_text_config(), "max_position_embeddings", None),
            counts_prompt=not self.config.is_encoder_decoder,
            joins_words=not self.stand_in and generation.joins_words(self.processor.tokenizer),
        )

    def prepare_request(self, image: Image, prompt: str) -> Inputs:
        """Return the inputs of one image with a prompt. Raises ValueError if it is longer than the positions."""
        return self.prepare([image], [prompt or self.options.prompt])

    def write(self, inputs: Inputs, most: int, watch: Watch | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return new tokens [B, L], and for each text whether any of its logits was NaN [B]."""
        before = inputs[IDS].shape[1] if self.tokens_before is None else self.tokens_before
        beams = self.options.beams
        return generation.generate_text(self.module, self.dtype, inputs, most, beams, before, watch, **self.padding)

    def to_texts(self, tokens: torch.Tensor) -> list[str]:
        """Return new tokens [B, L] as texts."""
        return generation.to_texts(None if self.stand_in else self.processor.tokenizer, tokens)

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return an evaluator that writes captions and answers."""
        return VisionLanguageEvaluator(self, columns)

    def _check_length(self, tokens: int) -> None:
        options, positions = self.options, getattr(self.config.get_text_config(), "max_position_embeddings", None)
        new = (
            0
            if self.config.is_encoder_decoder
            else max(options.new_tokens, options.caption_tokens, options.answer_tokens)
        )
        if positions is not None and tokens + new > positions:
            raise ValueError(
                f"its image and prompt have {tokens} tokens, and with {new} new tokens the model has only {positions} "
                "positions"
            )


@dataclass(frozen=True)
class VisionLanguageEvaluator:
    """The evaluation of a vision-language model; see `core.Evaluator`."""

    model: LoadedVisionLanguage
    columns: frozenset[str]
    classes: Sequence[str] = ()

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Return by column the batches of inputs: one for captions, and those for all questions, each of which has at
        most as many questions as there are images."""
        options = self.model.options
        batches: dict[str, list[Inputs]] = {}
        if "caption" in self.columns:
            batches["caption"] = [self.model.preprocess([picture.image for picture in pictures], [])]
        if "answers" in self.columns:
            pairs = [(picture.image, question.text) for picture in pictures for question in picture.example.questions]
            batches["answers"] = [
                self.model.prepare(
                    [image for image, _ in group],
                    [options.question.replace("{question}", text) for _, text in group],
                )
                for group in (pairs[first : first + len(pictures)] for first in range(0, len(pairs), len(pictures)))
            ]
        return batches

    def forward(self, inputs: Inputs) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Return by column and batch the new tokens [B, L], and for each text whether any of its logits was NaN [B]."""
        model, options = self.model, self.model.options
        most = {"caption": options.caption_tokens, "answers": options.answer_tokens}
        return {column: [model.write(batch, most[column]) for batch in batches] for column, batches in inputs.items()}

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row]:
        """Return the `caption` and the `answers` of each image. NaN replaces them if a logit was NaN."""
        texts = {
            column: [
                text
                for tokens, has_nan in batches
                for text in generation.text_or_nan(self.model.to_texts(tokens), has_nan)
            ]
            for column, batches in output.items()
        }
        rows: list[Row] = []
        answers = iter(texts.get("answers", ()))
        for index, picture in enumerate(pictures):
            row: dict[str, Any] = {}
            if "caption" in texts:
                row["caption"] = texts["caption"][index]
            if "answers" in texts:
                own = [next(answers) for _ in picture.example.questions]
                row["answers"] = next((one for one in own if isinstance(one, float)), own)
            rows.append(row)
        return rows


def _concatenate(tensors: Sequence[torch.Tensor], value: int, at_start: bool) -> torch.Tensor:
    """Return tensors concatenated along their first axis, after padding the other axes to the largest of each."""
    import torch
    from torch.nn.functional import pad

    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]

    def padded(tensor: torch.Tensor) -> torch.Tensor:
        missing = [most - size for size, most in zip(tensor.shape[1:], shape, strict=True)]
        if not any(missing):
            return tensor
        widths = [width for one in reversed(missing) for width in ((one, 0) if at_start else (0, one))]
        return pad(tensor, widths, value=value)

    return torch.cat([padded(tensor) for tensor in tensors])


def _extend(mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """Return a mask [B, length] of a prompt and the tokens after it."""
    from torch.nn.functional import pad

    return None if mask is None else pad(mask, (0, length - mask.shape[1]), value=1)


def _range_text(counts: Sequence[int]) -> str:
    """Return `832`, or `64 to 832, mean 500` if the counts differ."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}, mean {sum(counts) / len(counts):.0f}"


def _encode_shapes_of_tiles(model: Any, pixels: torch.Tensor, pixel_mask: torch.Tensor) -> torch.Tensor:
    """Return the features of the tiles of Idefics3 and SmolVLM on the meta device, without the tiles of padding.

    `pixel_mask` [B, tiles, H, W] has values. The method of the model would select the tiles by the values of `pixels`,
    and read those of a mask.
    """
    import torch

    vision, count = model.vision_model, int(pixel_mask.flatten(2).any(-1).sum())
    tiles = pixels.new_empty((count, *pixels.shape[2:]))
    sides = [side // vision.patch_size for side in tiles.shape[2:]]
    patches = torch.ones((count, *sides), dtype=torch.bool, device=tiles.device)
    states = vision.encoder(inputs_embeds=vision.embeddings(tiles, patches), attention_mask=None).last_hidden_state
    features: torch.Tensor = model.connector(vision.post_layernorm(states))
    return features


def _positions_of_grid(vision: Any, grid: torch.Tensor) -> Mapping[str, Any]:
    """Return what the vision model of Qwen computes from the grids of images, for the meta device."""
    from transformers import vision_utils

    options: dict[str, Any] = {
        "position_ids": vision_utils.get_vision_position_ids(grid, vision.spatial_merge_size).to("meta")
    }
    if hasattr(vision, "window_size"):
        index, lengths = vision_utils.get_vision_window_index(
            grid,
            spatial_merge_size=vision.spatial_merge_size,
            window_size=vision.window_size,
            patch_size=vision.patch_size,
        )
        options |= {"window_index": index.to("meta"), "cu_window_seqlens": lengths}
    return options
