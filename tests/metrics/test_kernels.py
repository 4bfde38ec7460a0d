"""Kernels of one profiled call, relative to the device span of unprofiled calls."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.kernels import Kernels

PROFILED = {"busy_s": 0.002, "launched_count": 412.0, "host_waits_count": 2.0}


def compute(missing=None, spans=(), **profiled):
    series = {f"kernels/{name}": np.array([value]) for name, value in profiled.items()}
    return Kernels().compute(Samples({**series, "latency/device_s": np.array(spans)}, missing or {}))


def test_the_busy_share_is_relative_to_the_median_unprofiled_call():
    values = compute(spans=[0.008, 0.01, 0.05], **PROFILED).values
    assert values["kernels_busy_ms"] == pytest.approx(2.0)
    assert values["kernels_busy_fraction"] == pytest.approx(0.2)
    assert (values["kernels_launched_count"], values["kernels_host_waits_count"]) == (412, 2)


def test_a_device_without_kernels_has_none_with_the_reason():
    metrics = compute({"kernels/busy_s": "a CPU launches no kernels"})
    assert set(metrics.values.values()) == {None}
    assert set(metrics.reasons) == set(metrics.values)
    assert metrics.reasons["kernels_busy_fraction"] == "a CPU launches no kernels"


def test_without_device_spans_only_the_busy_share_is_none():
    metrics = compute({"latency/device_s": "no queue"}, **PROFILED)
    assert [name for name, value in metrics.values.items() if value is None] == ["kernels_busy_fraction"]
    assert metrics.reasons["kernels_busy_fraction"] == "no queue"
