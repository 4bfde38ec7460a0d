"""The built wheel without the repository: it contains the config and the bundled models."""

import os
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


def test_it_holds_every_config_and_the_bundled_models(unpacked):
    bundled = [f"{kind}_tiny" for kind in ("clip", "sam", "blip2", "classifier")]
    for folder, packed in (("conf", "conf"), *((f"data/{name}", f"bundled/{name}") for name in bundled)):
        files = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()}
        inside = unpacked / "site" / "visionbench" / packed
        assert {path.relative_to(inside) for path in inside.rglob("*") if path.is_file()} == files


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
