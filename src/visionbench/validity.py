"""Judge from a case's samples whether its numbers are valid, questionable or invalid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visionbench.core import INVALID, VALID, WARNED, Reason, Samples, Validity
from visionbench.statistics.timings import autocorrelation, halves_ratio, quantile_interval

WINDOWS = ("latency", "throughput")
"""The stages whose windows are judged by their disturbances."""
DELAY_WARNS, DELAY_INVALIDATES = 0.02, 0.05
"""Shares of a window in which working threads waited for a core, or a hypervisor withdrew the cores."""
SWITCHES_WARN_PER_S = 100.0
"""Involuntary context switches of the process: a few on an idle machine, hundreds if two processes share a core."""
AUTOCORRELATION_WARNS = 0.2
HALVES_WARN = 1.02
"""Ratio of the medians of the first and the second half of the latency series."""


def judge(samples: Samples) -> Validity:
    """Return the verdict and its reasons.

    Faults and large disturbances make the numbers invalid. Flags, small disturbances and drift are warnings.
    """
    invalid = [Reason(fault, detail) for fault, detail in samples.faults.items()]
    warnings = [Reason(flag, detail) for flag, detail in samples.flags.items()]
    for share, reason in _disturbances(samples):
        (invalid if share > DELAY_INVALIDATES else warnings).append(reason)
    warnings += _drift(samples.get("latency/host_s"))
    return Validity(INVALID if invalid else WARNED if warnings else VALID, (*invalid, *warnings))


def _disturbances(samples: Samples) -> Iterator[tuple[float, Reason]]:
    """Yield each disturbance above the limits with its share of the window, or 0 if it has no share."""
    for window in WINDOWS:
        for name, kind, text in (
            ("run_delay_fraction", "run_delay", "threads waited for a core"),
            ("steal_fraction", "steal", "the hypervisor withdrew the cores for"),
        ):
            share = samples.get(f"{window}/{name}")
            if len(share) and share[0] > DELAY_WARNS:
                yield float(share[0]), Reason(kind, f"{text} {share[0]:.1%} of the {window} window")
        switches = samples.get(f"{window}/involuntary_switches_per_s")
        if len(switches) and switches[0] > SWITCHES_WARN_PER_S:
            yield 0.0, Reason("involuntary_switches", f"{switches[0]:.0f} a second in the {window} window")


def _drift(host: np.ndarray) -> list[Reason]:
    """Return the reasons to assume that the time of calls changed during the window, beyond the samples' spread."""
    if len(host) < 2:
        return []
    reasons = []
    correlation = autocorrelation(host)
    if correlation > max(AUTOCORRELATION_WARNS, 2 / len(host) ** 0.5):
        reasons.append(Reason("autocorrelated", f"neighbouring calls resemble each other (lag 1: {correlation:.2f})"))
    half = len(host) // 2
    first, second = (quantile_interval(part, 0.5) for part in (host[:half], host[half:]))
    disjoint = first and second and (first[1] < second[0] or second[1] < first[0])
    if disjoint and (ratio := halves_ratio(host)) > HALVES_WARN:
        detail = f"the medians of the first and the second half differ by {ratio - 1:.1%}"
        reasons.append(Reason("halves_differ", detail))
    return reasons
