"""Read a request for a chat completion: JSON in OpenAI's format, with one image in a data URL.

Every part of a request is read, refused, or documented as without effect. Nothing is ever fetched.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from visionbench.core import VisionbenchError
from visionbench.registry import nearest

INVALID = "invalid_request_error"
"""OpenAI's type of an error that the client can correct."""
MOST_STOPS, MOST_STOP_CHARACTERS = 4, 200
MOST_PROMPT_CHARACTERS = 100_000
MEDIA_TYPES = ("image/png", "image/jpeg", "image/jpg", "image/webp")
DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "temperature": (0,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "reasoning_effort": ("none",),
}
"""Parameters that are accepted if they change nothing, with the values that change nothing. None is one for all."""
NEUTRAL_REASONS = {
    "n": "the server gives one choice",
    "temperature": "the server always uses the most probable token (greedy decoding or beam search)",
    "top_p": "the server always uses the most probable token",
    "tools": "the model calls no tools",
    "functions": "the model calls no functions",
    "response_format": "the server gives text only",
    "logprobs": "the server gives no probabilities",
}
WITHOUT_EFFECT = ("seed", "user", "metadata", "safety_identifier", "prompt_cache_key")
"""Parameters that are accepted and have no effect. The answers do not depend on a seed."""
READ = ("model", "messages", "max_tokens", "max_completion_tokens", "stop", "stream", "stream_options")


