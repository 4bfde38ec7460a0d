"""The pipeline from files to outputs: the time of each step, the gain from overlapping, and the limiting step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionbench.core import HIGHER, LOWER, PIPELINE_STEPS, SPEED, MetricDeclaration, Metrics, Samples
from visionbench.registry import register

RESOURCES = {"loaders": ("read", "decode", "preprocess"), "model": ("copy", "forward"), "finisher": ("postprocess",)}
"""The steps that each worker runs while the steps overlap, unless the loaders also copy to the device."""


@register("metrics", "pipeline")
@dataclass
class Pipeline:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "pipeline")

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration(
            "pipeline_{read,decode,preprocess,copy,forward,postprocess}_ms",
            "ms",
            "Mean of each step of a batch, in series",
            LOWER,
            SPEED,
        ),
        MetricDeclaration("pipeline_serial_ms", "ms", "A batch from files to outputs, in series", LOWER, SPEED),
        MetricDeclaration("pipeline_stages_sum_ratio", "ratio", "Sum of the steps ÷ end to end", "", SPEED),
        MetricDeclaration(
            "pipeline_serial_images_per_s", "1/s", "Images from file to output, in series", HIGHER, SPEED
        ),
        MetricDeclaration(
            "pipeline_overlapped_images_per_s", "1/s", "The same with the steps overlapped", HIGHER, SPEED
        ),
        MetricDeclaration("pipeline_overlap_speedup_ratio", "ratio", "Overlapped ÷ serial", HIGHER, SPEED),
        MetricDeclaration(
            "pipeline_bound_images_per_s",
            "1/s",
            "Upper bound of the overlapped rate: that of the slowest worker, or that of all cores at work",
            HIGHER,
            SPEED,
        ),
        MetricDeclaration(
            "pipeline_loaders_start_s", "s", "Starting loader processes, which is not part of the rates", LOWER, SPEED
        ),
        MetricDeclaration("pipeline_efficiency_fraction", "fraction", "Overlapped ÷ upper bound", HIGHER, SPEED),
        MetricDeclaration(
            "pipeline_{loaders,model,finisher}_busy_fraction",
            "fraction",
            "Share of the overlapped time in which each was busy; the highest is the limit",
            "",
            SPEED,
        ),
        MetricDeclaration(
            "pipeline_copy_{pinned,pageable}_gb_per_s",
            "GB/s",
            "Host to device from pinned and from pageable memory; on a GPU",
            HIGHER,
            SPEED,
        ),
        MetricDeclaration("pipeline_vision_ms", "ms", "If a text is written: median of the vision part", LOWER, SPEED),
        MetricDeclaration(
            "pipeline_first_token_ms",
            "ms",
            "If a text is written: vision and prefill, up to the first token",
            LOWER,
            SPEED,
        ),
        MetricDeclaration("pipeline_output_token_ms", "ms", "If a text is written: each further token", LOWER, SPEED),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute the mean time of each step of a batch in ms, and images/s from file to output, serial and overlapped.

        The busy fraction of a worker is its share of the overlapped time; the worker with the highest is the limit.
        The upper bound of the overlapped rate follows from the times in series. Captioners also have the median times
        of vision, of the first token (vision and prefill), and of each further token.
        """
        mean = {step: _mean(samples, f"{step}_s") for step in (*PIPELINE_STEPS, "serial")}
        serial = samples.get("pipeline/serial_s")
        images = samples.get("work/images_count")
        per_batch = float(images[0]) if len(images) else None
        duration, finished = _mean(samples, "overlapped_s"), _mean(samples, "overlapped_images_count")
        fast = finished / duration if finished is not None and duration else None
        slow = per_batch / mean["serial"] if per_batch and mean["serial"] else None
        bound = bound_s(samples, mean)
        most = per_batch / bound if per_batch and bound else None
        busy = sum(samples.get(f"pipeline/{step}_s").sum() for step in PIPELINE_STEPS)
        vision, prefill, token = (_median(samples, f"{name}_s") for name in ("vision", "prefill", "token"))
        first_token = vision + prefill if vision is not None and prefill is not None else None
        values = {f"pipeline_{step}_ms": _scaled(mean[step], 1e3) for step in mean}
        values |= {
            "pipeline_stages_sum_ratio": float(busy / serial.sum()) if len(serial) else None,
            "pipeline_serial_images_per_s": slow,
            "pipeline_overlapped_images_per_s": fast,
            "pipeline_overlap_speedup_ratio": fast / slow if fast and slow else None,
            "pipeline_loaders_start_s": _mean(samples, "loaders_start_s"),
            "pipeline_bound_images_per_s": most,
            "pipeline_efficiency_fraction": fast / most if fast and most else None,
            **{f"pipeline_{worker}_busy_fraction": _busy(samples, worker) for worker in RESOURCES},
            "pipeline_copy_pinned_gb_per_s": _scaled(_mean(samples, "copy_pinned_bytes_per_s"), 1e-9),
            "pipeline_copy_pageable_gb_per_s": _scaled(_mean(samples, "copy_pageable_bytes_per_s"), 1e-9),
            "pipeline_vision_ms": _scaled(vision, 1e3),
            "pipeline_first_token_ms": _scaled(first_token, 1e3),
            "pipeline_output_token_ms": _scaled(token, 1e3),
        }
        reasons = {name: samples.why_missing(_source(name)) for name, value in values.items() if value is None}
        return Metrics(values, reasons)


