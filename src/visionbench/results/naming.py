"""The names of runs that are shown together. They contain what differs between these runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visionbench import variation
from visionbench.results.archive import Run

DISTINGUISHING = ("device_name", "host", "sweep", "driver", "version_torch", "git_commit", "started_at", "uid")
"""Facts that distinguish runs with equal configurations. The first facts that suffice are added to the names."""


@dataclass(frozen=True)
class Names:
    """The names of some runs, by uid. Equal runs of several sweeps are distinguished by host, sweep or start."""

    columns: tuple[str, ...]
    """Labels of what differs besides model, device and precision, such as `threads`."""
    varying: tuple[str, ...]
    """Those of model, device and precision that differ between the runs."""
    _values: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Names:
        """Return the names of these runs."""
        plans = [run.record.plan for run in runs]
        by_key = variation.differences([variation.with_experiment(run.record.config, run.record.plan) for run in runs])
        labels = variation.labels(by_key[0] if by_key else ())
        values = [{labels[key]: text for key, text in varied.items()} for varied in by_key]
        for fact in DISTINGUISHING:
            counts = Counter(
                (*variation.base_parts(plan).values(), *each.values()) for plan, each in zip(plans, values, strict=True)
            )
            facts = [_fact(run, fact) for run in runs]
            if max(counts.values(), default=1) > 1 and len(set(facts)) > 1:
                values = [{**each, fact.replace("_", " "): text} for each, text in zip(values, facts, strict=True)]
        by_uid = {run.record.uid: each for run, each in zip(runs, values, strict=True)}
        return cls(tuple(values[0]) if values else (), variation.varying_parts(plans), by_uid)

    def values(self, run: Run) -> Mapping[str, str]:
        """Return the values that differ, by the labels in `columns`; `–` if the run's configuration lacks the key."""
        return self._values[run.record.uid]

    def name(self, run: Run) -> str:
        """Return a name such as `clip_tiny · cpu · fp32 · threads 5`."""
        return variation.joined([*variation.base_parts(run.record.plan).values(), *self._parts(run)])

    def short(self, run: Run) -> str:
        """Return what differs, such as `fp32 · threads 5`; the complete name if nothing differs."""
        base = variation.base_parts(run.record.plan)
        varying = [base[part] for part in self.varying]
        return variation.joined([*varying, *self._parts(run)]) or self.name(run)

    def differing_first(self, run: Run) -> str:
        """Return the name with the parts that differ before the parts that are equal in all runs."""
        base = variation.base_parts(run.record.plan)
        varying = [base[part] for part in self.varying]
        equal = [text for part, text in base.items() if part not in self.varying]
        return variation.joined([*varying, *self._parts(run), *equal])

    def _parts(self, run: Run) -> list[str]:
        return variation.differing_parts(self.values(run))


def _fact(run: Run, name: str) -> str:
    return str(run.record.facts()[name] or variation.ABSENT)
