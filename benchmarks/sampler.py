"""Measure the cost of the utilisation sampler: call rates with and without it, alternating in one process.

    python benchmarks/sampler.py                  # CLIP ViT-B/32, random weights, batch 1, one thread

Prints the ratio of the rates (with ÷ without) for an interval of 100 ms, which the telemetry stage uses, and for 10 ms,
with the run delay of each round. A ratio means little if threads waited for a core.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext

import numpy as np
from agreement import delay_text, prepare

from visionbench import machine
from visionbench.config import ThroughputConfig
from visionbench.stages import throughput
from visionbench.stages.telemetry import Sampler

INTERVALS_S = (0.1, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clip_vit_b32")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    context = prepare(args.model, args.batch_size, 10, args.threads)
    context.measure.throughput = ThroughputConfig(min_calls=3, min_seconds=args.seconds)
    throughput.run(context)
    print(f"{args.model}, batch {args.batch_size}, {args.threads} threads, on {machine.cpu_name()}")
    ratios: dict[float, list[float]] = {interval: [] for interval in INTERVALS_S}
    for round_ in range(args.rounds):
        before = machine.RunDelay.now()
        rates = {interval: rate(context, interval) for interval in rotated((0.0, *INTERVALS_S), round_)}
        delay = machine.RunDelay.now().fraction_since(before, args.threads)
        for interval in INTERVALS_S:
            ratios[interval].append(rates[interval] / rates[0.0])
        shown = ", ".join(f"{interval * 1e3:g} ms {ratios[interval][-1]:.4f}" for interval in INTERVALS_S)
        print(f"round {round_ + 1:2}: {shown}, {delay_text(delay)}")
    for interval in INTERVALS_S:
        print(f"all rounds, a sample every {interval * 1e3:g} ms: ratio {np.median(ratios[interval]):.4f}")


def rate(context, interval_s: float) -> float:
    """Return the calls per second, with a sampler beside them unless the interval is 0."""
    with Sampler(context.device, interval_s) if interval_s else nullcontext():
        completed = throughput.run(context).series["throughput/completed_s"]
    return len(completed) / float(completed.max())


def rotated(values: tuple[float, ...], by: int) -> tuple[float, ...]:
    """Return the values rotated, so that none is always first."""
    return values[by % len(values) :] + values[: by % len(values)]


if __name__ == "__main__":
    main()
