"""An NVIDIA GPU. Work is queued, so events give its times, and the host's clock is read after a synchronisation.

Measured on an H100 (docs/results/). Most tests use `tests/stand_in_gpu.py`; tests marked `gpu` need a real GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from visionbench import machine
from visionbench.core import CallTiming, MemoryLimit, Precision, Samples
from visionbench.devices.cuda import nvml
from visionbench.registry import register

THROTTLED_SHARE = 0.01
"""A counter that grows by less than this share of the window is ignored, because GPUs show this under normal load."""
MEMORY_ERRORS = (
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)
"""Messages of memory shortage outside torch's allocator: handles, kernels, pinned memory, cuDNN's workspace."""
HOST_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
"""Calls of the CUDA runtime in which the host waits for the device. Copying a value to the host calls one of them."""
COUNT_GPUS = """
import ctypes
cuda, count, version = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_int()
failed = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or cuda.cuDriverGetVersion(ctypes.byref(version))
print("" if failed else f"{count.value} {version.value}")
"""
"""Queries the CUDA driver in a separate process, because a process that forks must not initialise CUDA."""


@register("devices", "cuda")
@dataclass
class Cuda:
    """The GPU with torch's index `index`."""

    index: int = 0

    kind: ClassVar[str] = "cuda"
    queued: ClassVar[bool] = True
    shares_host_memory: ClassVar[bool] = False
    copy_block_bytes: ClassVar[int] = 2**30
    probe_lag_s: ClassVar[float] = 1.0

    @property
    def id(self) -> str:
        """Torch's name of the device, `cuda:0`."""
        return f"cuda:{self.index}"

    def count(self) -> int:
        """Return the number of GPUs that CUDA shows to this process."""
        driver, visible = _driver(), os.environ.get("CUDA_VISIBLE_DEVICES")
        if isinstance(driver, str):
            return 0
        return driver[0] if visible is None else _visible_count(visible, driver[0])

    def why_absent(self) -> str | None:
        """Return why this GPU cannot be used, or None if it can. Queries the driver without importing torch."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None and visible.split(",")[0].strip() in ("", "-1"):
            return "CUDA_VISIBLE_DEVICES hides every GPU"
        built_for = _cuda_of_torch()
        if built_for is None:
            return "this torch was built without CUDA"
        driver = _driver()
        if isinstance(driver, str):
            return driver
        count, supports = driver
        if supports // 1000 < int(built_for.split(".")[0]):
            return (
                f"the driver supports CUDA {supports // 1000}.{supports % 1000 // 10} and this torch was built for "
                f"CUDA {built_for}: update the driver, or install a torch built for an older CUDA"
            )
        count = count if visible is None else _visible_count(visible, count)
        return None if self.index < count else _out_of_range(self.index, count)

    def why_unusable(self) -> str | None:
        """Return why the NVIDIA GPU of this machine cannot be used, or None if it can be used or is not installed."""
        reason = self.why_absent() if machine.has_nvidia_gpu() else None
        return f"the NVIDIA GPU of this machine cannot be used ({reason})" if reason else None

    def why_unsupported(self, precision: Precision) -> None:
        """Return None: every precision of the schema can be computed."""

    def precision_warning(self, precision: Precision) -> None:
        """Return None: no precision of the schema is emulated."""

    def setup(self, precision: Precision, threads: int | None) -> None:
        """Select the GPU, and IEEE fp32 unless the precision is TF32 (cuDNN would use TF32 by default).

        If CUDA is not initialised yet, the other GPUs are hidden from this process, and this GPU becomes `cuda:0`.
        """
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        if not torch.cuda.is_initialized():
            os.environ["CUDA_VISIBLE_DEVICES"] = only_visible(self.index, os.environ.get("CUDA_VISIBLE_DEVICES"))
            self.index = 0
        torch.cuda.set_device(self.index)
        _allow_tf32(precision.tf32)
        torch.backends.cudnn.benchmark = False
        torch.zeros(1, device=self.id)  # the CUDA context is complete after a first allocation
        self.synchronize()
        self._context_bytes = _subtract(nvml.process_memory(self._nvml()), torch.cuda.memory_reserved(self.index))

    def synchronize(self) -> None:
        """Wait for everything queued on the device."""
        import torch

        torch.cuda.synchronize(self.index)

    def mark(self, name: str) -> AbstractContextManager[None]:
        """Return an NVTX range, which Nsight Systems shows with this name."""
        import torch

        return torch.cuda.nvtx.range(name)  # type: ignore[no-any-return]

    def time_call(self, call: Callable[[], object]) -> CallTiming:
        """Measure the host time to completion, the time between events around the call, and the time to enqueue it."""
        import torch

        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(self.index)
        start = perf_counter()
        begin.record()
        call()
        end.record()
        enqueued = perf_counter()
        torch.cuda.synchronize(self.index)
        done = perf_counter()
        return CallTiming(done - start, begin.elapsed_time(end) / 1e3, enqueued - start)

    def back_to_back(self, calls: Iterable[Callable[[], object]], in_flight: int) -> list[float]:
        """Issue calls, each after the call `in_flight` earlier has completed. Events give the times of completion."""
        import torch

        torch.cuda.synchronize(self.index)
        begin = torch.cuda.Event(enable_timing=True)
        begin.record()
        pending: deque[torch.cuda.Event] = deque()
        ends = []
        for call in calls:
            if len(pending) == in_flight:
                pending.popleft().synchronize()
            call()
            end = torch.cuda.Event(enable_timing=True)
            end.record()
            pending.append(end)
            ends.append(end)
        torch.cuda.synchronize(self.index)
        return [begin.elapsed_time(end) / 1e3 for end in ends]

    def profile(self, call: Callable[[], object]) -> Samples:
        """Run one call under torch's profiler, and return the kernels' busy time and number, and the host's waits.

        Kernels that overlap count once. The profiler slows the host, so no other figure is read from this call.
        """
        from torch.profiler import ProfilerActivity, profile

        self.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as profiler:
            call()
            self.synchronize()
        events = profiler.events() or []
        kernels = [
            event for event in events if str(event.device_type).endswith("CUDA") and not event.is_user_annotation
        ]
        spans = sorted((event.time_range.start, event.time_range.end) for event in kernels)
        waits = sum(event.name in HOST_WAITS for event in events)
        return Samples(
            {
                "kernels/busy_s": np.array([_covered(spans) / 1e6]),
                "kernels/launched_count": np.array([float(len(kernels))]),
                "kernels/host_waits_count": np.array([float(waits)]),
            }
        )

    def reset_peak_memory(self) -> None:
        """Empty torch's cache, then begin a window for its peaks."""
        import torch

        torch.cuda.synchronize(self.index)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.index)

    def peak_memory(self, kept_bytes: int) -> Samples:
        """Return torch's peaks, the memory that NVML reports for this process, and the memory of CUDA's context."""
        import torch

        series = {
            "memory/peak_allocated_bytes": np.array([float(torch.cuda.max_memory_allocated(self.index))]),
            "memory/peak_reserved_bytes": np.array([float(torch.cuda.max_memory_reserved(self.index))]),
        }
        context = _series("memory/context_bytes", self._context_bytes)
        return Samples(series).merged(self._nvml_memory("memory/process_peak_bytes")).merged(context)

    def memory_in_use(self) -> Samples:
        """Return the memory that torch has allocated, and the memory that NVML reports for this process."""
        import torch

        allocated = np.array([float(torch.cuda.memory_allocated(self.index))])
        return Samples({"memory/allocated_bytes": allocated}).merged(self._nvml_memory("memory/process_bytes"))

    def memory_limit(self) -> MemoryLimit:
        """Return the free memory of the GPU, and the memory that torch has reserved in this process."""
        import torch

        free, _ = torch.cuda.mem_get_info(self.index)
        return MemoryLimit(float(free + torch.cuda.memory_reserved(self.index)), "free memory of the GPU")

    def limited_peak(self, peaks: Samples) -> float | None:
        """Return the peak that torch has reserved."""
        peak = peaks.get("memory/peak_reserved_bytes")
        return float(peak[0]) if len(peak) else None

    def watch(self) -> Callable[[], Samples]:
        """Begin a window. NVML's clock reasons, counters and processes are read before and after it."""
        handle = self._nvml()
        before, reasons = nvml.lowered_clocks(handle), nvml.clock_reasons(handle)
        processes = nvml.other_processes(handle)
        start = perf_counter()

        def end() -> Samples:
            seconds = perf_counter() - start
            after = nvml.lowered_clocks(handle)
            details = dict.fromkeys(reasons | nvml.clock_reasons(handle), "at the start or the end of the window")
            for name, began in before.items():
                lowered = (after.get(name, began) - began) / 1e9
                if lowered > THROTTLED_SHARE * seconds:
                    details[name] = f"{min(lowered, seconds):.3g} s of a window of {seconds:.3g} s"
            if foreign := sorted(processes | nvml.other_processes(handle)):
                details["foreign_process"] = f"also on this GPU: process {', '.join(map(str, foreign))}"
            labels = {name: details.pop(name) for name in nvml.RECORDED if name in details}
            return Samples(labels=labels, faults=details)

        return end

    def meter(self) -> Callable[[], Samples]:
        """Begin an energy window. The energy is the difference of NVML's counter, read after synchronisations."""
        handle = self._nvml()
        self.synchronize()
        before = nvml.energy_j(handle)

        def end() -> Samples:
            self.synchronize()
            after = nvml.energy_j(handle)
            if isinstance(before, str) or isinstance(after, str):
                return Samples(missing={"telemetry/energy_j": before if isinstance(before, str) else str(after)})
            return Samples({"telemetry/energy_j": np.array([after - before])})

        return end

    def probe(self) -> Mapping[str, float]:
        """Return NVML's momentary readings and GPM counters, without those that the driver does not report."""
        handle, counters = self._probe_source
        values = {**nvml.readings(handle), **(counters.read() if counters else {})}
        return {f"telemetry/{name}": value for name, value in values.items()}

    @cached_property
    def _probe_source(self) -> tuple[Any, nvml.GpmCounters | None]:
        """The GPU's handle and its counters, cached because the search for the GPU takes longer than a reading."""
        handle = self._nvml()
        return handle, nvml.GpmCounters.of(handle)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether torch's allocator, the driver, a CUDA library or the host ran out of memory."""
        import torch

        if isinstance(error, torch.OutOfMemoryError) or machine.is_out_of_memory(error):
            return True
        return any(message in str(error) for message in MEMORY_ERRORS)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the GPU, its driver, clocks, limits and modes, and torch's switches that change kernels or memory."""
        import torch

        properties = torch.cuda.get_device_properties(self.index)
        return {
            "device_name": properties.name,
            "device_uuid": str(properties.uuid),
            "device_memory_mib": properties.total_memory // 2**20,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            **nvml.fingerprint(self._nvml()),
            "attention_backends": _attention_backends(),
            "cudnn_attention_last": os.environ.get("TORCH_CUDNN_SDPA_DEPRIORITIZED", "") not in ("", "0"),
            "reduced_precision_sums": _reduced_precision_sums(),
            "allocator": os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or "default",
            "threads": torch.get_num_threads(),
            "host_name": machine.cpu_name(),
        }

    def _nvml(self) -> Any:
        """Return NVML's handle of this GPU by its UUID, because torch may order GPUs differently; None if unknown."""
        import torch

        return nvml.handle(str(torch.cuda.get_device_properties(self.index).uuid))

    def _nvml_memory(self, name: str) -> Samples:
        return _series(name, nvml.process_memory(self._nvml()))


