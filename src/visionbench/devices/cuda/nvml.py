"""Readings of NVIDIA's driver through NVML: identity, memory, lowered clocks, energy and momentary values of a GPU.

The functions take NVML's handle of a GPU, or None if NVML does not list the GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from time import perf_counter
from typing import Any

FAULTS: Mapping[str, str] = {
    "thermal_throttling": "SwThermalSlowdown",
    "hardware_slowdown": "HwSlowdown",
    "hardware_thermal_slowdown": "HwThermalSlowdown",
    "power_brake": "HwPowerBrakeSlowdown",
}
"""Reasons for lowered clocks that invalidate a measurement: the fault, and the end of the name of NVML's constant."""
LABELS: Mapping[str, str] = {"software_power_cap": "SwPowerCap"}
"""Reasons that are recorded and do not lower the validity: a busy GPU runs at its power limit."""
COUNTERS: Mapping[str, tuple[str, str | None]] = {
    "thermal_throttling": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN", "NVML_PERF_POLICY_THERMAL"),
    "hardware_thermal_slowdown": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", None),
    "power_brake": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN", None),
    "software_power_cap": ("NVML_FI_DEV_PERF_POLICY_POWER", "NVML_PERF_POLICY_POWER"),
    "reliability_cap": ("NVML_FI_DEV_PERF_POLICY_RELIABILITY", "NVML_PERF_POLICY_RELIABILITY"),
}
"""Counters of the time in ns for which a reason lowered the clocks: NVML's field, and the policy of older drivers."""
RECORDED = frozenset({*LABELS, "reliability_cap"})
"""Counters whose growth is a label: a busy GPU runs at its power limit, or at the highest clock of its voltage."""
GPM: Mapping[str, str] = {
    "gpu_gpm_sm_fraction": "NVML_GPM_METRIC_SM_UTIL",
    "gpu_gpm_tensor_fraction": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "gpu_gpm_dram_fraction": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}
"""GPM counters by the name of their series. NVML gives them in percent of their maximum."""
GPM_MIN_INTERVAL_S = 0.1
"""The interval at which NVML updates the GPM counters. Two samples within it do not give a value."""


# ------------------------------------------------------------------------------------------------------------- identity
def handle(uuid: str) -> Any:
    """Return NVML's handle of the GPU or MIG instance with this UUID (without its prefix), or None."""
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for prefix in ("GPU", "MIG"):
            with suppress(pynvml.NVMLError):
                return pynvml.nvmlDeviceGetHandleByUUID(f"{prefix}-{uuid}")
    return None


def query(handle: Any, function: str, *args: Any) -> Any:
    """Return the result of one of NVML's functions for a GPU, or None if the driver does not support it."""
    import pynvml

    if handle is None or not hasattr(pynvml, function):
        return None
    with suppress(pynvml.NVMLError):
        return getattr(pynvml, function)(handle, *args)
    return None


