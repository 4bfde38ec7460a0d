"""Measure runtimes and precisions side by side, and print a table with the ratio to the tutorial's way.

    python benchmarks/runtimes.py --tiny               # bundled models, with quality: 10 minutes if quiet
    python benchmarks/runtimes.py --full clip          # CLIP ViT-B/32, image part, random weights: about 8 minutes
    python benchmarks/runtimes.py --full sam           # SAM ViT-B, random weights
    python benchmarks/runtimes.py --full blip2 --rounds 1   # BLIP-2 2.7B, random weights: needs 24 GiB of memory
    python benchmarks/runtimes.py --tiny --seconds 0.3 --rounds 1   # a trial of this script

Each way is a run of `visionbench run`. One command measures all ways of a model, with `measure.repeats`: each round
measures every way once, in a fresh process and in random order. The ratio is the geometric mean over the rounds of
images/s ÷ images/s of the tutorial's way (fp32, eager, batch 4) in the same round, with the lowest and highest round.
The quality of a model with random weights is not measured; the bundled models show what a way costs. `cosine` is the
lowest cosine of an output with that of eager fp32. The folder of the results is printed, so that `visionbench results`,
`report` and `export` can read them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import yaml

from visionbench import machine
from visionbench.config import RuntimeConfig, list_options
from visionbench.core import Precision
from visionbench.devices.cpu import Cpu
from visionbench.parts import find_runtime, quantizations
from visionbench.registry import names
from visionbench.results import archive, declared, repeats
from visionbench.results.archive import Run

COMMAND = str(Path(sys.executable).with_name("visionbench"))
TINY = ("clip_tiny", "classifier_tiny", "sam_tiny", "blip2_tiny")
QUALITY = ("recall", "segmentation", "captioning", "classification")
COMPILED = ("fp32",)
RATE = "throughput_images_per_s"


@dataclass(frozen=True)
class Way:
    """A precision in a runtime at a batch size."""

    precision: str
    runtime: str
    batch: int
    keys: tuple[str, ...] = ()
    """Further overrides, such as `precision.calibration_images=8`."""

    @property
    def name(self) -> str:
        return f"{self.runtime}_{self.precision}_{self.batch}"


TUTORIAL = Way("fp32", "eager", 4)
FEW = ("precision.calibration_images=8",)
FEW_CALLS = ("measure.warmup.calls=1", "measure.throughput.calls=2", "measure.inputs.distinct_samples=16")
"""For models whose calls take many seconds."""
FULL = {
    "clip": (
        ["model=clip_vit_b32", "model.options.part=image"],
        [
            TUTORIAL,
            Way("bf16", "eager", 16),
            Way("bf16", "compile", 16),
            Way("bf16", "openvino", 8),
            Way("int8_static", "openvino", 16),
            Way("int8_dynamic", "onnxruntime", 8),
            Way("int8_dynamic", "eager", 16),
        ],
    ),
    "sam": (
        ["model=sam_vit_b", *FEW_CALLS],
        [
            TUTORIAL,
            Way("bf16", "eager", 1),
            Way("bf16", "openvino", 1),
            Way("int8_static", "openvino", 1, FEW),
        ],
    ),
    "blip2": (
        ["model=blip2_opt_2_7b", *FEW_CALLS],
        [TUTORIAL, Way("bf16", "eager", 4), Way("bf16", "eager", 16)],
    ),
}
"""The overrides of each model of full size, and its ways."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--tiny", action="store_true", help="the bundled models")
    which.add_argument("--full", choices=FULL, help="a model of full size")
    parser.add_argument("--rounds", type=int, default=2, help="rounds that measure every way once")
    parser.add_argument("--seconds", type=float, help="shortest throughput window (default: 0.5, or 3 with --full)")
    parser.add_argument("--models", nargs="+", default=TINY, choices=TINY, help="bundled models of --tiny")
    parser.add_argument("--ways", nargs="+", help="only ways whose name contains one of these texts, such as openvino")
    parser.add_argument("--folder", type=Path, help="folder of the results (default: a new temporary folder)")
    args = parser.parse_args()
    seconds = args.seconds or (3.0 if args.full else 0.5)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="runtimes-"))
    versions = [f"{name} {machine.library_version(name)}" for name in ("torch", "openvino", "onnxruntime", "torchao")]
    print(f"{machine.cpu_name()}; {', '.join(versions)}; results in {folder}", flush=True)
    if args.tiny:
        jobs = [([f"model={model}"], list(tiny_ways())) for model in args.models]
    else:
        words, ways = FULL[args.full]
        jobs = [([*words, "model.weights=random"], ways)]
    for words, ways in jobs:
        chosen = [way for way in ways if way == ways[0] or not args.ways or any(text in way.name for text in args.ways)]
        start = perf_counter()
        runs = measure(folder, words, chosen, args.rounds, seconds, quality=args.tiny)
        print(f"\n**{words[0].removeprefix('model=')}**, {args.rounds} rounds, {perf_counter() - start:.0f} s\n")
        print("\n".join(table(runs, chosen)), flush=True)


def tiny_ways() -> Iterator[Way]:
    """Yield the tutorial's way, then the precisions in each runtime that a CPU can do, at the same batch size.

    torch.compile takes up to a minute for a model and a precision, so it has the precisions of `COMPILED` only.
    """
    yield TUTORIAL
    precisions = {}
    for name, path in list_options("precision").items():
        precisions[name] = Precision(**yaml.safe_load(path.read_text(encoding="utf-8")))
    for runtime_name in names("runtimes"):
        runtime = find_runtime(RuntimeConfig(runtime_name))
        for name, precision in precisions.items():
            method = precision.quantization
            refused = Cpu().why_unsupported(precision) or runtime.why_unsupported("cpu", precision)
            way = Way(name, runtime_name, TUTORIAL.batch)
            if runtime_name == "compile" and name not in COMPILED:
                continue
            if not refused and (method is None or method in quantizations(runtime)) and way != TUTORIAL:
                yield way


