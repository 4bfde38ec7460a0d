"""Suggestions for wrong names and values on the command line: the terms of other tools, and the nearest name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from visionbench.registry import nearest

OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "precision": {
        "precision=fp16": ("16", "16bit", "f16", "fp-16", "float16", "half", "torch.float16"),
        "precision=bf16": ("b16", "bfloat", "bfloat16", "bfp16", "brain", "torch.bfloat16"),
        "precision=autocast_fp16": ("16-mixed", "amp", "amp_fp16", "fp16_amp", "mixed", "mixed_float16"),
        "precision=autocast_bf16": ("amp_bf16", "autocast", "bf16-mixed", "bf16_amp", "mixed_bfloat16"),
        "precision=int8_dynamic": ("8", "8bit", "int8", "int8dq", "w8a8"),
        "precision=int8_weight_only": ("int8wo", "w8", "w8a16", "weight_only"),
        "precision=fp32": ("32", "32bit", "f32", "fp-32", "float", "float32", "full", "single", "torch.float32"),
        "precision=tf32": ("19", "tensorfloat32", "tensorfloat"),
    },
    "device": {"device=cuda": ("0", "cuda:0", "gpu", "gpu:0", "nvidia"), "device=cpu": ("host", "intel", "x86")},
    "tracking": {
        "tracking=none": ("0", "disabled", "false", "no", "null", "off"),
        "tracking=mlflow": ("1", "on", "true", "yes"),
    },
    "measure": {
        "measure=quick": ("fast", "short"),
        "measure=standard": ("default",),
        "measure=thorough": ("full", "long"),
    },
    "metrics": {
        "metrics=[classification]": ("acc", "accuracy", "top1"),
        "metrics=[segmentation]": ("iou", "miou"),
        "metrics=[semantic_segmentation]": ("jaccard", "pixel_accuracy", "semantic"),
        "metrics=[depth]": ("absrel", "abs_rel", "delta", "rmse"),
        "metrics=[captioning]": ("bleu", "cider"),
        "metrics=[recall]": ("retrieval",),
        "metrics=[latency]": ("p50", "p95", "p99"),
        "metrics=[throughput]": ("fps", "speed"),
        "metrics=[memory]": ("ram", "vram"),
        "metrics=[energy]": ("power", "watts"),
    },
}  # fmt: skip
"""By group: the option to suggest, with the values that other tools use for it."""
NOT_SUPPORTED = {
    "precision": ("4", "fp4", "fp8", "float8", "int4", "nf4", "uint8", "64", "double", "float64", "fp64"),
    "device": ("hpu", "metal", "mps", "npu", "rocm", "tpu", "xpu"),
}
"""By group: values that visionbench has no similar option for, although a name is similar."""
KEYS = {
    "batch.sizes": ("batch_size", "batch_sizes", "batchsize", "bs", "batch.size", "batch.batch_size"),
    "data": ("dataset", "datasets"),
    "data.options.samples": ("data.samples", "limit", "max_samples", "n_samples", "num_samples", "samples"),
    "data.root": ("data_dir", "data_root", "dataset_path", "root"),
    "device.index": ("gpu", "gpu_id", "gpu_index"),
    "device.threads": ("cpu_threads", "n_threads", "num_threads", "nthreads", "threads"),
    "measure.latency.calls": ("calls", "iterations", "iters", "n_iters", "num_iters"),
    "measure.repeats": ("n_runs", "num_runs", "repeat", "repeats", "runs"),
    "metrics": ("metric",),
    "model": ("arch", "backbone", "net", "network"),
    "model.checkpoint": ("checkpoint", "ckpt", "model_path"),
    "model.seed": ("seed",),
    "model.weights": ("weights",),
    "output_dir": ("out", "out_dir", "outdir", "output", "output-dir", "results_dir", "save_dir"),
    "precision": ("dtype", "torch_dtype"),
    "report.language": ("lang", "language"),
    "tracking": ("logger", "tracker"),
    "tracking.uri": ("mlflow_uri", "tracking_uri"),
}
"""Keys of visionbench, with the names that other tools use for them."""


def option(group: str, value: Any, options: Iterable[str]) -> str:
    """Return the end of an error message for a wrong option of a group: a suggestion, or the list of options."""
    options = list(options)
    text = shown(value)
    if group == "batch" and (sizes := _sizes(value)) is not None:
        return f"; did you mean batch.sizes={sizes}?"
    for suggestion, others in OPTIONS.get(group, {}).items():
        if text.lower() in others:
            return f"; did you mean {suggestion}?"
    kind, _, index = text.lower().rpartition(":")
    if group == "device" and kind in ("", "cuda", "gpu") and index.isdecimal():
        return f"; did you mean device=cuda device.index={int(index)}?"
    similar = text.lower() not in NOT_SUPPORTED.get(group, ())
    return nearest(text if similar else "", options)


def key(wrong: str, value: Any = None) -> str | None:
    """Return the key, with its value if there is one, that `wrong` names in other tools; None if it is unknown."""
    for known, others in KEYS.items():
        if wrong.lower() in others:
            if value is None or value == "":
                return f"{known}=…"
            sizes = _sizes(value) if known == "batch.sizes" else None
            return f"{known}={sizes or shown(value)}"
    return None


def shown(value: Any) -> str:
    """Return a value as the command line has it: `null`, `true`, `[1,2]`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(shown, value)) + "]"
    return str(value)


def _sizes(value: Any) -> str | None:
    """Return a list of batch sizes for a number or for numbers; None for another value."""
    numbers = shown(value).strip("[]").replace(" ", "").split(",")
    return f"[{','.join(numbers)}]" if all(number.isdecimal() for number in numbers) else None
