"""`visionbench summarize`: which differences between reported and recomputed values count."""

import pytest

from visionbench.commands.summarize import differences
from visionbench.core import OK, Case, CaseResult, Metrics

CASE = Case("batch-1", 1, ("latency",), ("latency",))


def result(value):
    return CaseResult(CASE, OK, metrics=Metrics({"latency_p50_ms": value}))


@pytest.mark.parametrize("recomputed", [1.8064469989285563, 1.8064469989133602])
def test_a_value_that_another_version_of_scipy_rounds_differently_is_the_same(recomputed):
    assert differences(result(1.8064469989285563), result(recomputed)) == []


@pytest.mark.parametrize("recomputed", [1.80644, float("nan"), None])
def test_a_changed_or_missing_value_is_reported(recomputed):
    lines = differences(result(1.8064469989285563), result(recomputed))
    assert lines == [f"batch-1 latency_p50_ms: reported 1.8064469989285563, now {recomputed}"]
