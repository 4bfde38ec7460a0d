"""Pipeline: real files to answers, first one batch after the other with a clock at every step, then overlapped.

Serial, every boundary is synchronised, so the steps add up to the whole, and that is checked. Overlapped, loader
threads read, decode and preprocess ahead, the calling thread copies and runs the model, and one more makes answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from visionbench import weights
from visionbench.core import PIPELINE_STEPS, Example, Inputs, Samples
from visionbench.datafiles.images import decode_example
from visionbench.stages.context import Context, input_bytes, loader_count, quiet

if TYPE_CHECKING:
    from PIL.Image import Image

SUM_WITHIN = 0.05
COPY_CALLS = 20
HOST_STEPS = ("read", "decode", "preprocess")
"""What loader threads do; `copy` and `forward` are the calling thread's, `postprocess` the finisher's."""


@dataclass
class PipelineBatch:
    """One batch on its way, with the seconds of each step."""

    examples: Sequence[Example]
    encoded: list[bytes] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    inputs: Inputs = field(default_factory=dict)
    copied_bytes: int = 0
    output: Any = None
    answers: list[Any] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run(context: Context) -> Samples:
    """Series of serial batches `pipeline/<step>_s`, `serial_s` and `copied_bytes`; of the overlapped pass
    `overlapped_s`, `overlapped_images_count`, `loaders_count` and each step's busy `overlapped_<step>_s`; of captioners
    `vision_s`, `prefill_s` and `token_s`; on an accelerator `copy_pinned_bytes_per_s` and `copy_pageable_bytes_per_s`.
    Flag `stages_do_not_add_up`."""
    context.batches.clear()  # the pipeline makes its own inputs
    with quiet():
        found = serial(context).merged(overlapped(context))
        trip = _loaded(context, next(_batches(context)))
        return found.merged(tokens(context, trip)).merged(copies(context, trip))


def serial(context: Context) -> Samples:
    """Batches one after the other, after one that is not counted."""
    rule, trips, ends = context.measure.pipeline, list[PipelineBatch](), list[float]()
    start = 0.0
    for number, examples in enumerate(_batches(context)):
        if number == 1:
            start = perf_counter()
        if number > rule.min_batches and perf_counter() - start >= rule.min_seconds:
            break
        trip = PipelineBatch(examples)
        began = perf_counter()
        for step in PIPELINE_STEPS:
            _timed(context, trip, step)
        taken = perf_counter() - began
        if number:
            trips.append(trip)
            ends.append(taken)
        trip.encoded, trip.images, trip.inputs, trip.output, trip.answers = [], [], {}, None, []
    series = {f"pipeline/{step}_s": np.array([trip.seconds[step] for trip in trips]) for step in PIPELINE_STEPS}
    series["pipeline/serial_s"] = np.array(ends)
    series["pipeline/copied_bytes"] = np.array([float(trip.copied_bytes) for trip in trips])
    together, whole = sum(sum(trip.seconds.values()) for trip in trips), sum(ends)
    off = together / whole - 1
    seen = {"stages_do_not_add_up": f"they make {off:+.1%} of the end-to-end time"} if abs(off) > SUM_WITHIN else {}
    return Samples(series, flags=seen)


def overlapped(context: Context) -> Samples:
    """As many batches as the time allows, with the next ones being loaded while the model runs."""
    rule, workers = context.measure.pipeline, loader_count(context.measure.evaluation)
    source, done = _batches(context), list[PipelineBatch]()
    loading, finishing = deque[Future[PipelineBatch]](), deque[Future[PipelineBatch]]()
    issued = 0
    with ThreadPoolExecutor(workers, "load") as loaders, ThreadPoolExecutor(1, "finish") as finisher:
        start = perf_counter()
        while True:
            more = issued < rule.min_batches or perf_counter() - start < rule.min_seconds
            while more and len(loading) <= workers:
                loading.append(
                    loaders.submit(_loaded, context, next(source), pinned=not context.device.shares_host_memory)
                )
                issued += 1
            if not loading:
                break
            trip = loading.popleft().result()
            _timed(context, trip, "copy", wait=False)  # from pinned memory: the model's work is queued behind it
            _timed(context, trip, "forward")
            finishing.append(finisher.submit(_finished, context, trip))
            while len(finishing) > 2:
                done.append(finishing.popleft().result())
        done += [future.result() for future in finishing]
        seconds = perf_counter() - start
    busy = {step: sum(trip.seconds[step] for trip in done) for step in PIPELINE_STEPS}
    values = {
        "overlapped_s": seconds,
        "overlapped_images_count": float(sum(len(trip.examples) for trip in done)),
        "loaders_count": float(workers),
        **{f"overlapped_{step}_s": value for step, value in busy.items()},
    }
    return Samples({f"pipeline/{name}": np.array([value]) for name, value in values.items()})


def tokens(context: Context, trip: PipelineBatch) -> Samples:
    """Of a model that writes: its vision, what follows to the first token, and one more token, each by itself."""
    names = {"vision": "vision_s", "prefill": "prefill_s", "decode": "token_s"}
    pieces = getattr(context.model, "parts", None)
    found = pieces(_placed(context, trip.inputs)) if pieces else {}
    if "prefill" not in found:
        why = "this model writes no tokens"
        return Samples(missing={f"pipeline/{name}": why for name in names.values()})
    calls = context.measure.pipeline.min_batches
    series = {
        f"pipeline/{names[name]}": np.array([context.device.time_call(piece.call).host_s for _ in range(calls)])
        for name, piece in found.items()
    }
    lacking = {f"pipeline/{names[name]}": "one token is written" for name in names if name not in found}
    return Samples(series, lacking)


def copies(context: Context, trip: PipelineBatch) -> Samples:
    """The rate of copying a batch's inputs to an accelerator, from pinned and from pageable memory."""
    names = ("pipeline/copy_pinned_bytes_per_s", "pipeline/copy_pageable_bytes_per_s")
    if context.device.shares_host_memory:
        return Samples(missing=dict.fromkeys(names, "on a CPU nothing is copied to a device"))
    place = context.model.module.device
    tensors = list(trip.inputs.values())
    pinned = [tensor.pin_memory() for tensor in tensors]
    series = {}
    for name, of in zip(names, (pinned, [tensor.clone() for tensor in tensors]), strict=True):

        def copy(of: Sequence[Any] = of) -> None:
            for tensor in of:
                tensor.to(place, non_blocking=True)

        taken = [context.device.time_call(copy).host_s for _ in range(COPY_CALLS)]
        series[name] = np.array([input_bytes(trip.inputs) / float(np.median(taken[1:]))])
    return Samples(series)


