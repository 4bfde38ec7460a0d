"""Energy: joules per image from the counter of the device, and the part above the energy of the idle device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import LOWER, MetricDeclaration, Metrics, Samples
from visionbench.registry import register


@register("metrics", "energy")
@dataclass
class Energy:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "telemetry")

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration("energy_per_image_j", "J", "Energy by the device's counter ÷ images", LOWER),
        MetricDeclaration(
            "energy_above_idle_per_image_j", "J", "The same without the energy of the idle device", LOWER
        ),
        MetricDeclaration("energy_mean_power_w", "W", "Mean power of the window"),
        MetricDeclaration("energy_idle_power_w", "W", "Mean power of the idle device before the window"),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute joules and watts from the counter over the telemetry window and the idle time before it.

        All values are None, with the reason, if the device has no readable counter. Energy is never estimated.
        """
        counted = {
            name: float(series[0])
            for name in ("energy_j", "seconds_s", "idle_energy_j", "idle_s")
            if len(series := samples.get(f"telemetry/{name}"))
        }
        work = samples.get("work/images_count")
        images = len(samples.get("telemetry/completed_s")) * (float(work[0]) if len(work) else 0.0)
        energy, seconds = counted.get("energy_j"), counted.get("seconds_s")
        power = energy / seconds if energy is not None and seconds else None
        idle_energy, idle_s = counted.get("idle_energy_j"), counted.get("idle_s")
        idle = idle_energy / idle_s if idle_energy is not None and idle_s else None
        above = energy - idle * seconds if energy is not None and idle is not None and seconds else None
        values = {
            "energy_per_image_j": energy / images if energy is not None and images else None,
            "energy_above_idle_per_image_j": above / images if above is not None and images else None,
            "energy_mean_power_w": power,
            "energy_idle_power_w": idle,
        }
        reason = (
            samples.why_missing("telemetry/energy_j") if energy is None else "no images were counted, or no idle time"
        )
        return Metrics(values, {name: reason for name, value in values.items() if value is None})
