"""Throughput: units of work per second while calls follow each other without a pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from visionbench.core import ACROSS_PROCESSES, HIGHER, SPEED, WORK_UNITS, MetricDeclaration, Metrics, Samples
from visionbench.registry import register


def _throughput(unit: str, **fields: Any) -> MetricDeclaration:
    meaning = f"{unit.capitalize()} ÷ (last completion − start), calls back to back"
    return MetricDeclaration(f"throughput_{unit}_per_s", "1/s", meaning, HIGHER, SPEED, **fields)


def _before(unit: str) -> tuple[str, ...]:
    """Return the metrics of the units before this one. A run is compared by the first unit that it has."""
    return tuple(f"throughput_{earlier}_per_s" for earlier in WORK_UNITS[: WORK_UNITS.index(unit)])


@register("metrics", "throughput")
@dataclass
class Throughput:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "throughput")

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _throughput("images", title="img/s", table=True, order=20, compared=True, intervals=(ACROSS_PROCESSES,)),
        _throughput(
            "texts",
            title="texts/s",
            table=True,
            order=21,
            compared=True,
            unless=_before("texts"),
            intervals=(ACROSS_PROCESSES,),
        ),
        _throughput("prompts", compared=True, unless=_before("prompts")),
        _throughput(
            "tokens",
            title="tok/s",
            translations={"zh": "词元/s"},
            table=True,
            order=50,
            compared=True,
            compared_unless=_before("tokens"),
        ),
        MetricDeclaration("throughput_calls_count", "count", "Calls of the window"),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute the work of all calls ÷ (last completion − start) from `throughput/completed_s`; never 1/latency."""
        completed = samples.get("throughput/completed_s")
        work = {unit: samples.get(f"work/{unit}_count") for unit in WORK_UNITS}
        names = {unit: f"throughput_{unit}_per_s" for unit in WORK_UNITS if len(work[unit])}
        if not len(completed):
            reason = samples.why_missing("throughput/completed_s")
            return Metrics(dict.fromkeys(names.values()), dict.fromkeys(names.values(), reason))
        calls_per_s = len(completed) / float(completed.max())
        return Metrics(
            {name: calls_per_s * float(work[unit][0]) for unit, name in names.items()}
            | {"throughput_calls_count": float(len(completed))}
        )
