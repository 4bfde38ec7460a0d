"""FLOPs: the work of a picture, how much of it the device does a second, and what it could do at best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionbench.core import Metrics, Samples
from visionbench.registry import register

GIGA, TERA = 1e9, 1e12


@register("metrics", "flops")
@dataclass
class Flops:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "throughput", "flops")

    def compute(self, samples: Samples) -> Metrics:
        """Counts in GFLOP (a multiply-accumulate is two), rates in TFLOP/s, intensity in FLOP per byte.

        MFU is the achieved rate ÷ the ceiling, the best rate of large matrix products in this process and dtype. The
        attainable rate is the roofline's, min(ceiling, intensity × copy bandwidth), with every byte that a call must
        move moved once: no implementation can be faster, and most are not as fast.
        """
        flop, moved = _first(samples, "flops/call_flop"), _first(samples, "flops/call_bytes")
        images, completed = _first(samples, "work/images_count"), samples.get("throughput/completed_s")
        calls_per_s = len(completed) / float(completed.max()) if len(completed) else None
        ceiling, bandwidth = _first(samples, "ceiling/flop_per_s"), _first(samples, "ceiling/bytes_per_s")
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
        for piece in pieces(samples):
            each = _first(samples, f"flops/{piece}_flop")
            times = _first(samples, f"flops/{piece}_calls_count")
            took = samples.get(f"flops/{piece}_s")
            rate = each / float(np.median(took)) if each is not None and len(took) else None
            whole = each * times if each is not None and times is not None else None
            values |= {
                f"flops_{piece}_per_image_gflop": _over(whole, GIGA, images),
                f"flops_{piece}_tflop_per_s": _over(rate, TERA),
                f"flops_{piece}_mfu_fraction": _over(rate, ceiling),
            }
        return Metrics(values, {name: _why(name, samples) for name, value in values.items() if value is None})


def pieces(samples: Samples) -> list[str]:
    """The parts of the model that were counted apart, where it has more than one."""
    ending = "_calls_count"
    found = [name[6 : -len(ending)] for name in samples.series if name.startswith("flops/") and name.endswith(ending)]
    return found if len(found) > 1 else []


def _first(samples: Samples, name: str) -> float | None:
    found = samples.get(name)
    return float(found[0]) if len(found) else None


def _over(value: float | None, *by: float | None) -> float | None:
    """The value divided by all of them; None where one is not known or zero."""
    for divisor in by:
        if value is None or not divisor:
            return None
        value /= divisor
    return value


def _why(name: str, samples: Samples) -> str:
    """The first series that is lacking for it."""
    needed = {
        "flops_parameters_count": ("flops/parameters_count",),
        "flops_ceiling_tflop_per_s": ("ceiling/flop_per_s",),
        "flops_copy_gb_per_s": ("ceiling/bytes_per_s",),
    }.get(name, ("flops/call_flop", "throughput/completed_s", "ceiling/flop_per_s", "work/images_count"))
    return samples.why_missing(next((series for series in needed if not len(samples.get(series))), needed[0]))
