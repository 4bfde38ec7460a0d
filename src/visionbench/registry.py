"""The registry: the only place that turns a name from a configuration into a class.

A part has the name of its module: `metrics=[recall]` selects the class that `visionbench/metrics/recall.py` registers.
A new part is one file, and no list must be edited. A part outside the package is found through an entry point of the
group `visionbench.<kind>` (for example `visionbench.metrics`), or as a module with this name on the path.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from visionbench.core import ConfigError

T = TypeVar("T")

MOST_NAMES = 40
"""The most names that an error message lists."""
MOST_SIMILAR = 10
"""The number of names that it lists instead of more."""

_registered: dict[tuple[str, str], type] = {}


def register(kind: str, name: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that registers a class as `name` among the parts of a kind, such as `metrics`."""

    def add(cls: type[T]) -> type[T]:
        _registered[kind, name] = cls
        return cls

    return add


def find(kind: str, name: str) -> type[Any]:
    """Return the class that is registered as `name`. Its module is imported on first use.

    Raises ConfigError with the nearest name if there is no such class.
    """
    if (kind, name) not in _registered:
        _import(kind, name)
    try:
        return _registered[kind, name]
    except KeyError:
        if name in (known := names(kind)):
            raise ConfigError(
                f"'{name}' among the {kind}: no class is registered with @register('{kind}', '{name}')"
            ) from None
        raise ConfigError(f"there is no '{name}' among the {kind}{nearest(name, known)}") from None


def names(kind: str) -> list[str]:
    """Return all available names of a kind, sorted."""
    package = importlib.import_module(f"visionbench.{kind}")
    shipped = {module.name for module in pkgutil.iter_modules(package.__path__)}
    outside = {point.name for point in entry_points(group=f"visionbench.{kind}")}
    return sorted(shipped | outside | {name for k, name in _registered if k == kind})


def modules(*kinds: str) -> list[str]:
    """Return the modules of visionbench whose parts of these kinds were used so far. The fork server imports them."""
    used = {cls.__module__ for (kind, _), cls in _registered.items() if kind in kinds}
    return sorted(module for module in used if module.startswith("visionbench."))


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Return the end of an error message: `; did you mean 'recall'?`, or the list of names if none is similar."""
    known = sorted(set(known))
    by_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(wrong.lower(), by_lower_case, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{by_lower_case[close[0]]}'?"
    if len(known) > MOST_NAMES:
        similar = difflib.get_close_matches(wrong, known, n=MOST_SIMILAR, cutoff=0.0)
        return f"; there are {len(known)}, such as: {', '.join(sorted(similar))}"
    return f"; there are: {', '.join(known)}" if known else ""


def _import(kind: str, name: str) -> None:
    for point in entry_points(group=f"visionbench.{kind}", name=name):
        point.load()
        return
    outside = [name] if name[:1].isidentifier() else []
    for module in (f"visionbench.{kind}.{name}", *outside):
        try:
            importlib.import_module(module)
            return
        except ModuleNotFoundError as error:
            if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
                raise  # the part exists, but a module that it imports does not
