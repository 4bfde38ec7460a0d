"""Time the commands that read results, with 100, 1,000 and 10,000 runs: seconds, growth, time per run and peak memory.

    python benchmarks/archive.py                                # two sweeps, of half the runs each
    python benchmarks/archive.py --shape single --runs 100 1000 10000
    python benchmarks/archive.py --only sync --runs 100 1000
    python benchmarks/archive.py --write outputs_10000 --runs 10000   # only write the runs, and keep them

The runs are made up: one run of `clip_tiny` is measured, or given by `--of`, and its samples are scaled by 200 factors.
Runs share the files of their samples, as links. Each sweep has its `sweep.json`. Shapes: `two` (two sweeps), `usual`
(sweeps of 20 runs), `single` (sweeps of one run), `batches` (one run with this many batch sizes), `deep` (as `usual`,
below a path of 1,000 characters).

`growth` is the factor of the CPU time to that of the previous number of runs, which grows by the factor in brackets.
The time per run is CPU time, too, so that other programs change it little.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch
from uuid import UUID

from visionbench.commands.summarize import recompute_run
from visionbench.core import Case, CaseResult, Samples
from visionbench.records.folder import RunFolder
from visionbench.records.record import RunRecord
from visionbench.records.sweep import PlannedRun, SweepRecord
from visionbench.results import archive

COMMAND = str(Path(sys.executable).with_name("visionbench"))
MODELS = ("clip_tiny", "sam_tiny", "blip2_tiny", "classifier_tiny", "clip_vit_b32", "clip_vit_l14", "vit_b16", "mine")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
THREADS = (1, 2, 3, 4, 5)
VARIANTS = 200
RUNS_A_SWEEP = {"usual": 20, "deep": 20, "single": 1}
DEEP = "/".join(["a_folder_with_a_long_name"] * 40)
COMMANDS = {
    "results": "results",
    "results --all": "results --limit 1000000",
    "results --runs": "results --runs",
    "results SWEEP": "results latest",
    "results --json": "results --json --limit 1000000",
    "advise": "advise",
    "report": "report --to TO",
    "export csv": "export --output TO.csv",
    "export json": "export --format json --output TO.json",
    "export parquet": "export --format parquet --output TO.parquet",
    "compare": "compare FIRST latest",
    "summarize": "summarize latest",
    "sync (new)": "sync",
    "sync (sent)": "sync",
}
"""The timed commands. TO is a new path, FIRST the id of the first sweep."""


@dataclass(frozen=True)
class Variant:
    """The folder of a made-up run, the rows in it, and the samples of each row."""

    folder: Path
    rows: Sequence[CaseResult]
    samples: Sequence[Samples]

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases of the run."""
        return tuple(row.case for row in self.rows)

    @property
    def linked(self) -> list[Path]:
        """The files that no command changes, relative to the folder."""
        files = [*self.folder.glob("samples/*.parquet"), *self.folder.glob("*.parquet"), self.folder / "config.yaml"]
        return [file.relative_to(self.folder) for file in files]


@dataclass(frozen=True)
class Cost:
    """The cost of a command: seconds, seconds of CPU, peak memory in MiB, and its exit code."""

    seconds: float
    cpu: float
    mib: float
    code: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--shape", choices=["two", "usual", "single", "batches", "deep"], default="two")
    parser.add_argument("--only", nargs="+", default=[], help="commands whose name contains one of these words")
    parser.add_argument("--without", nargs="+", default=["(new)", "(sent)"], help="commands to leave out")
    parser.add_argument("--rounds", type=int, default=1, help="the best of this many calls counts")
    parser.add_argument("--of", type=Path, help="the folder of a run to vary")
    parser.add_argument("--write", type=Path, help="write the runs into this folder, and time nothing")
    parser.add_argument("--read", type=Path, help="time the commands on this folder that --write has written")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.read:
            args.runs = [len(archive.folders(args.read))]
            time_all(args, lambda _: args.read, Path(folder))
            return
        original = RunFolder.open(args.of or measure(Path(folder) / "original"))
        if args.write:
            with patch("os.fsync"):  # made-up runs may be lost
                variants = make_variants(original, Path(folder) / "variant")
                write(original, variants, args.write, args.runs[-1], args.shape)
            return

        def outputs(count: int) -> Path:
            """Write the runs in another process, because the peak memory of this one is part of that of a command."""
            path = Path(folder) / f"outputs{count}"
            words = ["--of", str(original.path), "--write", str(path), "--runs", str(count), "--shape", args.shape]
            subprocess.run([sys.executable, __file__, *words], check=True)
            return path

        time_all(args, outputs, Path(folder))


