"""`visionbench serve` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
from command_line import COMMAND, SECONDS, here
from openai import OpenAI
from PIL import Image
from server.served import data_url, messages

FEW = ("model=blip2_tiny", "data.options.samples=24", "device.threads=1", "--port", "0")
IMAGE = messages(data_url(Image.new("RGB", (64, 64), "red")))


@contextmanager
def command(folder, *words, **env):
    """The command, when it is ready, with its address and the lines that it printed."""
    process = subprocess.Popen(
        [COMMAND, "serve", *FEW, *words],
        cwd=folder,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break
        address = re.search(r"http://\S+", "\n".join(lines))
        assert address, process.stderr.read()
        yield process, address[0], lines
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=SECONDS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_after_its_requests(tmp_path, number, code):
    with command(tmp_path) as (process, url, lines), OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        assert lines[0] == "loading blip2_tiny …"
        assert "serving   blip2_tiny: image captioning, fp32, eager, cpu" in lines
        stream = client.chat.completions.create(model="blip2_tiny", messages=IMAGE, stream=True)
        first = next(iter(stream))
        process.send_signal(number)
        assert [first, *stream][-1].choices[0].finish_reason == "stop"
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert errors.count("\n") == 1 and errors.startswith("visionbench: ")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # images of data=shapes, and no folder of results


def test_a_key_is_needed_and_is_printed_nowhere(tmp_path):
    with command(tmp_path, "--key-env", "SERVE_KEY", SERVE_KEY="k-1234567890") as (process, url, lines):
        with OpenAI(base_url=url, api_key="k-1234567890", max_retries=0) as client:
            assert client.chat.completions.create(model="blip2_tiny", messages=IMAGE).choices
        with OpenAI(base_url=url, api_key="k-wrong", max_retries=0) as client, pytest.raises(Exception, match="401"):
            client.chat.completions.create(model="blip2_tiny", messages=IMAGE)
        with urlopen(url.removesuffix("/v1") + "/health") as response:
            assert json.load(response)["status"] == "ok"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=SECONDS)
    assert "k-1234567890" not in out + errors + "".join(lines)


def test_other_machines_are_warned_about_and_names_of_hosts_are_refused(tmp_path):
    with command(tmp_path, "--host", "0.0.0.0", "--allow-host", "box.local") as (_, url, lines):
        assert (
            "! --host 0.0.0.0: other machines can use this server, without a key; --key-env NAME requires one" in lines
        )
        port = url.partition("0.0.0.0:")[2].partition("/")[0]
        address = f"http://127.0.0.1:{port}/health"
        for host, allowed in {"box.local": True, "10.1.2.3": True, "evil.example": False}.items():
            request = Request(address, headers={"Host": host})
            if allowed:
                assert urlopen(request).status == 200
            else:
                with pytest.raises(Exception, match="403"):
                    urlopen(request)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=sam_tiny"], "serve: model sam_tiny is for "),
        (["model=remote"], "serve: model remote is at an endpoint already; choose a model of this machine"),
        (["batch.sizes=[1]"], "batch.sizes=[1]: visionbench serve measures nothing, and does not use batch; remove it"),
        (["metrics=[latency]"], "metrics=[latency]: visionbench serve measures nothing"),
        (["+experiment=quick"], "+experiment=quick: visionbench serve measures nothing"),
        (
            ["serving.p99_ms=5"],
            "serving.p99_ms=5: visionbench serve does not use serving.p99_ms; use serving.max_batch",
        ),
        (["serving.max_batch=0"], "serving.max_batch=0"),
        (["serving.max_wait_ms=-1"], "serving.max_wait_ms=-1"),
        (["model=blip3_tiny"], "blip3_tiny"),
        (["model=blip2_tiny", "precision=fp32,bf16"], "precision"),
        (["model=blip2_tiny", "precision=fp7"], "precision=fp7"),
        (["model=blip2_tiny", "--key-env", "NO_SUCH_KEY"], "--key-env NO_SUCH_KEY: this environment variable is empty"),
        (["model=blip2_tiny", "--host", "no.such.host.invalid"], "--host no.such.host.invalid: no such host"),
        (["model=blip2_tiny", "--host", "192.0.2.1"], "--host 192.0.2.1: "),
        (["model=blip2_tiny", "--port", "70000"], "70000"),
        (["model=blip2_tiny", "--max-requests", "0"], "0"),
        (["model=blip2_tiny", "--timeout-seconds", "nan"], "nan"),
        (["model=blip2_tiny", "--max-body-mib", "-1"], "-1"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(tmp_path, words, message):
    done = here(tmp_path, "serve", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("visionbench: ")


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = here(tmp_path, "serve", "model=blip2_tiny", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == f"visionbench: --port {port}: it is in use; use another, as in --port {port + 1}\n"
