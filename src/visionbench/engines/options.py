"""The options of engines. They are below `hydra.launcher`, which the schema of the configuration does not cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from visionbench.core import ConfigError

ALL_GPUS = "auto"


def flag(key: str, value: Any) -> bool:
    """Return a value that must be true or false."""
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{key}={value}: neither true nor false", f"write {key}=true")


def minutes(key: str, value: Any) -> float | None:
    """Return a time limit in minutes, or None for no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{key}={value}: not a number of minutes", f"write a positive number, as in {key}=30")
    return float(value)


def gpus(key: str, value: Any) -> str | list[int] | None:
    """Return `auto`, a list of indices of GPUs, or None."""
    if value is None or value == ALL_GPUS:
        return value  # type: ignore[no-any-return]
    indices = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not indices or any(isinstance(index, bool) or not isinstance(index, int) or index < 0 for index in indices):
        raise ConfigError(f"{key}={value}: not a list of GPUs", f"write {key}=auto or {key}=[0,1]")
    for index in indices:
        if indices.count(index) > 1:
            raise ConfigError(f"{key}={value}: {index} is listed twice", "list each GPU once")
    return indices
