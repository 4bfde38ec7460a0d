"""The declarations of the metrics in a run's results, also if the code of a metric is no longer installed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import lru_cache

from visionbench.core import HIGHER, MetricDeclaration
from visionbench.declarations import Declarations
from visionbench.examples import denominators
from visionbench.records.record import RunRecord
from visionbench.registry import find


def of_record(record: RunRecord) -> Declarations:
    """Return the declarations that were written with a run, or for an older run those of the bundled metrics."""
    return bundled() if record.declarations is None else Declarations.read(record.declarations)


@lru_cache(maxsize=1)
def bundled() -> Declarations:
    """Return the declarations of all metrics of this package."""
    package = importlib.import_module("visionbench.metrics")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    declared = Declarations.collect({name: find("metrics", name) for name in names})
    return declared.followed_by(denominators.GROUP, denominators.DECLARATIONS)


def merged(each: Sequence[Declarations]) -> Declarations:
    """Return the declarations of several runs together; the first of equal names counts."""
    return Declarations(tuple(dict.fromkeys(one for declared in each for one in declared.listed)))


def direction(one: MetricDeclaration | None) -> int:
    """Return 1 if more is better, -1 if less is, and 0 if neither is or nothing is declared."""
    return 0 if one is None or not one.better else 1 if one.better == HIGHER else -1
