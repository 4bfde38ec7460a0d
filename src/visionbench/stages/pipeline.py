"""Pipeline: from image files to answers, first in serial batches with every step timed, then overlapped.

In the serial pass, every step is synchronised, so that the steps add up to the time of the batch; this is checked. In
the overlapped pass, loader threads read, decode and preprocess, the calling thread copies and runs the model, and one
more thread postprocesses. On CUDA the loader threads also copy, in streams of their own, while the model runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench import weights
from visionbench.core import PIPELINE_STEPS, Example, Inputs, Samples
from visionbench.machine import usable_cores
from visionbench.metrics.pipeline import bound_s
from visionbench.stages.context import Context
from visionbench.stages.heartbeat import Heartbeat
from visionbench.stages.inputs import input_bytes
from visionbench.stages.loader_processes import LoaderProcesses, images_of
from visionbench.stages.overlap import loader_count, overlap
from visionbench.stages.windows import quiet

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

SUM_WITHIN = 0.05
"""The largest share by which the sum of the steps may differ from the time of the batches."""
BOUND_WITHIN = 0.1
"""The largest share by which the overlapped rate may be above the bound that follows from the batches in series."""
COPY_CALLS = 20
HOST_STEPS = ("read", "decode", "preprocess")
"""The steps of the loader threads. `copy` and `forward` run in the calling thread, `postprocess` in the last one."""


@dataclass
class PipelineBatch:
    """One batch in the pipeline, with the results and the seconds of each step."""

    examples: Sequence[Example]
    encoded: list[bytes] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    inputs: Inputs = field(default_factory=dict)
    copied_bytes: int = 0
    output: Any = None
    answers: list[Any] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run(context: Context) -> Samples:
    """Return the series of `serial`, `overlapped`, `time_tokens` and `time_copies`, and the fault `paused`."""
    with quiet(), Heartbeat() as heartbeat:
        samples = serial(context).merged(overlapped(context))
        samples = samples.merged(check_bound(samples, context.case.batch_size))
        batch = _load(context, next(_batches(context)))
        samples = samples.merged(time_tokens(context, batch)).merged(time_copies(context, batch))
    reason = heartbeat.reason("the pipeline stage")
    return samples.merged(Samples(faults={"paused": reason})) if reason else samples


def serial(context: Context) -> Samples:
    """Run batches one after the other. The first batch is not counted.

    Series `pipeline/<step>_s`, `serial_s`, `serial_cpu_s` (the time of all cores) and `copied_bytes`, one value for
    each batch; flag `stages_do_not_add_up`.
    """
    rule, batches = context.measure.pipeline, list[PipelineBatch]()
    durations, cpu_seconds = list[float](), list[float]()
    start = 0.0
    for number, examples in enumerate(_batches(context)):
        if number == 1:
            start = perf_counter()
        if number > rule.min_batches and perf_counter() - start >= rule.min_seconds:
            break
        batch = PipelineBatch(examples)
        began, began_cpu = perf_counter(), process_time()
        for step in PIPELINE_STEPS:
            _run_step(context, batch, step)
        duration, cpu_time = perf_counter() - began, process_time() - began_cpu
        if number:
            batches.append(batch)
            durations.append(duration)
            cpu_seconds.append(cpu_time)
        batch.encoded, batch.images, batch.inputs, batch.output, batch.answers = [], [], {}, None, []
    series = {f"pipeline/{step}_s": np.array([batch.seconds[step] for batch in batches]) for step in PIPELINE_STEPS}
    series["pipeline/serial_s"] = np.array(durations)
    series["pipeline/serial_cpu_s"] = np.array(cpu_seconds)
    series["pipeline/copied_bytes"] = np.array([float(batch.copied_bytes) for batch in batches])
    difference = sum(sum(batch.seconds.values()) for batch in batches) / sum(durations) - 1
    flags = {}
    if abs(difference) > SUM_WITHIN:
        flags["stages_do_not_add_up"] = f"they make {difference:+.1%} of the end-to-end time"
    return Samples(series, flags=flags)


def overlapped(context: Context) -> Samples:
    """Run at least `min_batches` batches for at least `min_seconds`, and load the next batches while the model runs.

    Series `pipeline/overlapped_s`, `overlapped_images_count`, `loaders_count`, `cores_count` (the cores that this
    process may use), `copied_ahead_count` (1 if loaders copy to the device), and `overlapped_<step>_s`, the busy
    seconds of each step.
    """
    rule, loaders = context.measure.pipeline, loader_count(context.measure.evaluation)
    source, batches = _batches(context), list[PipelineBatch]()
    start = end = perf_counter()

    def issue() -> Iterator[Sequence[Example]]:
        issued = 0
        while issued < rule.min_batches or perf_counter() - start < rule.min_seconds:
            yield next(source)
            issued += 1

    def forward(batch: PipelineBatch) -> None:
        if "copy" not in batch.seconds:
            _run_step(context, batch, "copy", wait=False)  # the model's work is queued behind the copy
        _run_step(context, batch, "forward")

    with _loading(context, loaders) as (load, more):
        start = end = perf_counter()  # the processes of the loaders are ready
        for batch, _ in overlap(issue(), load, forward, partial(_finish, context), loaders):
            batches.append(batch)
            end = perf_counter()
    busy = {step: sum(batch.seconds[step] for batch in batches) for step in PIPELINE_STEPS}
    values = {
        "copied_ahead_count": float(_copies_ahead(context)),
        "overlapped_s": end - start,
        "overlapped_images_count": float(sum(len(batch.examples) for batch in batches)),
        "loaders_count": float(loaders),
        "cores_count": float(usable_cores()),
        **{f"overlapped_{step}_s": value for step, value in busy.items()},
    }
    samples = Samples({f"pipeline/{name}": np.array([value]) for name, value in values.items()})
    return samples.merged(more)


@contextmanager
def _loading(context: Context, loaders: int) -> Iterator[tuple[Callable[[Sequence[Example]], PipelineBatch], Samples]]:
    """Provide the function that loads a batch in one of the loaders, and the series `pipeline/loaders_start_s`."""
    pinned = not context.device.shares_host_memory
    if not context.measure.pipeline.processes:
        reason = "the loaders are threads"
        yield partial(_load, context, pinned=pinned), Samples(missing={"pipeline/loaders_start_s": reason})
        return
    with LoaderProcesses.start(context.model, context.decoding, context.examples[0], loaders) as processes:
        start_s = Samples({"pipeline/loaders_start_s": np.array([processes.start_s])})
        yield partial(_load_in_process, context, processes, pinned=pinned), start_s


def _load_in_process(
    context: Context, processes: LoaderProcesses, examples: Sequence[Example], pinned: bool
) -> PipelineBatch:
    """Load a batch in another process. This thread waits for it and copies its tensors."""
    loaded, tensors = processes.load(examples)
    context.decoding.left_to_pillow.update(loaded.left_to_pillow)
    batch = PipelineBatch(examples, images=images_of(loaded), inputs=tensors, seconds=dict(loaded.seconds))
    if pinned:
        _pin(context, batch)
    return batch


def check_bound(samples: Samples, batch_size: int) -> Samples:
    """Return the flag `bound_exceeded` if the overlapped rate is above its upper bound by more than `BOUND_WITHIN`."""
    bound = bound_s(samples, {step: float(samples.get(f"pipeline/{step}_s").mean()) for step in PIPELINE_STEPS})
    duration, images = (
        float(samples.get(f"pipeline/{name}")[0]) for name in ("overlapped_s", "overlapped_images_count")
    )
    if bound is None or not duration or (ratio := bound * images / batch_size / duration) <= 1 + BOUND_WITHIN:
        return Samples()
    detail = f"the overlapped rate is {ratio:.2f} times its upper bound, so the batches in series were disturbed"
    return Samples(flags={"bound_exceeded": detail})


def time_tokens(context: Context, batch: PipelineBatch) -> Samples:
    """Time the parts of a model that generates text.

    Series `pipeline/vision_s`, `prefill_s` (the first token) and `token_s` (each further token).
    """
    names = {"vision": "vision_s", "prefill": "prefill_s", "decode": "token_s"}
    split = getattr(context.model, "parts", None)
    parts = split(_place_inputs(context, batch.inputs)) if split else {}
    if "prefill" not in parts:
        reason = "this model generates no tokens"
        return Samples(missing={f"pipeline/{name}": reason for name in names.values()})
    calls = context.measure.pipeline.min_batches
    series = {
        f"pipeline/{names[name]}": np.array([context.device.time_call(part.call).host_s for _ in range(calls)])
        for name, part in parts.items()
    }
    missing = {f"pipeline/{names[name]}": "one token is generated" for name in names if name not in parts}
    return Samples(series, missing)


def time_copies(context: Context, batch: PipelineBatch) -> Samples:
    """Time copies of a batch's inputs to the device, from pinned and from pageable host memory.

    Series `pipeline/copy_pinned_bytes_per_s` and `copy_pageable_bytes_per_s`.
    """
    names = ("pipeline/copy_pinned_bytes_per_s", "pipeline/copy_pageable_bytes_per_s")
    if context.device.shares_host_memory:
        return Samples(missing=dict.fromkeys(names, "on a CPU nothing is copied to a device"))
    place = context.model.module.device
    tensors = [tensor.cpu() for tensor in batch.inputs.values()]
    pinned = [tensor.pin_memory() for tensor in tensors]
    series = {}
    for name, sources in zip(names, (pinned, [tensor.clone() for tensor in tensors]), strict=True):

        def copy(sources: Sequence[Any] = sources) -> None:
            for tensor in sources:
                tensor.to(place, non_blocking=True)

        seconds = [context.device.time_call(copy).host_s for _ in range(COPY_CALLS)]
        series[name] = np.array([input_bytes(batch.inputs) / float(np.median(seconds[1:]))])
    return Samples(series)


# --------------------------------------------------------------------------------------------------------------- steps
def _read(context: Context, batch: PipelineBatch) -> None:
    batch.encoded = [example.image.read_bytes() for example in batch.examples]


def _decode(context: Context, batch: PipelineBatch) -> None:
    pairs = zip(batch.examples, batch.encoded, strict=True)
    batch.images = [context.decoding.decode(example, encoded) for example, encoded in pairs]


def _preprocess(context: Context, batch: PipelineBatch) -> None:
    captions = [example.captions[0] if example.captions else "" for example in batch.examples]
    batch.inputs = context.model.preprocess(batch.images, captions)


def _copy(context: Context, batch: PipelineBatch) -> None:
    batch.copied_bytes = input_bytes(batch.inputs)
    batch.inputs = _place_inputs(context, batch.inputs)


def _forward(context: Context, batch: PipelineBatch) -> None:
    batch.output = context.model.call(batch.inputs)


def _postprocess(context: Context, batch: PipelineBatch) -> None:
    batch.answers = context.model.postprocess(batch.output, batch.images)


STEPS: dict[str, Callable[[Context, PipelineBatch], None]] = {
    "read": _read,
    "decode": _decode,
    "preprocess": _preprocess,
    "copy": _copy,
    "forward": _forward,
    "postprocess": _postprocess,
}


def _run_step(context: Context, batch: PipelineBatch, step: str, wait: bool = True) -> None:
    """Run a step and record its seconds. With `wait`, a step on the device ends when the device is done."""
    start = perf_counter()
    STEPS[step](context, batch)
    if wait and step not in HOST_STEPS:
        context.device.synchronize()
    batch.seconds[step] = perf_counter() - start


def _load(context: Context, examples: Sequence[Example], pinned: bool = False) -> PipelineBatch:
    """Load a batch: run the host steps. With `pinned`, its inputs are in pinned memory, for copies without a wait."""
    import torch

    batch = PipelineBatch(examples)
    with torch.inference_mode():
        for step in HOST_STEPS:
            _run_step(context, batch, step)
        if pinned:
            _pin(context, batch)
    return batch


def _pin(context: Context, batch: PipelineBatch) -> None:
    """Move a batch to pinned memory, and on CUDA to the device."""
    start = perf_counter()
    batch.inputs = {name: _pinned(tensor) for name, tensor in batch.inputs.items()}
    batch.seconds["preprocess"] += perf_counter() - start
    if _copies_ahead(context):
        _copy_ahead(context, batch)


def _copies_ahead(context: Context) -> bool:
    """Return whether loaders copy to the device while the model runs."""
    return not context.device.shares_host_memory and _place(context).type == "cuda"


def _copy_ahead(context: Context, batch: PipelineBatch) -> None:
    """Copy a batch from pinned memory in a separate stream, and return when it is on the device."""
    import torch

    place = _place(context)
    start = perf_counter()
    stream = torch.cuda.Stream(place)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        _copy(context, batch)
    stream.synchronize()
    for tensor in batch.inputs.values():
        tensor.record_stream(torch.cuda.default_stream(place))  # the model's stream also uses this memory
    batch.seconds["copy"] = perf_counter() - start


def _pinned(tensor: Any) -> Any:
    """Return a tensor of the host in pinned memory. A tensor that is on the device already is returned as it is."""
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def _finish(context: Context, batch: PipelineBatch) -> PipelineBatch:
    import torch

    with torch.inference_mode():
        _run_step(context, batch, "postprocess")
    batch.images, batch.inputs, batch.output = [], {}, None
    return batch


def _place_inputs(context: Context, inputs: Inputs) -> Inputs:
    return weights.place_inputs(inputs, _place(context), context.model.dtype)


def _place(context: Context) -> torch.device:
    place: torch.device = next(iter(context.model.module.parameters())).device
    return place


def _batches(context: Context) -> Iterator[Sequence[Example]]:
    """Yield batches of the distinct examples in rotation, without end."""
    examples = cycle(context.examples[: context.measure.inputs.distinct_samples])
    while True:
        yield list(islice(examples, context.case.batch_size))
