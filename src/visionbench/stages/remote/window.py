"""Timed requests: a fixed number of them, with a fixed number in flight. One window gives latency and throughput."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from visionbench.config import MeasureConfig
from visionbench.core import EncodedImage, Prices, Samples
from visionbench.remote.requests import Outcome, Requests, images_in_turn
from visionbench.stages.heartbeat import Heartbeat
from visionbench.stages.remote import attempts

INCLUDES = (
    "sending the request, the network, the queue and the model of the endpoint, and receiving the complete answer; "
    "not decoding and encoding the image"
)
"""What the latency of a request includes."""


@dataclass
class Images:
    """The encoded images of a run, which requests use in turn, so that an image is repeated as late as possible."""

    encoded: Sequence[EncodedImage]
    next: int = 0
    sent: Counter[int] = field(default_factory=Counter)

    def take(self, count: int) -> list[EncodedImage]:
        """Return the next images."""
        indices = range(self.next, self.next + count)
        self.sent.update(index % len(self.encoded) for index in indices)
        self.next += count
        return list(images_in_turn(self.encoded, count, indices.start))

    def describe(self) -> dict[str, str]:
        """Return a label if an image was sent more than once: an endpoint with a cache may answer it sooner."""
        most = max(self.sent.values(), default=0)
        return (
            {"images_repeated": f"{len(self.sent)} images were sent up to {most} times each; a cache may answer sooner"}
            if most > 1
            else {}
        )


def count_warmup(measure: MeasureConfig, in_flight: int) -> int:
    """Return the number of requests before the timed ones: at least one for each connection."""
    return max(measure.warmup.calls or measure.requests.warmup, in_flight)


def count_timed(measure: MeasureConfig, in_flight: int) -> int:
    """Return the number of timed requests of a case. `calls` of a window replaces it, as for a local model."""
    fixed = [calls for calls in (measure.latency.calls, measure.throughput.calls) if calls is not None]
    least = max(fixed) if fixed else measure.requests.timed
    return max(least, measure.requests.timed_per_slot * in_flight)


def warm_up(requests: Requests, images: Images, prompt: str, measure: MeasureConfig, in_flight: int) -> list[Outcome]:
    """Send the requests before the timed ones, which open the connections, and return their results."""
    chosen = images.take(count_warmup(measure, in_flight))
    return [outcome for _, outcome in requests.send_all(chosen, prompt, in_flight)]


def run(
    requests: Requests,
    images: Images,
    prompt: str,
    measure: MeasureConfig,
    in_flight: int,
    prices: Prices | None,
    most_error_share: float,
) -> Samples:
    """Return the samples of the timed requests.

    Series `latency/host_s` (the last attempt of each answered request, without waits) and `throughput/completed_s` (the
    time from the start of the window to the end of each answered request), those of `attempts.series`,
    `latency/paused_s` and `throughput/paused_s` (the time in which this process did not run), and
    `latency/run_delay_fraction` (the share of the attempts in which their threads waited for a core of this machine).
    """
    planned = count_timed(measure, in_flight)
    chosen = images.take(planned)
    with Heartbeat() as heartbeat:
        start = requests.clock()
        outcomes = [outcome for _, outcome in requests.send_all(chosen, prompt, in_flight)]
    samples = attempts.series(outcomes, prices)
    samples = samples.merged(attempts.judge(outcomes, planned, requests.stopped, most_error_share, prices))
    labels = {"requests_in_flight": str(in_flight), "latency_includes": INCLUDES, **images.describe()}
    series = {f"{name}/paused_s": np.array([heartbeat.paused_s]) for name in ("latency", "throughput")}
    timed = [one for outcome in outcomes for one in outcome.attempts]
    waits = [one.core_wait_s for one in timed if one.core_wait_s is not None]
    if timed and len(waits) == len(timed):
        share = sum(waits) / max(sum(one.attempt.seconds for one in timed), 1e-9)
        series["latency/run_delay_fraction"] = np.array([share])
    missing = {}
    if done := attempts.answered(outcomes):
        last = [outcome.attempts[-1].attempt for outcome in done]
        series["latency/host_s"] = np.array([attempt.seconds for attempt in last])
        series["throughput/completed_s"] = np.sort([outcome.ended_s - start for outcome in done])
        tokens = [attempt.output_tokens for attempt in last if attempt.output_tokens is not None]
        if tokens and len(tokens) == len(last):
            series["work/tokens_count"] = np.array([float(np.mean(tokens))])
    else:
        reason = f"no request has an answer: {attempts.count_kinds(outcomes) or requests.stopped}"
        missing = dict.fromkeys(("latency/host_s", "throughput/completed_s"), reason)
    series["work/images_count"] = np.array([1.0])
    return samples.merged(Samples(series, missing, labels=labels))
