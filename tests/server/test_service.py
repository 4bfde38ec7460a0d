"""A served blip2_tiny with the openai client, and with raw HTTP for bad input."""

import base64
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import torch
from openai import APIConnectionError, APIStatusError, OpenAI
from PIL import Image
from server.faulty import Faulty, running
from server.served import answering, data_url, messages, post, served

from visionbench.core import Picture
from visionbench.server import engine as engines
from visionbench.server.app import build_app
from visionbench.server.gate import Limits
from visionbench.serving.batching import Batcher, BatchRule

MODEL = "blip2_tiny"


@pytest.fixture(scope="module")
def service():
    with served(f"model={MODEL}") as service:
        yield service


@pytest.fixture(scope="module")
def url(service):
    with answering(service) as url:
        yield url


@pytest.fixture
def client(url):
    with OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def examples(service):
    return service.engine.base.loaded.examples[:16]


@pytest.fixture(scope="module")
def captions(service, examples):
    """The captions of the evaluation in this process."""
    loaded = service.engine.base.loaded
    evaluator = loaded.model.evaluator(frozenset({"caption"}), ())
    pictures = [Picture(example, loaded.decoding.decode(example)) for example in examples]
    with torch.inference_mode():
        rows = [evaluator.finish(evaluator.forward(evaluator.prepare([one])), [one])[0] for one in pictures]
    return [row["caption"] for row in rows]


def batches(url):
    with urlopen(f"{url}/visionbench/batches") as response:
        return json.load(response)


def caption(client, url, **more):
    return client.chat.completions.create(model=MODEL, messages=messages(url), **more)


# -------------------------------------------------------------------------------------------------------------- answers
def test_a_served_caption_is_that_of_the_evaluation_and_a_stream_has_the_same_text(client, examples, captions):
    for example, expected in list(zip(examples, captions, strict=True))[:4]:
        answer = caption(client, data_url(example.image))
        assert answer.choices[0].message.content == expected
        assert (answer.model, answer.choices[0].finish_reason) == (MODEL, "stop")
        chunks = list(caption(client, data_url(example.image), stream=True, stream_options={"include_usage": True}))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage == answer.usage and not chunks[-1].choices


def test_requests_at_once_form_batches_and_each_has_its_own_caption(client, url, examples, captions):
    before = batches(url)["batches"]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda example: caption(client, data_url(example.image)), list(examples) * 4))
    assert [answer.choices[0].message.content for answer in answers] == captions * 4
    sizes = {int(size): count - before.get(size, 0) for size, count in batches(url)["batches"].items()}
    assert sum(size * count for size, count in sizes.items()) == 64
    assert max(size for size, count in sizes.items() if count) > 1
    assert max(sizes) <= 8


def test_requests_of_one_batch_have_their_own_lengths_and_stop_strings(service, examples, captions):
    words = captions[0].split()
    requests = [{}, {"max_tokens": 3}, {"stop": f" {words[4]}"}, {"max_tokens": 1}]
    call_all = threading.Event()

    def call(jobs):
        call_all.wait()
        return service.engine.call(jobs)

    batcher = Batcher(call, BatchRule(4, 60))
    jobs = []
    for more in requests:
        body = {"model": MODEL, "messages": messages(data_url(examples[0].image)), **more}
        jobs.append(service._prepare(json.dumps(body).encode())[1])
    futures = [batcher.submit(job) for job in jobs]
    call_all.set()
    answers = [future.result() for future in futures]
    batcher.close()
    assert [answer.text for answer in answers] == [
        captions[0],
        " ".join(words[:3]),
        " ".join(words[:4]),
        words[0],
    ]
    assert [answer.finish for answer in answers] == ["stop", "length", "stop", "length"]
    assert [answer.usage.completion for answer in answers] == [len(words) + 1, 3, 5, 1]
    assert {answer.batch_size for answer in answers} == {4}


def test_the_usage_counts_the_tokens_of_the_language_model(client, service, examples, captions):
    usage = caption(client, data_url(examples[0].image)).usage
    assert usage.prompt_tokens == len(service.engine.base.loaded.model.prompt_ids)
    assert usage.completion_tokens == len(captions[0].split()) + 1  # the end token
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_length_above_the_positions_of_the_model_is_cut(client, examples, captions):
    answer = caption(client, data_url(examples[0].image), max_tokens=100_000)
    assert answer.choices[0].message.content == captions[0]