class RequestError(VisionbenchError):
    """A request that is refused, with its HTTP status and the fields of OpenAI's error format."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        kind: str = INVALID,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.param, self.code, self.status, self.kind, self.retry_after = param, code, status, kind, retry_after

    def content(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class ChatRequest:
    """A request for a chat completion about one image."""

    encoded: bytes
    """The content of the image file."""
    image_param: str
    """The place of the image in the request."""
    prompt: str
    """The text of the message, or '' if it has none."""
    most_tokens: int | None = None
    stops: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False


def read(body: bytes, model: str) -> ChatRequest:
    """Return the request in a body, for the model with this id. Raises RequestError."""
    request = _load(body)
    for name in request:
        if name not in (*READ, *NEUTRAL, *WITHOUT_EFFECT):
            hint = nearest(name[:60], READ)
            raise RequestError(f"Unrecognized request argument: {_shown(name)}{hint}", name[:60], "unknown_parameter")
    _check_model(request, model)
    for name, neutral in NEUTRAL.items():
        _check_neutral(name, request.get(name), neutral)
    for name in WITHOUT_EFFECT:
        _check_without_effect(name, request.get(name))
    stream = _bool(request, "stream")
    encoded, param, prompt = _read_messages(request.get("messages"))
    return ChatRequest(
        encoded,
        param,
        prompt,
        _read_most_tokens(request),
        _read_stops(request.get("stop")),
        stream,
        _read_include_usage(request.get("stream_options"), stream),
    )


def _load(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        _refuse("The body is not UTF-8.", code="invalid_json")
    except (ValueError, RecursionError) as error:
        reason = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        _refuse(f"The body is not valid JSON{reason}.", code="invalid_json")
    if not isinstance(value, dict):
        _refuse(f"The body is {_kind(value)}; it must be an object.", code="invalid_json")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_model(request: Mapping[str, Any], model: str) -> None:
    name = request.get("model")
    if name is None:
        _refuse("You must provide a model.", "model", "missing_parameter")
    if not isinstance(name, str):
        _refuse(f"model is {_kind(name)}; it must be a string.", "model", "invalid_type")
    if name != model:
        raise unknown_model(name, model)


def unknown_model(name: str, model: str) -> RequestError:
    """Return the error for a model that this server does not have."""
    message = f"The model {_shown(name)} does not exist; this server has {model}."
    return RequestError(message, "model", "model_not_found", 404)


def _check_neutral(name: str, value: Any, neutral: Sequence[Any]) -> None:
    if value is None or any(type(value) is type(one) and value == one for one in neutral):
        return
    if isinstance(value, float) and value in neutral and not isinstance(neutral[0], bool):
        return
    reason = NEUTRAL_REASONS.get(name, "the server does not support it")
    accepted = " or ".join(json.dumps(one) for one in neutral)
    _refuse(
        f"{name}={_shown(value)} is not supported: {reason}; use {accepted}, or leave it out.",
        name,
        "unsupported_value",
    )


def _check_without_effect(name: str, value: Any) -> None:
    expected: Any = {"seed": int, "metadata": dict}.get(name, str)
    if value is not None and (not isinstance(value, expected) or isinstance(value, bool)):
        noun = {"seed": "an integer", "metadata": "an object"}.get(name, "a string")
        _refuse(f"{name} is {_kind(value)}; it must be {noun}.", name, "invalid_type")


def _read_most_tokens(request: Mapping[str, Any]) -> int | None:
    names = [name for name in ("max_tokens", "max_completion_tokens") if request.get(name) is not None]
    if len(names) == 2:
        _refuse("max_tokens and max_completion_tokens are both given; give one of them.", names[0])
    if not names:
        return None
    value = request[names[0]]
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse(f"{names[0]} is {_kind(value)}; it must be an integer.", names[0], "invalid_type")
    if value < 1:
        _refuse(f"{names[0]}={_shown(value)}: it must be at least 1.", names[0], "integer_below_min_value")
    return value


def _read_stops(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        _refuse("stop must be a string or a list of strings.", "stop", "invalid_type")
    if len(stops) > MOST_STOPS:
        _refuse(f"stop has {len(stops)} strings; give at most {MOST_STOPS}.", "stop")
    if any(not 1 <= len(stop) <= MOST_STOP_CHARACTERS for stop in stops):
        _refuse(f"stop: each string must have 1 to {MOST_STOP_CHARACTERS} characters.", "stop")
    return tuple(stops)


def _bool(request: Mapping[str, Any], name: str) -> bool:
    value = request.get(name)
    if value is not None and not isinstance(value, bool):
        _refuse(f"{name} is {_kind(value)}; it must be true or false.", name, "invalid_type")
    return bool(value)


def _read_include_usage(value: Any, stream: bool) -> bool:
    if value is None:
        return False
    if not stream:
        _refuse("stream_options is only allowed with stream=true.", "stream_options")
    if not isinstance(value, dict):
        _refuse(f"stream_options is {_kind(value)}; it must be an object.", "stream_options", "invalid_type")
    if unknown := next((name for name in value if name not in ("include_usage", "include_obfuscation")), None):
        _refuse(
            f"Unrecognized request argument: stream_options.{_shown(unknown)}", "stream_options", "unknown_parameter"
        )
    if _bool(value, "include_obfuscation"):
        _refuse("stream_options.include_obfuscation=true is not supported; leave it out.", "stream_options")
    return _bool(value, "include_usage")


# ------------------------------------------------------------------------------------------------------------- messages
def _read_messages(messages: Any) -> tuple[bytes, str, str]:
    """Return the image, its place in the request, and the text."""
    if messages is None:
        _refuse("messages is missing.", "messages", "missing_parameter")
    if not isinstance(messages, list) or not messages:
        _refuse("messages must be a list with one message.", "messages", "invalid_type")
    if len(messages) > 1:
        _refuse(
            f"messages has {len(messages)} messages; the model reads one message of the role user.",
            "messages",
            "unsupported_value",
        )
    message = messages[0]
    if not isinstance(message, dict):
        _refuse(f"messages[0] is {_kind(message)}; it must be an object.", "messages[0]", "invalid_type")
    _refuse_other_keys(message, ("role", "content", "name"), "messages[0]")
    role = message.get("role")
    if role != "user":
        _refuse(
            f"messages[0].role is {_shown(role)}; the model reads one message of the role user.", "messages[0].role"
        )
    content = message.get("content")
    if isinstance(content, str):
        _refuse(
            "messages[0].content is a text without an image; give a list with a part of the type image_url.",
            "messages[0].content",
            "missing_image",
        )
    if not isinstance(content, list):
        _refuse(f"messages[0].content is {_kind(content)}; it must be a list.", "messages[0].content", "invalid_type")
    return _read_parts(content)


def _read_parts(parts: Sequence[Any]) -> tuple[bytes, str, str]:
    texts: list[str] = []
    urls: list[tuple[str, Any]] = []
    for index, part in enumerate(parts):
        place = f"messages[0].content[{index}]"
        if not isinstance(part, dict):
            _refuse(f"{place} is {_kind(part)}; it must be an object.", place, "invalid_type")
        kind = part.get("type")
        if kind == "text":
            _refuse_other_keys(part, ("type", "text"), place)
            if not isinstance(part.get("text"), str):
                _refuse(
                    f"{place}.text is {_kind(part.get('text'))}; it must be a string.", f"{place}.text", "invalid_type"
                )
            texts.append(part["text"])
        elif kind == "image_url":
            _refuse_other_keys(part, ("type", "image_url"), place)
            urls.append((f"{place}.image_url", part.get("image_url")))
        else:
            _refuse(f"{place}.type is {_shown(kind)}; the types are text and image_url.", f"{place}.type")
    if not urls:
        _refuse("The request has no image; add a part of the type image_url.", "messages[0].content", "missing_image")
    if len(urls) > 1:
        _refuse(f"The request has {len(urls)} images; the model reads one.", urls[1][0], "too_many_images")
    prompt = "\n".join(texts)
    if len(prompt) > MOST_PROMPT_CHARACTERS:
        _refuse(
            f"The text has {len(prompt):,} characters; the limit is {MOST_PROMPT_CHARACTERS:,}.", "messages[0].content"
        )
    if any("\ud800" <= sign <= "\udfff" for sign in prompt):
        _refuse("The text has half of a surrogate pair, which is not a character.", "messages[0].content")
    place, image_url = urls[0]
    return _read_image_url(image_url, place), f"{place}.url", prompt


def _read_image_url(value: Any, place: str) -> bytes:
    if not isinstance(value, dict):
        _refuse(f"{place} is {_kind(value)}; it must be an object with url.", place, "invalid_type")
    _refuse_other_keys(value, ("url", "detail"), place)
    detail = value.get("detail")
    if detail not in (None, "auto"):
        _refuse(
            f"{place}.detail={_shown(detail)} is not supported: the model reads each image at one size; use auto.",
            f"{place}.detail",
            "unsupported_value",
        )
    url = value.get("url")
    if not isinstance(url, str):
        _refuse(f"{place}.url is {_kind(url)}; it must be a string.", f"{place}.url", "invalid_type")
    return decode_data_url(url, f"{place}.url")


def decode_data_url(url: str, place: str) -> bytes:
    """Return the bytes of a data URL with an image in base64. Raises RequestError."""
    match = DATA_URL.match(url)
    if match is None:
        scheme = url.partition(":")[0].lower() if ":" in url[:20] else ""
        named = f"it begins with {scheme}:" if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) else "it has no scheme"
        _refuse(
            f"{place}: {named}; the server fetches nothing. Give the image in the request, as data:image/png;base64,…",
            place,
            "invalid_image_url",
        )
    if match["type"].lower() not in MEDIA_TYPES:
        _refuse(
            f"{place}: the type {_shown(match['type'])} is not supported; use {', '.join(MEDIA_TYPES)}.",
            place,
            "unsupported_image",
        )
    if match["parameters"].lower() != ";base64":
        _refuse(f"{place}: the data are not marked as ;base64.", place, "invalid_image_url")
    try:
        encoded = base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        _refuse(f"{place}: the data are not valid base64.", place, "invalid_base64")
    if not encoded:
        _refuse(f"{place}: the image has zero bytes.", place, "invalid_image")
    return encoded


def _refuse_other_keys(value: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    if unknown := next((name for name in value if name not in known), None):
        _refuse(
            f"Unrecognized request argument: {place}.{_shown(unknown)}{nearest(unknown[:60], known)}",
            place,
            "unknown_parameter",
        )


def _refuse(message: str, param: str | None = None, code: str | None = "invalid_value") -> NoReturn:
    raise RequestError(message, param, code)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "missing or null"}
    return kinds.get(type(value), "a number")


def _shown(value: Any) -> str:
    """Return a value for a message, at most 60 characters of it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return repr(text if len(text) <= 60 else f"{text[:60]}…") if isinstance(value, str) else text[:60]
