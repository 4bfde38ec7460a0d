"""An NVIDIA GPU: work is queued, so spans are taken with events and every clock reading waits for the device.

Not yet run on a GPU: no figure in this repository comes from it. Tests run it against `tests/stand_in_gpu.py`, and
those marked `gpu` wait for a real one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from visionbench import machine
from visionbench.core import CallTiming, Precision, Samples
from visionbench.registry import register

FAULTS: Mapping[str, str] = {
    "thermal_throttling": "SwThermalSlowdown",
    "hardware_slowdown": "HwSlowdown",
    "hardware_thermal_slowdown": "HwThermalSlowdown",
    "power_brake": "HwPowerBrakeSlowdown",
}
"""Reasons of NVML for lowered clocks that make a measurement void, by the names that we give them."""
LABELS: Mapping[str, str] = {"software_power_cap": "SwPowerCap"}
"""Those that are told and no more: a GPU at its power limit is a GPU at work."""
VIOLATIONS: Mapping[str, str] = {
    "thermal_throttling": "NVML_PERF_POLICY_THERMAL",
    "reliability_throttling": "NVML_PERF_POLICY_RELIABILITY",
    "software_power_cap": "NVML_PERF_POLICY_POWER",
}
"""Counters of time, in ns, that a policy held the clocks down."""
GPM: Mapping[str, str] = {
    "gpu_gpm_sm_fraction": "NVML_GPM_METRIC_SM_UTIL",
    "gpu_gpm_tensor_fraction": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "gpu_gpm_dram_fraction": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}
"""Counters in percent of their maximum."""
GPM_LEAST_S = 0.1
"""NVML renews these counters no oftener: samples that lie nearer to each other say nothing."""

NO_ROOM = ("CUDA error: out of memory", "CUDA driver error: out of memory", "_STATUS_ALLOC_FAILED")
"""What stands in errors about room for what torch's allocator does not give: handles, kernels, pinned memory."""


