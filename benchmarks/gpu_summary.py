"""Print as Markdown whether the results of `make gpu` are within bounds that must hold, and the results.

Usage: gpu_summary.py FACTS.json OUTPUTS. The exit code is 1 if a bound does not hold or a case failed unexpectedly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench.core import OK, CaseResult
from visionbench.records.folder import RunFolder

Bound = tuple[str, float | None, float, float]
"""The name of a figure, its value (None if it is missing), and its least and greatest plausible value."""
COLUMNS = (
    ("p50 ms", "latency_p50_ms"),
    ("p95 ms", "latency_p95_ms"),
    ("images/s", "throughput_images_per_s"),
    ("peak MiB", "memory_peak_allocated_mib"),
    ("W", "energy_mean_power_w"),
    ("MFU", "flops_mfu_fraction"),
    ("kernels busy", "kernels_busy_fraction"),
    ("kernels", "kernels_launched_count"),
)


@dataclass(frozen=True)
class StepCase:
    """One case of a step of the check."""

    step: str
    run: str
    """The run's name: model, device, precision."""
    model: str
    precision: str
    row: CaseResult

    @property
    def name(self) -> str:
        return f"{self.step}: {self.run}, {self.row.case.id}"

    def value(self, metric: str) -> float | None:
        return self.row.metrics.values.get(metric)


def cases_below(outputs: Path) -> Iterator[StepCase]:
    """Yield every case of every run in a folder. The first folder below it is that of the step."""
    for folder in sorted(path.parent for path in outputs.rglob("results.jsonl")):
        run = RunFolder.open(folder)
        plan, step = run.record().plan, folder.relative_to(outputs).parts[0]
        for row in run.results():
            yield StepCase(step, plan.name, plan.model, plan.precision, row)


def bounds(facts: dict[str, Any], cases: Sequence[StepCase]) -> Iterator[Bound]:
    """Yield the bounds of every GPU, then those of an H100."""
    for name, fact in facts.items():
        if name.startswith("attention") and isinstance(fact, dict):
            yield f"{name}: relative error", fact["relative error"], 0, 1e-5 if "float32" in name else 1e-2
    for case in cases:
        host, span = case.value("latency_p50_ms"), case.value("latency_device_p50_ms")
        if host and span:
            yield f"{case.name}: device ÷ host time", span / host, 0, 1
        if "flops_mfu_fraction" in case.row.metrics.values:
            yield f"{case.name}: MFU", case.value("flops_mfu_fraction"), 0, 1
    images = "throughput_images_per_s"
    tf32, fp32 = (find(cases, "sam_vit_b", precision, 8, images) for precision in ("tf32", "fp32"))
    yield "SAM ViT-B, batch 8: images/s of tf32 ÷ fp32", tf32 / fp32 if tf32 and fp32 else None, 1, 8
    if "H100" not in str(facts.get("fingerprint", "")):
        return
    yield "bf16 product of 8192³, TFLOP/s", number(facts.get("bf16 8192 TFLOP/s")), 700, 850
    yield "copy, GB/s", number(facts.get("copy GB/s")), 2700, 3350
    yield "BLIP-2 weights in bf16, MiB", find(cases, "blip2_opt_2_7b", "bf16", 1, "memory_weights_mib"), 7141, 7143
    yield "BLIP-2 bf16, ms a token", find(cases, "blip2_opt_2_7b", "bf16", 1, "pipeline_output_token_ms"), 1.6, 1e3
    yield "SAM ViT-B bf16, ms a picture", find(cases, "sam_vit_b", "bf16", 8, "latency_per_image_p50_ms"), 1.2, 1e3


def unexpected(cases: Sequence[StepCase]) -> Iterator[str]:
    """Yield the cases without numbers, except those of the step that has too little memory on purpose."""
    without_room = {1: OK, 8: "out_of_memory", 16: "skipped_after_oom"}
    for case in cases:
        expected = without_room[case.row.case.batch_size] if case.step == "out-of-memory" else OK
        if case.row.status != expected:
            yield f"{case.name}: {case.row.status}, {case.row.reason}"


def find(cases: Sequence[StepCase], model: str, precision: str, size: int, metric: str) -> float | None:
    """Return the first value of a metric in a case of this model, precision and batch size."""
    key = (model, precision, size)
    matches = (case for case in cases if (case.model, case.precision, case.row.case.batch_size) == key)
    return next((case.value(metric) for case in matches if case.value(metric) is not None), None)


def number(fact: Any) -> float | None:
    return float(fact) if isinstance(fact, int | float) else None


def cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def speed(cases: Sequence[StepCase]) -> Iterator[Sequence[str]]:
    for case in cases:
        if case.row.case.timed:
            judged = case.row.validity
            remarks = [judged.verdict, "; ".join(map(str, judged.reasons))]
            if case.row.status != OK:
                remarks = [case.row.status, str(case.row.reason)]
            labels = [f"{name}: {text}" for name, text in case.row.labels.items() if name in ("software_power_cap",)]
            numbers = [cell(case.value(metric)) for _, metric in COLUMNS]
            yield [
                case.step,
                case.run,
                str(case.row.case.batch_size),
                *numbers,
                remarks[0],
                "; ".join([remarks[1], *labels]),
            ]


def quality(cases: Sequence[StepCase]) -> Iterator[Sequence[str]]:
    for case in cases:
        if not case.row.case.timed:
            figures = [f"{name} {cell(value)}" for name, value in case.row.metrics.values.items() if value is not None]
            yield [case.run, case.row.status, case.row.validity.verdict, ", ".join(figures)]


def main(facts_file: str, outputs: str) -> int:
    facts = json.loads(Path(facts_file).read_text()) if Path(facts_file).is_file() else {}
    cases = list(cases_below(Path(outputs)))
    checked = list(bounds(facts, cases))
    missed = [bound for bound in checked if bound[1] is None or not bound[2] <= bound[1] <= bound[3]]
    failed = list(unexpected(cases))
    print("## Bounds\n")
    print(f"{len(checked)} checked, {len(missed)} missed; {len(cases)} cases, {len(failed)} failed unexpectedly.\n")
    limits = ([name, cell(value), f"{least:g}", f"{greatest:g}"] for name, value, least, greatest in missed)
    print(table(["missed bound", "value", "from", "to"], limits))
    print("".join(f"\n- {line}" for line in failed))
    titles = [title for title, _ in COLUMNS]
    print("\n## Speed\n\n" + table(["step", "run", "batch", *titles, "validity", "remarks"], speed(cases)))
    print("\n## Quality\n\n" + table(["run", "status", "validity", "values"], quality(cases)))
    return 1 if missed or failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
