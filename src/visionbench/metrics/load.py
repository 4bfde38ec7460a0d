"""Loading: the time until the model is ready, and the time of its first call, which may compile and select kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import LOWER, SPEED, MetricDeclaration, Metrics, Samples
from visionbench.registry import register

SERIES = {"load_s": "load/seconds_s", "load_first_call_s": "load/first_call_s"}


@register("metrics", "load")
@dataclass
class Load:
    """No options. A run loads its model once, so all its cases have the same values."""

    stages: ClassVar[tuple[str, ...]] = ()

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration(
            "load_s",
            "s",
            "Reading or building the model on its device",
            LOWER,
            SPEED,
            title="load s",
            translations={"zh": "加载 s"},
            table=True,
            order=30,
        ),
        MetricDeclaration(
            "load_first_call_s",
            "s",
            "The first call, at batch size 1",
            LOWER,
            SPEED,
            title="1st call s",
            translations={"zh": "首次调用 s"},
            table=True,
            order=31,
        ),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Return the seconds of loading the model on its device, and the seconds of its first call, at batch size 1."""
        seconds = {name: samples.get(series) for name, series in SERIES.items()}
        return Metrics(
            {name: float(values[0]) if len(values) else None for name, values in seconds.items()},
            {name: samples.why_missing(SERIES[name]) for name, values in seconds.items() if not len(values)},
        )
