"""A GPU that is none: the code of `devices/cuda.py` with this machine's processor behind torch.cuda, and NVML's answers
made up. It shows that the line holds together for a device with a queue, events and NVML; of a GPU it shows nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from visionbench import registry
from visionbench.devices.cuda import Cuda

MIB = 2**20
MEMORY = 8 * 2**30


class StandIn(Cuda):
    """Torch puts its tensors where it can."""

    id = "cpu"
    probe_lag_s = 0.0  # the tests' windows are shorter than a real driver's readings reach back

    def why_absent(self) -> None:
        """It is always there."""


class Event:
    """What `torch.cuda.Event` is, on a device that is done with a call as soon as the call returns."""

    def __init__(self, enable_timing: bool = False) -> None: ...

    def record(self) -> None:
        self.at = perf_counter()

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1e3


class Profile:
    """What `torch.profiler.profile` is, of a device whose kernels run for a hundredth of a call, in forty pieces."""

    def __init__(self, **options: Any) -> None: ...

    def __enter__(self) -> Profile:
        self.began = perf_counter()
        return self

    def __exit__(self, *raised: object) -> None:
        self.took_us = (perf_counter() - self.began) * 1e6

    def events(self) -> list[SimpleNamespace]:
        def event(device: str, name: str, start: float, end: float) -> SimpleNamespace:
            span = SimpleNamespace(start=start, end=end)
            return SimpleNamespace(
                device_type=f"DeviceType.{device}", name=name, time_range=span, is_user_annotation=False
            )

        each = self.took_us / 40
        kernels = [event("CUDA", "gemm", each * at, each * (at + 0.01)) for at in range(40)]
        waits = [event("CPU", name, 0, 1) for name in ("cudaStreamSynchronize", "cudaStreamSynchronize")]
        return [*kernels, *waits, event("CPU", "cudaDeviceSynchronize", 0, 1), event("CPU", "aten::mm", 0, 1)]


def nvml(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Have NVML say what stands in the answer, which may be changed at any time; refuse everything if not `told`."""
    says = SimpleNamespace(
        bits=0, violated={}, fields={}, pids=[os.getpid()], millijoules=0, told=True, gpm=0, used=512 * MIB
    )

    def ask(answer: Callable[..., Any]) -> Callable[..., Any]:
        def answered(*given: Any) -> Any:
            if not says.told:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return answer(*given)

        return answered

    answers = {
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: says.bits,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: says.bits,
        "nvmlDeviceGetViolationStatus": lambda handle, policy: SimpleNamespace(
            violationTime=says.violated.get(policy, 0)
        ),
        "nvmlDeviceGetFieldValues": lambda handle, ids: [
            SimpleNamespace(fieldId=at, nvmlReturn=0, valueType=3, value=SimpleNamespace(ullVal=says.fields[at]))
            for at in ids
            if at in says.fields
        ],
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
            SimpleNamespace(pid=pid, usedGpuMemory=says.used) for pid in says.pids
        ],
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: says.millijoules,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=75, memory=50),
        "nvmlDeviceGetClockInfo": lambda handle, clock: 1980,
        "nvmlDeviceGetMaxClockInfo": lambda handle, clock: 1980,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 61,
        "nvmlDeviceGetPowerUsage": lambda handle: 512_000,
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
        "nvmlSystemGetDriverVersion": lambda: "580.00",
        "nvmlDeviceGetEccMode": lambda handle: [1, 1],
        "nvmlDeviceGetMigMode": lambda handle: [0, 0],
        "nvmlDeviceGetPersistenceMode": lambda handle: 1,
        "nvmlDeviceGetApplicationsClock": lambda handle, clock: 1980,
        "nvmlGpmQueryDeviceSupport": lambda handle: SimpleNamespace(isSupportedDevice=says.gpm),
    }
    for name, answer in answers.items():
        patch.setattr(pynvml, name, ask(answer))
    patch.setattr(Cuda, "_nvml", lambda self: "a handle")
    return says


def install(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Have `device=stand_in_gpu`, with torch.cuda answering for the processor; what NVML says, as of `nvml`."""
    card = SimpleNamespace(name="stand-in GPU", total_memory=MEMORY, major=9, minor=0, multi_processor_count=132)
    answers = {
        "Event": Event,
        "set_device": lambda index: None,
        "synchronize": lambda index: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda index: None,
        "memory_allocated": lambda index: 3 * MIB,
        "max_memory_allocated": lambda index: 5 * MIB,
        "max_memory_reserved": lambda index: 8 * MIB,
        "memory_reserved": lambda index: 8 * MIB,
        "is_initialized": lambda: True,
        "get_device_properties": lambda index: card,
    }
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, answer)
    patch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    says = nvml(patch)
    says.marks = []
    patch.setattr(torch.cuda.nvtx, "range", lambda name: says.marks.append(name) or nullcontext())
    patch.setattr(torch.profiler, "profile", Profile)
    patch.setitem(registry._registered, ("devices", "stand_in_gpu"), StandIn)
    return says
