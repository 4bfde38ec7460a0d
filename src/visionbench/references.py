"""A limit for references such as `${model.name}` that refer to each other.

Ten values, each with nine references to the one before, resolve to millions of values. OmegaConf documents no way to
limit or to observe the resolution of references, and Hydra resolves some, such as `hydra.run.dir`, before it calls
visionbench. `limited_references` therefore replaces a method of OmegaConf that is not documented.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import Container, Node, OmegaConf
from omegaconf.errors import InterpolationResolutionError

MOST_VALUES = 10_000
"""The most values that the references of one configuration resolve to."""
OF_A_TEXT = 20
"""The resolution of a text with references counts as this number of values, because it takes milliseconds."""
CHARACTERS = 100
"""This number of characters of a text counts as one value."""
TOO_MANY_REFERENCES = "the references expand to too many values"


@contextmanager
def limited_references() -> Iterator[None]:
    """Let OmegaConf raise InterpolationResolutionError if references resolve to more than MOST_VALUES values.

    The values are counted for each configuration. A sweep has one configuration for each job.
    """
    original: Any = Container.resolve_parse_tree
    root: Any = None
    values = 0

    def resolve(self: Container, parse_tree: Any, node: Node, **named: Any) -> Any:
        nonlocal root, values
        if self._get_root() is not root:
            root, values = self._get_root(), 0
        value = original(self, parse_tree, node, **named)
        values += OF_A_TEXT + _size(value)
        if values > MOST_VALUES:
            error = InterpolationResolutionError(TOO_MANY_REFERENCES)
            error.full_key = node._get_full_key(None)
            raise error
        return value

    Container.resolve_parse_tree = resolve  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Container.resolve_parse_tree = original  # type: ignore[method-assign]


def _size(value: Any) -> int:
    """Return the number of values in a resolved value, with its lists and mappings."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=False)
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_size, value))
    return 1 + len(str(value)) // CHARACTERS
