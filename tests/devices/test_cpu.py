"""The CPU: host time of calls, peak memory of a window, and the energy counters."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from visionbench import machine
from visionbench.core import Precision, Samples
from visionbench.devices import cpu
from visionbench.devices.cpu import Cpu

MIB = 2**20
ABOUT = 8 * MIB
"""The tolerance of a peak: pages of the allocator, and memory that other threads use."""


def peaks_can_be_reset():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


resets = pytest.mark.skipif(not peaks_can_be_reset(), reason="/proc/self/clear_refs may not be written here")


@pytest.fixture
def switches():
    """Torch's switches, restored after the test."""
    threads = torch.get_num_threads()
    matmul, conv = torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv
    before = matmul.fp32_precision, conv.fp32_precision
    yield matmul, conv
    torch.set_num_threads(threads)
    matmul.fp32_precision, conv.fp32_precision = before


def touch_and_free(mib):
    np.ones(mib * MIB, np.uint8)


def value(samples, name):
    return float(samples.get(f"memory/{name}_bytes")[0])


# ------------------------------------------------------------------------------------------------------------- timing
def test_a_call_is_made_once_and_timed_only_on_the_host():
    called = []
    timing = Cpu().time_call(lambda: called.append(1))
    assert called == [1]
    assert timing.host_s > 0
    assert timing.device_s is None and timing.enqueue_s is None


def test_the_time_of_a_call_is_between_two_readings_of_the_clock(monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(cpu, "perf_counter", lambda: next(clock))
    assert Cpu().time_call(lambda: None).host_s == 2.5


def test_completions_count_from_the_first_issue(monkeypatch):
    clock = iter([10.0, 11.0, 13.0])
    monkeypatch.setattr(cpu, "perf_counter", lambda: next(clock))
    assert Cpu().back_to_back([lambda: None] * 2, in_flight=3) == [1.0, 3.0]


def test_each_call_is_issued_when_the_last_one_is_done():
    log = []

    def calls():
        for number in range(3):
            log.append(f"issue {number}")
            yield lambda number=number: log.append(f"run {number}")

    Cpu().back_to_back(calls(), in_flight=3)
    assert log == [f"{step} {number}" for number in range(3) for step in ("issue", "run")]


# ------------------------------------------------------------------------------------------------------------- memory
@resets
def test_the_peak_includes_memory_allocated_and_freed_in_the_window():
    device = Cpu()
    device.reset_peak_memory()
    before = value(device.memory_in_use(), "process")
    touch_and_free(64)
    peak = value(device.peak_memory(0), "process_peak")
    assert peak - before == pytest.approx(64 * MIB, abs=ABOUT)


@resets
def test_the_peak_excludes_larger_allocations_before_the_window():
    device = Cpu()
    touch_and_free(256)
    device.reset_peak_memory()
    before = value(device.memory_in_use(), "process")
    touch_and_free(32)
    samples = device.peak_memory(0)
    assert value(samples, "process_peak") - before < 64 * MIB
    assert not samples.flags


BLOCKS = """
import numpy as np
from visionbench.devices import cpu
MIB = 2**20
device, of_glibc = cpu.Cpu(), cpu._mallopt
cpu._mallopt = lambda *words: (print(*words), of_glibc(*words))
device.reset_peak_memory()
before = device.memory_in_use().get("memory/process_bytes")[0]
blocks = [(np.ones(MIB, np.uint8), np.ones(1024, np.uint8)) for _ in range(64)]
kept = [small for _, small in blocks]
del blocks
print((cpu._status()["VmRSS"] - before) / MIB)
device.peak_memory(0)
"""
"""Blocks of 1 MiB with small blocks between them that stay: in the heap, the pages of freed blocks would stay too."""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_large_blocks_have_separate_pages_only_while_a_peak_is_measured():
    """In a separate process, whose heap has no free blocks of other tests."""
    done = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True)
    before, growth, *after = done.stdout.splitlines()
    assert before == f"{cpu.M_MMAP_THRESHOLD} {128 * 1024}"
    assert float(growth) < 32
    assert after == [f"{cpu.M_MMAP_THRESHOLD} {32 * MIB}", f"{cpu.M_TRIM_THRESHOLD} {64 * MIB}"]


def test_the_memory_that_the_benchmark_keeps_is_recorded_with_the_peak():
    device = Cpu()
    device.reset_peak_memory()
    assert value(device.peak_memory(123), "kept_inputs") == 123


def test_a_cpu_gives_the_reason_for_missing_peaks_of_the_allocator():
    device = Cpu()
    device.reset_peak_memory()
    missing = device.peak_memory(0).missing
    assert missing == {
        "memory/peak_allocated_bytes": "a CPU has no allocator statistics of torch",
        "memory/peak_reserved_bytes": "a CPU has no allocator statistics of torch",
        "memory/context_bytes": "a CPU has no context",
    }


def test_a_peak_that_cannot_be_reset_is_flagged(monkeypatch):
    def refuse(self, text):
        raise PermissionError

    device = Cpu()
    monkeypatch.setattr(Path, "write_text", refuse)
    device.reset_peak_memory()
    assert "peak since start" in device.peak_memory(0).flags["peak_since_start"]


