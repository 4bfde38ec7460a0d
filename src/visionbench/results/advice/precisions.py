"""Each precision against fp32 under equal conditions: the ratio of throughput, and the difference in quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from visionbench import variation
from visionbench.core import OK, MetricDeclaration
from visionbench.results import conditions, declared, paired
from visionbench.results.advice.candidates import Bounds, Estimate, gather
from visionbench.results.archive import Run
from visionbench.statistics.resampling import Difference

FULL = "fp32"
VARYING = ("precision", "dtype", "tf32")
"""Conditions that may differ between the two runs."""
SECTIONS = ("model.", "device.")
"""Sections of the configuration that must be equal. `conditions.binding` has the data and the protocol."""


@dataclass(frozen=True)
class Pair:
    """A run, and the fp32 run with which it has all other conditions in common."""

    base: Run
    run: Run

    def speed(self) -> Mapping[int, Estimate]:
        """Return the throughput ÷ that of fp32 by batch size, for cases that are valid or questionable on both sides.

        Empty if a case of either side is invalid at every batch size.
        """
        base, run = (
            {case.batch_size: case for case in gather([each], Bounds()).candidates} for each in (self.base, self.run)
        )
        return {size: run[size].throughput.ratio(base[size].throughput) for size in run if size in base}

    @property
    def doubtful(self) -> bool:
        """Whether any timed case of either side is questionable."""
        return any(case.questionable for each in (self.base, self.run) for case in gather([each], Bounds()).candidates)

    @property
    def quality_measured(self) -> bool:
        """Whether both sides have a quality."""
        return all(each.quality is not None and each.quality.status == OK for each in (self.base, self.run))

    def quality(self) -> tuple[Mapping[MetricDeclaration, Difference], str]:
        """Return the differences from fp32 on the same images by metric, or the reason why there are none."""
        shown = {declaration.name for declaration in declared.quality(self.base.declarations, self.base.quality)}
        metrics = [
            declaration
            for declaration in declared.quality(self.run.declarations, self.run.quality)
            if declaration.name in shown
        ]
        changes = paired.differences([self.base], [self.run], [declaration.name for declaration in metrics])
        by_metric = {one: changes.by_metric[one.name] for one in metrics if one.name in changes.by_metric}
        return by_metric, changes.reason


def pairs(runs: Sequence[Run]) -> Iterator[Pair]:
    """Yield each run in another precision than fp32 that has an fp32 run under equal conditions."""
    for run in runs:
        if run.record.plan.precision != FULL:
            base = next((other for other in reversed(runs) if _is_base(other, run)), None)
            if base is not None:
                yield Pair(base, run)


def _is_base(base: Run, run: Run) -> bool:
    plans = base.record.plan, run.record.plan
    if plans[0].precision != FULL or plans[0].model != plans[1].model or plans[0].device != plans[1].device:
        return False
    differing, _ = variation.differences([base.record.config, run.record.config])
    if any(key.startswith(SECTIONS) for key in differing):
        return False
    facts = [
        {name: value for name, value in conditions.binding(each).items() if name not in VARYING} for each in (base, run)
    ]
    return not conditions.differences(*facts)
