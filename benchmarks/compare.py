"""What the verdicts of `visionbench compare` are worth on this machine: false alarms, and slowdowns that are found.

    python benchmarks/compare.py                           # 20 pairs of each kind, five processes a side: 40 minutes
    python benchmarks/compare.py --pairs 2 --slowed 2

1. Sweeps of identical runs, which differ in the seed alone: run i is held against run i + N.
2. Runs whose calls do `--work` times the work, held against runs that do it once.

In either part one command measures all runs with `measure.repeats`, so that their processes take turns. Printed are the
verdicts on p50 and on p10, the ratios, and the run delay of the latency windows: where threads waited for a core,
verdicts say little and are `inconclusive`, since the cases are invalid. p10 tells of the calls that neighbours on the
same hardware disturb least.
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
    parser.add_argument("--pairs", type=int, default=20, help="of identical runs")
    parser.add_argument("--slowed", type=int, default=20, help="pairs of a run and a slower one")
    parser.add_argument("--work", type=float, default=1.1, help="of the slower one")
    parser.add_argument("--kind", choices=("chain", "products"), default="chain", help="of work; see known_work.py")
    parser.add_argument("--processes", type=int, default=5, help="a side")
    parser.add_argument("--calls", type=int, default=2000, help="timed in a process, of some ms each")
    parser.add_argument("--retries", type=int, default=1, help="of a window that is invalid")
    parser.add_argument("--threshold", type=float, default=0.05)
    args = parser.parse_args()

    print(
        f"{args.kind}, on {machine.cpu_name()}, one thread: {args.processes} processes a side, {args.calls} calls each"
    )
    if args.pairs:
        pairs = [((at, 1.0), (at + args.pairs, 1.0)) for at in range(args.pairs)]
        for metric, verdicts in trial(args, "identical", pairs, seeds=2 * args.pairs, works=(1.0,)).items():
            alarms = verdicts["slower"] + verdicts["faster"]
            print(f"  false alarms on {metric}: {alarms} of {args.pairs}, of them {verdicts['slower']} slower")
    if args.slowed:
        pairs = [((at, 1.0), (at, args.work)) for at in range(args.slowed)]
        name = f"{args.work:g} times the work"
        for metric, verdicts in trial(args, name, pairs, seeds=args.slowed, works=(1.0, args.work)).items():
            print(f"  found on {metric}: {verdicts['slower']} of {args.slowed}")


def trial(
    args: argparse.Namespace, name: str, pairs: Sequence[tuple[Key, Key]], seeds: int, works: Sequence[float]
) -> dict[str, Counter[str]]:
    """Measure each seed with each amount of work, in turns by one command; print and count the verdicts on pairs."""
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
    return {metric: told(metric, [row for row in rows if row.metric == metric]) for metric in METRICS}


def told(metric: str, rows: Sequence[MetricComparison]) -> Counter[str]:
    """Print what was said of a metric, pair by pair, and count it."""
    found = Counter(row.verdict for row in rows)
    ratios = np.array([row.ratio for row in rows if row.ratio is not None])
    widths = np.array([np.log(row.interval[1] / row.interval[0]) / 2 for row in rows if row.interval is not None])
    invalid = sum("invalid" in (row.base.validity, row.candidate.validity) for row in rows)
    print(f"  {metric}: {', '.join(f'{number} {verdict}' for verdict, number in found.most_common())}", end="")
    print(f"; with an invalid side {invalid}")
    print(f"    ratio: {spread(ratios)}; smallest detectable effect: {spread(np.expm1(widths))}")
    return found


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
    """The seed and the amount of work of a run."""
    model = run.record.settings.model
    return model.values["seed"], model.options["work"]


def delays_of(run: Run) -> list[float]:
    """The run delay of the latency window in each process, of those where the kernel tells."""
    found = [one.samples("batch-1").get("latency/run_delay_fraction") for one in repeats.folders(run.folder)]
    return [float(series[0]) for series in found if len(series)]


def spread(values: np.ndarray) -> str:
    """The median with the extremes."""
    if not len(values):
        return "none"
    return f"{np.median(values):.3f} ({values.min():.3f}–{values.max():.3f})"


if __name__ == "__main__":
    main()
