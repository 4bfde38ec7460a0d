"""Each precision against fp32 under equal conditions: the ratio of throughput, and the difference in quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from visionbench import variation
from visionbench.core import OK, MetricDeclaration
from visionbench.results import conditions, declared, paired
from visionbench.results.advice.candidates import Bounds, Candidate, Estimate, gather
from visionbench.results.agreement import Agreement
from visionbench.results.archive import Run
from visionbench.statistics.resampling import Difference

FULL = "fp32"
VARYING = ("precision", "dtype", "tf32", "autocast", "quantization")
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
        base, run = ({case.batch_size: case for case in cases} for cases in self._cases)
        return {size: run[size].throughput.ratio(base[size].throughput) for size in run if size in base}

    @property
    def has_speed(self) -> bool:
        """Whether `speed` may have a ratio: whether both sides have a case with numbers at the same batch size."""
        base, run = ({row.case.batch_size for row in each.timed if row.status == OK} for each in (self.base, self.run))
        return bool(base & run)

    @property
    def doubtful(self) -> bool:
        """Whether any timed case of either side is questionable."""
        return any(case.questionable for cases in self._cases for case in cases)

    @cached_property
    def _cases(self) -> tuple[list[Candidate], list[Candidate]]:
        """The cases with numbers of both sides."""
        return gather([self.base], Bounds()).candidates, gather([self.run], Bounds()).candidates

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
    """Yield each run in another precision than fp32 that has an fp32 run under equal conditions: the last of these."""
    bases: dict[tuple[str, str], Agreement] = {}
    for number, run in enumerate(runs):
        if run.record.plan.precision == FULL:
            bases.setdefault(_model_and_device(run), Agreement()).add(number, _conditions(run))
    for run in runs:
        if run.record.plan.precision != FULL and (same := bases.get(_model_and_device(run))) is not None:
            for number in same.agreeing(_conditions(run))[-1:]:
                yield Pair(runs[number], run)


def _model_and_device(run: Run) -> tuple[str, str]:
    return run.record.plan.model, run.record.plan.device


def _conditions(run: Run) -> dict[str, str]:
    """Return the conditions that must be equal, with the keys of the model and of the device.

    These keys are only compared between runs with equal selections, as in `variation.differences`.
    """
    flat = variation.flatten(run.record.config)
    sections = {}
    for section in SECTIONS:
        selected = flat.get(variation.SELECTORS[section.rstrip(".")]), flat.get(variation.EXPERIMENT)
        keys = sorted(item for item in flat.items() if item[0].startswith(section) and item[0] not in variation.NAMED)
        sections[f"{section}* of {selected}"] = str(keys)
    return sections | {name: value for name, value in conditions.binding(run).items() if name not in VARYING}
