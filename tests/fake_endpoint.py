"""An endpoint for tests: a server on loopback that answers each request as a script states."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One response: a status with a body, or a body that ends early."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: str = ""
    """Where the connection is cut: `header`, `body`, or empty."""


def answer(text: str = "a red circle", finish: str | None = "stop", **changes: Any) -> Reply:
    """Return a complete answer. `changes` replace fields of the body; None removes a field."""
    body: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
    }
    body = {key: value for key, value in {**body, **changes}.items() if value is not None}
    return Reply(body=json.dumps(body).encode(), headers={"content-type": "application/json"})


def refusal(text: str | None = None) -> Reply:
    """Return an answer in which the model refuses."""
    message = {"role": "assistant", "content": text, "refusal": "I cannot help with this image."}
    return answer(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])


def error(status: int, message: str = "", code: str | None = None, **headers: str) -> Reply:
    """Return an error. `retry_after` becomes the header Retry-After."""
    body = json.dumps({"error": {"message": message or f"error {status}", "code": code}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"content-type": "application/json", **named})


def streamed(*texts: str, finish: str | None = "stop", usage: bool = True, cut: str = "", done: bool = True) -> Reply:
    """Return a streamed answer with one part for each text."""
    parts: list[dict[str, Any]] = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    if finish is not None:
        parts.append({"index": 0, "delta": {}, "finish_reason": finish})
    common = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "tiny"}
    events: list[dict[str, Any]] = [{**common, "choices": [part]} for part in parts]
    if usage:
        counts = {"prompt_tokens": 100, "completion_tokens": len(texts), "total_tokens": 100 + len(texts)}
        events.append({**common, "choices": [], "usage": counts})
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    body = "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode()
    return Reply(body=body, headers={"content-type": "text/event-stream"}, cut=cut)


@dataclass
class FakeEndpoint:
    """A running server with the requests that it received."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


Script = Callable[[int, Mapping[str, Any]], Reply]
"""From the number of a request, from 0, and its body to the response."""


@contextmanager
def serve(script: Script) -> Iterator[FakeEndpoint]:
    """Serve on a free port of loopback while the context is open."""
    endpoint = FakeEndpoint("")
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # the header and the body are one packet, so that no acknowledgement is waited for

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                number = len(endpoint.requests)
                endpoint.requests.append(body)
                endpoint.headers.append({name.lower(): value for name, value in self.headers.items()})
            reply = script(number, body)
            if reply.cut == "header":
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            if reply.cut == "body":
                self.wfile.write(reply.body[: len(reply.body) // 2])
                self.close_connection = True
                return
            self.wfile.write(reply.body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
