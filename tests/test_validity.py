"""What makes a case's numbers doubtful or void."""

import numpy as np
import pytest

from visionbench.core import INVALID, VALID, WARNED, Samples, Validity
from visionbench.validity import judge


def samples(delay=None, **flags):
    series = {} if delay is None else {"latency/run_delay_fraction": np.array([delay])}
    return Samples(series, flags=flags)


def test_a_quiet_case_is_valid():
    assert judge(samples(delay=0.0)) == Validity(VALID, ())


def test_an_unknown_run_delay_is_no_doubt():
    assert judge(samples()) == Validity(VALID, ())


def test_each_flag_warns_with_what_was_seen():
    found = judge(samples(not_converged="±3 %", warmup_unstable="8 %"))
    assert found == Validity(WARNED, ("not_converged: ±3 %", "warmup_unstable: 8 %"))


@pytest.mark.parametrize(
    ("delay", "verdict"),
    [(0.02, VALID), (0.021, WARNED), (0.05, WARNED), (0.051, INVALID), (0.9, INVALID)],
)
def test_a_run_delay_warns_over_2_percent_and_invalidates_over_5(delay, verdict):
    assert judge(samples(delay=delay)).verdict == verdict


def test_the_run_delay_is_told_with_its_share():
    assert judge(samples(delay=0.123)).reasons == ("run_delay: threads waited for a core 12.3% of the latency window",)


def test_a_flag_does_not_soften_an_invalid_run_delay():
    found = judge(samples(delay=0.2, not_converged="±3 %"))
    assert found.verdict == INVALID
    assert len(found.reasons) == 2
