"""Our load generator beside MLPerf's LoadGen, on the same server: python benchmarks/load_generators.py

Server: Poisson arrivals at a load. SingleStream: one client in a closed loop. Offline: all queries at once; ours are
calls of full batches in a loop, without a generator. The server is `stages.serving`, with a call that takes a fixed
time, and with a model. Both generators take turns in one process. Printed are the medians over the rounds, and
ours ÷ LoadGen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from visionbench import measuring
from visionbench.composition.schema import register_schema
from visionbench.config import ExperimentConfig, ServingConfig, from_hydra
from visionbench.core import Case, Samples
from visionbench.parts import build_parts
from visionbench.plan import plan
from visionbench.stages import serving
from visionbench.stages.context import Context

CONF = Path(__file__).resolve().parents[1] / "conf"
FIGURES = ("mean ms", "p50 ms", "p90 ms", "p99 ms", "answered/s", "mean batch")


class FixedTime(serving.Server):
    """A server whose call takes a fixed time on the processor, whatever the size of the batch."""

    seconds = 0.004

    def call(self, queries: Sequence[int]) -> None:
        """Compute until the time is over."""
        end = perf_counter() + self.seconds
        while perf_counter() < end:
            pass


def main() -> None:
    """Print a table for each server and scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clip_tiny")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.6, help="load of Server ÷ rate of calls without a queue")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = composed([f"model={args.model}", "device=cpu", "device.threads=1", "metrics=[serving]", "measure=quick"])
    loaded = load(config)
    real = serving.Server(loaded.model, loaded.parts.device, loaded.place, loaded.dtype, loaded.inputs.singles)
    fixed = FixedTime(*(getattr(real, name) for name in ("model", "device", "place", "dtype", "singles")))
    for name, server in ((f"a call of {fixed.seconds * 1e3:g} ms", fixed), (args.model, real)):
        seconds = server.warm_up(config.measure.serving, config.serving.max_batch)
        rate = args.share * serving.capacity(seconds)
        for scenario in ("Server", "SingleStream", "Offline"):
            print_scenario(f"{name}, {scenario}", scenario, rate, server, loaded, args)


def print_scenario(
    title: str,
    scenario: str,
    rate: float,
    server: serving.Server,
    loaded: measuring.LoadedRun,
    args: argparse.Namespace,
) -> None:
    """Measure both generators in turns, and print their medians and ratios."""
    rule = replace(loaded.config.measure.serving, min_queries=args.queries, min_seconds=0.0, max_queries=args.queries)
    measure = replace(loaded.config.measure, serving=replace(rule, max_seconds=120.0))
    case = Case("serving", 8, ("serving",), ("serving",))
    context = Context(case, loaded.model, loaded.parts.device, measure)
    closed = scenario == "SingleStream"
    ways: dict[str, Callable[[int], Samples]] = {}
    for generator in ("visionbench", "loadgen"):
        serving_config = replace(loaded.config.serving, generator=generator, arrivals="closed" if closed else "poisson")
        ways[generator] = window(scenario, serving_config, rate, server, context)
    figures = {name: [figures_of(way(seed)) for seed in range(args.rounds)] for name, way in turns(ways, args.rounds)}
    print(f"\n{title}" + (f", {rate:.0f} queries/s" if scenario == "Server" else ""))
    print(f"{'':>14}{'visionbench':>14}{'LoadGen':>14}{'ratio':>10}")
    for index, figure in enumerate(FIGURES):
        ours, theirs = (float(np.median([row[index] for row in figures[name]])) for name in ways)
        print(f"{figure:>14}{ours:>14.3f}{theirs:>14.3f}{ours / theirs:>10.3f}")


def turns(ways: dict[str, Callable[[int], Samples]], rounds: int) -> list[tuple[str, Callable[[int], Samples]]]:
    """Measure all ways in turns, and return functions that give the samples of a round."""
    measured: dict[str, list[Samples]] = {name: [] for name in ways}
    for seed in range(rounds):
        for name, way in ways.items():
            measured[name].append(way(seed))
    return [(name, samples.__getitem__) for name, samples in measured.items()]


def window(
    scenario: str, config: ServingConfig, rate: float, server: serving.Server, context: Context
) -> Callable[[int], Samples]:
    """Return a function from a seed to the samples of one window."""
    if scenario == "SingleStream":
        return lambda seed: serving.run(replace(config, seed=seed), server, None, 1, context)
    if scenario == "Server":
        return lambda seed: serving.run(replace(config, seed=seed), server, rate, None, context)
    if config.generator == "loadgen":
        return lambda seed: serving.run(replace(config, seed=seed, arrivals="offline"), server, None, None, context)
    return lambda _: offline(server, context.measure.serving.min_queries, config.max_batch)


def offline(server: serving.Server, queries: int, size: int) -> Samples:
    """Answer all queries in full batches, one after the other."""
    start, ends = perf_counter(), list[float]()
    for first in range(0, queries, size):
        server.call(range(first, min(first + size, queries)))
        ends += [perf_counter() - start] * (min(first + size, queries) - first)
    counted = np.array(ends[int(serving.SETTLING * queries) :])
    series = {
        "completed_s": counted,
        "scheduled_s": np.zeros(len(counted)),
        "answered_count": np.array([float(queries)]),
        "window_s": np.array([ends[-1]]),
        "batch_size_count": np.array([float(size)]),
    }
    return Samples({f"serving/{name}": values for name, values in series.items()})


def figures_of(samples: Samples) -> list[float]:
    """Return the figures of a window."""
    latency = (samples.get("serving/completed_s") - samples.get("serving/scheduled_s")) * 1e3
    answered = float(samples.get("serving/answered_count")[0] / samples.get("serving/window_s")[0])
    percentiles = (float(np.nanquantile(latency, share)) for share in (0.5, 0.9, 0.99))
    return [float(np.nanmean(latency)), *percentiles, answered, float(samples.get("serving/batch_size_count").mean())]


def load(config: ExperimentConfig) -> measuring.LoadedRun:
    """Load the model of a configuration."""
    parts, planned = build_parts(config), plan(config)
    data = measuring.read_data(config, planned, parts, {})
    steps = measuring.load_run(config, planned, parts, data, torch.device("cpu"), torch.float32)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            loaded: measuring.LoadedRun = end.value
            return loaded


def composed(overrides: Sequence[str]) -> ExperimentConfig:
    """Compose a configuration."""
    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return from_hydra(compose("config", list(overrides)))


if __name__ == "__main__":
    main()
