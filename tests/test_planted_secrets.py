"""Planted secrets appear in nothing that a command writes or prints, whether runs succeed or fail."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command_line import FEW_CALLS, TESTS, call, python_path
from fake_endpoint import Reply, answer, error, streamed
from fake_endpoint import serve as serve_endpoint
from faulty_server import serve

PASSWORD, USER, TOKEN, OPTION = "planted-password", "planted-user", "hf_" + "Planted" * 5, "planted-option"
KEY = "key-of-planted-endpoint-0123456789"
ECHOES = (KEY, KEY[:20], KEY.upper(), base64.b64encode(KEY.encode()).decode())
"""Forms in which a server could return the key."""
ENVIRONMENT = {
    "HF_TOKEN": TOKEN,
    "MLFLOW_TRACKING_USERNAME": USER,
    "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "OPTION_OF_DATA": OPTION,
    "OTHER_OPTION_OF_DATA": f"{OPTION}-2",
}
SHORT = [*FEW_CALLS, "batch=single", "metrics=[latency]"]
OWN_DATA = """
from dataclasses import dataclass

from visionbench.data.shapes import Shapes
from visionbench.registry import register


@register("data", "private")
@dataclass(frozen=True)
class Private(Shapes):
    token: str = ""
    broken: bool = False

    def examples(self):
        if self.broken:
            raise ValueError("the server of the data does not answer")
        return super().examples()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of the user that has an option for a token."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "private.py").write_text(OWN_DATA)
    (folder / "my_conf" / "data").mkdir(parents=True)
    options = "{samples: 40, token: '${oc.env:OPTION_OF_DATA}', broken: false}"
    (folder / "my_conf" / "data" / "private.yaml").write_text(f"name: private\noptions: {options}\n")
    return folder


def found(folder: Path, *texts: str) -> list[str]:
    """Return the secrets in texts, in the files below a folder and in the values of the databases."""
    contents = {"output": " ".join(texts)}
    for path in folder.rglob("*"):
        if path.is_file() and "my_conf" not in path.parts:
            contents[str(path.relative_to(folder))] = path.read_bytes().decode("latin-1") + path.name
            if path.suffix == ".db":
                with closing(sqlite3.connect(path)) as database:
                    contents[f"{path.name} as SQL"] = "\n".join(database.iterdump())
    secrets = (PASSWORD, USER, TOKEN, OPTION, *ECHOES)
    return [f"{secret} in {name}" for name, content in contents.items() for secret in secrets if secret in content]


def run(folder: Path, *words: str, **environment: str):
    path = {"PYTHONPATH": python_path(folder, TESTS)}
    return call(folder, "run", "--config-dir", "my_conf", *SHORT, *words, **{**ENVIRONMENT, **path, **environment})


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["data=private"], 0),
        (["-m", "data=private", "data.options.token='${oc.env:OPTION_OF_DATA}','${oc.env:OTHER_OPTION_OF_DATA}'"], 0),
        (["data=private", "data.options.broken=true"], 2),
        (["data=private", "data.options.no_such_option=1"], 2),
        (["+hydra.job.env_set.HF_TOKEN='${oc.env:HF_TOKEN}'"], 0),
    ],
    ids=["run", "sweep", "failing run", "refused run", "variable of a job"],
)
def test_no_secret_of_the_environment_is_written_or_printed(work: Path, words: list[str], code: int) -> None:
    done = run(work, *words)
    assert done.returncode in (code, 1 if code else 0), done.stderr
    assert found(work, done.stdout, done.stderr) == []


@pytest.mark.parametrize("kind", ["status_401", "html"])
def test_the_password_of_a_tracking_address_is_not_written_or_printed(work: Path, kind: str) -> None:
    with serve(kind) as uri:
        address = uri.replace("http://", f"http://{USER}:{PASSWORD}@")
        done = run(work, "tracking.uri='${oc.env:STORE}'", STORE=address)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith(f"visionbench: tracking.uri={uri}: the server ")
        synced = call(work, "sync", "--uri", address, **ENVIRONMENT)
        assert synced.returncode == 2
    assert found(work, done.stdout, done.stderr, synced.stdout, synced.stderr) == []


ENDPOINTS = {
    "answers": answer(" ".join(["a circle", *ECHOES])),
    "other fields": answer(f"a {KEY}", model=KEY, id=KEY, usage={"prompt_tokens": KEY}, system_fingerprint=KEY),
    "finish_reason": answer("a circle", finish=KEY),
    "a refused key": error(401, f"wrong key {ECHOES}", KEY),
    "wrong requests": error(400, f"wrong key {ECHOES}", KEY),
    "an error as text": Reply(500, f"Authorization: Bearer {KEY} {ECHOES}".encode(), {"content-type": "text/plain"}),
    "an error with headers": Reply(429, b"", {"retry-after": KEY, "x-request-id": KEY, "www-authenticate": KEY}),
    "a redirect": Reply(307, b"", {"location": f"http://{KEY}.invalid/v1?key={KEY}"}),
    "not JSON": Reply(200, f"<html>{ECHOES}".encode(), {"content-type": "text/html"}),
    "a stream": streamed(f"a {KEY[:7]}", KEY[7:], *ECHOES),
    "an error in a stream": Reply(
        200, f"data: {json.dumps({'error': {'message': KEY}})}\n\n".encode(), {"content-type": "text/event-stream"}
    ),
}


@pytest.mark.parametrize("kind", ENDPOINTS)
def test_the_key_of_an_endpoint_is_not_written_or_printed_although_the_server_returns_it(work: Path, kind: str) -> None:
    words = ["model=remote", "metrics=[latency,endpoint,captioning]", "remote.max_wait_seconds=0", "tracking=mlflow"]
    stream = f"remote.stream={'stream' in kind}".lower()
    with serve_endpoint(lambda number, body: ENDPOINTS[kind]) as endpoint:
        environment = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": KEY, "OPENAI_LOG": "debug"}
        done = run(work, *words, stream, "data.options.samples=4", **environment)
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    assert done.returncode in (0, 1), done.stderr
    assert found(work, done.stdout, done.stderr) == []


@pytest.mark.parametrize("key", [f"{KEY} with spaces", f"{KEY}\n", f"{KEY}é", "x9"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(work: Path, key: str) -> None:
    done = run(work, "model=remote", "remote.base_url=http://127.0.0.1:9/v1", OPENAI_API_KEY=key)
    assert done.returncode == 2 and "remote.key_env=OPENAI_API_KEY" in done.stderr
    assert key.strip() not in done.stderr + done.stdout and found(work, done.stdout, done.stderr) == []


@pytest.mark.parametrize("word", [f"remote.key_env={KEY}", f"+remote.api_key={KEY}", f"+model.options.api_key={KEY}"])
def test_a_typed_key_is_refused_without_showing_it(work: Path, word: str) -> None:
    done = run(work, "model=remote", "remote.base_url=http://127.0.0.1:9/v1", word)
    assert done.returncode == 2
    assert found(work, done.stdout, done.stderr) == []


def test_the_commands_that_read_results_show_no_secret(work: Path) -> None:
    assert list(work.glob("outputs/*"))
    for words in (["sync"], ["results"], ["report"], ["export"], ["doctor"]):
        done = call(work, *words, **ENVIRONMENT)
        assert done.returncode in (0, 1), done.stderr
        assert found(work, done.stdout, done.stderr) == []
