"""Planted secrets appear in nothing that a command writes or prints, whether runs succeed or fail."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command_line import FEW_CALLS, TESTS, call, python_path
from faulty_server import serve

PASSWORD, USER, TOKEN, OPTION = "planted-password", "planted-user", "hf_" + "Planted" * 5, "planted-option"
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
    secrets = (PASSWORD, USER, TOKEN, OPTION)
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


def test_the_commands_that_read_results_show_no_secret(work: Path) -> None:
    assert list(work.glob("outputs/*"))
    for words in (["sync"], ["results"], ["report"], ["export"], ["doctor"]):
        done = call(work, *words, **ENVIRONMENT)
        assert done.returncode in (0, 1), done.stderr
        assert found(work, done.stdout, done.stderr) == []
