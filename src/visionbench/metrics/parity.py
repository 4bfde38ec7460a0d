"""Parity: how far outputs are from those of the same model in eager fp32, and pixels from those of the reference
input pipeline, on images of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visionbench.core import HIGHER, LARGEST, LOWER, SMALLEST, MetricDeclaration, Metrics, Samples
from visionbench.registry import register

COSINE, ERROR = "parity_cosine_ratio", "parity_error_fraction"
LEVELS = tuple(f"parity_{part}_{kind}_levels" for part in ("decoder", "input") for kind in ("mean", "max"))


@register("metrics", "parity")
@dataclass
class Parity:
    """No options. The check itself is `measure.parity`. It is made for each run that is not in eager fp32, or that has
    another input pipeline than Pillow and transformers."""

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
        MetricDeclaration(
            "parity_decoder_{mean,max}_levels",
            "levels",
            "The difference of decoded pixels from those of Pillow: the largest mean of an image, and the largest",
            LOWER,
            gather=LARGEST,
        ),
        MetricDeclaration(
            "parity_input_mean_levels",
            "levels",
            "The difference of the model's pixels from those of the reference pipeline: the largest mean of an image",
            LOWER,
            title="input difference",
            translations={"zh": "输入偏差"},
            table=True,
            order=61,
            gather=LARGEST,
        ),
        MetricDeclaration(
            "parity_input_max_levels", "levels", "The same: the largest difference of a pixel", LOWER, gather=LARGEST
        ),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Return the lowest cosine and the largest relative error over images and outputs.

        A run with another input pipeline also has the largest differences of pixels over images, in levels of
        8 bits.
        """
        return self._outputs(samples).merged(self._pixels(samples))

    def _pixels(self, samples: Samples) -> Metrics:
        names = {name: name.replace("_", "/", 1) for name in LEVELS}
        known = {name: key for name, key in names.items() if key in {*samples.series, *samples.missing}}
        values = {name: float(max(series)) if len(series := samples.get(key)) else None for name, key in known.items()}
        return Metrics(
            values, {name: samples.why_missing(known[name]) for name, value in values.items() if value is None}
        )

    def _outputs(self, samples: Samples) -> Metrics:
        cosines, errors = samples.get("parity/cosine_ratio"), samples.get("parity/error_fraction")
        if not len(cosines):
            if self._pixels(samples).values:  # a run in eager fp32 with another decoder
                return Metrics()
            reason = samples.why_missing("parity/cosine_ratio")
            return Metrics({COSINE: None, ERROR: None}, {COSINE: reason, ERROR: reason})
        return Metrics({COSINE: float(cosines.min()), ERROR: float(errors.max())})
