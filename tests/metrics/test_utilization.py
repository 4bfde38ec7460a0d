"""Utilization: the mean, the median and the 95th percentile of the samples."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.utilization import GPU, HOST, Utilization

RISING = np.linspace(0.0, 1.0, 101) ** 2


def test_a_series_is_summarized_by_mean_median_and_95th_percentile():
    values = Utilization().compute(Samples({"telemetry/process_cpu_fraction": RISING})).values
    assert values["utilization_process_cpu_mean_fraction"] == pytest.approx(0.335)
    assert values["utilization_process_cpu_p50_fraction"] == pytest.approx(0.25)
    assert values["utilization_process_cpu_p95_fraction"] == pytest.approx(0.9025)
    assert values["utilization_samples_count"] == 101


@pytest.mark.parametrize("name", GPU)
def test_a_metric_of_the_gpu_has_the_unit_of_its_series(name):
    stem, unit = name.rsplit("_", 1)
    values = Utilization().compute(Samples({f"telemetry/{name}": np.array([2.0, 4.0])})).values
    assert (values[f"utilization_{stem}_mean_{unit}"], values[f"utilization_{stem}_p50_{unit}"]) == (3.0, 3.0)


def test_without_a_gpu_only_the_values_of_the_gpu_are_none_with_the_reason():
    metrics = Utilization().compute(Samples({f"telemetry/{name}": RISING for name in HOST}))
    absent = {name for name, value in metrics.values.items() if value is None}
    assert absent == set(metrics.reasons) and all(name.startswith("utilization_gpu_") for name in absent)
    assert len(absent) == 3 * len(GPU)
    assert set(metrics.reasons.values()) == {"no NVIDIA GPU reported it in this run"}


def test_counters_that_few_gpus_have_are_reported_only_if_they_were_sampled():
    name = "utilization_gpu_gpm_sm_mean_fraction"
    assert name not in Utilization().compute(Samples()).values
    assert Utilization().compute(Samples({"telemetry/gpu_gpm_sm_fraction": RISING})).values[name] == pytest.approx(
        0.335
    )


def test_a_window_without_samples_has_the_reason():
    assert Utilization().compute(Samples()).reasons["utilization_samples_count"] == "nothing was sampled"