# ------------------------------------------------------------------------------------------------------- made-up runs
def measure(output_dir: Path) -> Path:
    """Measure one run with few calls, and return its folder."""
    words = ["model=clip_tiny", "batch.sizes=[1,4,16]", "measure=quick", "measure.latency.calls=20"]
    words += ["measure.warmup.calls=3", "measure.throughput.calls=5", "data.options.samples=20", "tracking=none"]
    subprocess.run([COMMAND, "run", *words, f"output_dir={output_dir}"], check=True, capture_output=True)
    (folder,) = archive.folders(output_dir)
    return folder.path


def make_variants(original: RunFolder, place: Path) -> list[Variant]:
    """Return variants of a run, whose metrics are computed from scaled samples."""
    generator = random.Random(0)
    rows = original.results()
    return [_variant(original, rows, generator.uniform(0.3, 3), place / str(number)) for number in range(VARIANTS)]


def _variant(original: RunFolder, rows: Sequence[CaseResult], factor: float, place: Path) -> Variant:
    """Return a run in which all durations are multiplied by a factor."""
    folder = RunFolder.create(place, (original.path / "config.yaml").read_text())
    folder.write_record(original.record())
    samples = []
    for row in rows:
        known = original.samples(row.case.id)
        series = {name: values * factor if name.endswith("_s") else values for name, values in known.series.items()}
        samples.append(Samples(series, known.missing, known.flags, known.faults, known.labels))
        folder.append(row, samples[-1])
    link_predictions(original, folder)
    computed = recompute_run(archive.Run.read(folder))[0]
    (place / "results.jsonl").write_text("")
    for row, values in zip(computed, samples, strict=True):
        folder.append(row, values)
    return Variant(place, computed, samples)


def link_predictions(original: RunFolder, folder: RunFolder) -> None:
    """Give a run the predictions of the original one, without a copy."""
    if original.predictions_file.is_file():
        link(original.predictions_file, folder.predictions_file)


