"""`visionbench selftest`: measure callables of known behaviour, to check whether this machine measures correctly.

Each check measures a callable with the stages that measure models, and compares the measurement with the known result.
The self-test takes about half a minute, downloads nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

import numpy as np
from rich.table import Table

from visionbench import validity
from visionbench.config import LatencyConfig, MeasureConfig, MemoryConfig, ThroughputConfig
from visionbench.core import VALID, Case, Inputs, LoadedModel, Precision, Samples
from visionbench.devices.cpu import Cpu
from visionbench.stages import latency, memory, throughput
from visionbench.stages.context import Context
from visionbench.stages.telemetry import Sampler
from visionbench.stages.windows import quiet as quiet_window
from visionbench.statistics.timings import quantile_interval
from visionbench.terminal.console import screen

MIB = 2**20
SPIN_S = 0.005
FAST_S, SLOW_S, SLOW_SHARE = 0.002, 0.004, 0.3
DRIFT_OF_ALL = 0.3
"""The drifting callable is slower at its end by this fraction."""
LEAK_MIB, PEAK_MIB, LEAK_CALLS = 4, 64, 8
SPIN_WITHIN, TIMER_WITHIN, SAMPLER_COST = 0.02, 0.03, 0.02
MIB_WITHIN = 1.0
COVERAGE_WARNS = 0.85
SERIES, SERIES_CALLS = 40, 30
"""The number of short series within one long series, and the calls of each, for the check of intervals."""
ROUNDS = 6


@dataclass(frozen=True)
class Finding:
    """The result of a check: the expected and the measured values, and whether they agree."""

    check: str
    passed: bool
    measured: str
    expected: str
    remedy: str = ""
    """The way to measure although the check did not pass. Without a remedy, the machine fails the self-test."""


@dataclass
class KnownModel:
    """A model whose call runs a callable of known behaviour."""

    function: Callable[[], object]

    def call(self, inputs: Inputs) -> object:
        """Run the callable."""
        return self.function()


@dataclass
class Leaky:
    """A callable that allocates some MiB in every call and does not free them."""

    blocks: list[np.ndarray] = field(default_factory=list)

    def __call__(self) -> None:
        """Allocate one more block, and write to it, so that its pages are in memory."""
        self.blocks.append(np.ones(LEAK_MIB * MIB, np.uint8))


def show() -> int:
    """Print the result of each check. Return exit code 1 if a check without a remedy fails."""
    console = screen()
    Cpu().setup(Precision("fp32", "float32"), threads=1)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("", "check", "measured", "expected"):
        table.add_column(heading)
    findings = []
    with console.status("measuring known quantities"):
        for finding in checks():
            findings.append(finding)
            table.add_row(
                "ok" if finding.passed else "?" if finding.remedy else "!",
                finding.check,
                finding.measured,
                finding.expected,
            )
    console.print(table)
    console.print()
    for finding in findings:
        if finding.remedy and not finding.passed:
            console.print(f"? {finding.check}: {finding.remedy}", highlight=False)
    failed = [finding.check for finding in findings if not finding.passed and not finding.remedy]
    if failed:
        console.print(f"this machine cannot be trusted for measuring now: {', '.join(failed)}", highlight=False)
    else:
        console.print("this machine can be trusted for measuring", highlight=False)
    return 1 if failed else 0


def checks() -> Iterator[Finding]:
    """Run all checks, and yield the result of each."""
    rng = np.random.default_rng(0)
    spun = run(lambda: spin(SPIN_S), 200)
    yield quiet(spun)
    yield fixed(spun.get("latency/host_s"))
    slow = rng.random(400) < SLOW_SHARE
    draws = iter(np.where(slow, SLOW_S, FAST_S))
    yield bimodal(run(lambda: spin(next(draws)), len(slow)).get("latency/host_s"))
    growing = iter(np.linspace(1.0, 1.0 + DRIFT_OF_ALL, 200) * FAST_S)
    yield drifting(run(lambda: spin(next(growing)), 200))
    yield agreement()
    yield coverage(run(matrices(), SERIES * SERIES_CALLS).get("latency/host_s"))
    yield sampler_cost()
    yield known_peak()
    yield leak()


def run(function: Callable[[], object], calls: int) -> Samples:
    """Measure this number of calls with the latency stage."""
    return latency.run(context(function, latency=LatencyConfig(calls=calls)))


def context(function: Callable[[], object], **rules: Any) -> Context:
    """Return the context of a case whose model is a known callable, on the CPU."""
    case = Case("selftest", 1, (), ())
    measure = MeasureConfig(name="selftest", **rules)
    return Context(case, cast(LoadedModel, KnownModel(function)), Cpu(), measure, [{}])


def spin(seconds: float) -> None:
    """Keep the core busy for this time."""
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


def matrices() -> Callable[[], object]:
    """Return a product of two fixed matrices, which takes about a millisecond on one core."""
    import torch

    left, right = torch.full((384, 384), 0.5), torch.full((384, 384), 0.25)
    return lambda: left @ right


# -------------------------------------------------------------------------------------------------------------- checks
def quiet(samples: Samples) -> Finding:
    """Check that nothing disturbed the window of a fixed spin."""
    disturbed = validity.judge(Samples({name: row for name, row in samples.series.items() if "host_s" not in name}))
    delay = samples.get("latency/run_delay_fraction")
    calm = f"run delay {delay[0]:.2%}" if len(delay) else "the kernel reports no delay"
    measured = "; ".join(map(str, disturbed.reasons)) or calm
    return Finding("quiet machine", disturbed.verdict == VALID, measured, "no disturbance")


def fixed(host: np.ndarray) -> Finding:
    """Check the median of a spin of known length."""
    off = float(np.median(host)) / SPIN_S - 1
    return Finding("fixed spin", abs(off) <= SPIN_WITHIN, f"{off:+.2%} of {SPIN_S * 1e3:g} ms", f"±{SPIN_WITHIN:.0%}")


def bimodal(host: np.ndarray) -> Finding:
    """Check a series with two modes: its median must be one mode, and its p95 the other."""
    median, p95 = np.quantile(host, [0.5, 0.95])
    off = max(abs(median / FAST_S - 1), abs(p95 / SLOW_S - 1))
    measured = f"p50 {median * 1e3:.3f} ms, p95 {p95 * 1e3:.3f} ms"
    expected = f"{FAST_S * 1e3:g} and {SLOW_S * 1e3:g} ms, ±{SPIN_WITHIN:.0%}"
    return Finding("two modes", off <= SPIN_WITHIN, measured, expected)


def drifting(samples: Samples) -> Finding:
    """Check that a drift raises a flag."""
    kinds = [reason.kind for reason in validity.judge(samples).reasons]
    flags = [kind for kind in kinds if kind in ("autocorrelated", "halves_differ")]
    return Finding("drift is flagged", bool(flags), ", ".join(flags) or "no flag", "a flag")


def agreement() -> Finding:
    """Compare the latency stage with `torch.utils.benchmark.Timer`, in turns."""
    from torch.utils.benchmark import Timer

    product = matrices()
    timer = Timer("product()", globals={"product": product}, num_threads=1)
    ratios = []
    for turn in range(ROUNDS):
        medians = {}
        for timed_by in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            with quiet_window():
                theirs = timer.blocked_autorange(min_run_time=0.3).median if timed_by == "theirs" else 0.0
            medians[timed_by] = theirs or float(np.median(run(product, 300).get("latency/host_s")))
        ratios.append(medians["ours"] / medians["theirs"])
    ratio = float(np.median(ratios))
    passed = abs(ratio - 1) <= TIMER_WITHIN
    return Finding("torch's own timer", passed, f"ratio {ratio:.4f}", f"1 ± {TIMER_WITHIN:g}")


def coverage(host: np.ndarray) -> Finding:
    """Check how often the interval of a short series contains the median of the long series around it."""
    truth = float(np.median(host))
    intervals = [quantile_interval(piece, 0.5) for piece in np.array_split(host, SERIES)]
    share = float(np.mean([low <= truth <= high for low, high in filter(None, intervals)]))
    remedy = "calls of one process depend on each other here; use intervals across processes, with measure.repeats=5"
    measured, expected = f"in {share:.0%} of {len(intervals)} series", f"≥ {COVERAGE_WARNS:.0%}"
    return Finding("interval holds", share >= COVERAGE_WARNS, measured, expected, remedy)


def sampler_cost() -> Finding:
    """Check how much the sampler of utilisation slows the calls, in alternating windows with and without it."""
    product = matrices()
    case = context(product, throughput=ThroughputConfig(min_seconds=0.5))
    ratios = []
    for _ in range(ROUNDS):
        alone = _rate(throughput.run(case))
        with Sampler(case.device, interval_s=0.1):
            ratios.append(_rate(throughput.run(case)) / alone)
    cost = 1 - float(np.median(ratios))
    return Finding("sampler's cost", cost <= SAMPLER_COST, f"{cost:+.2%} of the rate", f"≤ {SAMPLER_COST:.0%}")


def known_peak() -> Finding:
    """Check the peak of a call that allocates a known block and frees it."""
    peak = _peak_above_start(lambda: np.ones(PEAK_MIB * MIB, np.uint8), calls=3)
    return _memory("known peak", peak, PEAK_MIB)


def leak() -> Finding:
    """Check the peak of calls that do not free the memory that they allocate."""
    return _memory("leak", _peak_above_start(Leaky(), calls=LEAK_CALLS), LEAK_MIB * LEAK_CALLS)


def _peak_above_start(function: Callable[[], object], calls: int) -> Mapping[str, float] | str:
    memory.run(context(lambda: None, memory=MemoryConfig(calls=1)))  # the first pass allocates memory of the stage
    case = context(function, memory=MemoryConfig(calls=calls))
    before = case.device.memory_in_use().get("memory/process_bytes")
    samples = memory.run(case)
    peak = samples.get("memory/process_peak_bytes")
    if samples.flags or not len(peak) or not len(before):
        return next(iter([*samples.flags.values(), *samples.missing.values()]))
    return {"mib": float(peak[0] - before[0]) / MIB}


def _memory(check: str, peak: Mapping[str, float] | str, expected_mib: float) -> Finding:
    expected = f"{expected_mib:g} ± {MIB_WITHIN:g} MiB"
    if isinstance(peak, str):
        return Finding(check, False, peak, expected)
    return Finding(check, abs(peak["mib"] - expected_mib) <= MIB_WITHIN, f"{peak['mib']:.2f} MiB", expected)


def _rate(samples: Samples) -> float:
    completed = samples.get("throughput/completed_s")
    return len(completed) / float(completed.max())
