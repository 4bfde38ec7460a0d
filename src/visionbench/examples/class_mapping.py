"""The option `data.options.classes`: which class of a model a data class is, by its name or its index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visionbench.examples.classes import MAPPING, key, nearest
from visionbench.registry import ConfigError


def parsed(mapping: Any) -> dict[str, str | int]:
    """The option as names to names or indices. Raises ConfigError where it is of another form."""
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{MAPPING}={mapping}: not a mapping, as in {MAPPING}={{red_fox: red fox, cat: 281}}")
    for name, target in mapping.items():
        if isinstance(target, bool) or not isinstance(target, str | int) or target == "":
            raise ConfigError(f"{MAPPING}: '{name}' is mapped to {target!r}, which is no name and no index")
    return {str(name): target for name, target in mapping.items()}


def targets(mapping: Any, names: Sequence[str]) -> dict[str, str | int]:
    """What each data class is mapped to. Raises ConfigError for a name in the mapping that no class has."""
    by_key: dict[str, list[str]] = {}
    for name in names:
        by_key.setdefault(key(name), []).append(name)
    found: dict[str, str | int] = {}
    for name, target in parsed(mapping).items():
        meant = [name] if name in names else by_key.get(key(name), [])
        if len(meant) != 1:
            near = ", ".join(f"'{one}'" for one in nearest(name, names))
            raise ConfigError(
                f"{MAPPING}: there is no class '{name}' among the data's {len(names)}; the nearest are {near or 'none'}"
            )
        if meant[0] in found:
            raise ConfigError(f"{MAPPING}: '{meant[0]}' is mapped twice; once is enough")
        found[meant[0]] = target
    return found
