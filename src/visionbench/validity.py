"""Whether a case's numbers are to be trusted, judged from its samples alone."""

from __future__ import annotations

from visionbench.core import INVALID, VALID, WARNED, Samples, Validity

RUN_DELAY_WARNS, RUN_DELAY_INVALIDATES = 0.02, 0.05
"""Share of the window that working threads waited for a core."""


def judge(samples: Samples) -> Validity:
    """Flags warn; a run delay warns or invalidates by how long it was."""
    reasons = [f"{flag}: {seen}" for flag, seen in samples.flags.items()]
    verdict = WARNED if reasons else VALID
    delay = samples.get("latency/run_delay_fraction")
    if len(delay) and delay[0] > RUN_DELAY_WARNS:
        reasons.append(f"run_delay: threads waited for a core {delay[0]:.1%} of the latency window")
        verdict = INVALID if delay[0] > RUN_DELAY_INVALIDATES else WARNED
    return Validity(verdict, tuple(reasons))
