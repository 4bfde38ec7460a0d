"""The endpoint that fails on a schedule shows each fault to a real client."""

from itertools import islice

import pytest
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI
from server.faulty import Faulty, drawn, running, stand_in_endpoint

MESSAGES = [{"role": "user", "content": "describe"}]


def complete(base_url, stream=False, timeout=5.0):
    with OpenAI(base_url=base_url, api_key="key-of-the-test", max_retries=0, timeout=timeout) as client:
        answer = client.chat.completions.create(model="stand-in", messages=MESSAGES, stream=stream)
        return list(answer) if stream else answer


def test_a_schedule_is_repeated_and_recorded():
    app = Faulty(stand_in_endpoint, ["ok", "refusal", "empty"])
    with running(app) as url:
        answers = [complete(url) for _ in range(4)]
    assert [answer.choices[0].message.content if answer.choices else None for answer in answers] == [
        "a red circle",
        None,
        None,
        "a red circle",
    ]
    assert answers[1].choices[0].message.refusal
    assert app.served == ["ok", "refusal", "empty", "ok"]


@pytest.mark.parametrize(("name", "status"), [("rate_limit", 429), ("server_error", 500), ("unavailable", 503)])
def test_an_error_has_its_status(name, status):
    with running(Faulty(stand_in_endpoint, [name])) as url, pytest.raises(APIStatusError) as caught:
        complete(url)
    assert caught.value.status_code == status
    assert ("retry-after" in caught.value.response.headers) == (name == "rate_limit")


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_is_cut_in_the_middle(stream):
    with running(Faulty(stand_in_endpoint, ["cut"])) as url, pytest.raises(Exception) as caught:
        complete(url, stream)
    assert "incomplete" in str(caught.value.__cause__ or caught.value) or isinstance(caught.value, APIConnectionError)


def test_a_request_without_an_answer_runs_into_the_limit_of_the_client():
    with running(Faulty(stand_in_endpoint, ["timeout"])) as url, pytest.raises(APITimeoutError):
        complete(url, timeout=0.2)


@pytest.mark.parametrize("name", ["malformed", "not_json"])
def test_a_body_is_no_json(name):
    with running(Faulty(stand_in_endpoint, [name])) as url, pytest.raises(ValueError, match=r".") as caught:
        answer = complete(url)
        if isinstance(answer, str):  # the client returns a page that is not JSON as a text
            raise ValueError(answer)
    assert caught.value


def test_a_key_is_echoed():
    with (
        running(Faulty(stand_in_endpoint, ["echo_key"])) as url,
        pytest.raises(APIStatusError, match="key-of-the-test"),
    ):
        complete(url)


def test_a_stream_has_its_words_and_a_refusal():
    with running(Faulty(stand_in_endpoint, ["ok", "refusal", "filtered"])) as url:
        words, refusal, filtered = (complete(url, stream=True) for _ in range(3))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in words) == "a red circle"
    assert any(chunk.choices[0].delta.refusal for chunk in refusal)
    assert filtered[-1].choices[0].finish_reason == "content_filter"


def test_drawn_names_are_those_of_the_seed():
    shares = {"cut": 0.3, "rate_limit": 0.2}
    first, again, other = (list(islice(drawn(seed, shares), 200)) for seed in (1, 1, 2))
    assert first == again != other
    assert set(first) == {"ok", "cut", "rate_limit"}
