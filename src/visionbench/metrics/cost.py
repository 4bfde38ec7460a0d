"""The cost of 1,000 images: of a device by its price per hour, or of an endpoint by the prices of its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionbench.core import LOWER, MetricDeclaration, Metrics, Samples
from visionbench.core.remote import ANSWERED, KINDS
from visionbench.registry import register

COST = "cost_per_1000_images"


@register("metrics", "cost")
@dataclass
class Cost:
    """No options. A run has it only if a price is given: `device.cost_per_hour`, or `model.options.prices`."""

    stages: ClassVar[tuple[str, ...]] = ("warmup", "throughput")
    needs_price: ClassVar[bool] = True

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration(
            COST,
            "currency",
            "Price per hour ÷ images per hour or, at an endpoint, the cost of all attempts ÷ answers, times 1,000",
            LOWER,
            title="cost/1,000",
            translations={"zh": "每千张费用"},
            table=True,
            order=60,
        ),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute the cost from `cost/per_hour_amount` and the throughput, or from `attempts/cost_amount`.

        The cost of failed attempts counts if it is known, because it is paid. The label `currency` has the currency.
        """
        if len(samples.get("attempts/kind_index")):
            return _of_requests(samples)
        price, completed = samples.get("cost/per_hour_amount"), samples.get("throughput/completed_s")
        images = samples.get("work/images_count")
        if not len(price) or not len(completed) or not len(images):
            reason = "the price or the number of images is not known"
            return Metrics(
                {COST: None}, {COST: reason if len(completed) else samples.why_missing("throughput/completed_s")}
            )
        images_per_s = len(completed) / float(completed.max()) * float(images[0])
        return Metrics({COST: float(price[0]) / (3.6 * images_per_s)})


def _of_requests(samples: Samples) -> Metrics:
    answers = int((samples.get("requests/kind_index") == KINDS.index(ANSWERED)).sum())
    costs = samples.get("attempts/cost_amount")
    if not answers:
        return Metrics({COST: None}, {COST: "no request has an answer"})
    if np.isnan(costs).all():
        return Metrics({COST: None}, {COST: "the endpoint does not count the tokens of its answers"})
    return Metrics({COST: float(np.nansum(costs)) / answers * 1000})
