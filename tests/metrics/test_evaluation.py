"""Metrics of the evaluation pass, computed from fixed times."""

import numpy as np
import pytest

from visionbench.core import Samples
from visionbench.metrics.evaluation import Evaluation

SERIES = {
    "evaluation/decode_s": np.array([1.0, 2.0]),
    "evaluation/preprocess_s": np.array([0.5, 0.5]),
    "evaluation/forward_s": np.array([3.0, 2.0]),
    "evaluation/postprocess_s": np.array([0.5, 0.5]),
    "evaluation/starved_s": np.array([1.5]),
    "evaluation/seconds_s": np.array([6.0]),
    "evaluation/images_count": np.array([30.0]),
    "evaluation/left_out_count": np.array([2.0]),
}


def test_the_rate_is_over_the_complete_pass_and_shares_are_over_the_busy_time():
    assert Evaluation().compute(Samples(SERIES)).values == pytest.approx(
        {
            "evaluation_images_per_s": 5.0,
            "evaluation_decode_share_fraction": 0.3,
            "evaluation_preprocess_share_fraction": 0.1,
            "evaluation_forward_share_fraction": 0.5,
            "evaluation_postprocess_share_fraction": 0.1,
            "evaluation_model_waits_fraction": 0.25,
            "evaluation_images_count": 30.0,
            "evaluation_left_out_count": 2.0,
        }
    )


def test_a_missing_series_gives_none_with_the_reason():
    incomplete = {name: series for name, series in SERIES.items() if name != "evaluation/starved_s"}
    metrics = Evaluation().compute(Samples(incomplete))
    assert metrics.values["evaluation_model_waits_fraction"] is None
    assert metrics.reasons == {"evaluation_model_waits_fraction": "no evaluation/starved_s was recorded"}
