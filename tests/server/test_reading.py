"""Reading a request for a chat completion: what is accepted, and a clear refusal of everything else."""

import base64
import json

import pytest

from visionbench.server.reading import RequestError, read

IMAGE = b"content of an image"
URL = "data:image/png;base64," + base64.b64encode(IMAGE).decode()


def image_part(url=URL, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


def text_part(text="Describe the image."):
    return {"type": "text", "text": text}


def request(*parts, **more):
    content = list(parts) or [text_part(), image_part()]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], **more}


def refused(body):
    with pytest.raises(RequestError) as caught:
        read(body if isinstance(body, bytes) else json.dumps(body).encode(), "tiny")
    return caught.value


def test_a_request_has_an_image_a_text_and_its_options():
    body = request(max_tokens=5, stop=["."], stream=True, stream_options={"include_usage": True}, seed=1, user="me")
    chat = read(json.dumps(body).encode(), "tiny")
    assert (chat.encoded, chat.prompt, chat.most_tokens, chat.stops) == (IMAGE, "Describe the image.", 5, (".",))
    assert chat.stream and chat.include_usage


def test_several_texts_are_joined_by_lines():
    assert read(json.dumps(request(text_part("a"), image_part(), text_part("b"))).encode(), "tiny").prompt == "a\nb"


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0},
        {"temperature": 0.0},
        {"n": 1, "top_p": 1.0, "logprobs": False, "presence_penalty": 0},
        {"response_format": {"type": "text"}, "tools": [], "modalities": ["text"]},
        {"max_completion_tokens": 7},
        {"stop": None, "stream": None, "temperature": None, "max_tokens": None},
        {"stop": "end"},
    ],
    ids=str,
)
def test_parameters_that_change_nothing_are_accepted(more):
    assert read(json.dumps(request(**more)).encode(), "tiny").encoded == IMAGE


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": False}, "temperature"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"top_p": 0.9}, "top_p"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 0}, "logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -3}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"stop": 3}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "include_usage"),
        ({"seed": "1"}, "seed"),
        ({"user": 1}, "user"),
        ({"metadata": "x"}, "metadata"),
        ({"temprature": 0}, "temprature"),
        ({"model": 3}, "model"),
        ({"model": None}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "text"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "text only"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "messages"),
        ({"messages": [{"role": "user", "content": [], "other": 1}]}, "messages[0]"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_with_its_place(more, param):
    error = refused({**request(), **more})
    assert (error.status, error.param, error.kind) == (400, param, "invalid_request_error")
    assert "\n" not in str(error) and len(str(error)) < 400


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (image_part("https://example.com/a.png"), "invalid_image_url"),
        (image_part("http://127.0.0.1/a.png"), "invalid_image_url"),
        (image_part("file:///etc/passwd"), "invalid_image_url"),
        (image_part("FILE:///etc/passwd"), "invalid_image_url"),
        (image_part("ftp://a/b"), "invalid_image_url"),
        (image_part("/etc/passwd"), "invalid_image_url"),
        (image_part(""), "invalid_image_url"),
        (image_part("data:image/png,plain"), "invalid_image_url"),
        (image_part("data:image/png;charset=utf-8;base64,AAAA"), "invalid_image_url"),
        (image_part("data:image/svg+xml;base64,AAAA"), "unsupported_image"),
        (image_part("data:text/html;base64,AAAA"), "unsupported_image"),
        (image_part("data:;base64,AAAA"), "unsupported_image"),
        (image_part("data:image/png;base64,not base64"), "invalid_base64"),
        (image_part("data:image/png;base64,AAA"), "invalid_base64"),
        (image_part("data:image/png;base64,ÄÄÄÄ"), "invalid_base64"),
        (image_part("data:image/png;base64,"), "invalid_image"),
        (image_part(3), "invalid_type"),
        (image_part(None), "invalid_type"),
        (image_part(detail="high"), "unsupported_value"),
        (image_part(other=1), "unknown_parameter"),
        ({"type": "image_url", "image_url": URL}, "invalid_type"),
        ({"type": "image_url"}, "invalid_type"),
        ({"type": "input_audio", "input_audio": {}}, "invalid_value"),
        ({"image_url": {"url": URL}}, "invalid_value"),
        ("text", "invalid_type"),
        (None, "invalid_type"),
        ({"type": "text"}, "invalid_type"),
        ({"type": "text", "text": ["a"]}, "invalid_type"),
    ],
    ids=str,
)
def test_a_wrong_part_is_refused(part, code):
    error = refused(request(part))
    assert (error.status, error.code) == (400, code)
    assert str(error.param).startswith("messages[0].content[0]")


def test_only_one_image_is_read():
    assert refused(request(image_part(), image_part())).code == "too_many_images"


def test_half_of_a_surrogate_pair_is_refused():
    assert "surrogate" in str(refused(request(text_part("\ud83d"), image_part())))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"3", b'"text"', b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b"1" * 10_000, b"{}{}"],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_object_is_refused(body):
    assert refused(body).code in ("invalid_json",)


def test_another_model_is_not_found():
    error = refused(request(model="gpt-x"))
    assert (error.status, error.code) == (404, "model_not_found")


def test_a_long_value_is_cut_in_the_message():
    assert len(str(refused(request(model="x" * 10_000)))) < 200
    assert len(str(refused({**request(), "y" * 10_000: 1}))) < 300
