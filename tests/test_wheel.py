"""The built wheel without the repository: it contains the config, the documents and the bundled models."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import python_path
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder / "dist"), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder


def test_it_holds_every_config_the_documents_and_the_bundled_models(unpacked):
    bundled = [f"{kind}_tiny" for kind in ("clip", "sam", "blip2", "classifier")]
    for folder, packed in (
        ("conf", "conf"),
        ("docs", "docs"),
        *((f"data/{name}", f"bundled/{name}") for name in bundled),
    ):
        files = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()}
        inside = unpacked / "site" / "visionbench" / packed
        assert {path.relative_to(inside) for path in inside.rglob("*") if path.is_file()} == files


def test_it_contains_the_published_figures(unpacked):
    assert (unpacked / "site" / "visionbench" / "report" / "published.csv").is_file()


def test_it_runs_in_an_empty_folder(unpacked, tmp_path):
    words = ["metrics=[latency,recall]", "batch=single", "measure.warmup.calls=1", "measure.latency.calls=6"]
    done = subprocess.run(
        [sys.executable, "-m", "visionbench", "run", *words, "tracking=none", "data.options.samples=20"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path(unpacked / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "clip_tiny · cpu · " in done.stdout
    script = "import visionbench; print(visionbench.__file__)"
    env = {**os.environ, "PYTHONPATH": python_path(unpacked / "site")}
    where = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(unpacked))


def test_every_document_that_its_help_names_can_be_opened_in_an_empty_folder(unpacked, tmp_path):
    env = {**os.environ, "PYTHONPATH": python_path(unpacked / "site"), "COLUMNS": "200"}

    def call(*words):
        command = [sys.executable, "-m", "visionbench", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout

    assert "visionbench docs" in call("--help")
    names = re.findall(r"visionbench docs (\w+)", " ".join(call("run", "--help").split()))
    assert names
    listed = call("docs")
    assert f"Folder: {unpacked / 'site' / 'visionbench' / 'docs'}" in listed
    for name in names:
        assert f"\n{name} " in listed
        assert call("docs", name).startswith("# ")
