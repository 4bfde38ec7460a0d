import numpy as np

from visionbench.core import Samples
from visionbench.metrics.load import Load


def test_load_times_are_copied_from_the_samples():
    samples = Samples({"load/seconds_s": np.array([2.5]), "load/first_call_s": np.array([0.25])})
    assert Load().compute(samples).values == {"load_s": 2.5, "load_first_call_s": 0.25}


def test_a_missing_series_gives_none_with_the_reason():
    metrics = Load().compute(Samples({"load/seconds_s": np.array([2.5])}))
    assert metrics.values["load_first_call_s"] is None
    assert metrics.reasons == {"load_first_call_s": "no load/first_call_s was recorded"}
