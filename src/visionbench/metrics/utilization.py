"""Utilization of the process, the machine and the GPU while calls follow each other without a pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionbench.core import MetricDeclaration, Metrics, Samples
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
"""Counters of NVML's GPM, which few GPUs have. A missing counter is left out."""
NO_GPU = "no NVIDIA GPU reported it in this run"


@register("metrics", "utilization")
@dataclass
class Utilization:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "telemetry")

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration(
            "utilization_process_cpu_{mean,p50,p95}_fraction", "fraction", "Share of the cores that the process may use"
        ),
        MetricDeclaration("utilization_machine_cpu_{mean,p50,p95}_fraction", "fraction", "Share of all cores"),
        MetricDeclaration(
            "utilization_gpu_kernel_active_{mean,p50,p95}_fraction",
            "fraction",
            "Share of time in which any kernel ran, by NVML; not a share of the multiprocessors",
        ),
        MetricDeclaration(
            "utilization_gpu_memory_active_{mean,p50,p95}_fraction",
            "fraction",
            "Share of time in which device memory was read or written; not a share of its capacity",
        ),
        MetricDeclaration("utilization_gpu_clock_sm_{mean,p50,p95}_mhz", "MHz", "Clock of the multiprocessors"),
        MetricDeclaration("utilization_gpu_clock_memory_{mean,p50,p95}_mhz", "MHz", "Clock of the GPU memory"),
        MetricDeclaration("utilization_gpu_temperature_{mean,p50,p95}_celsius", "°C", "Temperature of the GPU"),
        MetricDeclaration(
            "utilization_gpu_memory_temperature_{mean,p50,p95}_celsius",
            "°C",
            "Temperature of the GPU memory, if the driver reports it",
        ),
        MetricDeclaration(
            "utilization_gpu_power_{mean,p50,p95}_w",
            "W",
            "Momentary power; the mean over a second if the driver reports only that",
        ),
        MetricDeclaration(
            "utilization_gpu_gpm_{sm,tensor,dram}_{mean,p50,p95}_fraction",
            "fraction",
            "NVML's GPM counters, on the GPUs that have them",
        ),
        MetricDeclaration("utilization_samples_count", "count", "Samples taken during the window"),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute mean, median and 95th percentile of each series of the telemetry window, and count the samples."""
        values: dict[str, float | None] = {}
        reasons = {}
        present = tuple(name for name in COUNTERS if len(samples.get(f"telemetry/{name}")))
        for name in (*HOST, *GPU, *present):
            sampled = samples.get(f"telemetry/{name}")
            stem, unit = name.rsplit("_", 1)
            for kind, statistic in (("mean", np.mean), ("p50", np.median), ("p95", _p95)):
                metric = f"utilization_{stem}_{kind}_{unit}"
                values[metric] = float(statistic(sampled)) if len(sampled) else None
                if not len(sampled):
                    reasons[metric] = samples.why_missing(f"telemetry/{name}") if name in HOST else NO_GPU
        count = len(samples.get(f"telemetry/{HOST[0]}"))
        values["utilization_samples_count"] = float(count) if count else None
        if not count:
            reasons["utilization_samples_count"] = "nothing was sampled"
        return Metrics(values, reasons)


def _p95(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.95))
