"""One request by the real `openai` client over real HTTP: every failure has its kind, and the key stays hidden."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import closing, contextmanager

import pytest
from fake_endpoint import Reply, answer, error, refusal, serve, streamed

from visionbench.core import EncodedImage
from visionbench.remote.client import ChatClient, RequestOptions
from visionbench.remote.connection import NO_KEY, Connection

KEY = "sk-planted-Key-0123456789"
IMAGE = EncodedImage("image/jpeg", b"\xff\xd8 not decoded by the client")


@contextmanager
def client(url: str, key: str = KEY, stream: bool = False, timeout_s: float = 20.0, **options):
    request = RequestOptions("tiny", 16, 0.0, stream, timeout_s, **options)
    with closing(ChatClient(Connection(url, key, True), request)) as one:
        yield one


def send(reply, stream: bool = False, **options):
    """Return the attempt that a reply gives, and the endpoint."""
    with serve(lambda number, body: reply) as endpoint, client(endpoint.url, stream=stream, **options) as one:
        return one.send(IMAGE, "What is this?"), endpoint


def test_an_answer_has_its_text_tokens_bytes_and_status():
    attempt, endpoint = send(answer("a red circle"))
    assert (attempt.kind, attempt.text, attempt.status) == ("answered", "a red circle", 200)
    assert (attempt.input_tokens, attempt.output_tokens, attempt.truncated) == (100, 5, False)
    body = endpoint.requests[0]
    assert attempt.sent_bytes == int(endpoint.headers[0]["content-length"]) > len(IMAGE.data)
    assert attempt.received_bytes == len(answer("a red circle").body)
    assert attempt.seconds > 0 and attempt.first_token_s is None
    image, text = body["messages"][0]["content"]
    kind, _, data = image["image_url"]["url"].partition(";base64,")
    assert (kind, base64.b64decode(data), text["text"]) == ("data:image/jpeg", IMAGE.data, "What is this?")
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 16, 0.0)
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_request_holds_nothing_but_the_image_the_prompt_and_the_options():
    _, endpoint = send(answer(), extra={"seed": 7})
    assert not [name for name in endpoint.headers[0] if name.startswith("x-stainless-") and "os" in name.split("-")]
    assert set(endpoint.requests[0]) == {"model", "messages", "max_tokens", "temperature", "seed"}


def test_an_endpoint_without_a_key_receives_none():
    with serve(lambda number, body: answer()) as endpoint, client(endpoint.url, NO_KEY) as one:
        assert one.send(IMAGE, "").kind == "answered"
    assert "authorization" not in endpoint.headers[0]


FAILURES = {
    "429": (error(429, "slow down"), "rate_limited"),
    "429 without credit": (error(429, "pay", code="insufficient_quota"), "quota"),
    "402": (error(402), "quota"),
    "500": (error(500), "server_error"),
    "503 as HTML": (Reply(503, b"<html>", {"content-type": "text/html"}), "server_error"),
    "408": (error(408), "timeout"),
    "400": (error(400, "the image is too large"), "bad_request"),
    "413": (error(413), "bad_request"),
    "404": (error(404, "no such model"), "bad_request"),
    "401": (error(401), "auth"),
    "403": (error(403), "auth"),
    "cut before the header": (Reply(cut="header"), "connection"),
    "cut in the body": (
        Reply(body=answer().body, headers={"content-type": "application/json"}, cut="body"),
        "connection",
    ),
    "not JSON": (Reply(body=b"{oops", headers={"content-type": "application/json"}), "malformed"),
    "HTML": (Reply(body=b"<html></html>", headers={"content-type": "text/html"}), "malformed"),
    "an empty body": (Reply(body=b"", headers={"content-type": "application/json"}), "malformed"),
    "a list": (Reply(body=b"[1]", headers={"content-type": "application/json"}), "malformed"),
    "deeply nested": (Reply(body=b"[" * 200_000, headers={"content-type": "application/json"}), "malformed"),
    "no choices": (answer(choices=[]), "malformed"),
    "choices without a message": (answer(choices=[{"index": 0}]), "malformed"),
    "a message without text": (answer(choices=[{"message": {"content": None}, "finish_reason": "stop"}]), "malformed"),
    "no finish_reason": (answer(finish=None), "malformed"),
    "an error with status 200": (Reply(body=b'{"error": {"message": "x"}}'), "malformed"),
    "a refusal": (refusal(), "refused"),
    "a filtered answer": (answer("part of an ans", finish="content_filter"), "refused"),
    "a redirect": (Reply(307, b"", {"location": "http://example.invalid/v1/chat/completions"}), "redirected"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_every_failure_has_its_kind(case):
    reply, kind = FAILURES[case]
    attempt, endpoint = send(reply)
    assert attempt.kind == kind
    assert attempt.text == "" and len(endpoint.requests) == 1
    if reply.cut != "header":
        assert attempt.status == reply.status and attempt.sent_bytes > 0


STREAM_FAILURES = {
    "cut in the stream": (streamed("a", "red", "circle", cut="body"), "connection"),
    "ended without a finish_reason": (streamed("a", "red", finish=None, done=False), "malformed"),
    "no parts": (streamed(finish=None), "malformed"),
    "not JSON": (Reply(body=b"data: {oops\n\n", headers={"content-type": "text/event-stream"}), "malformed"),
    "an error in the stream": (
        Reply(body=b'data: {"error": {"message": "broken"}}\n\n', headers={"content-type": "text/event-stream"}),
        "server_error",
    ),
    "a filtered answer": (streamed("part", finish="content_filter"), "refused"),
    "429": (error(429), "rate_limited"),
}


@pytest.mark.parametrize("case", STREAM_FAILURES)
def test_every_failure_of_a_streamed_answer_has_its_kind(case):
    reply, kind = STREAM_FAILURES[case]
    attempt, _ = send(reply, stream=True)
    assert attempt.kind == kind and attempt.text == ""


def test_a_streamed_answer_has_the_time_to_its_first_token_and_its_tokens():
    attempt, endpoint = send(streamed("a ", "red ", "circle"), stream=True)
    assert (attempt.kind, attempt.text, attempt.output_tokens) == ("answered", "a red circle", 3)
    assert attempt.first_token_s is not None and 0 < attempt.first_token_s <= attempt.seconds
    assert endpoint.requests[0]["stream_options"] == {"include_usage": True}
    assert attempt.received_bytes == len(streamed("a ", "red ", "circle").body)


def test_an_endpoint_that_does_not_stream_gives_an_answer_without_a_first_token():
    attempt, _ = send(answer("a red circle"), stream=True)
    assert (attempt.kind, attempt.text, attempt.first_token_s) == ("answered", "a red circle", None)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "7"}, {"prompt_tokens": -1}, {"prompt_tokens": True}, 3])
def test_without_usable_counts_the_tokens_are_unknown(usage):
    attempt, _ = send(answer(usage=usage))
    assert attempt.kind == "answered"
    assert (attempt.input_tokens, attempt.output_tokens) == (None, None)


def test_an_answer_at_the_limit_of_its_tokens_is_truncated():
    attempt, _ = send(answer("a red", finish="length"))
    assert (attempt.kind, attempt.truncated) == ("answered", True)


def test_a_server_that_does_not_listen_is_a_connection_failure():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with client(f"http://127.0.0.1:{port}/v1") as one:
        attempt = one.send(IMAGE, "")
    assert (attempt.kind, attempt.status) == ("connection", None)


def test_a_server_that_does_not_answer_is_a_time_out():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with client(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", timeout_s=0.05) as one:
            attempt = one.send(IMAGE, "")
    assert (attempt.kind, attempt.status) == ("timeout", None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry_after": "3"}, 3.0), ({"retry_after_ms": "250"}, 0.25), ({"retry_after": "x"}, None)],
)
def test_the_required_wait_is_read(headers, seconds):
    attempt, _ = send(error(429, **headers))
    assert attempt.retry_after_s == seconds


# ---------------------------------------------------------------------------------------------------------- the key
def test_no_redirect_is_followed_and_no_other_server_receives_the_key():
    with serve(lambda number, body: answer()) as other:
        location = f"{other.url}/chat/completions"
        attempt, _ = send(Reply(307, b"", {"location": location}))
    assert attempt.kind == "redirected"
    assert other.requests == [] and other.url.removesuffix("/v1") in attempt.detail


ECHOES = [
    KEY,
    KEY.lower(),
    KEY[::-1],
    KEY[:12] + "****",
    base64.b64encode(KEY.encode()).decode(),
    base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    KEY.encode().hex(),
]


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 307])
@pytest.mark.parametrize("echo", ECHOES)
def test_an_echoed_key_is_in_no_detail(status, echo):
    location = {"location": f"https://{echo.strip('=')}.example/?key={echo}"} if status == 307 else {}
    body = json.dumps({"error": {"message": f"wrong key {echo}", "code": echo}}).encode()
    attempt, _ = send(Reply(status, body, {"content-type": "application/json", **location}))
    assert not any(text.lower() in repr(attempt).lower() for text in (KEY, echo.strip("="), KEY[:12]))


def test_an_echoed_key_is_in_no_answer():
    attempt, _ = send(answer(f"a circle with {KEY} in it"))
    assert attempt.text == "a circle with … in it"
    attempt, _ = send(streamed(f"a {KEY[:9]}", KEY[9:]), stream=True)
    assert attempt.text == "a …"


def test_the_key_is_in_no_text_of_a_client():
    with serve(lambda number, body: answer()) as endpoint, client(endpoint.url) as one:
        assert KEY not in repr(one) + repr(Connection(endpoint.url, KEY, True)) + repr(one.scrubber) + repr(vars(one))
