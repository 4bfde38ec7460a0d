"""Memory: the weights, the peaks of a few calls, and the part of the peak above the loaded model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from visionbench.core import LARGEST, LOWER, MEMORY, MetricDeclaration, Metrics, Samples
from visionbench.registry import register

MIB = 2**20
DIRECT = {
    "memory_weights_mib": "memory/weights_bytes",
    "memory_peak_allocated_mib": "memory/peak_allocated_bytes",
    "memory_peak_reserved_mib": "memory/peak_reserved_bytes",
    "memory_context_mib": "memory/context_bytes",
}
"""Each metric that is the value of one series, with the series."""
PEAK_TITLES = {"zh": "峰值 MiB"}


def _memory(name: str, meaning: str, **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(f"memory_{name}_mib", "MiB", meaning, LOWER, MEMORY, **fields)


@register("metrics", "memory")
@dataclass
class Memory:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "memory")

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _memory("weights", "Bytes of the weights, shared storage counted once"),
        _memory(
            "peak_allocated",
            "Peak that torch allocated on the device",
            title="peak MiB",
            translations=PEAK_TITLES,
            table=True,
            order=40,
            compared=True,
            gather=LARGEST,
        ),
        _memory("peak_reserved", "Peak that torch reserved on the device", gather=LARGEST),
        _memory("peak_allocated_above_model", "Peak allocated − allocated right after loading", gather=LARGEST),
        _memory("context", "The CUDA context: memory of the process on the GPU before the model; on a GPU"),
        _memory(
            "process_peak",
            "Peak of the process: on a CPU its resident set, on a GPU what NVML counts for it, CUDA context included",
            title="peak MiB",
            translations=PEAK_TITLES,
            table=True,
            order=41,
            compared=True,
            unless=("memory_peak_allocated_mib",),
            gather=LARGEST,
        ),
        _memory("process_above_model", "Peak of the process − its memory right after loading"),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute MiB from `memory/…_bytes`.

        On a GPU, the peak of the process is what NVML counts for it, including CUDA's context (`memory_context_mib`).
        On a CPU, it is VmHWM without the inputs that the benchmark keeps for other batch sizes.
        """
        values: dict[str, float | None] = {}
        reasons = {}
        for name, series in DIRECT.items():
            counted = samples.get(series)
            values[name] = float(counted[0]) / MIB if len(counted) else None
            if not len(counted):
                reasons[name] = samples.why_missing(series)
        allocated, after_load = (
            samples.get("memory/peak_allocated_bytes"),
            samples.get("memory/after_load_allocated_bytes"),
        )
        name = "memory_peak_allocated_above_model_mib"
        values[name] = float(allocated[0] - after_load[0]) / MIB if len(allocated) and len(after_load) else None
        if values[name] is None:
            source = "memory/after_load_allocated_bytes" if len(allocated) else "memory/peak_allocated_bytes"
            reasons[name] = samples.why_missing(source)
        peak = samples.get("memory/process_peak_bytes")
        inputs = samples.get("memory/kept_inputs_bytes")
        loaded = samples.get("memory/after_load_process_bytes")
        process = (float(peak[0]) - (float(inputs[0]) if len(inputs) else 0.0)) / MIB if len(peak) else None
        above = None if process is None or not len(loaded) else process - float(loaded[0]) / MIB
        values |= {"memory_process_peak_mib": process, "memory_process_above_model_mib": above}
        if process is None:
            reasons["memory_process_peak_mib"] = samples.why_missing("memory/process_peak_bytes")
        if above is None:
            source = "memory/process_peak_bytes" if process is None else "memory/after_load_process_bytes"
            reasons["memory_process_above_model_mib"] = samples.why_missing(source)
        return Metrics(values, reasons)
