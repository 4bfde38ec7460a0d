"""Quantised parts in the cache: what an entry depends on, and what it contains."""

from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.core import Calibration, ConfigError, ExecutedGraph
from visionbench.exports import quantized
from visionbench.exports.onnx import Export

COUNTS = {"quantized_layers": 2, "linear_layers": 3, "quantized_parameters": 40}
CALIBRATION = Calibration(lambda: [], 1, "of these images")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def quantize(builds, counts=COUNTS, weights="weights", method="int8_static", versions=None, calibration=CALIBRATION):
    """Quantise a part of which only its digest exists, and add to `builds` if it is quantised now."""

    def build(draft):
        builds.append(draft)
        (draft / "model").write_bytes(b"12345678")
        return counts

    export = Export(draft_of(weights), None, 0)
    return quantized(export, method, versions or {"nncf": "3.4.0"}, calibration, build)


def draft_of(weights):
    return Path("cache", weights, "model.onnx")


def test_an_equal_part_is_quantised_once_and_keeps_its_counts():
    builds = []
    first, second = quantize(builds), quantize(builds)
    assert len(builds) == 1
    assert first.seconds is not None and second.seconds is None
    assert first.file("model") == second.file("model")
    assert first.facts == second.facts == {"quantization": "int8_static", "nncf": "3.4.0", **COUNTS}
    assert first.bytes == second.bytes > 8


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "other weights"},
        {"method": "int8_dynamic"},
        {"versions": {"nncf": "3.5.0"}},
        {"calibration": replace(CALIBRATION, digest="of other images")},
        {"calibration": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_part_method_version_or_calibration_is_quantised_again(change):
    builds = []
    quantize(builds)
    quantize(builds, **change)
    assert len(builds) == 2


def test_a_part_without_a_quantised_layer_is_refused_and_not_kept(folder):
    with pytest.raises(ConfigError, match="int8_static: none of the 3 layers with weights was quantised; use"):
        quantize([], {**COUNTS, "quantized_layers": 0})
    assert not any(folder.iterdir())


def test_an_error_of_the_quantiser_is_one_line():
    def fail(draft):
        raise RuntimeError("no such operator\nat line 3")

    with pytest.raises(ConfigError, match=r"int8_static: this model cannot be quantised \(.*no such operator\); use"):
        quantized(Export(draft_of("weights"), None, 0), "int8_static", {}, CALIBRATION, fail)


def test_an_opened_part_has_the_times_and_the_size_of_its_files():
    part = quantize([])
    export = Export(draft_of("weights"), 3.0, 99)
    opened = part.complete(ExecutedGraph(len, compile_s=1.0, facts={"provider": "CPU"}), export)
    assert (opened.export_s, opened.quantize_s, opened.compile_s) == (3.0, part.seconds, 1.0)
    assert opened.file_bytes == part.bytes
    assert opened.facts == {"provider": "CPU", **part.facts}