def link(file: Path, name: Path) -> None:
    """Give a file a second name, or copy it if the name is on another file system."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)


def write(original: RunFolder, variants: Sequence[Variant], outputs: Path, count: int, shape: str) -> None:
    """Write this many runs, or one run with this many batch sizes."""
    record, config = original.record(), (original.path / "config.yaml").read_text()
    if shape == "batches":
        write_run(original, outputs / "many" / "run", record, config, many_batches(variants[0], count))
        return
    size = RUNS_A_SWEEP.get(shape, -(-count // 2))
    root = outputs / DEEP if shape == "deep" else outputs
    began = datetime.fromisoformat(record.started_at)
    for first in range(0, count, size):
        start = began + timedelta(seconds=first)
        sweep = f"{start:%Y-%m-%d_%H-%M-%S}"
        planned = []
        for index in range(min(size, count - first)):
            made = made_up(record, sweep, start + timedelta(seconds=index), index, first + index)
            name = f"{index}_{made.plan.model}_{made.plan.precision}" if size > 1 else "."
            variant = variants[index * 7 % VARIANTS]
            copy_run(variant, root / sweep / name, replace(made, plan=replace(made.plan, cases=variant.cases)))
            planned.append(PlannedRun(name, made.plan, ("model=clip_tiny",), config))
        write_sweep(root / sweep, sweep, planned)


def copy_run(variant: Variant, folder: Path, record: RunRecord) -> None:
    """Write the folder of a run. Its samples and predictions are links to the files of the variant."""
    (folder / "samples").mkdir(parents=True)
    for name in variant.linked:
        link(variant.folder / name, folder / name)
    shutil.copyfile(variant.folder / "results.jsonl", folder / "results.jsonl")
    (folder / "run.json").write_text(json.dumps(record.to_json(), indent=2) + "\n")


def write_sweep(folder: Path, sweep: str, runs: Sequence[PlannedRun]) -> None:
    """Write the record of a sweep that has ended."""
    record = SweepRecord.start(sweep, runs)
    replace(record, command=("visionbench", "run", "model=clip_tiny"), ended_at=record.started_at).write(folder)


def made_up(record: RunRecord, sweep: str, started: datetime, index: int, number: int) -> RunRecord:
    """Return the record of a run of a sweep over models, precisions, threads and seeds."""
    model, index = MODELS[index % len(MODELS)], index // len(MODELS)
    precision, index = PRECISIONS[index % len(PRECISIONS)], index // len(PRECISIONS)
    threads, seed = THREADS[index % len(THREADS)], index // len(THREADS)
    config: dict[str, Any] = dict(record.config)
    config["model"] = {**config["model"], "name": model, "seed": seed}
    config["precision"] = {**config["precision"], "name": precision}
    config["device"] = {**config["device"], "threads": threads}
    name = f"{model} · cpu · {precision} · threads {threads} · seed {seed}"
    varied = {"model": model, "precision": precision, "device.threads": str(threads), "model.seed": str(seed)}
    return replace(
        record,
        uid=UUID(int=number + (hash(started.isoformat()) % 2**40 << 60)).hex,
        sweep=sweep,
        started_at=started.isoformat(timespec="milliseconds"),
        ended_at=(started + timedelta(seconds=20)).isoformat(timespec="milliseconds"),
        config=config,
        plan=replace(record.plan, model=model, precision=precision, name=name, varied=varied),
        device=replace(record.device, threads=threads, values={**record.device.values, "threads": threads}),
    )


def many_batches(variant: Variant, count: int) -> Variant:
    """Return a run with the batch sizes 1, 2, 3 and so on."""
    row, samples = variant.rows[0], variant.samples[0]
    cases = [replace(row.case, id=f"batch-{size}", batch_size=size) for size in range(1, count + 1)]
    rows = [replace(row, case=case) for case in cases]
    return Variant(variant.folder, [*rows, *variant.rows[-1:]], [*[samples] * count, *variant.samples[-1:]])


def write_run(original: RunFolder, path: Path, record: RunRecord, config: str, variant: Variant) -> None:
    """Write the folder of a run."""
    folder = RunFolder.create(path, config)
    folder.write_record(replace(record, plan=replace(record.plan, cases=variant.cases)))
    for row, samples in zip(variant.rows, variant.samples, strict=True):
        folder.append(row, samples)
    link_predictions(original, folder)


# -------------------------------------------------------------------------------------------------------------- timing
def time_all(args: argparse.Namespace, outputs: Any, work: Path) -> None:
    """Print the cost of every command for each number of runs."""
    previous: dict[str, float] = {}
    for position, count in enumerate(args.runs):
        place = outputs(count)
        factor = f" ({count / args.runs[position - 1]:g})" if position else ""
        print(f"{count} {'batch sizes' if args.shape == 'batches' else 'runs'}, {args.shape}", flush=True)
        heading = f"  {'command':<16} {'seconds':>8} {'CPU s':>8} {'growth' + factor:>12}"
        print(f"{heading} {'ms per run':>10} {'peak MiB':>9}  exit", flush=True)
        for name, words in COMMANDS.items():
            if any(word in name for word in args.without) and not any(word in name for word in args.only):
                continue
            if args.only and not any(word in name for word in args.only):
                continue
            costs = [cost(words, place, work / f"{name}{count}{turn}".replace(" ", "_")) for turn in range(args.rounds)]
            best = min(costs, key=lambda one: one.cpu)
            growth = f"{best.cpu / previous[name]:.1f}" if name in previous else ""
            previous[name] = best.cpu
            row = f"  {name:<16} {best.seconds:8.2f} {best.cpu:8.2f} {growth:>12} {best.cpu / count * 1e3:10.2f}"
            row += f" {best.mib:9.0f}"
            print(f"{row}  {best.code}", flush=True)
        if not args.read:
            shutil.rmtree(place)


def cost(words: str, outputs: Path, to: Path) -> Cost:
    """Run a command on the results of a folder, and return its cost."""
    first = archive.folders(outputs)[0].record().sweep if "FIRST" in words else ""
    command = [word.replace("TO", str(to)).replace("FIRST", first) for word in words.split()]
    with without_terminal() as null:
        start = perf_counter()
        child = subprocess.Popen([COMMAND, *command, "--output-dir", str(outputs)], stdout=null, stderr=null)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds, cpu = perf_counter() - start, usage.ru_utime + usage.ru_stime
        return Cost(seconds, cpu, usage.ru_maxrss / 1024, child.returncode)


@contextmanager
def without_terminal() -> Any:
    """Yield a file that receives the output of a command."""
    with open(os.devnull, "w") as file:
        yield file


if __name__ == "__main__":
    main()
