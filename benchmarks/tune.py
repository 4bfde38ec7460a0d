"""Compare `visionbench tune` with an exhaustive search of the same space.

    python benchmarks/tune.py                      # clip_tiny: three precisions × two runtimes
    python benchmarks/tune.py model=clip_tiny precision=fp32,bf16 runtime=eager batch.sizes=[1,4,16,64]
    python benchmarks/tune.py --folder outputs/tune_check   # continue an interrupted comparison

The words are those of `visionbench tune`. Both searches measure each batch size of a configuration as a run with the
same protocol. The best configuration of each is then measured again in processes that take turns, because the figures
of a search come from different minutes. Prints the number of trials (measured batch sizes of configurations) of both,
the best of both, and the ratio of the throughput of the best of tune to the best of all, with its 95 % interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import mkdtemp

from visionbench.commands.tune import compose
from visionbench.records.tuning import Measurement
from visionbench.resolve import Resolver
from visionbench.statistics.timings import welch_ratio
from visionbench.tuning import finals, request, tune
from visionbench.tuning.objectives import Limits, Objective, can_win, with_bounds
from visionbench.tuning.space import Combination
from visionbench.tuning.tune import Tuning

WORDS = [
    *("model=clip_tiny", "precision=fp32,bf16,int8_dynamic", "runtime=eager,openvino", "device=cpu"),
    *("model.attention=auto", "model.channels_last=false", "tracking=none", "report.enabled=false"),
]
"""The space of the comparison without words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=WORDS, help="words of visionbench tune")
    parser.add_argument("--folder", type=Path, help="the folder of the results; by default a temporary one")
    parser.add_argument("--repeats", type=int, default=5, help="processes of the last comparison, for each side")
    args = parser.parse_args()
    folder = args.folder or Path(mkdtemp(prefix="visionbench-tune-"))

    tuned = prepare(args.words, folder / "tune")
    tuned.search.run()
    tuned.store_tried()
    everything = prepare(args.words, folder / "all")
    measured = exhaustive(everything)
    best, exact = best_of(measurements(tuned), tuned), best_of(measured, everything)
    trials = sum(len(one.measured) for one in tuned.search.tried.values())
    print(f"space: {len(everything.search.space)} batch sizes of configurations; results in {folder}")
    print(f"tune:       {trials} trials, best {text(best)}")
    print(f"exhaustive: {len(measured)} trials, best {text(exact)}")
    print(f"trials: {trials / len(measured):.1%} of all")
    in_search = next(one for combination, one in measured if (combination, one.batch_size) == place(best))
    print(f"within the exhaustive search: {speed(in_search) / speed(exact[1]):.3f} of the best")
    if place(best) == place(exact):
        print("ratio: 1, because both are the same configuration and batch size")
        return
    runs = everything.trials.measure_finals([place(best), place(exact)], args.repeats, 0)
    values = [[one.throughput.value for one in finals.read(run, "")[1] if one.throughput] for run in runs]
    ratio = welch_ratio(values[1], values[0])
    print("ratio of the best of tune to the best of all, side by side: " + "{:.3f} [{:.3f}, {:.3f}]".format(*ratio))


def prepare(words: list[str], output_dir: Path) -> Tuning:
    """Return a search with its own folder of results."""
    parsed = request.parse([*words, f"output_dir={output_dir}"])
    return tune.prepare(compose(parsed, None), parsed, Resolver(None), print)


def exhaustive(tuning: Tuning) -> list[tuple[Combination, Measurement]]:
    """Measure every batch size of every configuration, without those of an earlier command."""
    measured = []
    for combination in tuning.search.space.combinations:
        known = {one.batch_size: one for one in tuning.trials.known(combination)}
        missing = [size for size in tuning.search.space.sizes if size not in known]
        if missing:
            tuning.trials.measure(combination, missing, lambda one, known=known: keep(known, one))
        measured += [(combination, one) for one in known.values()]
    return measured


def keep(known: dict[int, Measurement], one: Measurement) -> str:
    """Store a measurement, and go on with the next size."""
    known[one.batch_size] = one
    return ""


def measurements(tuning: Tuning) -> list[tuple[Combination, Measurement]]:
    """Return the measurements of a search."""
    return [(combination, one) for combination, tried in tuning.search.tried.items() for one in tried.measured]


def best_of(measured: list[tuple[Combination, Measurement]], tuning: Tuning) -> tuple[Combination, Measurement]:
    """Return the largest throughput that is not invalid and holds the bounds."""
    limits: Limits = tuning.search.limits
    judged = [(combination, with_bounds(one, limits)) for combination, one in measured]
    able = [entry for entry in judged if can_win(entry[1], Objective())]
    if not able:
        raise SystemExit("no measurement is valid; measure again on a quiet machine")
    return max(able, key=lambda entry: speed(entry[1]))


def place(entry: tuple[Combination, Measurement]) -> tuple[Combination, int]:
    return entry[0], entry[1].batch_size


def speed(one: Measurement) -> float:
    return one.throughput.value if one.throughput else 0.0


def text(entry: tuple[Combination, Measurement]) -> str:
    mark = "" if not entry[1].questionable else " (questionable)"
    return f"{entry[0]}, batch size {entry[1].batch_size}: {speed(entry[1]):,.4g} images/s{mark}"


if __name__ == "__main__":
    main()
