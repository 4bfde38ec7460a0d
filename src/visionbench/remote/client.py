"""One request by the `openai` client, to an endpoint with OpenAI's interface for chats.

The client does not retry, and it follows no redirect. Proxies of the environment are used, except for this machine.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from visionbench.core import Attempt, EncodedImage
from visionbench.core.remote import (
    ANSWERED,
    AUTHENTICATION,
    BAD_REQUEST,
    CONNECTION,
    MALFORMED,
    QUOTA,
    RATE_LIMITED,
    REDIRECTED,
    REFUSED,
    SERVER_ERROR,
    TIMED_OUT,
)
from visionbench.remote.connection import Connection
from visionbench.remote.scrubbing import Scrubber
from visionbench.remote.waiting import read_retry_after

if TYPE_CHECKING:
    from openai import OpenAI

MOST_BYTES = 16 * 2**20
"""The largest answer that is read."""
MOST_TOKENS = 10**9
"""The largest count of tokens that is believed."""
FACTS = tuple(
    f"X-Stainless-{name}" for name in ("OS", "Arch", "Runtime", "Runtime-Version", "Lang", "Package-Version", "Async")
)
"""Headers in which the client describes this machine."""
LOGGERS = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
"""The loggers that could write a request into the log."""


class _BadAnswerError(Exception):
    """An answer that cannot be used. `kind` is that of the attempt."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class RequestOptions:
    """What every request of a run has in common."""

    model: str
    max_tokens: int | None
    temperature: float | None
    stream: bool
    timeout_s: float
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the body of the request."""


@dataclass
class _Answer:
    """The parts of an answer, as they arrive."""

    text: str = ""
    refusal: bool = False
    finish: str | None = None
    usage: Any = None
    first_token_s: float | None = None
    has_choice: bool = False


@dataclass
class _Transfer:
    """What is known about the transfer of a request when it fails."""

    start: float
    sent: int = 0
    received: int = 0
    status: int | None = None


class ChatClient:
    """Sends one image with a prompt. Several threads use it at once."""

    def __init__(self, connection: Connection, options: RequestOptions) -> None:
        import openai

        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.options = options
        self.scrubber = Scrubber(connection.key if connection.has_key else "")
        self.has_key = connection.has_key
        self.origin = _origin(connection.base_url)
        omitted: Any = openai.Omit()
        self.headers = dict.fromkeys(FACTS if self.has_key else (*FACTS, "Authorization"), omitted)
        """Headers that the client would add, and that are not sent."""
        self.client: OpenAI = openai.OpenAI(
            api_key=connection.key,
            base_url=connection.base_url,
            max_retries=0,
            timeout=options.timeout_s,
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False,
                trust_env=not connection.is_loopback,  # a proxy must not receive what is meant for this machine
                timeout=options.timeout_s,
            ),
        )

    def send(self, image: EncodedImage, prompt: str) -> Attempt:
        """Send one request, once. No failure is raised."""
        body = self._body(image, prompt)
        transfer = _Transfer(time.perf_counter())
        try:
            answer = self._receive(body, transfer)
        except _BadAnswerError as error:
            return self._failed(transfer, error.kind, error.detail)
        except Exception as error:  # the client, its decoder and its transport raise errors of many types
            return self._explain(error, transfer)
        seconds = time.perf_counter() - transfer.start
        refused = answer.refusal or answer.finish == "content_filter"
        return Attempt(
            REFUSED if refused else ANSWERED,
            seconds,
            transfer.status,
            transfer.sent,
            transfer.received,
            "" if refused else self.scrubber.clean(answer.text),
            _tokens(answer.usage, "prompt_tokens"),
            _tokens(answer.usage, "completion_tokens"),
            truncated=answer.finish == "length" and not refused,
            first_token_s=None if refused else answer.first_token_s,
        )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _body(self, image: EncodedImage, prompt: str) -> dict[str, Any]:
        url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
        if prompt:
            content.append({"type": "text", "text": prompt})
        options = self.options
        body: dict[str, Any] = {"model": options.model, "messages": [{"role": "user", "content": content}]}
        if options.max_tokens is not None:
            body["max_tokens"] = options.max_tokens
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if options.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if options.extra:
            body["extra_body"] = dict(options.extra)
        return body

    def _receive(self, body: Mapping[str, Any], transfer: _Transfer) -> _Answer:
        """Send a request and return the complete answer. Raises errors of the client, and _BadAnswerError."""
        with self.client.chat.completions.with_streaming_response.create(
            **body, extra_headers=self.headers
        ) as response:
            http = response.http_response
            transfer.status = http.status_code
            transfer.sent = _sent_bytes(http)
            try:
                if self.options.stream and "text/event-stream" in http.headers.get("content-type", ""):
                    answer = self._read_stream(response, transfer)
                else:
                    answer = _read_message(self._read_json(response, transfer))
            finally:
                transfer.received = http.num_bytes_downloaded
        if not answer.has_choice:
            raise _BadAnswerError(MALFORMED, "the answer has no choice")
        if answer.finish is None:
            raise _BadAnswerError(MALFORMED, "the answer ends without a finish_reason")
        return answer

    def _read_json(self, response: Any, transfer: _Transfer) -> Any:
        chunks, size = [], 0
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            self._check(size, transfer)
        try:
            return json.loads(b"".join(chunks))
        except (ValueError, RecursionError):
            raise _BadAnswerError(MALFORMED, "the answer is not JSON") from None

    def _read_stream(self, response: Any, transfer: _Transfer) -> _Answer:
        answer, texts, size = _Answer(), [], 0
        for chunk in response.parse():
            self._check(response.http_response.num_bytes_downloaded, transfer)
            if getattr(chunk, "usage", None) is not None:
                answer.usage = chunk.usage
            for choice in (getattr(chunk, "choices", None) or [])[:1]:
                answer.has_choice = True
                delta = getattr(choice, "delta", None)
                text = getattr(delta, "content", None)
                if isinstance(text, str) and text:
                    if answer.first_token_s is None:
                        answer.first_token_s = time.perf_counter() - transfer.start
                    texts.append(text)
                    size += len(text)
                answer.refusal |= bool(getattr(delta, "refusal", None))
                answer.finish = getattr(choice, "finish_reason", None) or answer.finish
        answer.text = "".join(texts)
        return answer

    def _check(self, size: int, transfer: _Transfer) -> None:
        """Raise _BadAnswerError if an answer is too large, or takes longer than the time-out although it goes on."""
        if size > MOST_BYTES:
            raise _BadAnswerError(MALFORMED, f"the answer is larger than {MOST_BYTES // 2**20} MiB")
        if time.perf_counter() - transfer.start > self.options.timeout_s:
            raise _BadAnswerError(TIMED_OUT, "the answer is not complete")

    # ------------------------------------------------------------------------------------------------------ failures
    def _failed(self, transfer: _Transfer, kind: str, detail: str = "", retry_after_s: float | None = None) -> Attempt:
        return Attempt(
            kind,
            time.perf_counter() - transfer.start,
            transfer.status,
            transfer.sent,
            transfer.received,
            retry_after_s=retry_after_s,
            detail=detail,
        )

    def _explain(self, error: Exception, transfer: _Transfer) -> Attempt:
        """Return the failed attempt of an error. The text of an exception may hold a header, so only types are used."""
        import openai

        if isinstance(error, openai.APIStatusError):
            transfer.status = error.status_code
            transfer.sent = transfer.sent or _sent_bytes(error.response)
            with suppress(Exception):
                transfer.received = error.response.num_bytes_downloaded
            kind, detail = self._explain_status(error)
            return self._failed(transfer, kind, detail, read_retry_after(error.response.headers))
        if isinstance(error, openai.APITimeoutError) or "Timeout" in type(error).__name__:
            return self._failed(transfer, TIMED_OUT)
        if isinstance(error, openai.APIConnectionError) or _is_transport_error(error):
            cause = error.__cause__ or error
            return self._failed(transfer, CONNECTION, type(cause).__name__)
        if isinstance(error, openai.APIError):  # an error that the endpoint sent within a stream
            return self._failed(transfer, SERVER_ERROR, self.scrubber.message(getattr(error, "message", "")))
        return self._failed(transfer, MALFORMED, f"the answer cannot be read ({type(error).__name__})")

    def _explain_status(self, error: Any) -> tuple[str, str]:
        """Return the kind and the reason of an answer with an error status."""
        status, code = int(error.status_code), str(getattr(error, "code", None) or "")
        message = self.scrubber.message(_message(error.body))
        detail = f"status {status}{f', {message}' if message else ''}"
        if 300 <= status < 400:
            target = self.scrubber.message(_origin(error.response.headers.get("location", "")))
            where = f" to {target}" if target and target != self.origin else ""
            return REDIRECTED, f"status {status}, a redirect{where}, which is not followed; correct remote.base_url"
        if status in (401, 403):
            return AUTHENTICATION, f"status {status}: the endpoint does not accept the key"
        if status == 402 or (status == 429 and code == "insufficient_quota"):
            return QUOTA, detail
        if status == 429:
            return RATE_LIMITED, detail
        if status == 408:
            return TIMED_OUT, detail
        return (SERVER_ERROR if status >= 500 else BAD_REQUEST), detail


def _read_message(content: Any) -> _Answer:
    """Return the first choice of an answer that is not streamed. Raises _BadAnswerError if a field is missing."""
    if not isinstance(content, dict):
        raise _BadAnswerError(MALFORMED, "the answer is not a JSON object")
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _BadAnswerError(MALFORMED, "the answer has no choice")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise _BadAnswerError(MALFORMED, "the answer has no message")
    text, refusal = message.get("content"), bool(message.get("refusal"))
    finish = choices[0].get("finish_reason")
    if not isinstance(text, str) and not refusal and finish != "content_filter":
        raise _BadAnswerError(MALFORMED, "the message has no text")
    finish = finish if isinstance(finish, str) else None
    return _Answer(text if isinstance(text, str) else "", refusal, finish, content.get("usage"), has_choice=True)


def _tokens(usage: Any, name: str) -> int | None:
    """Return a count of tokens, or None if it is missing or no count."""
    value = usage.get(name) if isinstance(usage, dict) else getattr(usage, name, None)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def _message(body: object) -> object:
    """Return the message in the body of an error, in the forms that servers use."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        return inner.get("message", inner.get("detail")) if isinstance(inner, dict) else inner
    return None


def _sent_bytes(response: Any) -> int:
    with suppress(Exception):  # a body that was streamed has no content
        return len(response.request.content)
    return 0


def _origin(address: str) -> str:
    try:
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}" if parts.hostname else ""
    except ValueError:
        return ""


def _is_transport_error(error: BaseException) -> bool:
    """Return whether an error comes from the connection. The client does not wrap all of them."""
    modules = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & {"httpx", "httpx2", "httpcore", "httpcore2"})
