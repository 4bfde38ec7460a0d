"""The declarations of the metrics in a run's results, also if the code of a metric is no longer installed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from visionbench.core import HIGHER, MetricDeclaration
from visionbench.declarations import Declarations
from visionbench.examples import denominators
from visionbench.registry import find

KEY = "declarations"
"""The key of run.json."""


def of_conditions(conditions: Mapping[str, Any]) -> Declarations:
    """Return the declarations that were written with a run, or for an older run those of the bundled metrics."""
    return Declarations.read(conditions[KEY]) if KEY in conditions else bundled()


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
