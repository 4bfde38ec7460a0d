"""`visionbench selftest`: the protocol on callables of known behaviour, and whether this machine can be trusted for it.

Each check sends something whose answer is known through the very stages that measure models, and holds what they found
against it. Takes about half a minute; nothing is downloaded and nothing is written.
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
"""The drifting callable ends this much slower than it began."""
LEAK_MIB, PEAK_MIB, LEAK_CALLS = 4, 64, 8
SPIN_WITHIN, TIMER_WITHIN, SAMPLER_COSTS = 0.02, 0.03, 0.02
MIB_WITHIN = 1.0
COVERAGE_WARNS = 0.85
SERIES, SERIES_CALLS = 40, 30
"""So many pieces of one long series, of so many calls each, tell how often the interval of the median holds."""
ROUNDS = 6


@dataclass(frozen=True)
class Finding:
    """What one check was to find, what it found, and whether that will do."""

    check: str
    passed: bool
    seen: str
    wanted: str
    remedy: str = ""
    """How to measure all the same where it did not pass; without one the machine is not to be trusted."""


@dataclass
class Known:
    """Stands in for a model: a call does what it is told, and nothing else."""

    does: Callable[[], object]

    def call(self, inputs: Inputs) -> object:
        """The known behaviour."""
        return self.does()


@dataclass
class Leaky:
    """Keeps some MiB of every call, touched so that they count."""

    kept: list[np.ndarray] = field(default_factory=list)

    def __call__(self) -> None:
        """Keep some more."""
        self.kept.append(np.ones(LEAK_MIB * MIB, np.uint8))


def show() -> int:
    """Print what each check found; exit code 1 where this machine cannot be trusted."""
    console = screen()
    Cpu().setup(Precision("fp32", "float32"), threads=1)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("", "check", "found", "wanted"):
        table.add_column(heading)
    findings = []
    with console.status("measuring what is known"):
        for finding in checks():
            findings.append(finding)
            table.add_row(
                "ok" if finding.passed else "?" if finding.remedy else "!", finding.check, finding.seen, finding.wanted
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
    """Every check, as it is done."""
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


def run(does: Callable[[], object], calls: int) -> Samples:
    """So many calls through the latency pass."""
    return latency.run(context(does, latency=LatencyConfig(calls=calls)))


def context(does: Callable[[], object], **rules: Any) -> Context:
    """A case whose model is a known callable, on the CPU."""
    case = Case("selftest", 1, (), ())
    measure = MeasureConfig(name="selftest", **rules)
    return Context(case, cast(LoadedModel, Known(does)), Cpu(), measure, [{}])


def spin(seconds: float) -> None:
    """Keep the core busy until the time is over."""
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


def matrices() -> Callable[[], object]:
    """A product of two fixed matrices, about a millisecond on one core."""
    import torch

    left, right = torch.full((384, 384), 0.5), torch.full((384, 384), 0.25)
    return lambda: left @ right


# ----------------------------------------------------------------------------------------------------- what was found
def quiet(samples: Samples) -> Finding:
    """Whether anything disturbed the window of a fixed spin."""
    disturbed = validity.judge(Samples({name: row for name, row in samples.series.items() if "host_s" not in name}))
    delay = samples.get("latency/run_delay_fraction")

    calm = f"run delay {delay[0]:.2%}" if len(delay) else "the kernel tells no delay"
    seen = "; ".join(map(str, disturbed.reasons)) or calm
    return Finding("quiet machine", disturbed.verdict == VALID, seen, "no disturbance")


def fixed(host: np.ndarray) -> Finding:
    """The median of a spin of known length, in seconds."""
    off = float(np.median(host)) / SPIN_S - 1
    return Finding("fixed spin", abs(off) <= SPIN_WITHIN, f"{off:+.2%} of {SPIN_S * 1e3:g} ms", f"±{SPIN_WITHIN:.0%}")


def bimodal(host: np.ndarray) -> Finding:
    """Both modes of a series that has two: the median in the one, p95 in the other."""
    median, p95 = np.quantile(host, [0.5, 0.95])
    off = max(abs(median / FAST_S - 1), abs(p95 / SLOW_S - 1))
    seen = f"p50 {median * 1e3:.3f} ms, p95 {p95 * 1e3:.3f} ms"
    wanted = f"{FAST_S * 1e3:g} and {SLOW_S * 1e3:g} ms, ±{SPIN_WITHIN:.0%}"
    return Finding("two modes", off <= SPIN_WITHIN, seen, wanted)


def drifting(samples: Samples) -> Finding:
    """Whether a drift raises a doubt."""
    kinds = [reason.kind for reason in validity.judge(samples).reasons]
    told = [kind for kind in kinds if kind in ("autocorrelated", "halves_differ")]
    return Finding("drift is told", bool(told), ", ".join(told) or "no doubt", "a doubt")


def agreement() -> Finding:
    """The latency pass against `torch.utils.benchmark.Timer`, alternating."""
    from torch.utils.benchmark import Timer

    product = matrices()
    timer = Timer("product()", globals={"product": product}, num_threads=1)
    ratios = []
    for turn in range(ROUNDS):
        medians = {}
        for who in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            with quiet_window():
                theirs = timer.blocked_autorange(min_run_time=0.3).median if who == "theirs" else 0.0
            medians[who] = theirs or float(np.median(run(product, 300).get("latency/host_s")))
        ratios.append(medians["ours"] / medians["theirs"])
    ratio = float(np.median(ratios))
    passed = abs(ratio - 1) <= TIMER_WITHIN
    return Finding("torch's own timer", passed, f"ratio {ratio:.4f}", f"1 ± {TIMER_WITHIN:g}")


def coverage(host: np.ndarray) -> Finding:
    """How often the within-process interval of a short series holds the median of the long one it is a piece of."""
    truth = float(np.median(host))
    intervals = [quantile_interval(piece, 0.5) for piece in np.array_split(host, SERIES)]
    share = float(np.mean([low <= truth <= high for low, high in filter(None, intervals)]))
    remedy = "calls of one process depend on each other here; take intervals across processes, measure.repeats=5"
    seen, wanted = f"in {share:.0%} of {len(intervals)} series", f"≥ {COVERAGE_WARNS:.0%}"
    return Finding("interval holds", share >= COVERAGE_WARNS, seen, wanted, remedy)


def sampler_cost() -> Finding:
    """What sampling utilisation at 100 ms costs the calls beside it, alternating."""
    product = matrices()
    of = context(product, throughput=ThroughputConfig(min_seconds=0.5))
    ratios = []
    for _ in range(ROUNDS):
        alone = _rate(throughput.run(of))
        with Sampler(of.device, interval_s=0.1):
            ratios.append(_rate(throughput.run(of)) / alone)
    cost = 1 - float(np.median(ratios))
    return Finding("sampler's cost", cost <= SAMPLER_COSTS, f"{cost:+.2%} of the rate", f"≤ {SAMPLER_COSTS:.0%}")


def known_peak() -> Finding:
    """The peak of a call that allocates a known block and frees it, above what was there before."""
    found = _above(lambda: np.ones(PEAK_MIB * MIB, np.uint8), calls=3)
    return _memory("known peak", found, PEAK_MIB)


def leak() -> Finding:
    """The peak of calls that keep what they allocate."""
    return _memory("leak", _above(Leaky(), calls=LEAK_CALLS), LEAK_MIB * LEAK_CALLS)


def _above(does: Callable[[], object], calls: int) -> Mapping[str, float] | str:
    memory.run(context(lambda: None, memory=MemoryConfig(calls=1)))  # what the pass itself keeps comes first
    of = context(does, memory=MemoryConfig(calls=calls))
    before = of.device.memory_in_use().get("memory/process_bytes")
    samples = memory.run(of)
    peak = samples.get("memory/process_peak_bytes")
    if samples.flags or not len(peak) or not len(before):
        return next(iter([*samples.flags.values(), *samples.missing.values()]))
    return {"mib": float(peak[0] - before[0]) / MIB}


def _memory(check: str, found: Mapping[str, float] | str, wanted_mib: float) -> Finding:
    wanted = f"{wanted_mib:g} ± {MIB_WITHIN:g} MiB"
    if isinstance(found, str):
        return Finding(check, False, found, wanted)
    return Finding(check, abs(found["mib"] - wanted_mib) <= MIB_WITHIN, f"{found['mib']:.2f} MiB", wanted)


def _rate(samples: Samples) -> float:
    completed = samples.get("throughput/completed_s")
    return len(completed) / float(completed.max())
