"""Simulated machines for the search of `visionbench tune`: functions from a configuration to its figures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from visionbench.core import FAILED, INVALID, OK, OUT_OF_MEMORY, VALID, WARNED
from visionbench.records.tuning import HELD, Figure, Measurement, Quality
from visionbench.tuning.objectives import Limits, Objective
from visionbench.tuning.proposals import Proposals
from visionbench.tuning.search import Search
from visionbench.tuning.space import Combination, Space, build

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PAIRS = (
    *((precision, "eager") for precision in ("autocast_bf16", "bf16", "fp32", "int8_dynamic", "int8_weight_only")),
    *((precision, "compile") for precision in ("autocast_bf16", "bf16", "fp32", "int8_dynamic", "int8_weight_only")),
    ("fp32", "onnxruntime"),
    *((precision, "openvino") for precision in ("bf16", "fp16", "fp32")),
)
"""The precisions and runtimes that a CPU has."""


def space(pairs=PAIRS, attention=("auto", "eager"), threads=("null", "1"), sizes=SIZES) -> Space:
    return build(pairs, attention, threads, sizes, {})


@dataclass
class Surface:
    """A machine on which the throughput of a configuration grows with the batch size and saturates."""

    seed: int = 0
    spread: float = 0.01
    """The half-width of all intervals, as a fraction."""
    overrides: dict[str, float] = field(default_factory=dict)
    """The peak throughput of configurations by their names, instead of a random one."""
    out_of_memory_from: int = 10_000
    fails: Sequence[str] = ()
    invalid: Sequence[str] = ()
    questionable: Sequence[str] = ()
    qualities: dict[str, float] = field(default_factory=dict)
    """The quality ÷ that of eager fp32 by precision."""
    calls: list[tuple[Combination, int]] = field(default_factory=list)
    loads: list[Combination] = field(default_factory=list)
    quality_calls: list[tuple[str, str]] = field(default_factory=list)
    earlier: dict[Combination, list[Measurement]] = field(default_factory=dict)
    interrupt_after: int | None = None

    def throughput(self, combination: Combination, size: int) -> float:
        draw = random.Random(f"{self.seed} {combination.pair}")
        peak, half, best_size = draw.uniform(100, 1000), draw.uniform(0.5, 8), draw.choice([16, 32, 64, 128, 256])
        peak = self.overrides.get("/".join(combination.pair), peak)
        peak *= 1.0 if combination.attention == "auto" else draw.uniform(0.7, 1.1)
        peak *= 1.0 if combination.threads == "null" else draw.uniform(0.5, 1.1)
        decay = 1.0 if size <= best_size else (best_size / size) ** 0.3
        return peak * size / (size + half) * decay

    def figures(self, combination: Combination, size: int) -> Measurement:
        name = "/".join(combination.pair)
        if name in self.fails:
            return Measurement(size, FAILED, reason="the parity is too low")
        if size >= self.out_of_memory_from:
            return Measurement(size, OUT_OF_MEMORY, reason="out of memory")
        speed = self.throughput(combination, size)
        latency = size / speed * 1e3
        verdict = INVALID if name in self.invalid else WARNED if name in self.questionable else VALID
        reason = "" if verdict == VALID else "run_delay"
        figures = map(self.figure, (speed, latency, 1.1 * latency))
        return Measurement(size, OK, verdict, reason, *figures, 10.0 * size)

    def figure(self, value: float) -> Figure:
        return Figure(value, value * (1 - self.spread), value * (1 + self.spread))

    # ------------------------------------------------------------------------------------------- what a search calls
    def known(self, combination: Combination) -> Sequence[Measurement]:
        return self.earlier.get(combination, [])

    def measure(self, combination: Combination, sizes: Sequence[int], stop: Any) -> None:
        self.loads.append(combination)
        for size in sizes:
            if self.interrupt_after is not None and len(self.calls) >= self.interrupt_after:
                raise KeyboardInterrupt
            self.calls.append((combination, size))
            one = self.figures(combination, size)
            self.earlier.setdefault(combination, []).append(one)
            if stop(one):
                return

    def quality(self, combination: Combination) -> Quality:
        self.quality_calls.append(combination.pair)
        ratio = self.qualities.get(combination.precision, 1.0)
        quality = Quality("R@1", 0.9 * ratio, Figure(ratio, ratio - 0.002, ratio + 0.002))
        bound, reason = Limits(quality=0.99).judge_quality(quality)
        return Quality("R@1", quality.value, quality.ratio, bound, reason)

    # ----------------------------------------------------------------------------------------------------- the truth
    def best(self, space: Space, accept: Any = lambda one: True) -> float:
        """The largest throughput of the space by an exhaustive search."""
        figures = [self.figures(one, size) for one in space.combinations for size in space.sizes]
        return max(
            one.throughput.value
            for one in figures
            if one.status == OK and one.verdict != INVALID and one.bounds == HELD and accept(one) and one.throughput
        )


def search(surface: Surface, space: Space, **options: Any) -> Search:
    """A search over a simulated machine, which has ended."""
    started = start(surface, space, **options)
    started.run()
    return started


def start(
    surface: Surface,
    space: Space,
    objective: str = "throughput",
    limits: Limits | None = None,
    budget: int | None = None,
    seed: int = 0,
    folder: Any = None,
) -> Search:
    """A search over a simulated machine."""
    proposals = Proposals.open(folder, space, seed)
    return Search(space, Objective(objective), limits or Limits(), budget or len(space), surface, proposals)
