"""Requests to an endpoint: failures and repeated attempts by kind, tokens, bytes, and times of streamed answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from visionbench.core import LOWER, SPEED, MetricDeclaration, Metrics, Samples
from visionbench.core.remote import ANSWERED, FAILURES, KINDS
from visionbench.registry import register
from visionbench.statistics.timings import interval_ranks, least_samples

NOT_STREAMED = "answers were not streamed (remote.stream=false)"


def _endpoint(name: str, unit: str, meaning: str, **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(f"endpoint_{name}_{unit}", unit, meaning, **fields)


@register("metrics", "endpoint")
@dataclass
class Endpoint:
    """No options. A run has it only if its model is at an endpoint."""

    stages: ClassVar[tuple[str, ...]] = ("requests",)

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _endpoint("requests", "count", "Timed requests that were sent"),
        _endpoint("attempts", "count", "Their attempts, those after a failure included"),
        _endpoint("success", "fraction", "Requests with a complete answer ÷ requests"),
        _endpoint(
            "failed",
            "fraction",
            "Requests without an answer after all attempts ÷ requests",
            better=LOWER,
            title="failed",
            table=True,
            order=120,
        ),
        _endpoint(f"failed_{{{','.join(FAILURES)}}}", "count", "Requests whose last attempt is of this kind"),
        _endpoint(f"repeated_{{{','.join(FAILURES)}}}", "count", "Attempts of this kind after which another was sent"),
        _endpoint("truncated", "fraction", "Answers that end at the limit of their tokens ÷ answers"),
        _endpoint(
            "input_tokens_per_image", "count", "Mean input tokens of an answered request, as the endpoint counts"
        ),
        _endpoint("output_tokens_per_image", "count", "Mean output tokens of an answer, as the endpoint counts"),
        _endpoint("sent_per_image", "bytes", "Mean size of the body of a request"),
        _endpoint("received_per_image", "bytes", "Mean size of the body of a response, as transferred"),
        _endpoint(
            "first_token_p50",
            "ms",
            "Median time to the first token of a streamed answer",
            better=LOWER,
            kind=SPEED,
            title="TTFT ms",
            table=True,
            order=121,
        ),
        _endpoint("first_token_p95", "ms", "95th percentile of it", better=LOWER, kind=SPEED),
        _endpoint("per_output_token_{p50,p95}", "ms", "Time after the first token ÷ (output tokens − 1)"),
        MetricDeclaration("endpoint_output_tokens_per_s", "1/s", "Output tokens of all answers ÷ time of the window"),
        _endpoint("with_retries_{p50,p95}", "ms", "Answered requests from the first attempt to the answer, with waits"),
    )

    def compute(self, samples: Samples) -> Metrics:
        """Compute the figures from the attempts and the requests of the window.

        A percentile is None if the samples are too few for its 95 % interval.
        """
        last = samples.get("requests/kind_index")
        if not len(last):
            reason = samples.why_missing("requests/kind_index")
            return Metrics({"endpoint_requests_count": None}, {"endpoint_requests_count": reason})
        kinds, number = samples.get("attempts/kind_index"), samples.get("attempts/number_count")
        answered = kinds == KINDS.index(ANSWERED)
        is_last = np.append(number[1:] == 1, True)
        values: dict[str, float | None] = {
            "requests_count": float(len(last)),
            "attempts_count": float(len(kinds)),
            "success_fraction": float((last == KINDS.index(ANSWERED)).mean()),
            "failed_fraction": float((last != KINDS.index(ANSWERED)).mean()),
        }
        for kind in FAILURES:
            of_kind = kinds == KINDS.index(kind)
            values[f"failed_{kind}_count"] = float((of_kind & is_last).sum())
            values[f"repeated_{kind}_count"] = float((of_kind & ~is_last).sum())
        reasons: dict[str, str] = {}

        def put(name: str, value: float | None, reason: str) -> None:
            values[name] = value
            if value is None:
                reasons[name] = reason

        def column(name: str) -> np.ndarray:
            values: np.ndarray = samples.get(f"attempts/{name}")[answered]
            return values

        no_answer = "no request has an answer"
        put("truncated_fraction", _mean(column("truncated_count")), no_answer)
        for name, series in (("input_tokens", "input_tokens_count"), ("output_tokens", "output_tokens_count")):
            reason = "not all answers have a count of their tokens" if answered.any() else no_answer
            put(f"{name}_per_image_count", _mean(column(series)), reason)
        put("sent_per_image_bytes", _mean(column("sent_bytes")), no_answer)
        put("received_per_image_bytes", _mean(column("received_bytes")), no_answer)
        first, duration, tokens = column("first_token_s"), column("duration_s"), column("output_tokens_count")
        streamed = np.isfinite(first)
        several = streamed & (tokens > 1)
        per_token = (duration[several] - first[several]) / (tokens[several] - 1)
        succeeded = last == KINDS.index(ANSWERED)
        timings = {
            "first_token": (first[streamed], NOT_STREAMED if answered.any() else no_answer),
            "per_output_token": (per_token, NOT_STREAMED if not streamed.any() else "no answer has two tokens"),
            "with_retries": (samples.get("requests/with_retries_s")[succeeded], no_answer),
        }
        for name, (seconds, reason) in timings.items():
            for percent in (50, 95):
                put(f"{name}_p{percent}_ms", *_percentile(seconds, percent, reason))
        end = samples.get("throughput/completed_s")
        counted = len(tokens) and np.isfinite(tokens).all() and len(end)
        rate = float(tokens.sum() / end.max()) if counted else None
        put("output_tokens_per_s", rate, "not all answers have a count of their tokens" if len(tokens) else no_answer)
        return Metrics(
            {f"endpoint_{name}": value for name, value in values.items()},
            {f"endpoint_{name}": reason for name, reason in reasons.items()},
        )


def _mean(values: np.ndarray) -> float | None:
    """Return the mean, or None if a value is unknown or there is none."""
    return float(values.mean()) if len(values) and np.isfinite(values).all() else None


def _percentile(seconds: np.ndarray, percent: int, reason: str) -> tuple[float | None, str]:
    """Return a percentile in ms and why it would be missing."""
    if not len(seconds):
        return None, reason
    if interval_ranks(len(seconds), percent / 100) is None:
        return None, f"{len(seconds)} requests, and p{percent} needs {least_samples(percent / 100)}"
    return float(np.quantile(seconds, percent / 100)) * 1e3, ""