def fingerprint(handle: Any) -> Mapping[str, Any]:
    """Return clocks, limits and modes of a GPU, each None if the driver does not report it."""
    import pynvml

    limit = query(handle, "nvmlDeviceGetEnforcedPowerLimit")
    ecc = query(handle, "nvmlDeviceGetEccMode")
    mig = query(handle, "nvmlDeviceGetMigMode")
    return {
        "driver": pynvml.nvmlSystemGetDriverVersion() if handle else None,
        "clock_sm_mhz": query(handle, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
        "clock_sm_max_mhz": query(handle, "nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),
        "clock_memory_mhz": query(handle, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM),
        "clock_sm_application_mhz": query(handle, "nvmlDeviceGetApplicationsClock", pynvml.NVML_CLOCK_SM),
        "clock_memory_application_mhz": query(handle, "nvmlDeviceGetApplicationsClock", pynvml.NVML_CLOCK_MEM),
        "power_limit_w": None if limit is None else limit / 1e3,
        "ecc": None if ecc is None else bool(ecc[0]),
        "mig": None if mig is None else bool(mig[0]),
        "persistence_mode": _flag(query(handle, "nvmlDeviceGetPersistenceMode")),
    }


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


# ------------------------------------------------------------------------------------------------ memory and processes
def process_memory(handle: Any) -> float | None:
    """Return the bytes of GPU memory of this process, CUDA's context included, or None if NVML does not list it."""
    for process in query(handle, "nvmlDeviceGetComputeRunningProcesses") or ():
        if process.pid == os.getpid() and process.usedGpuMemory is not None:
            return float(process.usedGpuMemory)
    return None


def other_processes(handle: Any) -> set[int]:
    """Return the ids of other processes on this GPU, or none if ids are hidden and this process is not listed."""
    running = {process.pid for process in query(handle, "nvmlDeviceGetComputeRunningProcesses") or ()}
    return running - {os.getpid()} if os.getpid() in running else set()


# -------------------------------------------------------------------------------------------------------------- clocks
def clock_reasons(handle: Any) -> set[str]:
    """Return why the clocks are lowered now, as names in FAULTS and LABELS; empty if the driver does not report it."""
    import pynvml

    for function in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        bits = query(handle, function)  # drivers before 535 have only the second one
        if bits is not None:
            names = {**FAULTS, **LABELS}
            return {name for name, reason in names.items() if bits & getattr(pynvml, f"nvmlClocksEventReason{reason}")}
    return set()


def lowered_clocks(handle: Any) -> dict[str, int]:
    """Return the time in ns for which each reason in COUNTERS has lowered the clocks. The driver updates it late."""
    import pynvml

    ids = {name: getattr(pynvml, field) for name, (field, _) in COUNTERS.items() if hasattr(pynvml, field)}
    values = fields(handle, list(ids.values()))
    counters: dict[str, int] = {}
    for name, (_, policy) in COUNTERS.items():
        times = [values[ids[name]]] if ids.get(name) in values else []
        if policy is not None and (status := query(handle, "nvmlDeviceGetViolationStatus", getattr(pynvml, policy))):
            times.append(status.violationTime)
        if times:
            counters[name] = int(max(times))
    return counters


def fields(handle: Any, ids: Sequence[int]) -> dict[int, float]:
    """Return the values of NVML's fields with these ids, without those that the driver does not report."""
    values = query(handle, "nvmlDeviceGetFieldValues", list(ids)) if ids else None
    members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by NVML's valueType
    return {
        int(value.fieldId): float(getattr(value.value, members[value.valueType]))
        for value in values or ()
        if value.nvmlReturn == 0 and value.valueType < len(members)
    }


# ------------------------------------------------------------------------------------------------- energy and readings
def energy_j(handle: Any) -> float | str:
    """Return the GPU's energy counter in J, or the reason why it cannot be read."""
    import pynvml

    if handle is None:
        return "NVML does not list this GPU"
    try:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except pynvml.NVMLError as error:
        return f"NVML does not report this GPU's energy ({error})"


def readings(handle: Any) -> dict[str, float]:
    """Return momentary readings by the names of the telemetry series.

    `gpu_kernel_active_fraction` and `gpu_memory_active_fraction` are the shares of the driver's last sampling period
    (up to a second) in which any kernel ran, and in which device memory was read or written. Power is the momentary
    value if the driver reports it, else the mean over a second.
    """
    import pynvml

    current: dict[str, float | None] = {}
    if (rates := query(handle, "nvmlDeviceGetUtilizationRates")) is not None:
        current |= {"gpu_kernel_active_fraction": rates.gpu / 100, "gpu_memory_active_fraction": rates.memory / 100}
    current["gpu_clock_sm_mhz"] = query(handle, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM)
    current["gpu_clock_memory_mhz"] = query(handle, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM)
    current["gpu_temperature_celsius"] = query(handle, "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU)
    memory, power = pynvml.NVML_FI_DEV_MEMORY_TEMP, pynvml.NVML_FI_DEV_POWER_INSTANT
    values = fields(handle, [memory, power])
    current["gpu_memory_temperature_celsius"] = values.get(memory)
    milliwatts = values.get(power) or query(handle, "nvmlDeviceGetPowerUsage")
    current["gpu_power_w"] = None if milliwatts is None else milliwatts / 1e3
    return {name: float(value) for name, value in current.items() if value is not None}


@dataclass
class GpmCounters:
    """NVML's GPM counters, on GPUs since Hopper: means over the time since the last reading."""

    handle: Any
    samples: list[Any]
    """Two samples: the last one, and the one that is read next."""
    sampled_at: float
    """The time of the last sample in seconds of the clock."""

    @staticmethod
    def of(handle: Any) -> GpmCounters | None:
        """Return the counters of a GPU with a first sample, or None if it has no such counters."""
        import pynvml

        if handle is None:
            return None
        with suppress(pynvml.NVMLError):
            if pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                samples = [pynvml.nvmlGpmSampleAlloc() for _ in range(2)]
                pynvml.nvmlGpmSampleGet(handle, samples[0])
                return GpmCounters(handle, samples, perf_counter())
        return None

    def read(self) -> dict[str, float]:
        """Return the shares of time in which multiprocessors and tensor cores were busy, and of the memory bandwidth.

        Empty if the last reading is too recent.
        """
        import pynvml

        now = perf_counter()
        if now - self.sampled_at < GPM_MIN_INTERVAL_S:
            return {}
        request = pynvml.c_nvmlGpmMetricsGet_t()
        request.version, request.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, len(GPM)
        for index, metric in enumerate(GPM.values()):
            request.metrics[index].metricId = getattr(pynvml, metric)
        try:
            pynvml.nvmlGpmSampleGet(self.handle, self.samples[1])
            request.sample1, request.sample2 = self.samples
            pynvml.nvmlGpmMetricsGet(request)
        except pynvml.NVMLError:
            return {}
        self.samples.reverse()
        self.sampled_at = now
        results = zip(GPM, request.metrics[: len(GPM)], strict=True)
        return {
            name: result.value / 100 for name, result in results if result.nvmlReturn == 0 and isfinite(result.value)
        }
