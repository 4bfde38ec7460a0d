"""Measure the input pipelines side by side, alternating in one process.

    python benchmarks/input_pipeline.py                       # all parts, a few minutes
    python benchmarks/input_pipeline.py --part decoders --rounds 20
    python benchmarks/input_pipeline.py --part stages --threads 1 --loaders 1

decoders   the time of each decoder and of each preprocessing for one image, and its ratio to the reference
stages     the stage table of a model: pillow and transformers, and two faster pipelines, in series and overlapped
loaders    images/s of 1, 2, 4 and 8 loaders without a model, as far as there are cores: threads, and processes
simulate   rates with 1, 2, 4 and 8 loaders, simulated from the measured times, each loader on a core that is free

The images are noise on smooth colours, as JPEG of quality 90. The model has random weights. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from visionbench import measuring
from visionbench.composition.schema import register_schema
from visionbench.config import ExperimentConfig, from_hydra
from visionbench.core import PIPELINE_STEPS, Case, Example, LoadedModel, Metrics, Samples
from visionbench.machine import usable_cores
from visionbench.metrics.pipeline import Pipeline
from visionbench.parts import build_parts, find_decoder
from visionbench.stages import load, pipeline
from visionbench.stages.context import Context
from visionbench.stages.decoding import Decoding
from visionbench.stages.overlap import overlap
from visionbench.stages.windows import quiet

CONF = Path(__file__).parents[1] / "conf"
SIZES = ((640, 480), (2048, 1536))
PIPELINES = (("pillow", "transformers"), ("simplejpeg", "device"), ("pillow_draft", "device"))
LOADERS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("all", "decoders", "stages", "loaders", "simulate"), default="all")
    parser.add_argument("--model", default="clip_vit_b32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10, help="rounds in which the pipelines alternate")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each overlapped pass")
    parser.add_argument("--threads", type=int, default=None, help="threads of the model; the default is that of torch")
    parser.add_argument("--loaders", type=int, default=None, help="loader threads; the default is one for each core")
    parser.add_argument(
        "--model-rates", type=float, nargs="*", default=[500.0, 5000.0], help="images/s of models that are simulated"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.part in ("all", "decoders"):
            print_decoders(Path(folder), args.model, args.rounds)
        config = configuration(Path(folder) / "640x480", args)
        write_images(Path(folder) / "640x480", SIZES[0], 64)
        if args.part in ("all", "loaders"):
            print_loaders(config, args.seconds)
        if args.part in ("all", "stages", "simulate"):
            measured = measure_stages(config, args.rounds if args.part != "simulate" else 1)
            if args.part != "simulate":
                print_stages(measured)
            print_simulation(measured, args.batch, args.model_rates)


# -------------------------------------------------------------------------------------------------------------- inputs
def write_images(folder: Path, size: tuple[int, int], count: int) -> list[Example]:
    """Write JPEG files of noise on smooth colours, and return them as examples."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    width, height = size
    examples = []
    for number in range(count):
        coarse = rng.integers(0, 255, (height // 16, width // 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float32)
        noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"{number:03}.jpg"
        Image.fromarray(noisy).save(path, quality=90)
        examples.append(Example(path.stem, path))
    return examples


def configuration(folder: Path, args: argparse.Namespace) -> ExperimentConfig:
    """Return the configuration of the model's image part with these files."""
    overrides = [f"model={args.model}", "model.weights=random", "device=cpu", "measure=standard", "metrics=[pipeline]"]
    overrides += ["data=image_folder", f"data.root={folder}", f"measure.pipeline.min_seconds={args.seconds / 2:g}"]
    overrides += [f"device.threads={args.threads}"] if args.threads else []
    overrides += [f"measure.evaluation.workers={args.loaders}"] if args.loaders else []
    config = composed(overrides)
    if "part" in config.model.options:
        config.model.options["part"] = {"dual_encoder": "image", "promptable_segmenter": "encoder"}[config.model.family]
    return replace(config, batch=replace(config.batch, sizes=[args.batch]))


def composed(overrides: Sequence[str]) -> ExperimentConfig:
    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return from_hydra(compose("config", list(overrides)))


# ------------------------------------------------------------------------------------------------------------ decoders
def print_decoders(folder: Path, model: str, rounds: int) -> None:
    """Print the time of each decoder and of each preprocessing in one thread, and the ratio to the reference."""
    torch.set_num_threads(1)
    config = composed([f"model={model}", "model.weights=random", "device=cpu", "data=image_folder", "data.root=."])
    parts = build_parts(config)
    loaded, _ = load.load(parts.adapter, config.model, parts.device, torch.device("cpu"), torch.float32)
    for size in SIZES:
        examples = write_images(folder / f"{size[0]}x{size[1]}", size, 8)
        encoded = [example.image.read_bytes() for example in examples]
        calls: dict[str, Callable[[], object]] = {}
        for name in ("pillow", "pillow_draft", "simplejpeg"):
            _, decoding = measuring.with_input_pipeline(*of_pipeline(config, name, "transformers"), loaded, CPU)
            calls[name] = partial(decode_all, decoding, examples, encoded)
        print_ratios(f"\ndecoding a JPEG of {size[0]} × {size[1]}, one thread", calls, len(examples), rounds)
        images = [Decoding().decode(example) for example in examples]
        calls = {}
        for name in ("transformers", "device"):
            own, _ = measuring.with_input_pipeline(*of_pipeline(config, "pillow", name), loaded, CPU)
            calls[name] = partial(own.preprocess, images, [""] * len(images))
        print_ratios(f"\npreprocessing {size[0]} × {size[1]} for {model}, one thread", calls, len(images), rounds)


def decode_all(decoding: Decoding, examples: Sequence[Example], encoded: Sequence[bytes]) -> None:
    for example, content in zip(examples, encoded, strict=True):
        decoding.decode(example, content)


CPU = torch.device("cpu")


def of_pipeline(config: ExperimentConfig, decoder: str, preprocess: str) -> tuple[ExperimentConfig, measuring.Parts]:
    """Return the configuration and its parts with another input pipeline."""
    changed = replace(config, data=replace(config.data, decoder=decoder, preprocess=preprocess))
    return changed, replace(build_parts(changed), decoder=find_decoder(decoder))


def print_ratios(title: str, calls: Mapping[str, Callable[[], object]], count: int, rounds: int) -> None:
    """Call the functions in turns, and print the median time for one image with its ratio to the first function."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with quiet():
        for _ in range(rounds + 1):
            for name, call in calls.items():
                start = perf_counter()
                call()
                seconds[name].append(perf_counter() - start)
    first = next(iter(calls))
    print(title)
    for name, times in seconds.items():
        ratios = sorted(own / other for own, other in zip(times[1:], seconds[first][1:], strict=True))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        per_image = median(times[1:]) / count * 1e3
        spread = f"80 % of rounds: {low:.2f} to {high:.2f}"
        print(f"  {name:13} {per_image:7.2f} ms   {median(ratios):.2f} × {first} ({spread})")


# -------------------------------------------------------------------------------------------------------------- stages
def measure_stages(config: ExperimentConfig, rounds: int) -> dict[tuple[str, str], list[Samples]]:
    """Return the samples of the pipeline stage for the pipelines, which alternate. The model is loaded once."""
    parts = build_parts(config)
    place, dtype = measuring._set_up(config, parts.device)
    loaded, _ = load.load(parts.adapter, config.model, parts.device, place, dtype)
    examples = parts.data.examples()
    size = config.batch.sizes[0]
    case = Case(f"batch-{size}", size, (), ())
    measured: dict[tuple[str, str], list[Samples]] = {name: [] for name in PIPELINES}
    contexts = {}
    for decoder, preprocess in measured:
        own, decoding = measuring.with_input_pipeline(*of_pipeline(config, decoder, preprocess), loaded, place)
        contexts[decoder, preprocess] = Context(
            case, own, parts.device, config.measure, examples=examples, decoding=decoding
        )
    for number in range(max(1, rounds // 5) + 1):
        for name, context in contexts.items():
            with quiet():
                samples = pipeline.serial(context).merged(pipeline.overlapped(context))
            if number:  # the first round warms up
                units = {f"work/{unit}_count": np.array([float(n)]) for unit, n in work(context.model, size).items()}
                measured[name].append(samples.merged(Samples(units)))
    return measured


def work(model: LoadedModel, size: int) -> Mapping[str, int]:
    return {**model.work(size), "images": size}


def print_stages(measured: Mapping[tuple[str, str], Sequence[Samples]]) -> None:
    """Print one row for each pass of each pipeline, in the order in which they were measured."""
    print("\nfrom files to outputs, ms per batch; img/s in series, overlapped, and its upper bound")
    print(
        f"{'pipeline':26}" + "".join(f"{step[:7]:>9}" for step in PIPELINE_STEPS) + "   series overlap   bound of bound"
    )
    for passes in zip(*measured.values(), strict=True):
        for name, samples in zip(measured, passes, strict=True):
            values = computed(samples).values
            steps = "".join(f"{values[f'pipeline_{step}_ms'] or 0:9.2f}" for step in PIPELINE_STEPS)
            rates = "".join(
                f"{values[f'pipeline_{kind}_images_per_s'] or 0:8.1f}" for kind in ("serial", "overlapped", "bound")
            )
            print(f"{' + '.join(name):26}{steps} {rates} {values['pipeline_efficiency_fraction'] or 0:7.1%}")


def computed(samples: Samples) -> Metrics:
    return Pipeline().compute(samples)


# ------------------------------------------------------------------------------------------------------------- loaders
def print_loaders(config: ExperimentConfig, seconds: float) -> None:
    """Print the rates of loaders without a model, and the ratio of each to one thread of the same pipeline."""
    parts = build_parts(config)
    place, dtype = measuring._set_up(config, parts.device)
    loaded, _ = load.load(parts.adapter, config.model, parts.device, place, dtype)
    examples, size = list(parts.data.examples()), config.batch.sizes[0]
    counts = [count for count in LOADERS if count <= usable_cores()]
    print(f"\nloaders without a model, batches of {size}, measured on {usable_cores()} cores: images/s (× one thread)")
    print(f"{'pipeline':26}{'loaders':12}" + "".join(f"{count:>18}" for count in counts))
    for decoder, preprocess in PIPELINES:
        own, decoding = measuring.with_input_pipeline(*of_pipeline(config, decoder, preprocess), loaded, place)
        context = Context(Case("", size, (), ()), own, parts.device, config.measure, (), 0, examples, decoding)
        one_thread = 0.0
        for kind in ("threads", "processes"):
            cells = []
            for count in counts:
                context.measure.pipeline.processes = kind == "processes"
                with pipeline._loading(context, count) as (load_batch, _), quiet():
                    rate = loaded_per_second(partial(load_batch), pipeline._batches(context), count, seconds) * size
                one_thread = one_thread or rate
                cells.append(f"{rate:10.0f} ({rate / one_thread:4.2f})")
            print(f"{f'{decoder} + {preprocess}':26}{kind:12}" + "".join(f"{cell:>18}" for cell in cells))


def loaded_per_second(
    load_batch: Callable[[Sequence[Example]], Any], batches: Iterator[Sequence[Example]], count: int, seconds: float
) -> float:
    """Return the batches per second that `count` loaders load, without the first batches of each."""
    ends: list[float] = []
    deadline = perf_counter() + seconds
    source = iter(lambda: next(batches) if perf_counter() < deadline else None, None)
    for _ in overlap(source, load_batch, lambda batch: ends.append(perf_counter()), lambda batch: batch, count):
        pass
    counted = ends[2 * count :]
    return (len(counted) - 1) / (counted[-1] - counted[0])


# ---------------------------------------------------------------------------------------------------------- simulation
def print_simulation(measured: Mapping[tuple[str, str], Sequence[Samples]], batch: int, rates: Sequence[float]) -> None:
    """Print simulated rates for numbers of loaders and for models of given rates."""
    print(f"\nSIMULATED from the measured stage times, batches of {batch}: images/s. Each loader has a free core, and")
    print("the model does not compete for cores, as on a GPU. The limit of Python's lock for threads is not simulated.")
    print(f"{'pipeline':26}{'model img/s':>12}" + "".join(f"{count:>6} loader{'s' * (count > 1)}" for count in LOADERS))
    for name, passes in measured.items():
        steps = {step: np.concatenate([one.get(f"pipeline/{step}_s") for one in passes]) for step in PIPELINE_STEPS}
        loading = sum(steps[step] for step in pipeline.HOST_STEPS)
        for rate in rates:
            simulated = [simulate(loading, batch / rate, count) for count in LOADERS]
            cells = "".join(f"{batch * one:>13.0f}" for one in simulated)
            print(f"{' + '.join(name):26}{rate:>12,.0f}{cells}")


def simulate(loading: np.ndarray, model_s: float, loaders: int, batches: int = 2000, seed: int = 0) -> float:
    """Return the batches per second of the queue in `stages.overlap`: loaders that work ahead, and one model.

    `loading` are measured times of one batch in a loader, which are drawn at random. At most `loaders + 1` batches are
    loaded ahead of the model, which takes `model_s` for each and receives them in order.
    """
    rng = np.random.default_rng(seed)
    free = [0.0] * loaders
    started: list[float] = []
    done = 0.0
    for number in range(batches):
        first = min(range(loaders), key=free.__getitem__)
        allowed = started[number - loaders - 1] if number > loaders else 0.0
        free[first] = max(free[first], allowed) + float(rng.choice(loading))
        started.append(max(done, free[first]))
        done = started[-1] + model_s
    return batches / done


if __name__ == "__main__":
    main()
