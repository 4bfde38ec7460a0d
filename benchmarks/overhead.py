"""Measure the cost of a run beyond loading and measuring.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --against ../before    # only 1, 3 and 4, of both checkouts in turns, with ratios

1. A sweep of five runs of `clip_tiny`: the wall time of each run after the first, without the time of its stages.
2. The complete command for CLIP ViT-B/32 with random weights (both towers; batch 1, 2, 4; 3 + 10 calls for latency, 10
   for throughput, 1 for memory; one thread), alternating with a plain loop that does the same in one process.
3. CPU seconds of `visionbench run --help`.
4. With `--against`: the time to log a run to MLflow's SQLite store, after the first run, without and with its figures,
   which are drawn at the end of a sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

COMMAND = [str(Path(sys.executable).with_name("visionbench")), "run"]
COUNTS = [
    "measure.warmup.calls=3",
    "measure.latency.calls=10",
    "measure.throughput.calls=10",
    "measure.memory.calls=1",
]
BATCHES, DISTINCT = (1, 2, 4), 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="alternations of command and plain loop")
    parser.add_argument(
        "--plain-loop", action="store_true", help="run only the plain loop (used by this script itself)"
    )
    parser.add_argument("--against", type=Path, help="another checkout, such as that of an earlier commit")
    args = parser.parse_args()
    if args.against:
        compare_checkouts(Path(__file__).parents[1], args.against.absolute(), args.rounds)
        return
    if args.plain_loop:
        plain_loop()
        return
    per_run()
    complete_command(args.rounds)
    help_cost()


def per_run() -> None:
    """Print the time between the starts of runs of a sweep, without the seconds of the stages in run.json."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = [
            "-m",
            "model.seed=0,1,2,3,4",
            "batch=single",
            *COUNTS,
            f"output_dir={folder}",
            "hydra.sweep.dir=" + folder,
        ]
        quiet([*COMMAND, *sweep])
        runs = sorted((json.loads(path.read_text()) for path in Path(folder).glob("*/run.json")), key=started)
        logged = [started(run) for run in runs[1:]] + [datetime.now().timestamp()]
        print("overhead of a run beyond loading and measuring, clip_tiny, sweep of 5:")
        for number, (run, next_start) in enumerate(zip(runs, logged, strict=True), 1):
            stages = seconds_of_stages(run)
            wall = next_start - started(run)
            note = "  (includes the end of the command)" if number == len(runs) else ""
            print(f"  run {number}: {wall:.2f} s, stages {stages:.2f} s, overhead {wall - stages:.2f} s{note}")


# ---------------------------------------------------------------------------------------------------------- checkouts
ENTRY = "from visionbench.cli import main; main()"
LOG = """
import sys
from inspect import signature
from pathlib import Path
from time import perf_counter
from visionbench.config import TrackingConfig
from visionbench.trackers.mlflow import MlflowTracker
output_dir = Path(sys.argv[1])
tracker = MlflowTracker(TrackingConfig(), output_dir)
tracker.open()
earlier = "figures" not in signature(tracker.log).parameters
for path in sorted(output_dir.glob("*/run.json")):
    start = perf_counter()
    tracker.log(path.parent, **({} if earlier else {"figures": False}))
    logged = perf_counter() - start
    if not earlier:
        tracker.log(path.parent)
    print(logged, perf_counter() - start)
"""
"""Log runs as a sweep does. Print the seconds of each run until the next run can begin, and with its figures. A version
without the parameter `figures` always sends the figures."""


def compare_checkouts(new: Path, old: Path, rounds: int) -> None:
    """Print the overhead of a warm run, the time to log a run, and the cost of the help, of two checkouts in turns."""
    costs: dict[str, tuple[list[float], list[float]]] = {}
    for number in range(rounds):
        for index, checkout in enumerate((new, old) if number % 2 == 0 else (old, new)):
            side = index if number % 2 == 0 else 1 - index
            for name, seconds in checkout_costs(checkout).items():
                costs.setdefault(name, ([], []))[side].append(seconds)
    print(f"{'':<34} {'this':>9} {'other':>9} {'ratio':>7}   medians of {rounds} rounds in turns")
    for name, (ours, theirs) in costs.items():
        print(f"{name:<34} {median(ours):8.3f}s {median(theirs):8.3f}s {median(ours) / median(theirs):7.2f}")


