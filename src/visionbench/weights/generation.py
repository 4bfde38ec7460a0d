"""Generation of text: the steps that captioners and vision-language models share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from visionbench.core import ConfigError, Inputs, ModelPart, Watch
from visionbench.weights.tensors import place_inputs

if TYPE_CHECKING:
    import torch

Decode = Callable[[Any, Any, Any], Any]
"""From an encoded image, tokens [B, L] and a cache or None to the output of the language model with its cache."""


def check_counts(options: object, *names: str) -> None:
    """Raise ConfigError if one of these options of a family is below 1."""
    for name in names:
        if (value := getattr(options, name)) < 1:
            raise ConfigError(f"model.options.{name}={value}: must be at least 1")


def generate_exactly(module: Any, inputs: Inputs, new_tokens: int, **options: Any) -> torch.Tensor:
    """Return greedy tokens [B, L′], of which exactly `new_tokens` are new, so that the work does not depend on the
    image."""
    tokens: torch.Tensor = module.generate(
        **inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, num_beams=1, **options
    )
    return tokens


def generate_text(
    module: Any,
    dtype: torch.dtype,
    inputs: Inputs,
    most: int,
    beams: int,
    before: int,
    watch: Watch | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return new tokens [B, L] up to the end token or `most`, on the host, and for each sequence whether any of its
    logits was NaN [B]. `before` is the number of tokens that `generate` returns before the new ones.

    `watch` receives the new tokens after each step, and can end a sequence. It needs one beam.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    placed = place_inputs(inputs, module.device, dtype)
    detector = NanDetector(len(placed["input_ids"]))
    if watch is not None:
        options["stopping_criteria"] = StoppingCriteriaList([_Watcher(watch, before)])
    tokens = module.generate(
        **placed,
        max_new_tokens=most,
        num_beams=beams,
        do_sample=False,
        logits_processor=LogitsProcessorList([detector]),
        **options,
    )
    return tokens[:, before:].cpu(), detector.has_nan.cpu()


@dataclass(frozen=True)
class _Watcher:
    """A stopping criterion of `generate` that passes the new tokens of each step to a function."""

    watch: Watch
    before: int

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return which sequences are complete [B]."""
        complete: torch.Tensor = self.watch(input_ids[:, self.before :])
        return complete.to(input_ids.device)


def find_end_tokens(*tokens: int | Sequence[int] | None) -> frozenset[int]:
    """Return the end tokens of configurations, each of which may have one, several or none."""
    return frozenset(one for some in tokens if some is not None for one in ([some] if isinstance(some, int) else some))


def joins_words(tokenizer: Any) -> bool:
    """Return whether the text of a tokenizer's tokens is changed where words meet, so that a token can change the word
    before it: by the decoder of word pieces, or by cleaning up spaces."""
    if tokenizer is None:
        return False
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)) or type(decoder).__name__ == "WordPiece"


class NanDetector:
    """A logits processor that records the sequences for which a logit was NaN in any step of `generate`."""

    def __init__(self, sequences: int) -> None:
        import torch

        self.has_nan = torch.zeros(sequences, dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores [B · beams, vocabulary] unchanged."""
        nan = scores.isnan().any(dim=-1).view(len(self.has_nan), -1).any(dim=-1)
        self.has_nan = self.has_nan.to(nan.device) | nan
        return scores


def language_parts(decode: Decode, encoded: Any, prompt: torch.Tensor, new_tokens: int) -> Mapping[str, ModelPart]:
    """Return the parts `prefill` (an encoded image and the prompt [B, L] to the first token), and `decode` (one more
    token, at the mean length over all tokens) if more than one token is written."""
    import torch

    parts = {"prefill": ModelPart(partial(decode, encoded, prompt, None))}
    if (steps := new_tokens - 1) > 0:
        token = prompt[:, -1:]
        halfway = torch.cat([prompt, *[token] * ((steps - 1) // 2)], dim=1)
        cache = decode(encoded, halfway, None).past_key_values
        parts["decode"] = ModelPart(partial(_decode_token, decode, encoded, token, cache), steps)
    return parts


def decode_with_encoder(
    encode: Callable[[], Any], decode: Callable[[Any, Any, Any], Any], tokens: torch.Tensor, cache: Any
) -> Any:
    """Return the output of `decode(tokens, states, cache)`, a step of a decoder with cross-attention.

    Without a cache, `encode` computes the states of the encoder. They are kept with the cache for later steps.
    """
    states = encode() if cache is None else cache.encoder_states
    output = decode(tokens, states, cache)
    output.past_key_values.encoder_states = states
    return output


def _decode_token(decode: Decode, encoded: Any, token: torch.Tensor, cache: Any) -> Any:
    """Run one step with a cache, and restore the length of the cache."""
    output = decode(encoded, token, cache)
    cache.crop(-token.shape[1])
    return output.logits


def to_texts(tokenizer: Any, tokens: torch.Tensor) -> list[str]:
    """Return tokens [B, L] as texts, or as the ids of the tokens if there is no tokenizer."""
    if tokenizer is None:
        return [" ".join(str(int(token)) for token in row) for row in tokens]
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def text_or_nan(texts: Sequence[str], has_nan: torch.Tensor) -> list[str | float]:
    """Return each text, or NaN if a logit of its sequence was NaN."""
    return [float("nan") if nan else text for text, nan in zip(texts, has_nan.tolist(), strict=True)]