def measure(
    folder: Path, words: Sequence[str], ways: Sequence[Way], rounds: int, seconds: float, quality: bool
) -> list[Run]:
    """Measure all ways by one command, in rounds, and return their runs in the order of the ways."""
    metrics = ["throughput", "load", "parity", *(QUALITY if quality else ["flops"])]
    with tempfile.TemporaryDirectory() as conf:
        experiments = Path(conf, "experiment")
        experiments.mkdir()
        for way in ways:
            (experiments / f"{way.name}.yaml").write_text(experiment(way), encoding="utf-8")
        command = [
            *(COMMAND, "run", "-m", "--config-dir", conf, f"experiment={','.join(way.name for way in ways)}", *words),
            *("device=cpu", "data=shapes", f"metrics=[{','.join(metrics)}]", "tracking=none", "report.enabled=false"),
            *(f"measure.repeats={rounds}", f"measure.throughput.min_seconds={seconds}", f"output_dir={folder}"),
            *("measure=standard", f"measure.warmup.min_seconds={min(1.0, seconds)}", "measure.warmup.max_seconds=10"),
            *("measure.warmup.window_seconds=0.2", "measure.retries=1"),
            *(("data.options.samples=100", "measure.evaluation.batch_size=4") if quality else ()),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    sweep = archive.read(folder, "latest")
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}")
    by_way = {(run.record.plan.precision, run.record.plan.runtime, run.timed[0].case.batch_size): run for run in sweep}
    return [by_way[way.precision, way.runtime, way.batch] for way in ways]


def experiment(way: Way) -> str:
    """Return the YAML file of a way, for `experiment=`."""
    keys = "".join(f"{key.partition('.')[2]}: {value}" for key, _, value in (key.partition("=") for key in way.keys))
    section = f"precision:\n  {keys}\n" if keys else ""
    return (
        "# @package _global_\ndefaults:\n"
        f"  - override /precision: {way.precision}\n  - override /runtime: {way.runtime}\n"
        f"batch:\n  sizes: [{way.batch}]\n{section}"
    )


def table(runs: Sequence[Run], ways: Sequence[Way]) -> Iterator[str]:
    """Yield a Markdown table with a row for each way. The first way is the base of the ratios."""
    heads = ["runtime", "precision", "batch", "images/s", "÷ tutorial's way", "quality", "cosine", "limits", "verdict"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join(['---'] * 2 + ['---:'] * 3 + ['---'] * 4)}|"
    base = rates(runs[0])
    for run, way in zip(runs, ways, strict=True):
        own, row = rates(run), run.timed[0]
        rounds = sorted({*own} & {*base})
        rate = f"{geometric_mean([own[number] for number in rounds]):.1f}" if rounds else "–"
        cells = [way.runtime, way.precision, str(way.batch), rate, ratio([own[n] / base[n] for n in rounds])]
        verdict = row.validity.verdict if row.status == "ok" else f"{row.status}: {row.reason}"
        yield f"| {' | '.join([*cells, quality(run), cosine(run), limits(run), verdict])} |"
    doubts = {str(reason) for run in runs for reason in run.timed[0].validity.reasons}
    yield from ["", *(f"- {doubt}" for doubt in sorted(doubts))]


def rates(run: Run) -> dict[int, float]:
    """Return images/s by round. A round without a number is left out."""
    assert run.folder is not None
    processes = [folder.results() for folder in repeats.folders(run.folder)] or [run.results]
    values = {
        number: row.metrics.values.get(RATE) for number, rows in enumerate(processes) for row in rows if row.case.timed
    }
    return {number: value for number, value in values.items() if value}


def ratio(values: Sequence[float]) -> str:
    """Return the geometric mean with the lowest and the highest round."""
    if not values:
        return "–"
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{geometric_mean(values):.2f}{spread}"


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def quality(run: Run) -> str:
    """Return the first quality figure of a run."""
    row = run.quality
    shown = declared.headlines(run.declarations, row)
    return f"{shown[0].title} {row.metrics.values[shown[0].name]:.3f}" if row and shown else "–"


def cosine(run: Run) -> str:
    value = run.timed[0].metrics.values.get("parity_cosine_ratio")
    return "–" if value is None else f"{value:.5f}"


def limits(run: Run) -> str:
    """Return the rate of the work beside the rate of products and the roofline, and what torch executes itself."""
    row = run.timed[0]
    values = row.metrics.values
    texts = []
    if (achieved := values.get("flops_achieved_tflop_per_s")) is not None:
        texts.append(f"{achieved * 1000:.0f} GFLOP/s")
    if (mfu := values.get("flops_mfu_fraction")) is not None:
        texts.append(f"{mfu:.0%} of the rate of products")
    if (roof := values.get("flops_attainable_tflop_per_s")) and (ceiling := values.get("flops_ceiling_tflop_per_s")):
        texts.append("bound by memory" if roof < ceiling else "bound by products")
    if "runtime_eager" in row.labels:
        texts.append(row.labels["runtime_eager"])
    return ", ".join(texts) or "–"


if __name__ == "__main__":
    main()
