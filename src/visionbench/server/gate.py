"""The entrance of the server: what is refused before a request is read.

Names of hosts, the key, the number of requests at once, and the size of a body. No request content is logged.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from visionbench.server.reading import RequestError
from visionbench.server.timings import Timings

logger = logging.getLogger("visionbench.server")
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]
BODY = "visionbench.body"
"""The key of the scope with the body of the request."""
HEALTH = "/health"
"""The path that is answered without a key."""
DRAINED = 4
"""How often the limit of a body is read and dropped after a refusal, so that the client receives the response."""


@dataclass(frozen=True)
class Limits:
    """What the server accepts."""

    body_bytes: int = 20 * 2**20
    requests: int = 64
    """The maximum number of requests at once, including those that wait for the model."""
    seconds: float = 60.0
    """The time limit of a request, from its first byte to the answer, or to the first token of a stream."""
    key: bytes | None = None
    hosts: frozenset[str] = frozenset()
    """Names of this host beside loopback names."""
    any_address: bool = False
    """Whether a Host header may be any IP address, because the server is not bound to loopback."""


@dataclass
class Gate:
    """An ASGI application that passes on what is allowed, with the complete body in `scope[BODY]`."""

    app: App
    limits: Limits
    timings: Timings
    running: int = field(default=0, init=False)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # no lifespan and no web sockets
            return
        response = Response(send, self.timings)
        try:
            await self._pass_on(scope, receive, response)
        except RequestError as error:
            await response.refuse(error)
            if error.status == 413:
                await drain(receive, self.limits.body_bytes * DRAINED)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            if isinstance(error, ClientLeft):
                return
            logger.error("a request failed", exc_info=error)
            await response.refuse(internal_error())
        finally:
            await response.end()

    async def _pass_on(self, scope: Any, receive: Receive, response: Response) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        check_host(headers.get("host"), self.limits)
        if scope["path"] != HEALTH:
            check_key(headers.get("authorization"), self.limits.key)
        if scope["method"] != "POST":
            await self.app({**scope, BODY: b""}, receive, response.send)
            return
        if self.running >= self.limits.requests:
            raise RequestError(
                f"The server already has {self.running} requests, which is its limit.",
                code="rate_limit_exceeded",
                status=429,
                kind="rate_limit_error",
                retry_after=1,
            )
        self.running += 1
        try:
            check_type(headers.get("content-type", ""))
            with self.timings.timed("receive"):
                try:
                    async with asyncio.timeout(self.limits.seconds):
                        body = await self._read_body(headers, receive)
                except TimeoutError:
                    raise RequestError(
                        f"The body did not arrive within {self.limits.seconds:g} s.", code="timeout", status=408
                    ) from None
            await self.app({**scope, BODY: body}, receive, response.send)
        finally:
            self.running -= 1

    async def _read_body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """Return the body. Raises RequestError as soon as it is too large, and ClientLeft."""
        limit = self.limits.body_bytes
        declared = headers.get("content-length", "0")
        too_large = RequestError(
            f"The body is larger than {limit / 2**20:g} MiB.", code="request_too_large", status=413
        )
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise too_large
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            body += message.get("body", b"")
            if len(body) > limit:
                raise too_large
            more = message.get("more_body", False)
        return bytes(body)


class ClientLeft(Exception):
    """The client has disconnected, so that nothing can be answered."""


@dataclass
class Response:
    """The response to one request."""

    forward: Send
    timings: Timings
    started: bool = False
    ended: bool = False

    async def send(self, message: Message) -> None:
        """Send a message of the application."""
        if message["type"] == "http.response.start":
            self.started = True
            self.timings.add_response(message["status"])
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.ended = True
        await self.forward(message)

    async def refuse(self, error: RequestError) -> None:
        """Send the complete content of an error, unless a response has begun."""
        if self.started:
            return
        content = json.dumps(error.content(), ensure_ascii=False).encode("utf-8", "replace")
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        headers.append((b"connection", b"close"))  # the body may not be read
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": content, "more_body": True})

    async def end(self) -> None:
        """End a response that `refuse` has sent."""
        if self.started and not self.ended:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


async def drain(receive: Receive, most: int) -> None:
    """Read and drop the rest of a body, at most this number of bytes, for at most two seconds between two parts."""
    count = 0
    while count <= most:
        try:
            async with asyncio.timeout(2):
                message = await receive()
        except TimeoutError:
            return
        count += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def check_host(header: str | None, limits: Limits) -> None:
    """Raise RequestError if a Host header is not a name of this server, as in an attack by DNS rebinding."""
    name = split_host(header or "")
    if name == "localhost" or name in limits.hosts:
        return
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        if limits.any_address or address.is_loopback:
            return
    raise RequestError(
        "The Host header is not a name of this server. --allow-host adds a name.", code="host_not_allowed", status=403
    )


def split_host(header: str) -> str:
    """Return the name or the address of a Host header, in lower case and without its port."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def check_key(header: str | None, key: bytes | None) -> None:
    """Raise RequestError if the header does not have the key as a bearer token."""
    if key is None:
        return
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), key):
        raise RequestError("The API key is missing or wrong.", code="invalid_api_key", status=401)


def check_type(header: str) -> None:
    """Raise RequestError if a body is not declared as JSON. A page of another site could otherwise send one."""
    if header.partition(";")[0].strip().lower() != "application/json":
        raise RequestError(
            "The Content-Type header must be application/json.", code="unsupported_media_type", status=415
        )


def internal_error(message: str = "The server failed on this request. Its log has the reason.") -> RequestError:
    """Return the error of the server itself."""
    return RequestError(message, code="server_error", status=500, kind="server_error")
