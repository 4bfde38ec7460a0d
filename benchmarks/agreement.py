"""Compare the latency stage with `torch.utils.benchmark.Timer` on the same call, alternating in one process.

    python benchmarks/agreement.py                # CLIP ViT-B/32, random weights, batch 1, one thread

Prints the ratio of the medians (latency stage ÷ timer) of each round and of all rounds, with the run delay of each
round. A ratio means little if threads waited for a core.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
from torch.utils.benchmark import Timer

from visionbench import machine
from visionbench.config import LatencyConfig, MeasureConfig, build_part, models
from visionbench.core import Case, Precision
from visionbench.data.shapes import Shapes
from visionbench.devices.cpu import Cpu
from visionbench.stages import latency
from visionbench.stages.context import Context
from visionbench.stages.inputs import assemble, preprocess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clip_vit_b32")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--calls", type=int, default=20, help="calls of a round, with each of the two")
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    context = prepare(args.model, args.batch_size, args.calls, args.threads)
    call = partial(context.model.call, context.batches[0])
    timer = Timer("call()", globals={"call": call}, num_threads=args.threads)
    latency.run(context)
    print(f"{args.model}, batch {args.batch_size}, {args.threads} threads, on {machine.cpu_name()}")
    ours, theirs, delays = [], [], []
    for round_ in range(args.rounds):
        before = machine.RunDelay.now()
        if round_ % 2:
            theirs.append(blocked(timer, args.calls))
        ours.append(latency.run(context).series["latency/host_s"])
        if not round_ % 2:
            theirs.append(blocked(timer, args.calls))
        delays.append(machine.RunDelay.now().fraction_since(before, args.threads))
        ratio = np.median(ours[-1]) / np.median(theirs[-1])
        print(f"round {round_ + 1:2}: {np.median(ours[-1]) * 1e3:8.2f} ms, ratio {ratio:.4f}, {delay_text(delays[-1])}")
    ratio = np.median(np.concatenate(ours)) / np.median(np.concatenate(theirs))
    print(f"all rounds: ratio {ratio:.4f}, worst {delay_text(max(delays, key=lambda delay: delay or 0.0))}")


def delay_text(delay: float | None) -> str:
    return "run delay unknown" if delay is None else f"run delay {delay:.2%}"


def prepare(model_name: str, batch_size: int, calls: int, threads: int) -> Context:
    """Return a case with one batch, ready for the latency stage."""
    model = models()[model_name]
    model.weights = "random"
    device = Cpu()
    device.setup(Precision("fp32", "float32"), threads)
    place = torch.device("cpu")
    loaded = build_part("models", model.family, model.options, "model.options").load(model, place, torch.float32)
    measure = MeasureConfig(name="agreement", latency=LatencyConfig(calls=calls))
    singles = preprocess(loaded, Shapes(samples=batch_size).examples(), measure.inputs)
    batches = [next(assemble(singles, batch_size, place, torch.float32))]
    return Context(Case("one", batch_size, ("latency",), ()), loaded, device, measure, batches)


def blocked(timer: Timer, calls: int) -> np.ndarray:
    """Return this number of single-call times of the timer, in seconds."""
    times: list[float] = []
    with torch.inference_mode():
        while len(times) < calls:
            times += timer.blocked_autorange(min_run_time=0.2).times
    return np.array(times[:calls])


if __name__ == "__main__":
    main()
