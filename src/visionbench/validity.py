"""Whether a case's numbers are to be trusted, judged from its samples alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visionbench.core import INVALID, VALID, WARNED, Reason, Samples, Validity
from visionbench.statistics.timings import autocorrelation, halves_ratio, quantile_interval

WINDOWS = ("latency", "throughput")
"""The passes whose disturbances are read."""
DELAY_WARNS, DELAY_INVALIDATES = 0.02, 0.05
"""Share of a window that working threads waited for a core, or that a hypervisor took the cores away."""
SWITCHES_WARN_PER_S = 100.0
"""Involuntary context switches of the process. An idle machine shows a few, two processes on one core hundreds."""
AUTOCORRELATION_WARNS = 0.2
HALVES_WARN = 1.02
"""Ratio of the medians of the first and the second half of the latency series."""


def judge(samples: Samples) -> Validity:
    """Faults invalidate and flags warn; what disturbed a window does either by how much it was; drift warns."""
    void = [Reason(fault, detail) for fault, detail in samples.faults.items()]
    doubts = [Reason(flag, detail) for flag, detail in samples.flags.items()]
    for share, reason in _disturbances(samples):
        (void if share > DELAY_INVALIDATES else doubts).append(reason)
    doubts += _drift(samples.get("latency/host_s"))
    return Validity(INVALID if void else WARNED if doubts else VALID, (*void, *doubts))


def _disturbances(samples: Samples) -> Iterator[tuple[float, Reason]]:
    """What disturbed each window beyond what is taken for quiet: its share of the window (0 where it has none)."""
    for window in WINDOWS:
        for name, kind, text in (
            ("run_delay_fraction", "run_delay", "threads waited for a core"),
            ("steal_fraction", "steal", "the hypervisor gave the cores to others for"),
        ):
            seen = samples.get(f"{window}/{name}")
            if len(seen) and seen[0] > DELAY_WARNS:
                yield float(seen[0]), Reason(kind, f"{text} {seen[0]:.1%} of the {window} window")
        switches = samples.get(f"{window}/involuntary_switches_per_s")
        if len(switches) and switches[0] > SWITCHES_WARN_PER_S:
            yield 0.0, Reason("involuntary_switches", f"{switches[0]:.0f} a second in the {window} window")


def _drift(host: np.ndarray) -> list[Reason]:
    """Signs that calls were not alike from first to last, where they are more than the samples' own spread can show."""
    if len(host) < 2:
        return []
    reasons = []
    correlation = autocorrelation(host)
    if correlation > max(AUTOCORRELATION_WARNS, 2 / len(host) ** 0.5):
        reasons.append(Reason("autocorrelated", f"neighbouring calls resemble each other (lag 1: {correlation:.2f})"))
    half = len(host) // 2
    first, second = (quantile_interval(part, 0.5) for part in (host[:half], host[half:]))
    apart = first and second and (first[1] < second[0] or second[1] < first[0])
    if apart and (ratio := halves_ratio(host)) > HALVES_WARN:
        detail = f"the medians of the first and the second half differ by {ratio - 1:.1%}"
        reasons.append(Reason("halves_differ", detail))
    return reasons
