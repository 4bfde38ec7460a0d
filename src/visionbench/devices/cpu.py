"""The CPU. Calls return when their work is done, and the kernel counts the memory of the process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from visionbench import machine
from visionbench.core import CallTiming, MemoryLimit, Precision, Samples
from visionbench.registry import register

KIB = 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""
MAPPED_FROM = 128 * KIB
"""glibc's initial threshold. Larger blocks have separate pages, which the kernel gets back when they are freed."""
LARGEST_THRESHOLD = 32 * KIB * KIB
"""The maximum of glibc's threshold. By default, glibc raises the threshold whenever such a block is freed."""
RAPL = Path("/sys/class/powercap")
"""Linux's folder of the energy counters of Intel's and AMD's processors."""


@register("devices", "cpu")
@dataclass
class Cpu:
    """The host processor. `index` is not used."""

    index: int = 0
    kind: ClassVar[str] = "cpu"
    id: ClassVar[str] = "cpu"
    queued: ClassVar[bool] = False
    shares_host_memory: ClassVar[bool] = True
    copy_block_bytes: ClassVar[int] = 2**28
    probe_lag_s: ClassVar[float] = 0.0

    def why_absent(self) -> str | None:
        """Return None: every machine has a CPU."""
        return None

    def why_unusable(self) -> None:
        """Return None: the CPU can always be used."""

    def why_unsupported(self, precision: Precision) -> str | None:
        """Return why TF32 and fp8 are refused: they are modes of NVIDIA GPUs."""
        if precision.tf32:
            return "TF32 is a mode of NVIDIA GPUs; on a CPU use fp32 or bf16"
        if precision.quantization == "fp8":
            return "fp8 products need an NVIDIA GPU of compute capability 8.9; on a CPU use int8_dynamic or int8_static"
        return None

    def precision_warning(self, precision: Precision) -> str | None:
        """Return a warning for float16, because most CPUs have no instructions for it."""
        if precision.dtype != "float16":
            return None
        return "fp16 on a CPU is emulated in places, and many times slower than fp32"

    def setup(self, precision: Precision, threads: int | None) -> None:
        """Set torch's threads, and IEEE products in oneDNN even if the environment sets another mode."""
        import torch

        torch.backends.mkldnn.matmul.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.mkldnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        if threads is not None:
            torch.set_num_threads(threads)

    def synchronize(self) -> None:
        """Do nothing: a CPU has no pending work."""

    def mark(self, name: str) -> AbstractContextManager[None]:
        """Return a context that does nothing: profilers of a CPU show functions, not sections."""
        return nullcontext()

    def time_call(self, call: Callable[[], object]) -> CallTiming:
        """Measure the host time of one call."""
        start = perf_counter()
        call()
        return CallTiming(perf_counter() - start)

    def back_to_back(self, calls: Iterable[Callable[[], object]], in_flight: int) -> list[float]:
        """Run one call after the other: on a CPU, a call returns when it is done."""
        start = perf_counter()
        completed = []
        for call in calls:
            call()
            completed.append(perf_counter() - start)
        return completed

    def profile(self, call: Callable[[], object]) -> Samples:
        """Return the reason why a CPU has no kernels."""
        reason = "a CPU runs a call itself and launches no kernels"
        return Samples(missing={f"kernels/{name}": reason for name in ("busy_s", "launched_count", "host_waits_count")})

    def reset_peak_memory(self) -> None:
        """Return freed heap pages to the kernel, then reset the kernel's peak (`clear_refs`, see proc(5)).

        Until `peak_memory`, blocks of 128 KiB and more have separate pages, because freed blocks that stay in glibc's
        heap would count in the peak. Separate pages cause page faults, so nothing is timed until then.
        """
        _mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)
        _trim_heap()
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._reset = True
        except OSError:
            self._reset = False

    def peak_memory(self, kept_bytes: int) -> Samples:
        """Return the peak resident set of the process. Peaks of the allocator exist only on accelerators."""
        status = _status()
        _mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        _mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD)
        reason = "a CPU has no allocator statistics of torch"
        missing = {f"memory/peak_{kind}_bytes": reason for kind in ("allocated", "reserved")}
        missing["memory/context_bytes"] = "a CPU has no context"
        if "VmHWM" not in status:
            missing["memory/process_peak_bytes"] = "/proc/self/status has no VmHWM here"
            return Samples(missing=missing)
        flags = {} if self._reset else {"peak_since_start": "/proc/self/clear_refs cannot be written: peak since start"}
        series = {"memory/process_peak_bytes": status["VmHWM"], "memory/kept_inputs_bytes": float(kept_bytes)}
        return Samples({name: np.array([value]) for name, value in series.items()}, missing, flags)

    def memory_in_use(self) -> Samples:
        """Return the resident set of the process and its anonymous part. Mapped weights count after they were read."""
        _trim_heap()
        names = {"VmRSS": "memory/process_bytes", "RssAnon": "memory/process_anonymous_bytes"}
        status = _status()
        return Samples({name: np.array([status[key]]) for key, name in names.items() if key in status})

    def memory_limit(self) -> MemoryLimit:
        """Return the free memory of the machine or of the control group, and the resident set of this process."""
        free, source = machine.available_memory()
        return MemoryLimit(free + _status().get("VmRSS", 0.0), source)

    def limited_peak(self, peaks: Samples) -> float | None:
        """Return the peak resident set of the process, with the inputs that it keeps."""
        peak = peaks.get("memory/process_peak_bytes")
        return float(peak[0]) if len(peak) else None

    def watch(self) -> Callable[[], Samples]:
        """Return no samples: `stages.windows` reads the disturbances of the host for every device."""
        return Samples

    def meter(self) -> Callable[[], Samples]:
        """Meter energy with RAPL, the sum over the counters of all processor packages."""
        before = _package_energies(RAPL)

        def end() -> Samples:
            after = _package_energies(RAPL)
            if isinstance(before, str) or isinstance(after, str):
                return Samples(missing={"telemetry/energy_j": before if isinstance(before, str) else str(after)})
            used = ((after[name][0] - start) % after[name][1] for name, (start, _) in before.items())
            return Samples({"telemetry/energy_j": np.array([sum(used) / 1e6])})

        return end

    def probe(self) -> Mapping[str, float]:
        """Return no readings: the telemetry stage samples the load of the CPU for every device."""
        return {}

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether the host ran out of memory, see `machine.is_out_of_memory`."""
        return machine.is_out_of_memory(error)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the processor, the cores that this process may use, and torch's threads and instruction set."""
        import torch

        return {
            "device_name": machine.cpu_name(),
            "cores_usable": machine.usable_cores(),
            "cores": machine.core_list(),
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }


def _status() -> dict[str, float]:
    """Return the sizes in /proc/self/status in bytes, or nothing if there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): float(size) * KIB for name, size, _ in sizes}


def _mallopt(parameter: int, value: int) -> None:
    """Set a parameter of glibc's allocator. Do nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)


def _trim_heap() -> None:
    """Return free pages of glibc's heap to the kernel. Do nothing with another C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _package_energies(root: Path) -> dict[str, tuple[int, int]] | str:
    """Return the counter of each processor package in µJ and the value at which it wraps around.

    Return the reason if there is no counter or if it cannot be read.
    """
    zones = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)
    try:
        # the zone `psys` is in the same folder, and its counter includes the packages
        packages = [path for path in zones if (path / "name").read_text().startswith("package")]
        if not packages:
            return "this machine has no energy counter (RAPL)"
        return {
            path.name: (
                int((path / "energy_uj").read_text()),
                int((path / "max_energy_range_uj").read_text()) + 1,
            )
            for path in packages
        }
    except OSError as error:
        return f"the energy counter (RAPL) cannot be read: {error.strerror}"
