"""Time the reading of many results: 1,000 runs, which are copies of a measured run.

    python benchmarks/archive.py [--runs 1000] [--of outputs/RUN]

Times `archive.read`, `dataframe.cases` of these runs, and the command `visionbench results`: the best of three, in
seconds and per run. Without `--of`, a run of `clip_tiny` with the default metrics and five batch sizes is measured
first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from uuid import uuid4

from visionbench.results import archive, dataframe

COMMAND = str(Path(sys.executable).with_name("visionbench"))
MODELS = ("clip_tiny", "sam_tiny", "blip2_tiny", "classifier_tiny", "clip_vit_b32")
RUNS_A_SWEEP = 20
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--of", type=Path, help="a run's folder to copy")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        original = args.of or measure(Path(folder) / "original")
        outputs = Path(folder) / "outputs"
        copy(original, outputs, args.runs)
        runs = archive.read(outputs)
        assert len(runs) == args.runs, f"{len(runs)} of {args.runs} runs were read"
        rows = sum(len(run.results) for run in runs)
        print(f"{args.runs} runs of {original.name}, {rows} cases")
        print_time("archive.read", args.runs, lambda: archive.read(outputs))
        print_time("dataframe.cases", args.runs, lambda: dataframe.cases(runs))
        print_time("visionbench results", args.runs, lambda: results(outputs))


def measure(output_dir: Path) -> Path:
    """Measure one run with few calls, and return its folder."""
    words = ["model=clip_tiny", "batch.sizes=[1,2,4,8,16]", "measure=quick", "measure.latency.calls=20"]
    words += ["measure.warmup.calls=3", "measure.throughput.calls=5", "data.options.samples=100", "tracking=none"]
    subprocess.run([COMMAND, "run", *words, f"output_dir={output_dir}"], check=True, capture_output=True)
    (folder,) = archive.folders(output_dir)
    return folder.path


def copy(original: Path, outputs: Path, runs: int) -> None:
    """Copy a run into sweeps of 20 runs, which differ in id, sweep, model and time."""
    conditions = json.loads((original / "run.json").read_text())
    began = datetime.fromisoformat(conditions["started_at"])
    for number in range(runs):
        model, started = MODELS[number % len(MODELS)], began + timedelta(minutes=number)
        sweep = f"sweep_{number // RUNS_A_SWEEP}"
        folder = outputs / sweep / f"{number % RUNS_A_SWEEP}_{model}_fp32"
        shutil.copytree(original, folder)
        conditions |= {"uid": uuid4().hex, "sweep": sweep, "started_at": started.isoformat(timespec="milliseconds")}
        conditions["plan"] |= {"model": model, "name": f"{model} · cpu · fp32"}
        (folder / "run.json").write_text(json.dumps(conditions, indent=2))


def results(outputs: Path) -> None:
    subprocess.run([COMMAND, "results", "--output-dir", str(outputs)], check=True, capture_output=True)


def print_time(name: str, runs: int, call: Callable[[], object]) -> None:
    """Print the best time of a few calls."""
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    print(f"{name:<20} {min(times):7.2f} s   {min(times) / runs * 1e3:6.2f} ms per run")


if __name__ == "__main__":
    main()
