"""The options of engines: valid values are returned, and each other value is refused with its key."""

import pytest

from visionbench.core import ConfigError
from visionbench.engines import options


@pytest.mark.parametrize(("value", "indices"), [(None, None), ("auto", "auto"), ([0, 2], [0, 2]), (1, [1])])
def test_gpus_are_auto_or_a_list(value, indices):
    assert options.gpus("gpus", value) == indices


@pytest.mark.parametrize("value", ["all", [], [-1], [0, 0], [True], ["0"], 1.5])
def test_other_values_of_gpus_are_refused_with_the_key(value):
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.gpus="):
        options.gpus("hydra.launcher.gpus", value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "30", True])
def test_a_time_limit_that_is_not_a_positive_number_is_refused(value):
    with pytest.raises(ConfigError, match="not a number of minutes"):
        options.minutes("hydra.launcher.timeout_min", value)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_flag_that_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(ConfigError, match="neither true nor false"):
        options.flag("hydra.launcher.parallel", value)