def test_a_peak_that_the_kernel_does_not_report_is_missing_with_the_reason(monkeypatch):
    monkeypatch.setattr(cpu, "_status", dict)
    samples = Cpu().peak_memory(0)
    assert not len(samples.get("memory/process_peak_bytes"))
    assert samples.missing["memory/process_peak_bytes"] == "/proc/self/status has no VmHWM here"


def test_memory_in_use_grows_by_the_size_of_an_array():
    before = Cpu().memory_in_use()
    held = np.ones(64 * MIB, np.uint8)
    after = Cpu().memory_in_use()
    for name in ("process", "process_anonymous"):
        assert value(after, name) - value(before, name) == pytest.approx(held.nbytes, abs=ABOUT)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_errors_of_memory_shortage_are_recognised(error, is_one):
    assert Cpu().is_out_of_memory(error) is is_one


def test_torchs_error_of_memory_shortage_is_recognised_on_this_machine():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert Cpu().is_out_of_memory(caught.value)


# -------------------------------------------------------------------------------------------------------------- setup
def test_a_cpu_is_never_absent():
    assert Cpu().why_absent() is None
    assert (Cpu(index=3).id, Cpu.kind) == ("cpu", "cpu")


def test_setup_sets_the_configured_threads_and_ieee_products(switches):
    matmul, conv = switches
    matmul.fp32_precision = conv.fp32_precision = "bf16"
    device = Cpu()
    device.setup(Precision("fp32", "float32"), threads=1)
    assert device.fingerprint()["threads"] == torch.get_num_threads() == 1
    assert (matmul.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")


def test_setup_keeps_torchs_threads_if_none_are_configured(switches):
    torch.set_num_threads(2)
    Cpu().setup(Precision("fp32", "float32"), threads=None)
    assert torch.get_num_threads() == 2


def test_the_fingerprint_has_the_processor_and_its_instructions():
    samples = Cpu().fingerprint()
    assert samples["device_name"]
    assert samples["cores_usable"] >= 1
    assert samples["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


# -------------------------------------------------------------------------------------------------------------- energy
@pytest.fixture
def rapl(tmp_path, monkeypatch):
    """A function that writes counters into a tree like that of Linux, by folder (`rapl_0_0` is a part of `rapl_0`)."""
    monkeypatch.setattr(cpu, "RAPL", tmp_path)

    def counters(kind="package-0", **micro_joules):
        for name, value in micro_joules.items():
            folder = tmp_path / name.replace("_", ":").replace("rapl:", "intel-rapl:", 1)
            folder.mkdir(exist_ok=True)
            (folder / "name").write_text(f"{kind}\n")
            (folder / "energy_uj").write_text(f"{value}\n")
            (folder / "max_energy_range_uj").write_text("999999\n")

    return counters


def test_energy_is_the_sum_over_packages_and_counts_their_parts_once(rapl):
    rapl(rapl_0=100, rapl_1=200, rapl_0_0=50)
    end = Cpu().meter()
    rapl(rapl_0=400_100, rapl_1=100_200, rapl_0_0=300_000)
    assert end().get("telemetry/energy_j").tolist() == [0.5]


def test_a_counter_that_wraps_around_gives_the_difference(rapl):
    rapl(rapl_0=999_000)
    end = Cpu().meter()
    rapl(rapl_0=1_000)
    assert end().get("telemetry/energy_j").tolist() == [0.002]


def test_the_counter_of_the_platform_is_not_added_to_those_of_its_packages(rapl):
    rapl(rapl_0=0)
    rapl(kind="psys", rapl_1=0)
    end = Cpu().meter()
    rapl(rapl_0=500_000)
    rapl(kind="psys", rapl_1=900_000)
    assert end().get("telemetry/energy_j").tolist() == [0.5]


def test_without_counters_there_is_a_reason(rapl):
    assert Cpu().meter()().missing == {"telemetry/energy_j": "this machine has no energy counter (RAPL)"}


def test_a_counter_without_permission_is_missing_with_the_reason(rapl, monkeypatch):
    rapl(rapl_0=100)
    read = Path.read_text

    def refuse(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    samples = Cpu().meter()()
    assert samples.missing == {"telemetry/energy_j": "the energy counter (RAPL) cannot be read: Permission denied"}
    assert not samples.series


def test_a_cpu_has_nothing_to_watch_and_nothing_to_probe():
    assert Cpu().watch()() == Samples()
    assert Cpu().probe() == {}


def test_the_memory_limit_is_the_free_memory_with_the_memory_of_this_process(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: (100.0 * MIB, "free memory of a test"))
    limit = Cpu().memory_limit()
    assert limit.source == "free memory of a test"
    assert limit.bytes > 100 * MIB
    assert abs(limit.bytes - 100 * MIB - value(Cpu().memory_in_use(), "process")) < 4 * ABOUT


def test_the_limited_peak_is_that_of_the_process_or_unknown():
    device = Cpu()
    device.reset_peak_memory()
    peaks = device.peak_memory(0)
    assert device.limited_peak(peaks) == value(peaks, "process_peak")
    assert device.limited_peak(Samples()) is None
