"""The commands that would make the advice firmer: the sweep's own command with other overrides."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from visionbench.core import INVALID, OK, WARNED
from visionbench.records import typed_command
from visionbench.records.typed_command import TypedCommand
from visionbench.results.advice.candidates import INVALID_CASE, NO_THROUGHPUT, P50
from visionbench.results.advice.choice import Advice, Knee
from visionbench.results.archive import Run
from visionbench.statistics.timings import least_samples

STANDARD = "standard"
REPEATS = 5
"""The number of processes that gives intervals across processes."""
MOST_SIZES = 4
"""The most batch sizes of a command that looks for the knee beyond the largest one."""
LARGEST_SIZE = 4096
LATENCY_LIMIT_MS = 120_000.0
"""The longest latency window of the standard protocol: `latency.max_seconds` in conf/measure/standard.yaml."""
WITHOUT_EFFECT = ("tracking.uri",)
"""Overrides that are left out, because they may contain a password and do not change what is measured."""

QUIET = "quiet"
PROTOCOL = "protocol"
P95_MISSING = "p95 missing"
LARGER = "larger"
MORE_SIZES = "more sizes"
UNDECIDED = "undecided"
MEASURE = "measure"
QUALITY = "quality"
RETRY = "retry"
"""The purposes of a command."""


@dataclass(frozen=True)
class Step:
    """A command to type, and its purposes."""

    purposes: tuple[str, ...]
    command: str


def next_steps(advice: Advice) -> list[Step]:
    """Return the commands that would make the advice of a task firmer, in the order in which to type them.

    All that one command can measure is in one command. Empty if nothing would help.
    """
    steps: list[Step] = []
    purposes, replaced, removed = _purposes(advice)
    if QUIET in purposes:
        steps.append(Step((QUIET,), "visionbench doctor"))
    if purposes:
        shown = tuple(purpose for purpose in purposes if purpose != QUIET) or (RETRY,)
        steps.append(Step(shown, command(_of_sweep(advice), replaced, removed)))
    if random := [run for run in advice.runs if _can_be_fetched(run)]:
        models = " ".join(dict.fromkeys(run.model for run in random))
        pretrained = command(_of_sweep(advice), {}, ("model.weights", "metrics"))
        steps.append(Step((QUALITY,), f"visionbench models fetch {models} && {pretrained}"))
    return steps


def _purposes(advice: Advice) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    """Return the purposes of measuring again, the overrides to set for them, and the keys to remove."""
    runs, knees = _of_sweep(advice), advice.knees
    standard = all(run.record.plan.protocol.split()[0] == STANDARD for run in runs if run.record.plan.protocol)
    purposes: list[str] = []
    replaced: dict[str, str] = {}
    removed: tuple[str, ...] = ()
    verdicts = {row.validity.verdict for run in advice.runs for row in run.timed if row.status == OK}
    if verdicts & {INVALID, WARNED} and (not advice.chosen or advice.chosen.questionable or _any_invalid(advice)):
        purposes.append(QUIET)
    by_p50 = advice.by == P50 or bool(advice.faster_by_p50)
    if by_p50:
        purposes.append(P95_MISSING)
    if not standard:
        purposes.append(PROTOCOL)
        replaced["measure"] = STANDARD
    if by_p50 and (standard or _is_slow(advice)):
        replaced["measure.latency.calls"] = str(least_samples(0.95))
    if knees and knees[0].at_end and (sizes := _larger_sizes(knees[0])):
        purposes.append(MORE_SIZES if knees[0].sizes == 1 else LARGER)
        replaced["batch.sizes"] = f"[{','.join(map(str, sizes))}]"
    undecided = bool(advice.ties) or any(not knee.decided for knee in knees[:1]) or not advice.with_intervals
    if undecided and standard and advice.chosen and not any(run.record.repeats for run in runs):
        purposes.append(UNDECIDED)
        replaced["measure.repeats"] = str(REPEATS)
    if any(case.reason == NO_THROUGHPUT for case in advice.left_out):
        purposes.append(MEASURE)
        removed = ("metrics",)
    if not advice.measured and not purposes[1:]:
        purposes.append(RETRY)
    return purposes, replaced, removed


def _is_slow(advice: Advice) -> bool:
    """Whether the time limit of the standard protocol leaves too few calls for p95."""
    p50s = [case.p50.value for case in (advice.chosen, advice.faster_by_p50) if case is not None and case.p50]
    return max(p50s, default=0.0) * least_samples(0.95) > LATENCY_LIMIT_MS


def _can_be_fetched(run: Run) -> bool:
    model = run.record.settings.model
    return model.weights == "random" and bool(model.checkpoint) and not str(model.checkpoint).startswith("bundled:")


def _any_invalid(advice: Advice) -> bool:
    return any(case.reason == INVALID_CASE for case in advice.left_out)


def _larger_sizes(knee: Knee) -> list[int]:
    """Return the largest measured batch size and the next ones, each twice the previous one."""
    first = knee.best.batch_size
    sizes = [first * 2**power for power in range(MOST_SIZES)]
    return [size for size in sizes if size <= LARGEST_SIZE] if knee.sizes > 1 or first > 1 else [1, 2, 4, 8]


def _of_sweep(advice: Advice) -> Sequence[Run]:
    """Return the runs of the newest sweep of this task."""
    newest = max(advice.runs, key=lambda run: run.record.started_at)
    return [run for run in advice.runs if run.sweep == newest.sweep]


# ---------------------------------------------------------------------------------------------------------- the command
def command(runs: Sequence[Run], replaced: Mapping[str, str], removed: Sequence[str] = ()) -> str:
    """Return the command that measured these runs, with some overrides replaced and some keys removed.

    An override of a group, such as `measure`, also replaces those of its keys. Without Hydra's files the command is
    composed from the configuration of the runs.
    """
    typed = typed_command.read(runs[0].folder.path) if runs[0].folder else None
    typed = typed or TypedCommand(tuple(_from_configurations(runs)), len(runs) > 1)
    kept = [text for text in typed.overrides if not _is_replaced(text, (*replaced, *removed, *WITHOUT_EFFECT))]
    flags = [*(["-m"] if typed.sweep else []), *(["--config-dir", typed.config_dir] if typed.config_dir else [])]
    words = [*flags, *kept, *(f"{key}={value}" for key, value in replaced.items())]
    return " ".join(["visionbench run", *map(shlex.quote, words)])


def _is_replaced(override: str, keys: Sequence[str]) -> bool:
    name = override.lstrip("+~").partition("=")[0]
    sections = ["batch" if key == "batch.sizes" else key for key in keys]  # sizes also replace a search for a size
    return any(name == section or name.startswith(f"{section}.") for section in sections)


def _from_configurations(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the main overrides of runs: model, weights, device, threads, precision, data and batch sizes."""
    records = [run.record for run in runs]
    texts = {
        "model": [run.model for run in runs],
        "model.weights": [record.settings.model.weights for record in records],
        "device": [run.record.plan.device.partition(":")[0] for run in runs],
        "precision": [record.plan.precision for record in records],
        "data": [record.settings.data.name for record in records],
        "measure": [(record.plan.protocol.split() or ["quick"])[0] for record in records],
    }
    for key, values in texts.items():
        different = list(dict.fromkeys(values))
        if key != "model.weights" or different != ["pretrained"]:
            yield f"{key}={','.join(different)}"
    sizes = sorted({row.case.batch_size for run in runs for row in run.timed})
    if sizes:
        yield f"batch.sizes=[{','.join(map(str, sizes))}]"