def only_visible(index: int, visible: str | None) -> str:
    """Return the value of CUDA_VISIBLE_DEVICES for one GPU. `index` counts the GPUs of the current value, `visible`."""
    return str(index) if visible is None else visible.split(",")[index].strip()


def _driver() -> tuple[int, int] | str:
    """Return the number of GPUs and the driver's CUDA version (13000 is 13.0), or the reason why they are unknown.

    NVML is queried first. A container may have a GPU without NVML (the `utility` capability), so CUDA is queried next.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetCount(), pynvml.nvmlSystemGetCudaDriverVersion()
    except pynvml.NVMLError as error:
        done = subprocess.run([sys.executable, "-c", COUNT_GPUS], capture_output=True, text=True, check=False)
        answer = done.stdout.split()
        if len(answer) == 2 and int(answer[0]):
            return int(answer[0]), int(answer[1])
        return f"no NVIDIA driver answers ({error})"


def _visible_count(visible: str, count: int) -> int:
    """Return the number of GPUs that CUDA shows: the entries of CUDA_VISIBLE_DEVICES before the first invalid one.

    CUDA uses a single MIG instance in a process, even if the variable names several.
    """
    entries = [entry.strip() for entry in visible.split(",")]
    if entries[0].startswith("MIG"):
        return 1
    shown = 0
    for entry in entries:
        if not (entry.startswith("GPU-") or (entry.isdigit() and int(entry) < count)):
            break
        shown += 1
    return shown


def _out_of_range(index: int, count: int) -> str:
    if not count:
        return f"device index {index} is out of range: no GPU is visible"
    listed = ", ".join(map(str, range(count)))
    return f"device index {index} is out of range: {count} GPU{'s are' if count > 1 else ' is'} visible ({listed})"


def _allow_tf32(allowed: bool) -> None:
    """Select TF32 or IEEE fp32 for products and convolutions.

    Both the older and the newer switches are set. If they differ, torch refuses to report the older ones, which models
    and torch itself still read.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    parts: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    for products in parts:
        products.fp32_precision = "tf32" if allowed else "ieee"


