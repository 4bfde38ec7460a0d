"""The name of each metric ends in its unit, and a metric without samples has a reason."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.registry import find, names

UNITS = (
    *("_ms", "_s", "_mib", "_per_s", "_fraction", "_count", "_ratio", "_rank", "_score"),
    *("_j", "_w", "_m", "_mhz", "_celsius", "_gflop", "_flop_per_byte"),
    "_per_1000_images",  # an amount of money, whose currency is a label of the row
)
WORK = Samples({f"work/{unit}_count": np.array([2.0]) for unit in ("images", "texts", "prompts", "tokens")})


@pytest.mark.parametrize("group", names("metrics"))
def test_a_metrics_name_begins_with_its_group_and_ends_in_its_unit(group):
    metrics = find("metrics", group)().compute(WORK)
    assert metrics.values
    for name in metrics.values:
        assert name.startswith(f"{group}_"), name
        assert name.endswith(UNITS), name


@pytest.mark.parametrize("group", names("metrics"))
def test_without_samples_every_metric_is_none_with_a_reason(group):
    metrics = find("metrics", group)().compute(WORK)
    assert set(metrics.values.values()) == {None}
    assert set(metrics.reasons) >= set(metrics.values)
