"""The entrance of the server: what is refused before a request is read. No socket is used."""

import asyncio
import json

import pytest

from visionbench.server.gate import BODY, Gate, Limits, split_host
from visionbench.server.timings import Timings

JSON = {"content-type": "application/json", "host": "127.0.0.1:8000"}


class App:
    """An application that records the bodies that it receives."""

    def __init__(self):
        self.bodies = []

    async def __call__(self, scope, receive, send):
        self.bodies.append(scope[BODY])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


def exchange(limits=None, headers=JSON, parts=(b"{}",), method="POST", path="/v1/chat/completions", app=None):
    """Return the status, the content, the headers, and the number of parts of the body that were not read."""
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if waiting:
        waiting[-1]["more_body"] = False
    sent = []

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(Gate(app or App(), limits or Limits(), Timings())(scope, receive, send))
    if not sent:
        return None, None, {}, len(waiting)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    assert not sent[-1].get("more_body")
    own = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], json.loads(body) if body.startswith(b"{") else body, own, len(waiting)


def test_an_allowed_request_is_passed_on_with_its_complete_body():
    app = App()
    assert exchange(app=app, parts=[b'{"a"', b": 1}"])[0] == 200
    assert app.bodies == [b'{"a": 1}']


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.1.2.3:9", "[::1]", "[::1]:8000"])
def test_a_loopback_name_is_allowed(host):
    assert exchange(headers={**JSON, "host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "[::2]"]
)
def test_another_host_is_refused_as_in_dns_rebinding(host):
    app = App()
    status, content, _, _ = exchange(headers={**JSON, "host": host}, app=app)
    assert (status, content["error"]["code"], app.bodies) == (403, "host_not_allowed", [])


def test_a_missing_host_is_refused():
    assert exchange(headers={"content-type": "application/json"})[0] == 403


def test_a_host_is_allowed_if_it_is_given_or_the_server_is_not_on_loopback():
    assert exchange(Limits(hosts=frozenset({"box.local"})), {**JSON, "host": "Box.local:8000"})[0] == 200
    assert exchange(Limits(any_address=True), {**JSON, "host": "10.0.0.1"})[0] == 200
    assert exchange(Limits(any_address=True), {**JSON, "host": "evil.example"})[0] == 403


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer ", "secret", "Basic secret", "Bearer secretx"])
def test_a_wrong_key_is_refused_and_not_repeated(given):
    headers = JSON if given is None else {**JSON, "authorization": given}
    status, content, _, _ = exchange(Limits(key=b"secret"), headers)
    assert (status, content["error"]["code"]) == (401, "invalid_api_key")
    assert "secret" not in json.dumps(content)


def test_the_key_is_needed_except_for_the_health():
    limits = Limits(key=b"secret")
    assert exchange(limits, {**JSON, "authorization": "Bearer secret"})[0] == 200
    assert exchange(limits, method="GET", parts=(), path="/v1/models")[0] == 401
    assert exchange(limits, method="GET", parts=(), path="/health")[0] == 200


def test_a_key_that_is_no_ascii_is_refused():
    assert exchange(Limits(key=b"secret"), {**JSON, "authorization": "Bearer schlüssel"})[0] == 401


def test_a_declared_body_that_is_too_large_is_refused_before_it_is_read():
    app = App()
    limits = Limits(body_bytes=10)
    status, content, headers, left = exchange(limits, {**JSON, "content-length": "11"}, [b"x"] * 11, app=app)
    assert (status, content["error"]["code"], app.bodies) == (413, "request_too_large", [])
    assert headers["connection"] == "close"
    assert left == 0  # read and dropped after the response, so that the client receives it


def test_a_body_of_unknown_length_is_refused_when_it_is_too_large():
    app = App()
    status, _, _, left = exchange(Limits(body_bytes=10), parts=[b"x" * 6] * 100, app=app)
    assert (status, app.bodies) == (413, [])
    assert left > 80  # only a multiple of the limit is dropped


def test_a_body_of_exactly_the_limit_is_accepted():
    assert exchange(Limits(body_bytes=10), {**JSON, "content-length": "10"}, [b"x" * 10])[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_not_declared_as_json_is_refused(kind):
    assert exchange(headers={**JSON, "content-type": kind})[0] == 415


def test_json_with_a_charset_is_accepted():
    assert exchange(headers={**JSON, "content-type": "Application/JSON; charset=utf-8"})[0] == 200


def test_more_requests_than_the_limit_are_refused_with_a_time_to_retry():
    limits = Limits(requests=1)
    timings = Timings()
    inner = []

    async def app(scope, receive, send):
        inner.append(await second())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gate = Gate(app, limits, timings)

    async def call():
        sent = []
        parts = [{"type": "http.request", "body": b"{}"}]

        async def receive():
            return parts.pop() if parts else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(name.encode(), value.encode()) for name, value in JSON.items()]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        await gate(scope, receive, send)
        return sent[0]

    async def second():
        return await call()

    first = asyncio.run(call())
    assert first["status"] == 200
    assert inner[0]["status"] == 429 and (b"retry-after", b"1") in inner[0]["headers"]
    assert gate.running == 0
    assert timings.content()["responses"] == {"429": 1, "200": 1}


def test_a_client_that_leaves_within_the_body_gets_nothing_and_frees_its_place():
    app = App()
    gate = Gate(app, Limits(), Timings())
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in JSON.items()]
    asyncio.run(gate({"type": "http", "method": "POST", "path": "/v1/x", "headers": headers}, receive, send))
    assert (sent, app.bodies, gate.running) == ([], [], 0)


def test_an_error_of_the_application_is_a_clear_500_without_its_text(caplog):
    async def app(scope, receive, send):
        raise RuntimeError("a detail of the server")

    status, content, _, _ = exchange(app=app)
    assert (status, content["error"]["type"]) == (500, "server_error")
    assert "detail" not in json.dumps(content)
    assert "a detail of the server" in caplog.text


@pytest.mark.parametrize(("header", "name"), [("A.b:1", "a.b"), ("[::1]:1", "::1"), ("::1", ""), ("", "")])
def test_the_name_of_a_host_header(header, name):
    assert split_host(header) == name
