"""Measure how reliable the verdicts of `visionbench compare` are on this machine: false alarms, and slowdowns detected.

    python benchmarks/compare.py                           # 20 pairs of each kind, five processes per side: 40 minutes
    python benchmarks/compare.py --pairs 2 --slowed 2

1. Sweeps of identical runs, which differ only in the seed: run i is compared with run i + N.
2. Runs whose calls do `--work` times the work are compared with runs that do the work once.

In both parts one command measures all runs with `measure.repeats`, so that their processes alternate. It prints the
verdicts on p50 and on p10, the ratios, and the run delay of the latency windows. If threads waited for a core, the
cases are invalid and the verdicts `inconclusive`. p10 shows the calls that other processes on the same hardware disturb
least.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from visionbench import machine
from visionbench.results import archive, repeats
from visionbench.results.archive import Run
from visionbench.results.comparison import MetricComparison, Rules, compare

COMMAND = str(Path(sys.executable).with_name("visionbench"))
HERE = Path(__file__).parent
MODEL = "name: known_work\nfamily: known_work\nweights: random\nattention: null\noptions: {kind: chain, work: 1.0}\n"

METRICS = ("latency_p50_ms", "latency_p10_ms")

Key = tuple[int, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20, help="pairs of identical runs")
    parser.add_argument("--slowed", type=int, default=20, help="pairs of a run and a slower one")
    parser.add_argument("--work", type=float, default=1.1, help="work of the slower run")
    parser.add_argument(
        "--kind", choices=("chain", "products"), default="chain", help="kind of work; see known_work.py"
    )
    parser.add_argument("--processes", type=int, default=5, help="processes per side")
    parser.add_argument("--calls", type=int, default=2000, help="timed calls of a process, each a few ms long")
    parser.add_argument("--retries", type=int, default=1, help="retries of a window that is invalid")
    parser.add_argument("--threshold", type=float, default=0.05)
    args = parser.parse_args()

    print(
        f"{args.kind}, on {machine.cpu_name()}, one thread: "
        f"{args.processes} processes per side, {args.calls} calls each"
    )
    if args.pairs:
        pairs = [((seed, 1.0), (seed + args.pairs, 1.0)) for seed in range(args.pairs)]
        for metric, verdicts in trial(args, "identical", pairs, seeds=2 * args.pairs, works=(1.0,)).items():
            alarms = verdicts["slower"] + verdicts["faster"]
            print(f"  false alarms on {metric}: {alarms} of {args.pairs}, of them {verdicts['slower']} slower")
    if args.slowed:
        pairs = [((seed, 1.0), (seed, args.work)) for seed in range(args.slowed)]
        name = f"{args.work:g} times the work"
        for metric, verdicts in trial(args, name, pairs, seeds=args.slowed, works=(1.0, args.work)).items():
            print(f"  detected on {metric}: {verdicts['slower']} of {args.slowed}")


def trial(
    args: argparse.Namespace, name: str, pairs: Sequence[tuple[Key, Key]], seeds: int, works: Sequence[float]
) -> dict[str, Counter[str]]:
    """Measure each seed with each amount of work, alternating in one command; print and count the verdicts on pairs."""
    with tempfile.TemporaryDirectory() as folder:
        begun = perf_counter()
        measure(args, Path(folder), seeds, works)
        seconds = perf_counter() - begun
        runs = {key(run): run for run in archive.read(Path(folder) / "outputs")}
        rules = Rules(threshold=args.threshold, force=True, metrics=METRICS)
        rows = [row for old, new in pairs for row in compare([runs[old]], [runs[new]], rules).rows]
        delays = [delay for run in runs.values() for delay in delays_of(run)]
    count = seeds * len(works) * args.processes
    print(f"{name}: {len(pairs)} pairs; {count} processes in {seconds:.0f} s, {seconds / count:.2f} s each")
    print(f"  run delay of the latency windows: {spread(np.array(delays))}")
    return {metric: print_verdicts(metric, [row for row in rows if row.metric == metric]) for metric in METRICS}


def print_verdicts(metric: str, rows: Sequence[MetricComparison]) -> Counter[str]:
    """Print and count the verdicts on a metric over all pairs."""
    verdicts = Counter(row.verdict for row in rows)
    ratios = np.array([row.ratio for row in rows if row.ratio is not None])
    widths = np.array([np.log(row.interval[1] / row.interval[0]) / 2 for row in rows if row.interval is not None])
    invalid = sum("invalid" in (row.base.validity, row.candidate.validity) for row in rows)
    print(f"  {metric}: {', '.join(f'{number} {verdict}' for verdict, number in verdicts.most_common())}", end="")
    print(f"; with an invalid side {invalid}")
    print(f"    ratio: {spread(ratios)}; smallest detectable effect: {spread(np.expm1(widths))}")
    return verdicts


def measure(args: argparse.Namespace, folder: Path, seeds: int, works: Sequence[float]) -> None:
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "known_work.yaml").write_text(MODEL)
    command = [COMMAND, "run", "--config-dir", f"{folder}/conf", "-m", "model=known_work"]
    command += [f"model.seed={','.join(map(str, range(seeds)))}", f"model.options.work={','.join(map(str, works))}"]
    command += [f"model.options.kind={args.kind}", "metrics=[latency]", "batch=single"]
    command += ["device=cpu", "device.threads=1", "tracking=none"]
    command += ["measure.inputs.distinct_samples=4", "measure.warmup.calls=20", f"measure.latency.calls={args.calls}"]
    command += [f"measure.retries={args.retries}", "measure.retry_pause_seconds=0.2"]
    command += [f"measure.repeats={args.processes}", "data.options.samples=40"]
    command += [f"data.options.cache_dir={folder}/data", f"output_dir={folder}/outputs"]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def key(run: Run) -> Key:
    """Return the seed and the amount of work of a run."""
    model = run.record.settings.model
    return model.values["seed"], model.options["work"]


def delays_of(run: Run) -> list[float]:
    """Return the run delay of the latency window of each process for which the kernel reports it."""
    delays = [one.samples("batch-1").get("latency/run_delay_fraction") for one in repeats.folders(run.folder)]
    return [float(series[0]) for series in delays if len(series)]


def spread(values: np.ndarray) -> str:
    """Return the median with the extremes."""
    if not len(values):
        return "none"
    return f"{np.median(values):.3f} ({values.min():.3f}–{values.max():.3f})"


if __name__ == "__main__":
    main()