def test_a_token_is_sent_before_the_next_is_computed(client, examples, monkeypatch):
    received = threading.Event()
    add = engines.Row.add

    def add_after_first_was_received(row, token):
        if len(row.tokens) == 1:
            assert received.wait(60)
        return add(row, token)

    monkeypatch.setattr(engines.Row, "add", add_after_first_was_received)
    stream = caption(client, data_url(examples[0].image), stream=True)
    assert stream.response.headers["x-visionbench-streaming"] == "tokens"
    first = next(iter(stream))
    assert first.choices[0].delta.content
    received.set()
    assert list(stream)[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
def test_formats_and_modes_of_images(client, kind, mode):
    if (kind, mode) in {("JPEG", "RGBA"), ("JPEG", "P"), ("PNG", "CMYK"), ("WEBP", "CMYK")}:
        pytest.skip("the format does not have this mode")
    assert caption(client, data_url(Image.new("RGB", (80, 50), "red").convert(mode), kind)).choices[0].message.content


def test_the_model_is_listed(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "visionbench"
    with pytest.raises(APIStatusError) as caught:
        client.models.retrieve("other/model")
    assert caught.value.status_code == 404


def test_a_text_that_is_not_read_is_named_in_a_header(client, examples):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages(data_url(examples[0].image), "Count the cats.")
    )
    assert raw.headers["x-visionbench-prompt"] == "not read"


# ------------------------------------------------------------------------------------------------------------ bad input
def bad_bodies():
    """Two hundred bodies that are refused, each with its status."""
    image = data_url(Image.effect_noise((8, 8), 90).convert("RGB"))
    encoded = base64.b64decode(image.partition(",")[2])

    def body(url, **more):
        return json.dumps({"model": MODEL, "messages": messages(url), **more}).encode()

    for cut in range(1, 60):
        yield body(image)[: cut * 5], 400
    for cut in range(8, len(encoded) - 60, 2):
        yield body("data:image/png;base64," + base64.b64encode(encoded[:cut]).decode()), 400
    for scheme in ("http", "https", "file", "ftp", "gopher", "javascript", "jar", "data"):
        yield body(f"{scheme}://127.0.0.1/etc/passwd"), 400
    for content in (b"GIF89a" + b"\0" * 30, b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"\0" * 100, b"BM" + b"\0" * 60):
        yield body("data:image/png;base64," + base64.b64encode(content).decode()), 400
    for value in (0, -1, "x", 1.5, [], {}, True):
        yield body(image, max_tokens=value), 400
    for value in (1, "true", [], {}):
        yield body(image, stream=value), 400
    for name in ("other", "frequency", "messages2", "Model", ""):
        yield body(image, **{name: 1}), 400
    for model in ("", "other", "../blip2_tiny", "BLIP2_TINY"):
        yield body(image, model=model), 404
    for value in (0.1, 2, -1, "0", [], {}):
        yield body(image, temperature=value), 400
    for index in range(80):
        yield bytes((index * 7 + step * 13) % 256 for step in range(index)), 400


def test_two_hundred_bad_bodies_are_refused_and_the_server_still_works(client, url, examples, captions):
    bodies = list(bad_bodies())
    assert len(bodies) >= 200
    for body, expected in bodies:
        status, content = post(url, body)
        assert status == expected, body[:200]
        assert set(content["error"]) == {"message", "type", "param", "code"}
        assert "Traceback" not in content["error"]["message"]
    assert caption(client, data_url(examples[0].image)).choices[0].message.content == captions[0]


def test_a_decompression_bomb_is_refused_by_its_header(url):
    import struct
    import zlib

    def block(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", zlib.compress(b"")) + block(b"IEND", b"")
    image = "data:image/png;base64," + base64.b64encode(file).decode()
    status, content = post(url, {"model": MODEL, "messages": messages(image)})
    assert (status, content["error"]["code"]) == (400, "image_too_large")
    assert "81,000,000 pixels" in content["error"]["message"]


def test_a_body_above_the_limit_is_answered_although_the_client_sends_all_of_it(service, examples, captions):
    small = build_app(service)
    small.limits = Limits(body_bytes=20_000)
    with running(small) as url:
        large = {"model": MODEL, "messages": messages("data:image/png;base64," + "A" * 60_000)}
        assert post(url, large)[0] == 413
        parts = urlsplit(url)
        connection = HTTPConnection(parts.hostname, parts.port, timeout=60)
        chunks = (b"x" * 5_000 for _ in range(12))
        headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        connection.request("POST", "/v1/chat/completions", chunks, headers, encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()
        status, content = post(url, {"model": MODEL, "messages": messages(data_url(examples[0].image))})
        assert (status, content["choices"][0]["message"]["content"]) == (200, captions[0])


def test_raw_bytes_that_are_no_request_do_not_stop_the_server(client, url, examples):
    parts = urlsplit(url)
    starts = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for raw in (
        b"\x16\x03\x01\x02\x00\x01",  # the begin of TLS
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        starts + b"Content-Length: 100\r\n\r\n{",  # the client leaves within the body
        starts + b"Content-Length: x\r\n\r\n",
        starts + b"Content-Length: -5\r\n\r\n",
        starts + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        starts + b"X: " + b"a" * 100_000,
    ):
        with socket.create_connection((parts.hostname, parts.port), 10) as connection:
            connection.sendall(raw)
    assert caption(client, data_url(examples[0].image)).choices


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("GET", "/v1/../../etc/passwd", 404),
    ],
)
def test_an_unknown_path_is_a_clear_error(url, method, path, status):
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request(method, path, headers={"Content-Type": "application/json"})
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    assert (response.status, content["error"]["code"]) == (status, "unknown_url")
    assert response.getheader("access-control-allow-origin") is None


# ------------------------------------------------------------------------------------------------------------- failures
def test_a_failed_batch_is_a_500_without_its_reason_and_the_next_works(client, service, examples, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("a secret of the model")

    with monkeypatch.context() as patch:
        patch.setattr(type(service.engine.model), "write", fail)
        for stream in (False, True):
            with pytest.raises(APIStatusError) as caught:
                list(caption(client, data_url(examples[0].image), stream=stream))
            assert caught.value.status_code == 500
            assert "secret" not in str(caught.value)
    assert "a secret of the model" in caplog.text and "Traceback" in caplog.text
    assert caption(client, data_url(examples[0].image)).choices


def test_nan_in_the_output_is_a_500(client, service, examples, monkeypatch):
    write = type(service.engine.model).write

    def write_nan(*arguments):
        tokens, has_nan = write(*arguments)
        return tokens, torch.ones_like(has_nan)

    monkeypatch.setattr(type(service.engine.model), "write", write_nan)
    with pytest.raises(APIStatusError, match="NaN"):
        caption(client, data_url(examples[0].image))


def test_a_request_that_waits_too_long_is_a_504_and_leaves_the_queue(service, examples, client):
    release, calls = threading.Event(), []
    own = service.batcher

    def call(jobs):
        calls.append(jobs)
        release.wait(60)
        return service.engine.call(jobs)

    service.batcher = Batcher(call, BatchRule(1))
    limits, service.limits = service.limits, Limits(seconds=0.3)
    try:
        with answering(service) as url:
            body = {"model": MODEL, "messages": messages(data_url(examples[0].image))}
            status, content = post(url, body)
            assert (status, content["error"]["code"]) == (504, "timeout")
            assert post(url, {**body, "stream": True})[0] == 504
    finally:
        release.set()
        service.batcher.close()
        service.batcher, service.limits = own, limits
    assert len(calls) <= 1  # the second request was in the queue
    assert caption(client, data_url(examples[0].image)).choices


def test_a_client_that_leaves_ends_its_text_and_not_those_of_others(service, url, examples, client, monkeypatch):
    left, texts = threading.Event(), []
    add = engines.Row.add

    def add_slowly(row, token):
        if len(row.tokens) == 1 and row.job.notify is not None:
            assert left.wait(60)
            while not row.job.cancelled:
                left.wait(0.001)
        complete = add(row, token)
        if complete:
            texts.append(len(row.tokens))
        return complete

    monkeypatch.setattr(engines.Row, "add", add_slowly)
    stream = caption(client, data_url(examples[0].image), stream=True)
    next(iter(stream))
    stream.close()
    left.set()
    assert caption(client, data_url(examples[1].image)).choices[0].finish_reason == "stop"
    assert texts[0] == 2


def test_the_endpoint_of_faults_can_stand_before_the_server(service, examples, captions):
    app = Faulty(build_app(service), ["cut", "ok"])
    with running(app) as url, OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        with pytest.raises(APIConnectionError):
            caption(client, data_url(examples[0].image))
        assert caption(client, data_url(examples[0].image)).choices[0].message.content == captions[0]
