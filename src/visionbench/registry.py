"""Names to code: the only place that turns a name from a config into a class.

A name is the file it lives in: `metrics=[recall]` finds the class that `visionbench/metrics/recall.py` registers, so a
new part is one file and no list. Parts from outside the package come in by an entry point of the group
`visionbench.<kind>` (for example `visionbench.metrics`), or as a module on the path that has this
name and registers itself.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from visionbench.core.errors import ConfigError as ConfigError

T = TypeVar("T")

_registered: dict[tuple[str, str], type] = {}


def register(kind: str, name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: make a class the answer to `name` among the parts of one kind, such as `metrics`."""

    def keep(cls: type[T]) -> type[T]:
        _registered[kind, name] = cls
        return cls

    return keep


def find(kind: str, name: str) -> type[Any]:
    """The class registered as `name`; its module is imported on first use. Raises ConfigError naming the nearest."""
    if (kind, name) not in _registered:
        _import(kind, name)
    try:
        return _registered[kind, name]
    except KeyError:
        if name in (known := names(kind)):
            raise ConfigError(f"'{name}' among the {kind}: no class there says @register('{kind}', '{name}')") from None
        raise ConfigError(f"there is no '{name}' among the {kind}{nearest(name, known)}") from None


def names(kind: str) -> list[str]:
    """Every name of a kind that can be found now, sorted."""
    package = importlib.import_module(f"visionbench.{kind}")
    shipped = {module.name for module in pkgutil.iter_modules(package.__path__)}
    outside = {point.name for point in entry_points(group=f"visionbench.{kind}")}
    return sorted(shipped | outside | {name for k, name in _registered if k == kind})


def modules(*kinds: str) -> list[str]:
    """The package's own modules that hold the parts of these kinds found so far, for a fork server to import before."""
    held = {cls.__module__ for (kind, _), cls in _registered.items() if kind in kinds}
    return sorted(module for module in held if module.startswith("visionbench."))


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'recall'?`, or the list of what there is when nothing is near."""
    known = sorted(set(known))
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
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
                raise  # the part exists, and something that it imports does not