def _source(name: str) -> str:
    """Return the series without which a metric has no value."""
    sources = {
        "pipeline_copy_pinned_gb_per_s": "copy_pinned_bytes_per_s",
        "pipeline_copy_pageable_gb_per_s": "copy_pageable_bytes_per_s",
        "pipeline_loaders_start_s": "loaders_start_s",
        "pipeline_bound_images_per_s": "serial_cpu_s",
        "pipeline_efficiency_fraction": "serial_cpu_s",
        "pipeline_vision_ms": "vision_s",
        "pipeline_first_token_ms": "prefill_s",
        "pipeline_output_token_ms": "token_s",
    }
    return f"pipeline/{sources.get(name, 'serial_s')}"


def _resources(samples: Samples) -> dict[str, tuple[str, ...]]:
    """Return the steps of each worker. On CUDA the loaders copy to the device while the model runs."""
    if not _mean(samples, "copied_ahead_count"):
        return RESOURCES
    return {**RESOURCES, "loaders": (*RESOURCES["loaders"], "copy"), "model": ("forward",)}


def bound_s(samples: Samples, mean: Mapping[str, float | None]) -> float | None:
    """Return the least time in seconds that one batch adds to the overlapped pass, from the times in series.

    It is the largest of: the time of the loaders divided by their number, the time of the model, the time of the
    finisher, and the processor time of the batch divided by the number of cores. The last is the largest if loaders
    and model compete for cores.
    """
    cpu, cores, loaders = (_mean(samples, name) for name in ("serial_cpu_s", "cores_count", "loaders_count"))
    times = {worker: [mean[step] for step in steps] for worker, steps in _resources(samples).items()}
    if cpu is None or not cores or not loaders or any(None in steps for steps in times.values()):
        return None
    seconds = {worker: sum(filter(None, steps)) for worker, steps in times.items()}
    return max(seconds["loaders"] / loaders, seconds["model"], seconds["finisher"], cpu / cores)


def _mean(samples: Samples, name: str) -> float | None:
    series = samples.get(f"pipeline/{name}")
    return float(series.mean()) if len(series) else None


def _median(samples: Samples, name: str) -> float | None:
    series = samples.get(f"pipeline/{name}")
    return float(np.median(series)) if len(series) else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _busy(samples: Samples, worker: str) -> float | None:
    """Return the busy seconds of a worker ÷ the seconds that it was available."""
    duration, loaders = _mean(samples, "overlapped_s"), _mean(samples, "loaders_count")
    steps = [_mean(samples, f"overlapped_{step}_s") for step in _resources(samples)[worker]]
    if not duration or not loaders or None in steps:
        return None
    return sum(filter(None, steps)) / duration / (loaders if worker == "loaders" else 1.0)
