"""What NVIDIA's driver reports of a GPU through NVML: identity, memory, lowered clocks, energy and momentary readings.

Functions take NVML's handle of a GPU, or None where NVML does not know it. What the driver does not report is left out.
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
"""Reasons for lowered clocks that invalidate a measurement, by our name, with the end of NVML's name."""
LABELS: Mapping[str, str] = {"software_power_cap": "SwPowerCap"}
"""Reasons that are recorded and do not lower the validity: a busy GPU runs at its power limit."""
COUNTERS: Mapping[str, tuple[str, str | None]] = {
    "thermal_throttling": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN", "NVML_PERF_POLICY_THERMAL"),
    "hardware_thermal_slowdown": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", None),
    "power_brake": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN", None),
    "software_power_cap": ("NVML_FI_DEV_PERF_POLICY_POWER", "NVML_PERF_POLICY_POWER"),
    "reliability_cap": ("NVML_FI_DEV_PERF_POLICY_RELIABILITY", "NVML_PERF_POLICY_RELIABILITY"),
}
"""Counters of the time, in ns, that a reason lowered the clocks: NVML's field, and the older question for the same."""
RECORDED = frozenset({*LABELS, "reliability_cap"})
"""Counters whose growth is a label: a busy GPU runs at its power limit, or at the highest clock of its voltage."""
GPM: Mapping[str, str] = {
    "gpu_gpm_sm_fraction": "NVML_GPM_METRIC_SM_UTIL",
    "gpu_gpm_tensor_fraction": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "gpu_gpm_dram_fraction": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}
"""Counters in percent of their maximum."""
GPM_MIN_INTERVAL_S = 0.1
"""NVML updates the GPM counters at this interval; two closer samples hold no information."""


# ------------------------------------------------------------------------------------------------------------- identity
def handle(uuid: str) -> Any:
    """NVML's handle of the GPU or MIG instance with this UUID (without its prefix); None where NVML has none."""
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for prefix in ("GPU", "MIG"):
            with suppress(pynvml.NVMLError):
                return pynvml.nvmlDeviceGetHandleByUUID(f"{prefix}-{uuid}")
    return None


def ask(handle: Any, question: str, *args: Any) -> Any:
    """The driver's answer to one of NVML's questions about a GPU; None where it has no answer."""
    import pynvml

    if handle is None or not hasattr(pynvml, question):
        return None
    with suppress(pynvml.NVMLError):
        return getattr(pynvml, question)(handle, *args)
    return None


