"""Memory in MiB: the weights, the peaks, and the part of the peak above the loaded model."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.memory import MIB, Memory


def compute(missing=None, **mib):
    series = {f"memory/{name}_bytes": np.array([float(value * MIB)]) for name, value in mib.items()}
    return Memory().compute(Samples(series, missing or {}))


def test_on_a_cpu_the_peak_is_that_of_the_process_without_the_inputs_that_the_benchmark_keeps():
    values = compute(weights=100, process_peak=900, kept_inputs=50, after_load_process=600).values
    assert values["memory_weights_mib"] == 100
    assert values["memory_process_peak_mib"] == 850
    assert values["memory_process_above_model_mib"] == 250


def test_on_a_gpu_the_peaks_are_those_of_the_allocator_and_no_inputs_are_subtracted():
    values = compute(peak_allocated=300, peak_reserved=512, process_peak=900, after_load_process=600).values
    assert values["memory_peak_allocated_mib"] == 300
    assert values["memory_peak_reserved_mib"] == 512
    assert values["memory_process_peak_mib"] == 900
    assert values["memory_process_above_model_mib"] == 300


def test_a_part_of_a_mib_is_a_fraction():
    metrics = Memory().compute(Samples({"memory/weights_bytes": np.array([MIB / 4])}))
    assert metrics.values["memory_weights_mib"] == pytest.approx(0.25)


def test_an_unavailable_value_is_none_with_the_reason():
    metrics = compute({"memory/peak_allocated_bytes": "a CPU has none"}, process_peak=900)
    assert metrics.values["memory_peak_allocated_mib"] is None
    assert metrics.reasons["memory_peak_allocated_mib"] == "a CPU has none"
    assert metrics.reasons["memory_weights_mib"] == "no memory/weights_bytes was recorded"


def test_without_the_peak_of_the_process_the_part_above_the_model_is_none_with_the_same_reason():
    metrics = compute({"memory/process_peak_bytes": "a container hides it"}, after_load_process=600)
    for name in ("memory_process_peak_mib", "memory_process_above_model_mib"):
        assert metrics.values[name] is None
        assert metrics.reasons[name] == "a container hides it"


def test_without_the_memory_after_loading_only_the_part_above_the_model_is_none():
    metrics = compute(process_peak=900)
    assert metrics.values["memory_process_peak_mib"] == 900
    assert metrics.values["memory_process_above_model_mib"] is None
    assert metrics.reasons["memory_process_above_model_mib"] == "no memory/after_load_process_bytes was recorded"


def test_every_value_that_is_none_has_a_reason():
    metrics = compute()
    assert set(metrics.values.values()) == {None}
    assert set(metrics.reasons) == set(metrics.values)
