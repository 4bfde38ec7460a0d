"""The declarations of the metrics in a run's results, also if the code of a metric is no longer installed."""

from __future__ import annotations

import importlib
import pkgutil
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from visionbench.core import HIGHER, OK, QUALITY, CaseResult, MetricDeclaration
from visionbench.declarations import Declarations
from visionbench.examples import denominators
from visionbench.records.record import RunRecord
from visionbench.registry import find


def of_record(record: RunRecord) -> Declarations:
    """Return the declarations that were written with a run, or for an older run those of the bundled metrics."""
    return bundled() if record.declarations is None else _parsed(record.declarations)


_latest: deque[tuple[Any, Declarations]] = deque(maxlen=8)
"""The declarations that were parsed last, with their content in run.json: most runs have the same ones."""


def _parsed(content: Any) -> Declarations:
    """Return the declarations of this content. The same content gives the same object, while it is in use."""
    for known, declarations in _latest:
        if known == content:
            return declarations
    _latest.appendleft((content, Declarations.from_json(content)))
    return _latest[0][1]


@lru_cache(maxsize=1)
def bundled() -> Declarations:
    """Return the declarations of all metrics of this package."""
    package = importlib.import_module("visionbench.metrics")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    declared = Declarations.collect({name: find("metrics", name) for name in names})
    return declared.followed_by(denominators.GROUP, denominators.DECLARATIONS)


def merged(each: Sequence[Declarations]) -> Declarations:
    """Return the declarations of several runs together; the first of equal names counts."""
    each = list({id(declared): declared for declared in each}.values())
    listed = tuple(dict.fromkeys(declaration for declared in each for declaration in declared.listed))
    same = (declared for declared in each if declared.listed == listed)  # its index of names is built only once
    return next(same, None) or Declarations(listed)


UNPLACED = 100
"""The order of metrics that declare no position, such as those of other packages."""


def timed(declarations: Declarations, rows: Sequence[CaseResult]) -> list[MetricDeclaration]:
    """Return the metrics of timed cases that tables show, of those that any of the rows has, in order.

    A metric with the order UNPLACED or a higher one is left out if no row has a value of it.
    """
    known = {
        name: declaration
        for row in rows
        for name, value in row.metrics.values.items()
        if (declaration := declarations.find(name)) and (value is not None or declaration.order <= UNPLACED)
    }
    shown = [declaration for declaration in known.values() if declaration.table and declaration.kind != QUALITY]
    return sorted(shown, key=lambda declaration: declaration.order)


def quality(declarations: Declarations, row: CaseResult | None) -> list[MetricDeclaration]:
    """Return the quality metrics that tables show, of those that the row has a value of, in order."""
    valued = _valued(declarations, row)
    return sorted(
        (declaration for declaration in valued if declaration.table and declaration.kind == QUALITY),
        key=lambda declaration: declaration.order,
    )


def headlines(declarations: Declarations, row: CaseResult | None) -> list[MetricDeclaration]:
    """Return the headline metrics that the row has a value of; models are compared by the first of them."""
    valued = (declaration for declaration in _valued(declarations, row) if declaration.headline)
    return sorted(valued, key=lambda declaration: (declaration.headline, declaration.order))


def _valued(declarations: Declarations, row: CaseResult | None) -> list[MetricDeclaration]:
    values = row.metrics.values if row is not None and row.status == OK else {}
    return [
        declaration for name, value in values.items() if value is not None and (declaration := declarations.find(name))
    ]


def direction(declaration: MetricDeclaration | None) -> int:
    """Return 1 if more is better, -1 if less is, and 0 if neither is or nothing is declared."""
    return 0 if declaration is None or not declaration.better else 1 if declaration.better == HIGHER else -1
