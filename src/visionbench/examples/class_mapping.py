"""The option `data.options.classes`: the class of the model, by name or index, for each class of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visionbench.core import ConfigError
from visionbench.examples.class_names import MAPPING, find_nearest, normalize, quote


def parse_mapping(mapping: Any) -> dict[str, str | int]:
    """Return the option as names to names or indices. Raises ConfigError if it has another form."""
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{MAPPING}={mapping}: not a mapping", f"write {MAPPING}={{red_fox: red fox, cat: 281}}")
    for name, target in mapping.items():
        if isinstance(target, bool) or not isinstance(target, str | int) or target == "":
            raise ConfigError(
                f"{MAPPING}: '{name}' is mapped to {target!r}, which is neither a name nor an index", "give one of them"
            )
    return {str(name): target for name, target in mapping.items()}


def find_targets(mapping: Any, names: Sequence[str]) -> dict[str, str | int]:
    """Return the target of each mapped data class. Raises ConfigError for a name that is not a class of the data."""
    by_spelling: dict[str, list[str]] = {}
    for name in names:
        by_spelling.setdefault(normalize(name), []).append(name)
    targets: dict[str, str | int] = {}
    for name, target in parse_mapping(mapping).items():
        matches = [name] if name in names else by_spelling.get(normalize(name), [])
        if len(matches) != 1:
            nearest = quote(find_nearest(name, names)) or "none"
            raise ConfigError(
                f"{MAPPING}: there is no class '{name}' among the data's {len(names)}", f"the nearest are {nearest}"
            )
        if matches[0] in targets:
            raise ConfigError(f"{MAPPING}: '{matches[0]}' is mapped twice", "map it once")
        targets[matches[0]] = target
    return targets
