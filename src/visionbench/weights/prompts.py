"""The processor of a vision-language model: its image processor, its tokenizer and its template, without a part for
videos.

The processors of transformers with a part for videos need torchvision, and some need num2words, although only videos
use them. They are built here without both. Random weights have no tokenizer, so that theirs is a stand-in, which gives
about as many tokens as a real one.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from string import punctuation
from tempfile import TemporaryDirectory
from typing import Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.registry import nearest
from visionbench.weights.building import BuiltModel
from visionbench.weights.errors import one_line_errors
from visionbench.weights.processors import load_image_processor, load_tokenizer

IMAGE, VIDEO = "<image>", "<video>"
STAND_IN = "stand-in"
"""The name of the tokenizer of random weights, for the identity of a run."""
COMMON_WORDS = tuple(
    """
    a about above all an and answer any are as Assistant assistant at below between big black blue bottom by can
    caption colour cross cyan describe do does en for from green helpful how image in is it large left many no
    number object of on one or orange phrase purple question red right ring sentence shape short show single size
    small square star system that the there these this to top triangle two user User using what where which white
    who with word yellow yes You
    """.split()  # noqa: SIM905
)
"""Words of which each is a token of the stand-in. Any other word is the unknown token."""
ADDED_TOKENS = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
"""Tokens that processors would otherwise add after the last one of the model."""
PIECES = r"<[^<>\s]+>|\w+|\n+|[^\w\s]"
"""What the stand-in counts as one token: a token in angle brackets, a word, line ends, or a punctuation mark."""


def load_prompt_processor(model: ModelConfig, built: BuiltModel, arguments: Mapping[str, Any]) -> Any:
    """Return the processor of images and texts of a checkpoint, or with random weights one with a stand-in tokenizer.

    `arguments` are those of the processor's class for random weights. Texts are padded on the left, or on the right for
    a model with an encoder for texts. Raises ConfigError.
    """
    images = load_image_processor(model, built.source)
    config = built.module.config
    if built.source is None:
        tokenizer, setting = make_tokenizer(config), f"model.options.processor of {model.name}"
    else:
        tokenizer, setting = load_tokenizer(model, built), f"model.checkpoint={model.checkpoint}"
    tokenizer.padding_side = "right" if config.is_encoder_decoder else "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    with one_line_errors(model, setting):
        kind = _processor_class(config)
        if built.source is not None:
            options, _ = kind.get_processor_dict(str(built.source), local_files_only=True)
            return _build(kind, options, images, tokenizer)
        if unknown := next((name for name in arguments if name not in _arguments_of(kind)), None):
            raise ConfigError(
                f"{setting}: {kind.__name__} has no argument {unknown}{nearest(unknown, _arguments_of(kind))}"
            )
        return _build(kind, arguments, images, tokenizer)


def read_arguments(source: Path) -> dict[str, Any]:
    """Return the arguments of the processor's class that a checkpoint's folder has, for random weights."""
    from transformers import AutoConfig

    kind = _processor_class(AutoConfig.from_pretrained(source, local_files_only=True))
    options, _ = kind.get_processor_dict(str(source), local_files_only=True)
    return {name: value for name, value in options.items() if name in _arguments_of(kind) and value is not None}


def _processor_class(config: Any) -> Any:
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    mapping: Any = PROCESSOR_MAPPING
    if type(config) not in mapping:
        raise ConfigError(f"transformers has no processor for {type(config).__name__}", "use model.family=generic")
    return mapping[type(config)]


def _arguments_of(kind: Any) -> list[str]:
    """Return the arguments of a processor's class in addition to its parts and its template."""
    left_out = {"self", "args", "kwargs", "chat_template", *kind.get_attributes()}
    return [name for name in inspect.signature(kind.__init__).parameters if name not in left_out]


def _build(kind: Any, options: Mapping[str, Any], images: Any, tokenizer: Any) -> Any:
    module = import_module(kind.__module__)
    if getattr(module, "num2words", "") is None:
        module.num2words = str  # type: ignore[attr-defined]  # only texts about videos have such numbers
    parts = {"image_processor": images, "tokenizer": tokenizer}
    if "video_processor" in (names := kind.get_attributes()):
        parts["video_processor"] = NoVideos()
        kind = _without_videos(kind)
    if missing := [name for name in names if name not in parts]:
        raise ConfigError(f"{kind.__name__} needs a {missing[0]}, which visionbench does not load")
    return kind.from_args_and_dict([parts[name] for name in names], dict(options))


