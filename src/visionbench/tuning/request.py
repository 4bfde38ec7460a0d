"""The words of `visionbench tune`: its own keys, and the overrides that it passes to Hydra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from visionbench.core import ConfigError
from visionbench.registry import nearest

THROUGHPUT, LATENCY_P50, LATENCY_P95 = "throughput", "latency_p50", "latency_p95"
OBJECTIVES = (THROUGHPUT, LATENCY_P50, LATENCY_P95)
BOUNDS = ("max_latency_p95_ms", "min_quality", "max_memory_mib")
COUNTS = {"trials": (1, 100_000), "finalists": (1, 20), "final_repeats": (2, 100), "seed": (0, 2**31 - 1)}
"""The keys whose value is a whole number, with their ranges."""
PROTOCOLS = ("search_measure", "final_measure")
KEYS = ("objective", *BOUNDS, *COUNTS, *PROTOCOLS)
"""The keys that only tune has."""
EXAMPLE = "model=clip_tiny"
REFUSED = {
    "resume": "the same command continues an interrupted search; remove it",
    "retry": "the same command continues an interrupted search; remove it",
    "on_change": "the same command continues an interrupted search; remove it",
    "measure.repeats": "the search measures once; use final_repeats for the finalists",
    "measure.order_seed": "use seed",
    "batch.auto": "tune searches the batch size; use max_memory_mib for a limit",
    "batch.max_memory_mib": "use max_memory_mib",
    "batch.margin": "only batch=auto uses it; remove it",
    "batch.largest": "only batch=auto uses it; remove it",
}
"""Keys of a run that tune does not accept, with the remedy."""


@dataclass(frozen=True)
class Request:
    """The request of a user: objective, bounds, budget, protocols and overrides."""

    overrides: tuple[str, ...]
    """The overrides of Hydra."""
    objective: str = THROUGHPUT
    bounds: dict[str, float] = field(default_factory=dict)
    trials: int | None = None
    """The largest number of measured batch sizes, or None for a third of the space."""
    finalists: int = 3
    final_repeats: int = 3
    seed: int = 0
    search_measure: str = "quick"
    final_measure: str = "standard"

    def given(self, *keys: str) -> str | None:
        """Return the last value that the overrides give to one of these keys or groups, or None."""
        values = [value for key, value in map(split, self.overrides) if key in keys]
        return values[-1] if values else None

    def content(self) -> dict[str, str]:
        """Return what determines the search, as text. The number of trials is not part of it."""
        facts = {name: getattr(self, name) for name in ("objective", "finalists", "final_repeats", "seed", *PROTOCOLS)}
        facts |= self.bounds
        facts["overrides"] = " ".join(sorted(self.overrides))
        return {name: str(value) for name, value in facts.items()}


def split(override: str) -> tuple[str, str]:
    """Return the key or the group of an override without signs, and its value."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def parse(words: Sequence[str]) -> Request:
    """Sort the words of the command. Raises ConfigError for a wrong value of a key, and for a key of a run."""
    own: dict[str, str] = {}
    overrides: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if key not in KEYS or not equals:
            _refuse(word)
            overrides.append(word)
        elif key in own:
            raise ConfigError(f"{key} is given twice: {own[key]} and {value}", "give it once")
        else:
            own[key] = value
    request = Request(
        tuple(overrides),
        _objective(own.get("objective", THROUGHPUT)),
        {name: _bound(name, own[name]) for name in BOUNDS if name in own},
    )
    more: dict[str, Any] = {name: _count(name, own[name]) for name in COUNTS if name in own}
    request = replace(request, **more | {name: own[name] for name in PROTOCOLS if name in own})
    if request.given("model", "model.name", "experiment") is None:
        raise ConfigError("tune: no model is given", f"add one, as in visionbench tune {EXAMPLE}")
    if request.given("measure") is not None and (both := [name for name in PROTOCOLS if name in own]):
        raise ConfigError(
            f"measure={request.given('measure')} and {both[0]}={own[both[0]]}: measure selects both protocols",
            "remove one of them",
        )
    return request


def _refuse(word: str) -> None:
    key, value = split(word)
    if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
        raise ConfigError(f"{word}: tune measures one run after the other on this machine", "remove it")
    if key == "batch" and value == "auto":
        raise ConfigError("batch=auto: tune searches the batch size", "remove it; max_memory_mib=… limits the memory")
    if (remedy := REFUSED.get(key)) is not None:
        raise ConfigError(f"{word}: tune does not use it", remedy)


def _objective(value: str) -> str:
    if value == "latency":
        raise ConfigError(
            "objective=latency: it does not name the percentile", f"write {LATENCY_P50} (median) or {LATENCY_P95}"
        )
    if value not in OBJECTIVES:
        raise ConfigError(f"objective={value}: no such objective{nearest(value, OBJECTIVES)}")
    return value


def _bound(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    examples = {"max_latency_p95_ms": "50", "min_quality": "0.99", "max_memory_mib": "2000"}
    highest = 1.0 if name == "min_quality" else math.inf
    if not (math.isfinite(value) and 0 < value <= highest):
        rule = "a share of the quality of eager fp32, above 0 and at most 1" if highest == 1 else "a number above 0"
        raise ConfigError(f"{name}={text}: not {rule}", f"write {name}={examples[name]}")
    return value


def _count(name: str, text: str) -> int:
    low, high = COUNTS[name]
    try:
        value = int(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: not a whole number", f"give one from {low} to {high:,}") from None
    if not low <= value <= high:
        raise ConfigError(f"{name}={text}: not from {low} to {high:,}", f"give at least {low}" if value < low else "")
    return value