def checkout_costs(checkout: Path) -> dict[str, float]:
    """Return the seconds of each cost of a checkout. It is imported from its folder `src`, with this interpreter."""
    environment = {"PYTHONPATH": str(checkout / "src")}
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", "-m", "model.seed=0,1,2,3,4", "batch=single", *COUNTS, "tracking=none", "report.enabled=false"]
        words += [f"output_dir={folder}", f"hydra.sweep.dir={folder}"]
        command = quiet([sys.executable, "-c", ENTRY, *words], environment)
        runs = sorted((json.loads(path.read_text()) for path in Path(folder).glob("*/run.json")), key=started)
        overheads = [
            started(later)
            - started(run)
            - sum(s for stage, s in run["seconds"].items() if stage not in ("start", "keep"))
            for run, later in zip(runs[1:], runs[2:], strict=False)
        ]
        done = subprocess.run(
            [sys.executable, "-c", LOG, folder],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **environment},
        )
        logged = [[float(number) for number in line.split()] for line in done.stdout.splitlines()]
    help_seconds = cpu_of([sys.executable, "-c", ENTRY, "run", "--help"], environment)
    return {
        "a warm run, without its stages": median(overheads),
        "logging a run to SQLite": median(first for first, _ in logged[1:]),
        "the same, and its figures": median(total for _, total in logged[1:]),
        "the complete sweep of five runs": command,
        "visionbench run --help, CPU": help_seconds,
    }


def cpu_of(command: list[str], environment: dict[str, str]) -> float:
    """Return the CPU seconds of a command, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    quiet(command, environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


# ------------------------------------------------------------------------------------------------------ plain script
def complete_command(rounds: int) -> None:
    """Alternate the command with the plain loop, each in a separate process."""
    ours, plain = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            command = [*COMMAND, "model=clip_vit_b32", "model.weights=random", "batch=tutorial", "device.threads=1"]
            ours.append(quiet([*command, *COUNTS, f"output_dir={folder}"]))
        plain.append(quiet([sys.executable, __file__, "--plain-loop"]))
        print(f"  command {ours[-1]:.1f} s, plain loop {plain[-1]:.1f} s, ratio {ours[-1] / plain[-1]:.2f}")
    print(f"complete command ÷ plain loop, CLIP ViT-B/32: {median(ours) / median(plain):.2f} (medians of {rounds})")


def help_cost() -> None:
    """Print the CPU seconds of `visionbench run --help`, user and system."""
    print(f"visionbench run --help: {cpu_of([*COMMAND, '--help'], {}):.2f} s of CPU")


def plain_loop() -> None:
    """Build, preprocess, and call the same number of times, without bookkeeping, as a script would."""
    import torch
    from PIL import Image
    from transformers import AutoConfig, AutoModel

    from visionbench import weights
    from visionbench.config import models
    from visionbench.data.shapes import Shapes
    from visionbench.models.dual_encoder import HashedTokenizer

    torch.set_num_threads(1)
    described = models()["clip_vit_b32"]
    described.weights = "random"
    model = AutoModel.from_config(AutoConfig.for_model(**described.architecture)).eval()
    processor = weights.load_image_processor(described, None)
    tokenizer = HashedTokenizer(model.config.text_config)
    examples = Shapes(samples=DISTINCT).examples()
    pixels = processor(images=[Image.open(e.image).convert("RGB") for e in examples], return_tensors="pt")[
        "pixel_values"
    ]
    tokens = tokenizer([e.captions[0] for e in examples], max_length=77)
    with torch.inference_mode():
        for size in BATCHES:
            batch = {"pixel_values": pixels[:size]}, {name: tensor[:size] for name, tensor in tokens.items()}
            times = []
            for _ in range(3 + 10 + 10 + 1):
                start = perf_counter()
                model.get_image_features(**batch[0])
                model.get_text_features(**batch[1])
                times.append(perf_counter() - start)
            print(size, median(times[3:13]))


def quiet(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Run a command and return its wall seconds. Its output is shown only if it fails."""
    start = perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120", **(environment or {})}
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return perf_counter() - start


def seconds_of_stages(run: dict[str, Any]) -> float:
    """Return the time that a run spent in its stages."""
    return sum(seconds for stage, seconds in run["seconds"].items() if stage not in ("start", "keep"))


def started(run: dict[str, str]) -> float:
    """Return the start of a run in seconds since the epoch."""
    return datetime.fromisoformat(run["started_at"]).timestamp()


if __name__ == "__main__":
    main()