def chat_template(processor: Any) -> Any:
    """Return the chat template of a processor or of its tokenizer, or None."""
    return getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)


class NoVideos:
    """An object in the place of a processor of videos, whose class needs torchvision."""

    num_frames = None
    fps = None
    model_input_names: tuple[str, ...] = ()


@cache
def _without_videos(kind: Any) -> Any:
    """Return a processor's class that accepts NoVideos in the place of a processor of videos."""

    class WithoutVideos(kind):  # type: ignore[misc]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if isinstance(argument, NoVideos):
                return NoVideos
            return super().check_argument_for_proper_class(argument_name, argument)

        def __repr__(self) -> str:
            return str(kind.__name__)  # that of transformers writes all parts as JSON

        def __reduce__(self) -> tuple[Any, ...]:
            return _restore, (kind, self.__dict__)

    WithoutVideos.__name__ = kind.__name__
    return WithoutVideos


def _restore(kind: Any, attributes: Mapping[str, Any]) -> Any:
    """Return a processor that was pickled, for example for a loader process."""
    own = _without_videos(kind)
    processor = own.__new__(own)
    processor.__dict__.update(attributes)
    return processor


def default_template(processor: Any) -> str:
    """Return a template with `{prompt}` for a model without one: the image token, unless the processor adds it."""
    from PIL import Image

    token: str = processor.image_token
    _, texts, *_ = processor.prepare_inputs_layout(images=[[Image.new("RGB", (8, 8))]], text=[token])
    return "{prompt}" if texts[0].count(token) > 1 else f"{token}{{prompt}}"


def render_chat(processor: Any, prompt: str) -> str:
    """Return a prompt about one image as the chat template writes it."""
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    text: str = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=chat_template(processor),
        add_generation_prompt=True,
        tokenize=False,
    )
    return text


def make_tokenizer(config: Any) -> Any:
    """Return a stand-in for the tokenizer of a model: its special tokens have the ids of the configuration.

    A word, a mark, or a token in angle brackets is one token. Words that are not in a short list are the unknown token.
    """
    from transformers import PreTrainedTokenizerFast

    special = dict(_special_tokens(config))
    size = config.get_text_config().vocab_size
    used = set(special.values())
    free = (number for number in range(size) if number not in used)
    words = dict(zip(["<unk>", *ADDED_TOKENS, *dict.fromkeys(["\n", *punctuation, *COMMON_WORDS])], free, strict=False))
    content = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Removed", "invert": True},
        "model": {"type": "WordLevel", "vocab": {**words, **special}, "unk_token": "<unk>"},
    }
    named = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad") if f"<{name}>" in special}
    extra = {f"{token[1:-1]}_token": token for token in (IMAGE, VIDEO) if token in special}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        file.write_text(json.dumps(content), "utf-8")
        return PreTrainedTokenizerFast(
            tokenizer_file=str(file),
            unk_token="<unk>",
            **named,
            extra_special_tokens=extra,
            clean_up_tokenization_spaces=False,
        )


def _special_tokens(config: Any) -> Iterator[tuple[str, int]]:
    """Yield the special tokens of a stand-in with their ids. Two tokens never have one id."""
    text = config.get_text_config()
    used: set[int] = set()
    for token, values in (
        (IMAGE, [getattr(config, "image_token_id", None), getattr(config, "image_token_index", None)]),
        (VIDEO, [getattr(config, "video_token_id", None), getattr(config, "video_token_index", None)]),
        *((f"<{name}>", _ids(config, text, name)) for name in ("bos", "eos", "pad")),
    ):
        number = next((one for one in values if isinstance(one, int) and 0 <= one < text.vocab_size), None)
        if number is None or number in used:
            number = next(free for free in reversed(range(text.vocab_size)) if free not in used)
        used.add(number)
        yield token, number


def _ids(config: Any, text: Any, name: str) -> Sequence[Any]:
    """Return the ids that a configuration gives to a special token, the first one of several end tokens."""
    values = [getattr(one, f"{name}_token_id", None) for one in (text, config)]
    return [value[0] if isinstance(value, list) and value else value for value in values]