def fingerprint(handle: Any) -> Mapping[str, Any]:
    """Clocks, limits and modes of a GPU; None for what the driver does not report."""
    import pynvml

    limit = ask(handle, "nvmlDeviceGetEnforcedPowerLimit")
    ecc = ask(handle, "nvmlDeviceGetEccMode")
    mig = ask(handle, "nvmlDeviceGetMigMode")
    return {
        "driver": pynvml.nvmlSystemGetDriverVersion() if handle else None,
        "clock_sm_mhz": ask(handle, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
        "clock_sm_max_mhz": ask(handle, "nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),
        "clock_memory_mhz": ask(handle, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM),
        "clock_sm_application_mhz": ask(handle, "nvmlDeviceGetApplicationsClock", pynvml.NVML_CLOCK_SM),
        "clock_memory_application_mhz": ask(handle, "nvmlDeviceGetApplicationsClock", pynvml.NVML_CLOCK_MEM),
        "power_limit_w": None if limit is None else limit / 1e3,
        "ecc": None if ecc is None else bool(ecc[0]),
        "mig": None if mig is None else bool(mig[0]),
        "persistence_mode": _flag(ask(handle, "nvmlDeviceGetPersistenceMode")),
    }


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


# ------------------------------------------------------------------------------------------------ memory and processes
def process_memory(handle: Any) -> float | None:
    """Bytes of GPU memory that NVML counts for this process, its CUDA context included; None where it is not listed."""
    for process in ask(handle, "nvmlDeviceGetComputeRunningProcesses") or ():
        if process.pid == os.getpid() and process.usedGpuMemory is not None:
            return float(process.usedGpuMemory)
    return None


def other_processes(handle: Any) -> set[int]:
    """Ids of other processes that compute on this GPU; empty where this process is not listed (hidden ids)."""
    running = {process.pid for process in ask(handle, "nvmlDeviceGetComputeRunningProcesses") or ()}
    return running - {os.getpid()} if os.getpid() in running else set()


# -------------------------------------------------------------------------------------------------------------- clocks
def clock_reasons(handle: Any) -> set[str]:
    """Why the clocks are lowered now, as names in FAULTS and LABELS; empty where the driver does not report it."""
    import pynvml

    for question in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        bits = ask(handle, question)  # drivers before 535 know the second only
        if bits is not None:
            names = {**FAULTS, **LABELS}
            return {name for name, reason in names.items() if bits & getattr(pynvml, f"nvmlClocksEventReason{reason}")}
    return set()


def lowered_clocks(handle: Any) -> dict[str, int]:
    """How long each reason in COUNTERS has lowered the clocks so far, in ns. The driver updates them with a delay."""
    import pynvml

    ids = {name: getattr(pynvml, field) for name, (field, _) in COUNTERS.items() if hasattr(pynvml, field)}
    counted = fields(handle, list(ids.values()))
    counters: dict[str, int] = {}
    for name, (_, policy) in COUNTERS.items():
        times = [counted[ids[name]]] if ids.get(name) in counted else []
        if policy is not None and (status := ask(handle, "nvmlDeviceGetViolationStatus", getattr(pynvml, policy))):
            times.append(status.violationTime)
        if times:
            counters[name] = int(max(times))
    return counters


def fields(handle: Any, ids: Sequence[int]) -> dict[int, float]:
    """The values of NVML's fields with these ids, without those that the driver does not report."""
    found = ask(handle, "nvmlDeviceGetFieldValues", list(ids)) if ids else None
    members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by NVML's valueType
    return {
        int(value.fieldId): float(getattr(value.value, members[value.valueType]))
        for value in found or ()
        if value.nvmlReturn == 0 and value.valueType < len(members)
    }


# ------------------------------------------------------------------------------------------------- energy and readings
def energy_j(handle: Any) -> float | str:
    """The GPU's energy counter in J, or the reason why it cannot be read."""
    import pynvml

    if handle is None:
        return "NVML does not know this GPU"
    try:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except pynvml.NVMLError as error:
        return f"NVML does not report this GPU's energy ({error})"


def readings(handle: Any) -> dict[str, float]:
    """Momentary readings by the names of the telemetry series.

    `gpu_kernel_active_fraction` and `gpu_memory_active_fraction` are the shares of the driver's last sampling period
    (up to a second) in which any kernel ran, and in which device memory was read or written. Power is the momentary
    reading where the driver has one, else its mean over a second.
    """
    import pynvml

    found: dict[str, float | None] = {}
    if (rates := ask(handle, "nvmlDeviceGetUtilizationRates")) is not None:
        found |= {"gpu_kernel_active_fraction": rates.gpu / 100, "gpu_memory_active_fraction": rates.memory / 100}
    found["gpu_clock_sm_mhz"] = ask(handle, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM)
    found["gpu_clock_memory_mhz"] = ask(handle, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM)
    found["gpu_temperature_celsius"] = ask(handle, "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU)
    memory, power = pynvml.NVML_FI_DEV_MEMORY_TEMP, pynvml.NVML_FI_DEV_POWER_INSTANT
    values = fields(handle, [memory, power])
    found["gpu_memory_temperature_celsius"] = values.get(memory)
    milliwatts = values.get(power) or ask(handle, "nvmlDeviceGetPowerUsage")
    found["gpu_power_w"] = None if milliwatts is None else milliwatts / 1e3
    return {name: float(value) for name, value in found.items() if value is not None}


@dataclass
class GpmCounters:
    """NVML's GPM counters, which GPUs from Hopper on have: means over the time since the last reading."""

    handle: Any
    samples: list[Any]
    """Two: the last sample taken, and one to take next."""
    taken_at: float
    """When the last sample was taken, in seconds of the clock."""

    @staticmethod
    def of(handle: Any) -> GpmCounters | None:
        """The counters of a GPU, with a first sample; None where it has none."""
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
        """Shares of the time that multiprocessors and tensor cores were busy, and of the memory bandwidth; empty where
        the last reading is too recent."""
        import pynvml

        now = perf_counter()
        if now - self.taken_at < GPM_MIN_INTERVAL_S:
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
            name: answer.value / 100 for name, answer in answers if answer.nvmlReturn == 0 and isfinite(answer.value)
        }
