"""Memory in MiB: the weights, the peaks, and what the calls took above the loaded model."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.memory import MIB, Memory


def compute(missing=None, **mib):
    series = {f"memory/{name}_bytes": np.array([float(value * MIB)]) for name, value in mib.items()}
    return Memory().compute(Samples(series, missing or {}))


def test_a_cpus_peak_is_the_processs_less_the_inputs_that_the_benchmark_keeps():
    values = compute(weights=100, process_peak=900, kept_inputs=50, after_load_process=600).values
    assert values["memory_weights_mib"] == 100
    assert values["memory_process_peak_mib"] == 850
    assert values["memory_process_above_model_mib"] == 250


def test_a_gpus_peaks_are_the_allocators_and_no_inputs_are_taken_off():
    values = compute(peak_allocated=300, peak_reserved=512, process_peak=900, after_load_process=600).values
    assert values["memory_peak_allocated_mib"] == 300
    assert values["memory_peak_reserved_mib"] == 512
    assert values["memory_process_peak_mib"] == 900
    assert values["memory_process_above_model_mib"] == 300


def test_a_byte_is_a_fraction_of_a_mib():
    found = Memory().compute(Samples({"memory/weights_bytes": np.array([MIB / 4])}))
    assert found.values["memory_weights_mib"] == pytest.approx(0.25)


def test_what_cannot_be_had_is_none_with_its_reason():
    found = compute({"memory/peak_allocated_bytes": "a CPU has none"}, process_peak=900)
    assert found.values["memory_peak_allocated_mib"] is None
    assert found.reasons["memory_peak_allocated_mib"] == "a CPU has none"
    assert found.reasons["memory_weights_mib"] == "no memory/weights_bytes was recorded"


def test_without_the_processs_peak_the_part_above_the_model_is_none_for_the_same_reason():
    found = compute({"memory/process_peak_bytes": "a container hides it"}, after_load_process=600)
    for name in ("memory_process_peak_mib", "memory_process_above_model_mib"):
        assert found.values[name] is None
        assert found.reasons[name] == "a container hides it"


def test_without_the_loaded_model_the_part_above_it_is_none_and_the_peak_stays():
    found = compute(process_peak=900)
    assert found.values["memory_process_peak_mib"] == 900
    assert found.values["memory_process_above_model_mib"] is None
    assert found.reasons["memory_process_above_model_mib"] == "no memory/after_load_process_bytes was recorded"


def test_whatever_is_none_has_a_reason():
    found = compute()
    assert set(found.values.values()) == {None}
    assert set(found.reasons) == set(found.values)
