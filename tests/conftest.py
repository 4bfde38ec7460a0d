"""Fixtures that several folders of tests share."""

from __future__ import annotations

import io
import signal
import zipfile
from functools import cache

import coco_folder
import numpy as np
import pytest
import tiers
from file_server import FileServer
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from visionbench import registry
from visionbench.composition import register_schema
from visionbench.config import (
    BatchConfig,
    DataConfig,
    DeviceConfig,
    ExperimentConfig,
    LatencyConfig,
    MeasureConfig,
    ModelConfig,
    PrecisionConfig,
    ThroughputConfig,
    WarmupConfig,
    from_hydra,
    project_folder,
)
from visionbench.core import ConfigError
from visionbench.plan import plan

GUARDED = pytest.StashKey[list[str]]()


def pytest_configure():
    """A shell has what it starts in the background ignore Ctrl-C; what tests start inherits that, and must not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Mark the tests that are not quick."""
    for item in items:
        if tiers.is_slow(item):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Guard each quick test, with all its fixtures."""
    if item.get_closest_marker("slow"):
        return (yield)
    with tiers.guard() as item.stash[GUARDED]:
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item):
    """Fail a quick test where the product caught the guard's exception."""
    if reasons := item.stash.get(GUARDED, []):
        pytest.fail(tiers.remedy(reasons[0]))


@pytest.fixture
def own_config(tmp_path):
    """The configuration of a run of `own_parts`, which takes milliseconds."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    colours = np.random.default_rng(0).integers(0, 255, (6, 3))
    for number, colour in enumerate(colours):
        Image.new("RGB", (8, 8), tuple(int(part) for part in colour)).save(pictures / f"{number}.png")
    return ExperimentConfig(
        model=ModelConfig(name="own", family="own_parts", weights="random"),
        device=DeviceConfig(name="cpu", threads=1),
        precision=PrecisionConfig(name="fp32", dtype="float32"),
        batch=BatchConfig(sizes=[1, 2, 4]),
        data=DataConfig(name="image_folder", root=str(pictures)),
        metrics={"latency": {}, "throughput": {}, "memory": {}},
        measure=MeasureConfig(
            name="test",
            retries=0,
            warmup=WarmupConfig(calls=2),
            latency=LatencyConfig(calls=8),
            throughput=ThroughputConfig(calls=5),
        ),
        output_dir=str(tmp_path / "outputs"),
    )


@pytest.fixture(scope="session")
def compose():
    """Overrides to what Hydra composes of conf/."""
    register_schema()

    def compose(*overrides):
        with initialize_config_dir(str(project_folder("conf")), version_base="1.3"):
            return hydra_compose("config", list(overrides))

    return compose


@pytest.fixture(scope="session")
def config(compose):
    """Overrides to an ExperimentConfig of its own. Hydra composes each choice of groups once; keys are merged in."""
    of_groups = cache(compose)

    def config(*overrides):
        groups = [override for override in overrides if "." not in override.partition("=")[0]]
        keys = OmegaConf.from_dotlist([override for override in overrides if override not in groups])
        return from_hydra(OmegaConf.unsafe_merge(OmegaConf.create(OmegaConf.to_container(of_groups(*groups))), keys))

    return config


@pytest.fixture
def refusal(config):
    """A function from overrides to the message with which `plan` refuses them."""

    def refusal(*overrides):
        with pytest.raises(ConfigError) as caught:
            plan(config(*overrides))
        return str(caught.value)

    return refusal


@pytest.fixture
def own_parts_forgotten():
    """What a test registers is forgotten after it; what the package registers meanwhile stays, as its modules do."""
    before = dict(registry._registered)
    yield
    for key, part in list(registry._registered.items()):
        if key in before:
            registry._registered[key] = before[key]
        elif not part.__module__.startswith("visionbench."):
            del registry._registered[key]


@pytest.fixture
def official_coco(tmp_path):
    """COCO's official layout, seven pictures."""
    coco_folder.write(tmp_path / "official", images=7)
    return tmp_path / "official"


@pytest.fixture
def coco_server(official_coco, monkeypatch):
    """What cocodataset.org serves, of that folder."""
    from visionbench.datafiles import coco_download

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (official_coco / "annotations").iterdir():
            archive.write(path, f"annotations/{path.name}")
    files = {f"/val2017/{path.name}": path.read_bytes() for path in (official_coco / "val2017").iterdir()}
    server = FileServer({"/annotations/annotations_trainval2017.zip": packed.getvalue(), **files})
    monkeypatch.setattr(coco_download, "SERVER", server.url)
    monkeypatch.setitem(coco_download.ARCHIVES, "2017", ("annotations_trainval2017.zip", None))
    yield server
    server.stop()
