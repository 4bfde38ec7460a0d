"""Models at an endpoint with OpenAI's interface for chats: captions, and classification by a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionbench.config import ModelConfig, RemoteConfig
from visionbench.core import (
    NO_CLASS,
    Attempt,
    ConfigError,
    EncodedImage,
    Endpoint,
    LoadedModel,
    Prices,
    Row,
)
from visionbench.examples import class_answers
from visionbench.registry import nearest, register
from visionbench.remote import connection, encoding

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

TASKS = {"captioning": "image captioning", "classification": "image classification"}
PREDICTS = {"captioning": frozenset({"caption"}), "classification": frozenset({"class_scores"})}
PROMPTS = {
    "captioning": "Describe this image in one sentence.",
    "classification": "Which one of these classes does the image show? Answer with its name only.\n{classes}",
}
CLASSES = "{classes}"
RESERVED = ("model", "messages", "stream", "stream_options", "max_tokens", "temperature")
"""Fields of a request that have their own options, or that the measurement sets."""


@register("models", "remote")
@dataclass
class Remote:
    """Options: `task`, `captioning` or `classification`; the `prompt` beside the image, which for `classification`
    contains `{classes}`, the numbered list of the classes; `max_tokens` and `temperature` of an answer, null for those
    of the endpoint; `image_format` (jpeg, png or webp), `image_quality` (1 to 100) and `image_size`, the longest side
    in pixels (null: as stored); `extra`, further fields of a request; and `prices`.

    `model.checkpoint` is the id of the model at the endpoint. The section `remote` has the connection.
    """

    task_name: str = field(default="captioning", metadata={"option": "task"})
    prompt: str | None = None
    max_tokens: int | None = 64
    temperature: float | None = 0.0
    image_format: str = "jpeg"
    image_quality: int = 90
    image_size: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    prices: Prices | None = None

    task: ClassVar[str] = TASKS["captioning"]
    predicts: ClassVar[frozenset[str]] = PREDICTS["captioning"]
    names_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise ConfigError for an option that cannot be used."""
        if self.task_name not in TASKS:
            raise ConfigError(f"model.options.task={self.task_name}: no such task{nearest(self.task_name, TASKS)}")
        vars(self).update(task=TASKS[self.task_name], predicts=PREDICTS[self.task_name])
        if self.image_format not in encoding.FORMATS:
            known = nearest(self.image_format, encoding.FORMATS)
            raise ConfigError(f"model.options.image_format={self.image_format}: no such format{known}")
        _check_range("image_quality", self.image_quality, 1, 100)
        for name in ("image_size", "max_tokens"):
            if (value := getattr(self, name)) is not None:
                _check_range(name, value, 1, 1_000_000)
        if self.temperature is not None:
            _check_range("temperature", self.temperature, 0, 100)
        if self.task_name == "classification" and self.text.count(CLASSES) != 1:
            raise ConfigError(
                f"model.options.prompt={self.text}: a prompt for classes contains {CLASSES} once", f"add {CLASSES}"
            )
        if reserved := [name for name in RESERVED if name in self.extra]:
            raise ConfigError(
                f"model.options.extra.{reserved[0]}: visionbench sets this field of a request",
                f"use model.options.{reserved[0]}" if hasattr(self, reserved[0]) else "remove it",
            )
        if self.prices is not None:
            _check_prices(self.prices)

    @property
    def text(self) -> str:
        """The prompt, or the default prompt of the task."""
        return PROMPTS[self.task_name] if self.prompt is None else self.prompt

    def uses(self) -> frozenset[str]:
        """Return an empty set: every request has the same prompt."""
        return frozenset()

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Raise ConfigError: the model is at an endpoint."""
        raise ConfigError(f"model {model.name} is at an endpoint, so it cannot be loaded", "measure it with run")

    # ---------------------------------------------------------------------------------------------- core.Connects
    def connect(self, model: ModelConfig, remote: RemoteConfig) -> Endpoint:
        """Return the endpoint. Raises ConfigError if the address or the key is missing."""
        from visionbench.remote.client import ChatClient, RequestOptions

        link = connection.find_connection(remote)
        options = RequestOptions(
            str(model.checkpoint),
            self.max_tokens,
            self.temperature,
            remote.stream,
            remote.timeout_seconds,
            self.extra,
        )
        identity = {
            "checkpoint": model.checkpoint,
            "endpoint": link.base_url,
            "prompt": self.text,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "image_format": self.image_format,
            "image_quality": self.image_quality if self.image_format != "png" else None,
            "longest_side": self.image_size,
            "streamed": remote.stream,
        }
        return ChatEndpoint(ChatClient(link, options), self, identity)

    def why_unavailable(self, model: ModelConfig, remote: RemoteConfig) -> str | None:
        """Return why no request can be sent, with a remedy, or None."""
        return connection.why_unavailable(remote)

    def connection_warnings(self, model: ModelConfig, remote: RemoteConfig) -> Sequence[str]:
        """Return a warning if images and the key are sent without encryption."""
        return connection.warnings(remote)

    def address(self, model: ModelConfig, remote: RemoteConfig) -> str:
        """Return the address of the endpoint."""
        return connection.find_address(remote)[0]

    def prompt_for(self, classes: Sequence[str]) -> str:
        """Return the prompt beside each image."""
        if self.task_name != "classification":
            return self.text
        return self.text.replace(CLASSES, class_answers.list_classes(classes))

    def to_row(self, text: str, columns: frozenset[str], classes: Sequence[str]) -> Row:
        """Return the caption, or one score of 1 for the class that the answer names. A refusal has an empty text."""
        if self.task_name != "classification":
            return {"caption": " ".join(text.split())}
        scores = np.zeros(len(classes), np.float32)
        index = class_answers.find_class(text, classes)
        if index is not None:
            scores[index] = 1.0
        return {"class_scores": scores, NO_CLASS: index is None}

    def request_limits(self, model: ModelConfig) -> tuple[Prices | None, int | None]:
        """Return the prices of a request, and the most tokens of an answer."""
        return self.prices, self.max_tokens


@dataclass
class ChatEndpoint:
    """A model at an endpoint with OpenAI's interface for chats; see `core.Endpoint`."""

    client: Any
    options: Remote
    identity: Mapping[str, Any]

    def encode(self, image: Image) -> EncodedImage:
        """Encode an image as it is sent."""
        options = self.options
        return encoding.encode(image, options.image_format, options.image_quality, options.image_size)

    def send(self, image: EncodedImage, prompt: str) -> Attempt:
        """Send one request, once."""
        attempt: Attempt = self.client.send(image, prompt)
        return attempt

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"model.options.{name}={value:g}: must be between {low:,} and {high:,}")


def _check_prices(prices: Prices) -> None:
    for name in ("input_per_million_tokens", "output_per_million_tokens", "per_image"):
        _check_range(f"prices.{name}", getattr(prices, name), 0, 1e9)
    _check_range("prices.most_input_tokens", prices.most_input_tokens, 0, 1e9)
    if not (prices.currency or "").strip():
        raise ConfigError("model.options.prices.currency has no value", "give one, as in currency: EUR")
