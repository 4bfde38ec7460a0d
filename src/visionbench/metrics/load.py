"""Loading: the time until the model is ready, and the time of its first call, which may compile and select kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import LOWER, MEMORY, SPEED, MetricDeclaration, Metrics, Samples
from visionbench.registry import register

SERIES = {"load_s": "load/seconds_s", "load_first_call_s": "load/first_call_s"}
OF_RUNTIMES = {
    "load_export_s": "load/export_s",
    "load_quantize_s": "load/quantize_s",
    "load_compile_s": "load/compile_s",
}
FILE, MIB = "load/file_bytes", 2**20


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
        MetricDeclaration("load_export_s", "s", "Converting the model for the runtime", LOWER, SPEED),
        MetricDeclaration("load_quantize_s", "s", "Quantising the converted model by the runtime", LOWER, SPEED),
        MetricDeclaration(
            "load_compile_s", "s", "Compiling by the runtime, at this batch size if it compiles each", LOWER, SPEED
        ),
        MetricDeclaration("load_file_mib", "MiB", "The converted model on disk", LOWER, MEMORY),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Return the seconds of loading the model on its device, and the seconds of its first call, at batch size 1.

        A runtime other than eager adds the seconds of converting and of compiling, and the size of its files in MiB.
        """
        by_runtime = {name: key for name, key in OF_RUNTIMES.items() if key in {*samples.series, *samples.missing}}
        names = {**SERIES, **by_runtime}
        seconds = {name: samples.get(series) for name, series in names.items()}
        values = {name: float(array[0]) if len(array) else None for name, array in seconds.items()}
        if len(size := samples.get(FILE)):
            values["load_file_mib"] = float(size[0]) / MIB
        return Metrics(
            values, {name: samples.why_missing(names[name]) for name, array in seconds.items() if not len(array)}
        )
