"""Utilisation: how hard the process, the machine and the GPU worked while calls followed each other without a pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionbench.core import Metrics, Samples
from visionbench.registry import register

HOST = ("process_cpu_fraction", "machine_cpu_fraction")
GPU = (
    "gpu_kernel_active_fraction",
    "gpu_memory_active_fraction",
    "gpu_clock_sm_mhz",
    "gpu_clock_memory_mhz",
    "gpu_temperature_celsius",
    "gpu_memory_temperature_celsius",
    "gpu_power_w",
)
COUNTERS = ("gpu_gpm_sm_fraction", "gpu_gpm_tensor_fraction", "gpu_gpm_dram_fraction")
"""Of NVML's GPM, which few GPUs have: left out where they are not there."""


@register("metrics", "utilization")
@dataclass
class Utilization:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "telemetry")

    def compute(self, samples: Samples) -> Metrics:
        """Mean, median and 95th percentile of each series sampled beside the telemetry window, and how many samples
        there were. CPU fractions are of the usable cores (process) and of all cores (machine). `gpu_kernel_active` is
        the share of time in which any kernel ran, and no share of the multiprocessors; `gpu_memory_active` is the share
        in which device memory was read or written, and no share of its capacity."""
        values: dict[str, float | None] = {}
        reasons = {}
        present = tuple(name for name in COUNTERS if len(samples.get(f"telemetry/{name}")))
        for name in (*HOST, *GPU, *present):
            taken = samples.get(f"telemetry/{name}")
            stem, unit = name.rsplit("_", 1)
            for kind, of in (("mean", np.mean), ("p50", np.median), ("p95", _p95)):
                metric = f"utilization_{stem}_{kind}_{unit}"
                values[metric] = float(of(taken)) if len(taken) else None
                if not len(taken):
                    host = name in HOST
                    absent = samples.why_missing(f"telemetry/{name}") if host else "no NVIDIA GPU told it in this run"
                    reasons[metric] = absent
        count = len(samples.get(f"telemetry/{HOST[0]}"))
        values["utilization_samples_count"] = float(count) if count else None
        if not count:
            reasons["utilization_samples_count"] = "nothing was sampled"
        return Metrics(values, reasons)


def _p95(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.95))
