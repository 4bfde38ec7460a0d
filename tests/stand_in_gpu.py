"""A stand-in for a GPU: the code of `devices/cuda` with the CPU behind torch.cuda, and invented values behind NVML.

It shows that a run works for a device with a queue, events and NVML. It shows nothing about a real GPU.
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
    """The class of the GPU, with tensors on the CPU."""

    id = "cpu"
    probe_lag_s = 0.0  # the windows of tests are shorter than the averaging time of a real driver

    def why_absent(self) -> None:
        """Return None: the stand-in can always be used."""


class Event:
    """`torch.cuda.Event` for a device whose work is done when the call returns."""

    def __init__(self, enable_timing: bool = False) -> None: ...

    def record(self) -> None:
        self.at = perf_counter()

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1e3


class Profile:
    """`torch.profiler.profile` for a device with forty kernels, which run for a hundredth of a call."""

    def __init__(self, **options: Any) -> None: ...

    def __enter__(self) -> Profile:
        self.began = perf_counter()
        return self

    def __exit__(self, *raised: object) -> None:
        self.duration_us = (perf_counter() - self.began) * 1e6

    def events(self) -> list[SimpleNamespace]:
        def event(device: str, name: str, start: float, end: float) -> SimpleNamespace:
            span = SimpleNamespace(start=start, end=end)
            return SimpleNamespace(
                device_type=f"DeviceType.{device}", name=name, time_range=span, is_user_annotation=False
            )

        each = self.duration_us / 40
        kernels = [event("CUDA", "gemm", each * index, each * (index + 0.01)) for index in range(40)]
        waits = [event("CPU", name, 0, 1) for name in ("cudaStreamSynchronize", "cudaStreamSynchronize")]
        return [*kernels, *waits, event("CPU", "cudaDeviceSynchronize", 0, 1), event("CPU", "aten::mm", 0, 1)]


def nvml(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let NVML return the values of the result, which a test may change, or an error if not `supported`."""
    values = SimpleNamespace(
        bits=0, violated={}, fields={}, pids=[os.getpid()], millijoules=0, supported=True, gpm=0, used=512 * MIB
    )

    def reply(answer: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any) -> Any:
            if not values.supported:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return answer(*args)

        return function

    answers = {
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: values.bits,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: values.bits,
        "nvmlDeviceGetViolationStatus": lambda handle, policy: SimpleNamespace(
            violationTime=values.violated.get(policy, 0)
        ),
        "nvmlDeviceGetFieldValues": lambda handle, ids: [
            SimpleNamespace(fieldId=id, nvmlReturn=0, valueType=3, value=SimpleNamespace(ullVal=values.fields[id]))
            for id in ids
            if id in values.fields
        ],
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
            SimpleNamespace(pid=pid, usedGpuMemory=values.used) for pid in values.pids
        ],
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: values.millijoules,
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
        "nvmlGpmQueryDeviceSupport": lambda handle: SimpleNamespace(isSupportedDevice=values.gpm),
    }
    for name, answer in answers.items():
        patch.setattr(pynvml, name, reply(answer))
    patch.setattr(Cuda, "_nvml", lambda self: "a handle")
    return values


def install(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Register `device=stand_in_gpu`, with the CPU behind torch.cuda, and return the values of `nvml`."""
    card = SimpleNamespace(
        name="stand-in GPU", total_memory=MEMORY, major=9, minor=0, multi_processor_count=132, uuid="41c6f0e4"
    )
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
    values = nvml(patch)
    values.marks = []
    patch.setattr(torch.cuda.nvtx, "range", lambda name: values.marks.append(name) or nullcontext())
    patch.setattr(torch.profiler, "profile", Profile)
    patch.setitem(registry._registered, ("devices", "stand_in_gpu"), StandIn)
    return values