def _attention_backends() -> str:
    """Return the names of the enabled implementations of torch's scaled-dot-product attention."""
    import torch

    enabled = {
        "cudnn": torch.backends.cuda.cudnn_sdp_enabled(),
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
    }
    return " ".join(name for name, on in enabled.items() if on)


def _reduced_precision_sums() -> str:
    """Return the half precisions whose products torch may also sum in half precision. By default, it may for both."""
    import torch

    allowed = {
        "bf16": torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "fp16": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
    }
    return " ".join(name for name, on in allowed.items() if on) or "none"


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of time spans that are sorted by start."""
    covered, reached = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _series(name: str, value: float | None) -> Samples:
    if value is None:
        return Samples(missing={name: "NVML does not report this process's memory here (a container hides it)"})
    return Samples({name: np.array([value])})


def _subtract(total: float | None, part: float) -> float | None:
    """Return a total without a part, at least 0, or None if the total is unknown."""
    return None if total is None else max(total - part, 0.0)


def _cuda_of_torch() -> str | None:
    """Return the CUDA version that torch was built for, from its version file, or None for a build without CUDA."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    version = Path(spec.origin).with_name("version.py").read_text()
    line = next((line for line in version.splitlines() if line.startswith("cuda")), "")
    quoted = line.partition("=")[2].strip().strip("'\"")
    return quoted if quoted and quoted != "None" else None
