"""Fabricated sweeps for tests of pages and figures: many runs, long names, several tasks, failures, invalid cases.

`python tests/many_runs.py FOLDER` writes each sweep into a folder of its own and a report of it, to look at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from saved_runs import QUALITY, row, save

from visionbench.core import FAILED, OUT_OF_MEMORY, PIPELINE_STEPS, Case
from visionbench.results.archive import Run

LONGEST = "vision_transformer_large_patch14_reg4_dinov2_lvd142m_finetuned"
"""A model name of 62 characters."""
TASKS = {
    "image-text retrieval": ("dual_encoder", "recall_t2i_at_1_fraction", "clip"),
    "image classification": ("image_classifier", "classification_top_1_fraction", "vit"),
    "promptable segmentation": ("promptable_segmenter", "segmentation_point_miou_fraction", "sam"),
    "image captioning": ("captioner", "captioning_cider_score", "blip"),
    "object detection": ("detector", None, "detr"),
    "depth estimation": ("depth", None, "dpt"),
    "visual question answering": ("answerer", None, "vqa"),
}
"""The family, the quality metric and the beginning of model names, by task. The last three have own families."""
SIZES = (1, 4, 16)
REASON = "run_delay: threads waited for a core 8.4 % of the latency window"


class Sweep:
    """Runs in one folder. The numbers come from a generator with a fixed seed."""

    def __init__(self, folder: Path):
        self.folder, self.runs, self.random = folder, [], np.random.default_rng(7)

    def add(self, model, task="image-text retrieval", speed=100.0, quality=0.8, precision="fp32", kind="cpu", **more):
        """Write a run. `verdict` is that of all cases; `failed` is the status of the largest batch size."""
        family, metric, _ = TASKS[task]
        verdict, failed = more.get("verdict", "valid"), more.get("failed")
        reasons = () if verdict == "valid" else (REASON,)
        number = len(self.runs)
        rows = []
        for size in SIZES:
            case = Case(f"batch-{size}", size, ("latency",), ("latency",))
            if failed and size == SIZES[-1]:
                rows.append(row(case, failed, "no room: 12 GiB were requested and 3 GiB are free"))
                continue
            p50 = 1000 * size / (speed * size**0.25)
            ends = {f"latency_p50_within_process_{end}_ms": p50 * by for end, by in (("low", 0.97), ("high", 1.04))}
            steps = {f"pipeline_{step}_ms": p50 / 9 * index for index, step in enumerate(PIPELINE_STEPS, 1)}
            values = {
                "latency_p50_ms": p50,
                "latency_p95_ms": p50 * 1.2,
                **ends,
                "throughput_images_per_s": 1000 * size / p50,
                "memory_weights_mib": 40.0 + 9 * number,
                "memory_process_above_model_mib": 30.0 * size**0.5,
                "memory_process_peak_mib": 420.0 + 9 * number + 30 * size**0.5,
                "flops_intensity_flop_per_byte": 20.0 + 4 * number + size,
                "flops_achieved_tflop_per_s": speed / 900,
                "flops_ceiling_tflop_per_s": 1.5,
                "flops_copy_gb_per_s": 20.0,
                "pipeline_serial_ms": p50 * 2.3,
                **steps,
            }
            rows.append(row(case, verdict=verdict, reasons=reasons, **values))
        if metric and quality is not None:
            base = metric.removesuffix("_fraction").removesuffix("_score")
            unit = metric.removeprefix(base)
            ends = {f"{base}_{end}{unit}": quality + by for end, by in (("low", -0.03), ("high", 0.025))}
            rows.append(row(QUALITY, verdict=verdict, reasons=reasons, **{metric: quality, **ends}))
        name = " · ".join([model, kind, precision])
        config: dict[str, Any] = {"model": {"name": model, "family": family}}
        for key, value in more.get("varied", {}).items():
            section = config
            *path, last = key.split(".")
            for part in path:
                section = section.setdefault(part, {})
            section[last] = value
        plan = {"name": name, "task": task, "warnings": list(more.get("warnings", ()))}
        calls = {
            one.case.id: self.random.gamma(20, p50 / 20 / 1e3, 200)
            for one in rows
            if (p50 := one.metrics.values.get("latency_p50_ms"))
        }
        folder = save(
            self.folder / f"run{number:02}",
            *rows,
            calls=calls,
            name=model,
            kind=kind,
            precision=precision,
            plan=plan,
            config=config,
        )
        self.runs.append(Run.read(folder))


def thirty(folder: Path) -> list[Run]:
    """Thirty runs of one task: six models, one with a name of 62 characters, in five precisions."""
    sweep = Sweep(folder)
    for index, model in enumerate((LONGEST, "clip_vit_b32", "clip_vit_l14", "siglip2_base", "clip_tiny", "eva02_e14")):
        for step, precision in enumerate(("fp32", "tf32", "bf16", "fp16", "int8")):
            sweep.add(
                model,
                speed=(30 + 60 * index) * (1 + 0.35 * step),
                quality=0.92 - 0.05 * index - 0.004 * step,
                precision=precision,
                verdict=("valid", "valid", "warned", "valid", "invalid")[(index + step) % 5],
                failed=OUT_OF_MEMORY if (index, step) == (0, 0) else None,
            )
    return sweep.runs


def tasks(folder: Path) -> list[Run]:
    """Seven tasks with two models each, in two precisions."""
    sweep = Sweep(folder)
    for index, (task, (_, _, name)) in enumerate(TASKS.items()):
        for model, speed, quality in ((f"{name}_small", 400.0, 0.6), (f"{name}_{LONGEST}"[:62], 90.0, 0.82)):
            for precision in ("fp32", "bf16"):
                rate = speed * (1 + index) * (1.7 if precision == "bf16" else 1)
                sweep.add(model, task, rate, quality, precision, kind="cuda:0" if index % 2 else "cpu")
    return sweep.runs


def threads(folder: Path) -> list[Run]:
    """A sweep of one model over five numbers of threads."""
    sweep = Sweep(folder)
    for count in (1, 2, 3, 4, 5):
        verdict = "warned" if count > 2 else "valid"
        varied = {"device.threads": count}
        sweep.add("clip_tiny", speed=80 * count**0.6, quality=0.43, varied=varied, verdict=verdict)
    return sweep.runs


def attention(folder: Path) -> list[Run]:
    """A sweep of one model over attention implementations."""
    sweep = Sweep(folder)
    for name, speed in (("eager", 80), ("sdpa", 131), ("flash_attention_2", 140)):
        sweep.add("clip_vit_b32", speed=speed, quality=0.6, varied={"model.attention": name})
    return sweep.runs


def image_size(folder: Path) -> list[Run]:
    """A sweep of one model over image sizes."""
    sweep = Sweep(folder)
    for size in (224, 336, 448):
        varied = {"model.options.image_size": size}
        sweep.add("vit_b16", "image classification", 9e6 / size**2, 0.7 + size / 2e3, varied=varied)
    return sweep.runs


def invalid(folder: Path) -> list[Run]:
    """Four runs whose cases are all invalid."""
    sweep = Sweep(folder)
    for index, model in enumerate(("clip_tiny", "clip_vit_b32")):
        for precision in ("fp32", "bf16"):
            sweep.add(model, speed=100 + 300 * index, quality=0.5, precision=precision, verdict="invalid")
    return sweep.runs


def failed(folder: Path) -> list[Run]:
    """Three runs of which one failed in its largest case, and one in every case."""
    sweep = Sweep(folder)
    sweep.add("clip_tiny")
    sweep.add("clip_vit_b32", speed=40, failed=OUT_OF_MEMORY)
    rows = [row(Case(f"batch-{size}", size, (), ()), FAILED, "ValueError: no such layer") for size in SIZES]
    written = save(folder / "run99", *rows, name="broken_model", status="failed")
    return [*sweep.runs, Run.read(written)]


def alone(folder: Path) -> list[Run]:
    """One run."""
    sweep = Sweep(folder)
    sweep.add("clip_tiny")
    return sweep.runs


SWEEPS = {sweep.__name__: sweep for sweep in (thirty, tasks, threads, attention, image_size, invalid, failed, alone)}


def write_all(folder: Path) -> Iterator[Path]:
    """Write every sweep with its report, and yield the pages."""
    from visionbench.report.page import write_report

    for name, sweep in SWEEPS.items():
        yield write_report(sweep(folder / name), "en", folder / name)[0]


if __name__ == "__main__":
    for page in write_all(Path(sys.argv[1])):
        print(page)