# --------------------------------------------------------------------------------------------------------------- steps
def _read(context: Context, trip: PipelineBatch) -> None:
    trip.encoded = [example.image.read_bytes() for example in trip.examples]


def _decode(context: Context, trip: PipelineBatch) -> None:
    both = zip(trip.examples, trip.encoded, strict=True)
    trip.images = [decode_example(example, encoded) for example, encoded in both]


def _preprocess(context: Context, trip: PipelineBatch) -> None:
    captions = [example.captions[0] if example.captions else "" for example in trip.examples]
    trip.inputs = context.model.preprocess(trip.images, captions)


def _copy(context: Context, trip: PipelineBatch) -> None:
    trip.copied_bytes = input_bytes(trip.inputs)
    trip.inputs = _placed(context, trip.inputs)


def _forward(context: Context, trip: PipelineBatch) -> None:
    trip.output = context.model.call(trip.inputs)


def _postprocess(context: Context, trip: PipelineBatch) -> None:
    trip.answers = context.model.postprocess(trip.output, trip.images)


STEPS: dict[str, Callable[[Context, PipelineBatch], None]] = {
    "read": _read,
    "decode": _decode,
    "preprocess": _preprocess,
    "copy": _copy,
    "forward": _forward,
    "postprocess": _postprocess,
}


def _timed(context: Context, trip: PipelineBatch, step: str, wait: bool = True) -> None:
    """A step with its seconds; those that use the device end when it is done, unless they do not `wait` for it."""
    start = perf_counter()
    STEPS[step](context, trip)
    if wait and step not in HOST_STEPS:
        context.device.synchronize()
    trip.seconds[step] = perf_counter() - start


def _loaded(context: Context, examples: Sequence[Example], pinned: bool = False) -> PipelineBatch:
    """A batch up to its inputs on the host; `pinned` in memory that a GPU copies from without stopping the host."""
    import torch

    trip = PipelineBatch(examples)
    with torch.inference_mode():
        for step in HOST_STEPS:
            _timed(context, trip, step)
        if pinned:
            start = perf_counter()
            trip.inputs = {name: tensor.pin_memory() for name, tensor in trip.inputs.items()}
            trip.seconds["preprocess"] += perf_counter() - start
    return trip


def _finished(context: Context, trip: PipelineBatch) -> PipelineBatch:
    import torch

    with torch.inference_mode():
        _timed(context, trip, "postprocess")
    trip.images, trip.inputs, trip.output = [], {}, None
    return trip


def _placed(context: Context, inputs: Inputs) -> Inputs:
    first = next(iter(context.model.module.parameters()))
    return weights.place_inputs(inputs, first.device, context.model.dtype)


def _batches(context: Context) -> Iterator[Sequence[Example]]:
    """The distinct samples in rotation, without end."""
    examples = cycle(context.examples[: context.measure.inputs.distinct_samples])
    while True:
        yield list(islice(examples, context.case.batch_size))
