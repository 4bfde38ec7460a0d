"""FLOPs: the work of an image, the rate that the device achieves, and the rate that it could achieve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionbench.core import HIGHER, MetricDeclaration, Metrics, Samples
from visionbench.registry import register

GIGA, TERA = 1e9, 1e12
FLOP, MOVED = "flops/call_flop", "flops/call_bytes"
PRODUCTS, COPY = "ceiling/flop_per_s", "ceiling/bytes_per_s"
IMAGES, TEXTS, COMPLETED = "work/images_count", "work/texts_count", "throughput/completed_s"
NEEDS = {
    "flops_parameters_count": ("flops/parameters_count",),
    "flops_per_image_gflop": (FLOP, IMAGES),
    "flops_achieved_tflop_per_s": (FLOP, COMPLETED),
    "flops_ceiling_tflop_per_s": (PRODUCTS,),
    "flops_mfu_fraction": (FLOP, COMPLETED, PRODUCTS),
    "flops_intensity_flop_per_byte": (FLOP, MOVED),
    "flops_attainable_tflop_per_s": (FLOP, MOVED, PRODUCTS, COPY),
    "flops_copy_gb_per_s": (COPY,),
}
"""The series that each value needs. The first missing series is the reason for a missing value."""


@register("metrics", "flops")
@dataclass
class Flops:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "throughput", "flops")

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration("flops_parameters_count", "count", "Parameters of the model"),
        MetricDeclaration(
            "flops_per_{image,text}_gflop",
            "GFLOP",
            "Work of one image, or of one text if a call reads only texts; a multiply-accumulate counts as two",
        ),
        MetricDeclaration("flops_achieved_tflop_per_s", "TFLOP/s", "Work × calls per second", HIGHER),
        MetricDeclaration(
            "flops_ceiling_tflop_per_s", "TFLOP/s", "Best rate of large products in this process and dtype", HIGHER
        ),
        MetricDeclaration("flops_mfu_fraction", "fraction", "Achieved rate ÷ ceiling", HIGHER),
        MetricDeclaration(
            "flops_intensity_flop_per_byte", "FLOP/byte", "Work ÷ the bytes of weights, inputs and outputs"
        ),
        MetricDeclaration(
            "flops_attainable_tflop_per_s", "TFLOP/s", "Upper bound of the rate by the roofline model", HIGHER
        ),
        MetricDeclaration("flops_copy_gb_per_s", "GB/s", "Best rate of large copies", HIGHER),
        MetricDeclaration(
            "flops_<part>_per_{image,text}_gflop",
            "GFLOP",
            "Work of one part of the model (`image`, `text`, `encoder`, …), if it has several",
        ),
        MetricDeclaration("flops_<part>_tflop_per_s", "TFLOP/s", "Rate of that part, timed alone", HIGHER),
        MetricDeclaration("flops_<part>_mfu_fraction", "fraction", "Rate of that part ÷ ceiling", HIGHER),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute work in GFLOP (a multiply-accumulate counts as two), rates in TFLOP/s, and intensity in FLOP/byte.

        FLOPs are counted per text if a call reads texts and no image.

        MFU is the achieved rate ÷ the ceiling, which is the best rate of large matrix products in this process and
        dtype. An MFU above 1 cannot be correct and is None. The attainable rate is that of the roofline model,
        min(ceiling, intensity × copy bandwidth), if weights, inputs and outputs are moved once. It is an upper bound
        unless weights stay in a cache between calls.
        """
        flop, moved = _first(samples, FLOP), _first(samples, MOVED)
        images, completed = _first(samples, IMAGES) or _first(samples, TEXTS), samples.get(COMPLETED)
        calls_per_s = len(completed) / float(completed.max()) if len(completed) else None
        ceiling, bandwidth = _first(samples, PRODUCTS), _first(samples, COPY)
        achieved = flop * calls_per_s if flop is not None and calls_per_s is not None else None
        intensity = flop / moved if flop is not None and moved else None
        roof = min(ceiling, intensity * bandwidth) if ceiling and intensity is not None and bandwidth else None
        values = {
            "flops_parameters_count": _first(samples, "flops/parameters_count"),
            "flops_per_image_gflop": _over(flop, GIGA, images),
            "flops_achieved_tflop_per_s": _over(achieved, TERA),
            "flops_ceiling_tflop_per_s": _over(ceiling, TERA),
            "flops_mfu_fraction": _over(achieved, ceiling),
            "flops_intensity_flop_per_byte": intensity,
            "flops_attainable_tflop_per_s": _over(roof, TERA),
            "flops_copy_gb_per_s": _over(bandwidth, GIGA),
        }
        needs = dict(NEEDS)
        for piece in pieces(samples):
            work, calls, seconds = (f"flops/{piece}_{quantity}" for quantity in ("flop", "calls_count", "s"))
            each, count, durations = _first(samples, work), _first(samples, calls), samples.get(seconds)
            rate = each / float(np.median(durations)) if each is not None and len(durations) else None
            total = each * count if each is not None and count is not None else None
            values |= {
                f"flops_{piece}_per_image_gflop": _over(total, GIGA, images),
                f"flops_{piece}_tflop_per_s": _over(rate, TERA),
                f"flops_{piece}_mfu_fraction": _over(rate, ceiling),
            }
            needs |= {
                f"flops_{piece}_per_image_gflop": (work, calls, IMAGES),
                f"flops_{piece}_tflop_per_s": (work, seconds),
                f"flops_{piece}_mfu_fraction": (work, seconds, PRODUCTS),
            }
        if not len(samples.get(IMAGES)) and len(samples.get(TEXTS)):
            values = {name.replace("_per_image_", "_per_text_"): value for name, value in values.items()}
            needs = {
                name.replace("_per_image_", "_per_text_"): tuple(TEXTS if one == IMAGES else one for one in series)
                for name, series in needs.items()
            }
        reasons = {name: _why(needs[name], samples) for name, value in values.items() if value is None}
        for name, value in values.items():
            if name.endswith("_mfu_fraction") and value is not None and value > 1:
                reasons[name] = f"{value:.2f} is above 1: the ceiling was disturbed, or has another dtype than the work"
        values |= {name: None for name in reasons}
        return Metrics(values, reasons)


def pieces(samples: Samples) -> list[str]:
    """Return the parts of the model that were counted separately, if it has more than one."""
    ending = "_calls_count"
    names = [name[6 : -len(ending)] for name in samples.series if name.startswith("flops/") and name.endswith(ending)]
    return names if len(names) > 1 else []


def _first(samples: Samples, name: str) -> float | None:
    series = samples.get(name)
    return float(series[0]) if len(series) else None


def _over(value: float | None, *divisors: float | None) -> float | None:
    """Divide the value by all divisors; return None if one of them is unknown or zero."""
    for divisor in divisors:
        if value is None or not divisor:
            return None
        value /= divisor
    return value


def _why(needed: tuple[str, ...], samples: Samples) -> str:
    """Return the reason for the first missing series."""
    missing = (samples.why_missing(series) for series in needed if not len(samples.get(series)))
    return next(missing, f"one of {', '.join(needed)} is zero")