@register("devices", "cuda")
@dataclass
class Cuda:
    """The GPU that torch counts as `index`."""

    index: int = 0

    kind: ClassVar[str] = "cuda"

    @property
    def id(self) -> str:
        """Torch's name of the device, `cuda:0`."""
        return f"cuda:{self.index}"

    def why_absent(self) -> str | None:
        """Why there is no such GPU to use, or None. Asks NVML and reads torch's build, without importing torch."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None and visible.strip() in ("", "-1"):
            return "CUDA_VISIBLE_DEVICES hides every GPU"
        if not _torch_has_cuda():
            return "this torch was built without CUDA"
        import pynvml

        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            return f"no NVIDIA driver answers ({error})"
        count = count if visible is None else min(count, len(visible.split(",")))
        return (
            None
            if self.index < count
            else f"of the {count} GPUs that can be used, counted from 0, none is {self.index}"
        )

    def setup(self, precision: Precision, threads: int | None) -> None:
        """Select the GPU; IEEE fp32 unless the precision is TF32 (cuDNN would use TF32 by default)."""
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        torch.cuda.set_device(self.index)
        _allow_tf32(precision.tf32)
        torch.backends.cudnn.benchmark = False
        self._baseline = _process_memory(self._nvml())

    def synchronize(self) -> None:
        """Wait for everything queued on the device."""
        import torch

        torch.cuda.synchronize(self.index)

    def time_call(self, call: Callable[[], object]) -> CallTiming:
        """Host time to completion, the span between two events around the call, and the time to enqueue it."""
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
        """Issue calls, waiting only for the one `in_flight` before; completions are read from events after the end."""
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

    def reset_peak_memory(self) -> None:
        """Empty torch's cache, then begin a window for its peaks."""
        import torch

        torch.cuda.synchronize(self.index)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.index)

    def peak_memory(self, kept_bytes: int) -> Samples:
        """Torch's peaks, and what NVML counts for this process beyond its start (context, kernels, cache)."""
        import torch

        series = {
            "memory/peak_allocated_bytes": np.array([float(torch.cuda.max_memory_allocated(self.index))]),
            "memory/peak_reserved_bytes": np.array([float(torch.cuda.max_memory_reserved(self.index))]),
        }
        return Samples(series).merged(self._nvml_memory("memory/process_peak_bytes"))

    def memory_in_use(self) -> Samples:
        """What torch has allocated and what NVML counts for this process now."""
        import torch

        allocated = np.array([float(torch.cuda.memory_allocated(self.index))])
        return Samples({"memory/allocated_bytes": allocated}).merged(self._nvml_memory("memory/process_bytes"))

    def watch(self) -> Callable[[], Samples]:
        """Throttling and other processes on the GPU, by NVML's reasons and violation counters around the window."""
        handle = self._nvml()
        before, reasons, others = _violations(handle), _clock_reasons(handle), _other_processes(handle)

        def ended() -> Samples:
            after, seen = _violations(handle), reasons | _clock_reasons(handle)
            found = {name: "seen at an end of the window" for name in seen}
            found |= {
                name: f"{(after[name] - began) / 1e9:.3g} s of the window"
                for name, began in before.items()
                if after.get(name, began) > began
            }
            if foreign := sorted(others | _other_processes(handle)):
                found["foreign_process"] = f"also on this GPU: process {', '.join(map(str, foreign))}"
            flags = {name: found.pop(name) for name in LABELS if name in found}
            return Samples(flags=flags, faults=found)

        return ended

    def meter(self) -> Callable[[], Samples]:
        """The difference of NVML's energy counter, synchronised at both ends."""
        import pynvml

        handle = self._nvml()

        def now() -> float | str:
            self.synchronize()
            try:
                return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
            except pynvml.NVMLError as error:
                return f"NVML does not tell this GPU's energy ({error})"

        before: float | str = now() if handle else "NVML does not know this GPU"

        def ended() -> Samples:
            after = before if isinstance(before, str) else now()
            if isinstance(before, str) or isinstance(after, str):
                return Samples(missing={"telemetry/energy_j": str(after)})
            return Samples({"telemetry/energy_j": np.array([(after - before) / 1e3])})

        return ended

    def probe(self) -> Mapping[str, float]:
        """NVML's utilisation, clocks, temperature and power; what it does not tell is left out."""
        import pynvml

        if not hasattr(self, "_probed"):  # once: finding the GPU costs more than reading it
            self._probed = self._nvml()
            self._counters = Counters.of(self._probed)
        handle = self._probed
        if handle is None:
            return {}
        questions: dict[str, Callable[[], float]] = {
            "gpu_sm_fraction": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "gpu_memory_fraction": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).memory / 100,
            "gpu_clock_sm_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "gpu_clock_memory_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
            "gpu_temperature_celsius": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "gpu_power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        }
        found = {}
        for name, ask in questions.items():
            with suppress(pynvml.NVMLError):
                found[f"telemetry/{name}"] = float(ask())
        return found | (self._counters.read() if self._counters else {})

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Torch's own error, or the driver's or a library's refusal (cuBLAS, cuDNN) for want of room."""
        import torch

        return isinstance(error, torch.OutOfMemoryError) or any(refusal in str(error) for refusal in NO_ROOM)

    def fingerprint(self) -> Mapping[str, Any]:
        """The GPU's name, memory, driver, CUDA, clocks and power limit; None where NVML does not tell."""
        import pynvml
        import torch

        properties = torch.cuda.get_device_properties(self.index)
        handle = self._nvml()

        def ask(question: Callable[..., Any], *args: Any) -> Any:
            with suppress(pynvml.NVMLError):
                return question(handle, *args)
            return None

        limit = ask(pynvml.nvmlDeviceGetEnforcedPowerLimit)
        return {
            "device_name": properties.name,
            "device_memory_mib": properties.total_memory // 2**20,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "driver": pynvml.nvmlSystemGetDriverVersion() if handle else None,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "clock_sm_mhz": ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
            "clock_sm_max_mhz": ask(pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM),
            "clock_memory_mhz": ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
            "power_limit_w": None if limit is None else limit / 1e3,
            "threads": torch.get_num_threads(),
            "host_name": machine.cpu_name(),
        }

    def _nvml(self) -> Any:
        """NVML's handle of this GPU, found by its UUID since torch may count GPUs otherwise; None if unknown."""
        import pynvml
        import torch

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(self.index).uuid}")
        return None

    def _nvml_memory(self, name: str) -> Samples:
        used = _process_memory(self._nvml())
        if used is None:
            return Samples(missing={name: "NVML does not tell this process's memory here (a container hides it)"})
        return Samples({name: np.array([used - (self._baseline or 0.0)])})


