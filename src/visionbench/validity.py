"""Judge from a case's samples whether its numbers are valid, questionable or invalid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visionbench.core import INVALID, VALID, WARNED, Reason, Samples, Validity
from visionbench.statistics.timings import autocorrelation, halves_ratio, quantile_interval

WINDOWS = ("latency", "throughput", "serving")
"""The stages whose windows are judged by their disturbances."""
DELAY_WARNS, DELAY_INVALIDATES = 0.02, 0.05
"""Shares of a window in which working threads waited for a core, or a hypervisor withdrew the cores."""
SWITCHES_WARN_PER_S = 100.0
"""Involuntary context switches of the process: a few on an idle machine, hundreds if two processes share a core."""
CALLS_OF_WINDOWS = {
    "warmup": "host_s",
    "latency": "host_s",
    "throughput": "completed_s",
    "telemetry": "completed_s",
}
"""The windows that are checked for pauses, with the series of the durations or of the completion times of the calls."""
PAUSE_INVALIDATES, PAUSE_LEAST_S = 0.05, 0.1
"""The share of a window, and the number of seconds, from which a pause makes it invalid."""
LONG_CALL = 3.0
"""Calls that take more than this number of median calls may contain a pause, if the thread was idle meanwhile."""
LONG_CALL_ALONE, PAUSE_ALONE_S = 10.0, 0.5
"""The same, and the least length of a pause, if an idle thread does not show a pause because it waits for a device."""
STOPPED_WARNS = 0.2
"""The share of a window in which no thread ran, although no call was much longer than the others."""
AUTOCORRELATION_WARNS = 0.2
HALVES_WARN = 1.02
"""Ratio of the medians of the first and the second half of the latency series."""


def judge(samples: Samples) -> Validity:
    """Return the verdict and its reasons.

    Faults, pauses and large disturbances make the numbers invalid. Flags, small disturbances and drift are warnings.
    """
    invalid = [Reason(fault, detail) for fault, detail in samples.faults.items()]
    warnings = [Reason(flag, detail) for flag, detail in samples.flags.items()]
    for is_certain, reason in _pauses(samples):
        (invalid if is_certain else warnings).append(reason)
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


def _pauses(samples: Samples) -> Iterator[tuple[bool, Reason]]:
    """Yield a reason for each window in which the process was paused, and whether the pause is certain.

    A pause is time in which the measuring thread was idle, within calls that are much longer than the median call. On a
    device with a queue the thread is also idle while it waits for the device, so only very long calls count there.
    """
    yield from _serving_pauses(samples)
    for window, series in CALLS_OF_WINDOWS.items():
        calls = samples.get(f"{window}/{series}")
        if not len(calls):
            continue
        if (
            paused_s := _seconds(samples, f"{window}/paused_s")
        ) is not None:  # read by another thread during the window
            if paused_s > PAUSE_LEAST_S:
                yield True, Reason("paused", f"the process did not run for {paused_s:.3g} s of the {window} window")
            continue
        durations = np.diff(np.sort(calls), prepend=0.0) if series == "completed_s" else calls
        total = float(durations.sum())
        idle, stopped = (_seconds(samples, f"{window}/{name}") for name in ("thread_idle_s", "process_stopped_s"))
        if (suspended := _seconds(samples, f"{window}/suspended_s") or 0.0) > PAUSE_LEAST_S:
            yield True, Reason("paused", f"the machine was suspended for {suspended:.3g} s in the {window} window")
        elif window == "warmup" and stopped is None:
            continue
        elif (paused := _paused_s(durations, idle, stopped)) > max(PAUSE_LEAST_S, PAUSE_INVALIDATES * total):
            yield True, Reason("paused", f"the process did not run for {paused:.3g} s of the {window} window")
        elif stopped and len(durations) > 1 and stopped > max(PAUSE_LEAST_S, STOPPED_WARNS * total):
            yield (
                False,
                Reason("paused", f"no thread ran for {stopped:.3g} s of the {total:.3g} s of the {window} window"),
            )


def _serving_pauses(samples: Samples) -> Iterator[tuple[bool, Reason]]:
    """Yield a reason if a window of serving had a pause. Its thread is idle between queries also without a pause."""
    window_s = _seconds(samples, "serving/window_s")
    if window_s is None:
        return
    if (suspended := _seconds(samples, "serving/suspended_s") or 0.0) > PAUSE_LEAST_S:
        yield True, Reason("paused", f"the machine was suspended for {suspended:.3g} s in the serving window")
    paused = _seconds(samples, "serving/paused_s") or 0.0
    if paused > max(PAUSE_LEAST_S, PAUSE_INVALIDATES * window_s):
        yield (
            True,
            Reason("paused", f"calls were {paused:.3g} s longer than others of their size in the serving window"),
        )
    elif paused > PAUSE_LEAST_S:
        yield False, Reason("paused", f"calls were {paused:.3g} s longer than others of their size")


def _paused_s(durations: np.ndarray, idle: float | None, stopped: float | None) -> float:
    """Return the seconds of long calls in which the measuring thread was idle.

    `stopped` is None if an idle thread does not show a pause: on a device with a queue, or if it is unknown.
    """
    typical = float(np.quantile(durations, 0.5, method="lower"))  # of two calls, the shorter one
    if stopped is not None and idle is not None:
        if len(durations) == 1:
            return stopped
        return min(idle, float((durations[durations > LONG_CALL * typical] - typical).sum()))
    beyond = durations[durations > LONG_CALL_ALONE * typical] - typical
    pauses = float(beyond[beyond > PAUSE_ALONE_S].sum())
    return pauses if idle is None else min(idle, pauses)


def _seconds(samples: Samples, name: str) -> float | None:
    values = samples.get(name)
    return float(values[0]) if len(values) else None


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
