"""Parity: how far the outputs are from those of the same model in eager fp32, on images of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import HIGHER, LARGEST, LOWER, SMALLEST, MetricDeclaration, Metrics, Samples
from visionbench.registry import register

COSINE, ERROR = "parity_cosine_ratio", "parity_error_fraction"


@register("metrics", "parity")
@dataclass
class Parity:
    """No options. The check itself is `measure.parity`, and is made for each run that is not in eager fp32."""

    stages: ClassVar[tuple[str, ...]] = ()

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration(
            COSINE,
            "ratio",
            "The lowest cosine of an output with that of eager fp32",
            HIGHER,
            title="cosine to fp32",
            translations={"zh": "与 fp32 的余弦"},
            table=True,
            order=60,
            gather=SMALLEST,
        ),
        MetricDeclaration(
            ERROR,
            "fraction",
            "The largest difference of an output from that of eager fp32 ÷ its length",
            LOWER,
            gather=LARGEST,
        ),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Return the lowest cosine and the largest relative error over images and outputs."""
        cosines, errors = samples.get("parity/cosine_ratio"), samples.get("parity/error_fraction")
        if not len(cosines):
            reason = samples.why_missing("parity/cosine_ratio")
            return Metrics({COSINE: None, ERROR: None}, {COSINE: reason, ERROR: reason})
        return Metrics({COSINE: float(cosines.min()), ERROR: float(errors.max())})