def _allow_tf32(allowed: bool) -> None:
    """TF32 for products and convolutions, or IEEE fp32 for both.

    By the older switches and by the newer: where they differ, torch refuses to tell the older ones, which code in
    models and in torch itself still asks for.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    parts: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    for products in parts:
        products.fp32_precision = "tf32" if allowed else "ieee"


def _process_memory(handle: Any) -> float | None:
    """Bytes of GPU memory that NVML counts for this process; None where it does not say."""
    import pynvml

    if handle is None:
        return None
    with suppress(pynvml.NVMLError):
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return float(process.usedGpuMemory)
    return None


@dataclass
class Counters:
    """NVML's GPM counters, which newer GPUs have: means over the time since the last reading."""

    handle: Any
    samples: list[Any]
    """Two: the last one taken, and one to take next."""
    taken_at: float
    """When the last one was taken, in seconds of the clock."""

    @staticmethod
    def of(handle: Any) -> Counters | None:
        """The counters of a GPU, with a first sample; None where it has none."""
        import pynvml

        if handle is None:
            return None
        with suppress(pynvml.NVMLError):
            if pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                samples = [pynvml.nvmlGpmSampleAlloc() for _ in range(2)]
                pynvml.nvmlGpmSampleGet(handle, samples[0])
                return Counters(handle, samples, perf_counter())
        return None

    def read(self) -> dict[str, float]:
        """Shares of the time that multiprocessors and tensor cores were busy, and of the memory's bandwidth; nothing
        where the last reading is too near."""
        import pynvml

        now = perf_counter()
        if now - self.taken_at < GPM_LEAST_S:
            return {}
        asked = pynvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, len(GPM)
        for at, metric in enumerate(GPM.values()):
            asked.metrics[at].metricId = getattr(pynvml, metric)
        try:
            pynvml.nvmlGpmSampleGet(self.handle, self.samples[1])
            asked.sample1, asked.sample2 = self.samples
            pynvml.nvmlGpmMetricsGet(asked)
        except pynvml.NVMLError:
            return {}
        self.samples.reverse()
        self.taken_at = now
        answers = zip(GPM, asked.metrics[: len(GPM)], strict=True)
        return {
            f"telemetry/{name}": answer.value / 100
            for name, answer in answers
            if answer.nvmlReturn == 0 and isfinite(answer.value)
        }


def _violations(handle: Any) -> dict[str, int]:
    """The violation counters that this GPU has, in ns."""
    import pynvml

    found = {}
    for name, policy in VIOLATIONS.items() if handle else ():
        with suppress(pynvml.NVMLError):
            status = pynvml.nvmlDeviceGetViolationStatus(handle, getattr(pynvml, policy))
            found[name] = int(status.violationTime)
    return found


def _clock_reasons(handle: Any) -> set[str]:
    """Why the clocks are lowered now, of those in FAULTS and LABELS; none where NVML does not tell."""
    import pynvml

    names = {**FAULTS, **LABELS}
    for question in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        if handle is None or not hasattr(pynvml, question):  # the second is for drivers before 535
            continue
        with suppress(pynvml.NVMLError):
            bits = getattr(pynvml, question)(handle)
            return {name for name, reason in names.items() if bits & getattr(pynvml, f"nvmlClocksEventReason{reason}")}
    return set()


def _other_processes(handle: Any) -> set[int]:
    """Ids of other processes that compute on this GPU; none where NVML does not tell (a container hides them)."""
    import pynvml

    if handle is None:
        return set()
    with suppress(pynvml.NVMLError):
        running = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
        return running - {os.getpid()} if os.getpid() in running else set()
    return set()


def _torch_has_cuda() -> bool:
    """Whether torch was built for CUDA, read from its version file."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py").read_text()
    line = next((line for line in version.splitlines() if line.startswith("cuda")), "")
    return "None" not in line and bool(line)
