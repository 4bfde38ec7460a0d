"""The speed of the quality pass: images per second from encoded files to outputs, and the share of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import EVALUATION_STEPS, HIGHER, SPEED, MetricDeclaration, Metrics, Samples
from visionbench.registry import register


@register("metrics", "evaluation")
@dataclass
class Evaluation:
    """No options. It needs a quality metric, because only quality metrics evaluate the data set."""

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration(
            "evaluation_images_per_s", "1/s", "Images of the quality pass, from file to output", HIGHER, SPEED
        ),
        MetricDeclaration(
            "evaluation_{decode,preprocess,forward,postprocess}_share_fraction",
            "fraction",
            "Share of each step in the busy time of all steps",
            "",
            SPEED,
        ),
        MetricDeclaration(
            "evaluation_model_waits_fraction",
            "fraction",
            "Share of the pass in which the model waited for images",
            "",
            SPEED,
        ),
        MetricDeclaration("evaluation_images_count", "count", "Images that the model processed"),
        MetricDeclaration("evaluation_left_out_count", "count", "Images that were left out"),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute images/s, the share of each step in the busy time, and how long the model waited for images.

        The steps overlap in time, so their shares are of the sum of their busy seconds.
        """
        total = {
            name: float(samples.get(f"evaluation/{name}").sum())
            for name in (
                "seconds_s",
                "images_count",
                "left_out_count",
                "starved_s",
                *(f"{step}_s" for step in EVALUATION_STEPS),
            )
            if len(samples.get(f"evaluation/{name}"))
        }
        busy = sum(total.get(f"{step}_s", 0.0) for step in EVALUATION_STEPS)
        parts = {
            "images_per_s": ("images_count", total.get("seconds_s")),
            **{f"{step}_share_fraction": (f"{step}_s", busy) for step in EVALUATION_STEPS},
            "model_waits_fraction": ("starved_s", total.get("seconds_s")),
            "images_count": ("images_count", 1.0),
            "left_out_count": ("left_out_count", 1.0),
        }
        values: dict[str, float | None] = {
            f"evaluation_{name}": total[series] / divisor if series in total and divisor else None
            for name, (series, divisor) in parts.items()
        }
        reasons = {
            f"evaluation_{name}": samples.why_missing(f"evaluation/{'seconds_s' if series in total else series}")
            for name, (series, _) in parts.items()
        }
        return Metrics(values, {name: reasons[name] for name, value in values.items() if value is None})
