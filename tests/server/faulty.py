"""An OpenAI-compatible endpoint that fails on a schedule, for tests of clients.

    with running(Faulty(stand_in_endpoint, ["ok", "rate_limit", "cut"])) as base_url:
        OpenAI(base_url=base_url, api_key="unused").chat.completions.create(…)

`Faulty` wraps any ASGI application: the stand-in below, which loads no model, or that of `visionbench serve`. Its
schedule is a list of names that is repeated, or `drawn(seed, shares)`. Only `POST …/chat/completions` uses up the
schedule; other requests are passed on. `Faulty.served` lists the names that were used, in order. The names:

ok            the answer of the wrapped application
rate_limit    429 with Retry-After
server_error  500 with an error in OpenAI's format
unavailable   503 with an HTML page, as a proxy answers
timeout       no answer until the client disconnects
cut           the connection is closed in the middle of the body, or of the stream after its first chunk
malformed     200 with JSON that ends too early; in a stream, a chunk of such JSON
not_json      200 with an HTML page
empty         200 with `choices: []`
refusal       200 with `refusal` instead of a content; in a stream, a chunk with it
filtered      200 with `finish_reason: content_filter` and no content
echo_key      401 with a message that contains the key of the request
"""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from typing import Any

RETRY_AFTER_SECONDS = "0.01"
App = Callable[[Any, Any, Any], Awaitable[None]]


@contextmanager
def running(app: App) -> Iterator[str]:
    """Serve an ASGI application on a free port of 127.0.0.1 in a thread, and yield the base URL of its version 1."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:  # a connection before the start of the server waits
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join(10)


def drawn(seed: int, shares: Mapping[str, float]) -> Iterator[str]:
    """Return names without end, drawn with these shares by a seeded generator. What remains up to 1 is `ok`."""
    generator = random.Random(seed)
    names = {**shares, "ok": 1 - sum(share for name, share in shares.items() if name != "ok")}
    while True:
        yield generator.choices(list(names), list(names.values()))[0]


class Faulty:
    """An ASGI application that answers `POST …/chat/completions` of another application by a schedule."""

    def __init__(self, app: App, schedule: Iterable[str]) -> None:
        self.app = app
        self.schedule = cycle(schedule) if isinstance(schedule, list | tuple) else iter(schedule)
        self.served: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].endswith("/chat/completions"):
            await self.app(scope, receive, send)
            return
        name = next(self.schedule)
        self.served.append(name)
        if name == "ok":
            await self.app(scope, receive, send)
            return
        body = await read_body(receive)
        streams = b'"stream":true' in body.replace(b" ", b"")
        await getattr(self, f"_{name}")(scope, receive, send, streams)

    async def _rate_limit(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        await send_json(send, 429, error("Rate limit reached", "rate_limit_exceeded"), RETRY_AFTER_SECONDS)

    async def _server_error(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        await send_json(send, 500, error("The server had an error", "server_error"))

    async def _unavailable(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        await send_bytes(send, 503, b"<html><body>503 Service Unavailable</body></html>", "text/html")

    async def _timeout(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _cut(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        first = chunk({"role": "assistant", "content": "a"}) if streams else b'{"id": "cut", "object": "chat.com'
        kind = "text/event-stream" if streams else "application/json"
        length = [] if streams else [(b"content-length", b"1000")]
        headers = [(b"content-type", kind.encode()), *length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})  # uvicorn then closes it

    async def _malformed(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        text = b'{"id": "malformed", "choices": [{"index": 0, "mess'
        if streams:
            await send_bytes(send, 200, b"data: " + text + b"\n\ndata: [DONE]\n\n", "text/event-stream")
        else:
            await send_bytes(send, 200, text, "application/json")

    async def _not_json(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        await send_bytes(send, 200, b"<html><body>Sign in to the network</body></html>", "text/html")

    async def _empty(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        if streams:
            await send_bytes(send, 200, b"data: [DONE]\n\n", "text/event-stream")
        else:
            await send_json(send, 200, {**completion(""), "choices": []})

    async def _refusal(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        text = "I cannot help with this image."
        if streams:
            chunks = chunk({"role": "assistant", "refusal": text}) + chunk({}, "stop") + b"data: [DONE]\n\n"
            await send_bytes(send, 200, chunks, "text/event-stream")
            return
        answer = completion("")
        answer["choices"][0]["message"] |= {"content": None, "refusal": text}
        await send_json(send, 200, answer)

    async def _filtered(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        if streams:
            chunks = chunk({"role": "assistant", "content": ""}) + chunk({}, "content_filter") + b"data: [DONE]\n\n"
            await send_bytes(send, 200, chunks, "text/event-stream")
            return
        answer = completion("")
        answer["choices"][0] |= {"finish_reason": "content_filter"}
        await send_json(send, 200, answer)

    async def _echo_key(self, scope: Any, receive: Any, send: Any, streams: bool) -> None:
        key = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        await send_json(send, 401, error(f"Incorrect API key provided: {key}", "invalid_api_key"))


async def stand_in_endpoint(scope: Any, receive: Any, send: Any) -> None:
    """Answer each chat completion with one caption, and the tokens of its words. Loads no model."""
    request = json.loads(await read_body(receive) or b"{}")
    words = ["a", "red", "circle"]
    if not request.get("stream"):
        await send_json(send, 200, completion(" ".join(words), model=request.get("model", "stand-in")))
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    parts = [{"role": "assistant", "content": ""}, *({"content": word} for word in ("a", " red", " circle"))]
    chunks = [*(chunk(part) for part in parts), chunk({}, "stop")]
    if (request.get("stream_options") or {}).get("include_usage"):
        chunks.append(chunk(None, usage=usage(len(words))))
    for one in (*chunks, b"data: [DONE]\n\n"):
        await send({"type": "http.response.body", "body": one, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def completion(text: str, model: str = "stand-in") -> dict[str, Any]:
    """Return a chat completion with a text."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage(len(text.split())),
    }


def chunk(delta: dict[str, Any] | None, finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    """Return an event of a stream. Without a delta, it has no choice."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    content = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stand-in"}
    return f"data: {json.dumps({**content, 'choices': choices, 'usage': usage})}\n\n".encode()


def usage(tokens: int) -> dict[str, int]:
    """Return the usage of an answer with this number of tokens."""
    return {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}


def error(message: str, code: str) -> dict[str, Any]:
    """Return an error in OpenAI's format."""
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


async def read_body(receive: Any) -> bytes:
    """Return the complete body of a request."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def send_json(send: Any, status: int, content: Any, retry_after: str | None = None) -> None:
    """Send an answer in JSON."""
    await send_bytes(send, status, json.dumps(content).encode(), "application/json", retry_after)


async def send_bytes(send: Any, status: int, body: bytes, kind: str, retry_after: str | None = None) -> None:
    """Send an answer."""
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    headers += [] if retry_after is None else [(b"retry-after", retry_after.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
