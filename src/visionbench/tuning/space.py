"""The space of a search: the configurations that can be measured, their batch sizes, and the reasons for the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

DEFAULTS = {"attention": "auto", "threads": "null", "channels_last": "false"}
"""The value of each part that a configuration has beside its precision and runtime, if it is not searched."""
BATCH = "batch size"


@dataclass(frozen=True)
class Combination:
    """A configuration of a run without its batch size. The values are text, as on the command line."""

    precision: str = "fp32"
    runtime: str = "eager"
    attention: str = DEFAULTS["attention"]
    threads: str = DEFAULTS["threads"]
    channels_last: str = DEFAULTS["channels_last"]

    @property
    def pair(self) -> tuple[str, str]:
        """The precision and the runtime, which determine the quality."""
        return self.precision, self.runtime

    @property
    def values(self) -> dict[str, str]:
        """The values by the names of the parts."""
        return dict(vars(self))

    def __str__(self) -> str:
        return label(self.values)


def label(values: Mapping[str, str]) -> str:
    """Return a text such as `bf16 · openvino · threads 1`. Default values are left out."""
    others = (f"{name} {value}" for name, value in values.items() if name in DEFAULTS and value != DEFAULTS[name])
    return " · ".join([values["precision"], values["runtime"], *others])


BASELINE = Combination()
"""The configuration of the tutorial, eager fp32, with which the best one is compared."""
BASELINE_BATCH = 4
"""The batch size of the tutorial."""


@dataclass(frozen=True)
class Space:
    """The configurations of a search, and its batch sizes in ascending order."""

    combinations: tuple[Combination, ...]
    """Configurations with default values of all parts but precision and runtime come first."""
    sizes: tuple[int, ...]
    baseline: Combination = BASELINE
    """Eager fp32, with the default or the given values of the other parts."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """The configurations, parts and values that are not searched, each with the reason."""

    def __len__(self) -> int:
        return len(self.combinations) * len(self.sizes)

    @property
    def dimensions(self) -> dict[str, tuple[str, ...]]:
        """The values of each part that occur."""
        return {
            name: tuple(dict.fromkeys(one.values[name] for one in self.combinations)) for name in Combination().values
        }

    @property
    def searched(self) -> dict[str, tuple[str, ...]]:
        """The values of each part, and the batch sizes, as text."""
        return {**self.dimensions, BATCH: tuple(map(str, self.sizes))}


def build(
    pairs: Sequence[tuple[str, str]],
    attention: Sequence[str],
    threads: Sequence[str],
    sizes: Iterable[int],
    left_out: Mapping[str, str],
    channels_last: Sequence[str] = (DEFAULTS["channels_last"],),
    own_layout: Collection[str] = (),
) -> Space:
    """Return the product of all values. The first value of each part is its default.

    The runtimes of `own_layout` have only the default of `channels_last`. Eager fp32 comes first, then other precisions
    in eager mode.
    """

    def distance(one: Combination) -> tuple[int, bool, bool]:
        others = (one.attention != attention[0]) + (one.threads != threads[0])
        others += one.channels_last != channels_last[0]
        return others, one.runtime != BASELINE.runtime, one.pair != BASELINE.pair

    product_of_all = [Combination(*pair, *rest) for pair, *rest in product(pairs, attention, threads, channels_last)]
    combinations = [
        one for one in product_of_all if one.channels_last == channels_last[0] or one.runtime not in own_layout
    ]
    baseline = Combination(BASELINE.precision, BASELINE.runtime, attention[0], threads[0], channels_last[0])
    return Space(tuple(sorted(combinations, key=distance)), tuple(sorted(sizes)), baseline, left_out)


def thread_counts(usable: int, physical: int) -> Iterator[str]:
    """Yield the numbers of threads of a search: torch's default, all logical cores, and half of the physical cores."""
    yield DEFAULTS["threads"]
    others = {usable, physical // 2} - {physical, 0}
    yield from map(str, sorted(others, reverse=True))
