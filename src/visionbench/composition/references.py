"""A limit for references such as `${model.name}` that refer to each other.

Ten values, each with nine references to the one before, resolve to millions of values. OmegaConf resolves a reference
again each time, so `limited_references` counts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from omegaconf import Container
from omegaconf.errors import InterpolationResolutionError

from visionbench.config import TOO_MANY_REFERENCES

MOST_REFERENCES = 500
MOST_CHARACTERS = 1_000_000


@dataclass
class Count:
    """The references that were resolved for one value, or since `restart` for all values of a configuration."""

    resolved: int = 0
    depth: int = 0
    """The number of references that are being resolved, because each refers to the next."""
    spans_values: bool = False

    @contextmanager
    def all_values(self) -> Iterator[None]:
        """Count the references of all values that are resolved while the context is open, instead of one value."""
        self.resolved, self.spans_values = 0, True
        try:
            yield
        finally:
            self.spans_values = False


@contextmanager
def limited_references() -> Iterator[Count]:
    """Let OmegaConf raise InterpolationResolutionError if a value needs more than MOST_REFERENCES references."""
    original: Any = Container.resolve_parse_tree
    count = Count()

    def resolve(self: Container, *arguments: Any, **named: Any) -> Any:
        if count.depth == 0 and not count.spans_values:
            count.resolved = 0
        count.resolved += 1
        if count.resolved > MOST_REFERENCES:
            raise InterpolationResolutionError(TOO_MANY_REFERENCES)
        count.depth += 1
        try:
            value = original(self, *arguments, **named)
        finally:
            count.depth -= 1
        if isinstance(value, str) and len(value) > MOST_CHARACTERS:
            raise InterpolationResolutionError(TOO_MANY_REFERENCES)
        return value

    Container.resolve_parse_tree = resolve  # type: ignore[method-assign]
    try:
        yield count
    finally:
        Container.resolve_parse_tree = original  # type: ignore[method-assign]
