"""The evaluation pass itself: pictures a second from encoded files to answers, and which step takes its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import Metrics, Samples
from visionbench.registry import register

STEPS = ("decode", "preprocess", "forward", "postprocess")
SECONDS, IMAGES, LEFT_OUT = "evaluation/seconds_s", "evaluation/images_count", "evaluation/left_out_count"


@register("metrics", "evaluation")
@dataclass
class Evaluation:
    """No options."""

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)

    def compute(self, samples: Samples) -> Metrics:
        """End-to-end images/s; each step's share of the busy seconds of all steps, which overlap in time; the share of
        the pass that the model waited for pictures; how many pictures were answered, and how many left out."""
        found: dict[str, float | None] = {}
        reasons: dict[str, str] = {}

        def give(name: str, value: float | None, series: str) -> None:
            found[name] = value
            if value is None:
                reasons[name] = samples.why_missing(series)

        seconds, images = _total(samples, SECONDS), _total(samples, IMAGES)
        give("evaluation_images_per_s", None if None in (seconds, images) else images / seconds, SECONDS)  # type: ignore[operator]
        busy = {step: _total(samples, f"evaluation/{step}_s") for step in STEPS}
        known = sum(value for value in busy.values() if value is not None)
        for step, value in busy.items():
            give(
                f"evaluation_{step}_share_fraction",
                value / known if value is not None else None,
                f"evaluation/{step}_s",
            )
        starved = _total(samples, "evaluation/starved_s")
        share = starved / seconds if starved is not None and seconds else None
        give("evaluation_model_waits_fraction", share, "evaluation/starved_s")
        give("evaluation_images_count", images, IMAGES)
        give("evaluation_left_out_count", _total(samples, LEFT_OUT), LEFT_OUT)
        return Metrics(found, reasons)


def _total(samples: Samples, name: str) -> float | None:
    series = samples.get(name)
    return float(series.sum()) if len(series) else None
