"""Loader processes: read, decode and preprocess batches in other processes, for `measure.pipeline.processes=true`.

Each process is a fresh interpreter that receives the model without its weights. It writes the tensors of a batch into
anonymous memory that it shares with the measuring process, and sends everything else through a pipe. It ends when the
measuring process closes its end of the pipe or dies.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Queue
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from visionbench.core import ARRAYS, ConfigError, Example, LoadedModel, VisionbenchError, first_line
from visionbench.stages.decoding import Decoding

KEY = "measure.pipeline.processes"
SECONDS_TO_END = 5.0
ALIGNMENT = 64
"""Tensors begin at multiples of this number of bytes."""


class LoaderError(VisionbenchError):
    """A loader process ended, or it could not load a batch."""


@dataclass(frozen=True)
class Loaded:
    """A batch that a process loaded. Its tensors are in the shared memory."""

    sizes: Sequence[tuple[int, int]]
    """The width and height of each decoded image."""
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]]
    """The type, the shape, and the first byte of each tensor."""
    memory_bytes: int
    """The size of the shared memory."""
    seconds: Mapping[str, float]
    left_to_pillow: Mapping[str, str]


@dataclass
class LoaderProcess:
    """A process that loads batches, with its end of the pipe and the shared memory."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    memory: int
    """The descriptor of the shared memory."""
    view: mmap.mmap | None = None

    def load(self, examples: Sequence[Example]) -> tuple[Loaded, dict[str, Any]]:
        """Return a batch and its tensors, which are copies. Raises LoaderError."""
        import torch

        unread: Any = dict.fromkeys(array.field for array in ARRAYS.values())
        loaded = self.request([replace(example, **unread) for example in examples])
        if self.view is None or len(self.view) < loaded.memory_bytes:
            self.view = mmap.mmap(self.memory, loaded.memory_bytes)
        tensors = {
            name: torch.from_numpy(np.frombuffer(self.view, kind, int(np.prod(shape)), offset).reshape(shape).copy())
            for name, (kind, shape, offset) in loaded.tensors.items()
        }
        return loaded, tensors

    def request(self, message: Any) -> Any:
        """Send a message and return the answer. Raises LoaderError if the process raised an error or ended."""
        try:
            self.pipe.send(message)
            answer = self.pipe.recv()
        except (EOFError, OSError):
            code = self.process.wait(SECONDS_TO_END)
            raise LoaderError(f"a loader process ended with exit code {code}") from None
        if isinstance(answer, LoaderError):
            raise answer
        return answer

    def close(self) -> None:
        """End the process and release the memory."""
        self.pipe.close()
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.view is not None:
            self.view.close()
        os.close(self.memory)


@dataclass
class LoaderProcesses:
    """Processes that load batches. As a context manager, it ends them."""

    processes: list[LoaderProcess] = field(default_factory=list)
    start_s: float = 0.0
    """The seconds until all processes were ready."""
    _idle: Queue[LoaderProcess] = field(default_factory=Queue)

    @classmethod
    def start(cls, model: LoadedModel, decoding: Decoding, example: Example, count: int) -> LoaderProcesses:
        """Start processes and let each load one example. Raises ConfigError if the model's images cannot be loaded."""
        began = perf_counter()
        loaders = cls()
        try:
            for _ in range(count):
                loaders.processes.append(_start_process())
            for one in loaders.processes:
                one.pipe.send(sys.path)
                one.pipe.send((_without_weights(model), replace(decoding, left_to_pillow={})))
            for one in loaders.processes:
                one.load([example])
                loaders._idle.put(one)
        except BaseException as error:
            loaders.close()
            if not isinstance(error, Exception):
                raise
            reason = error.problem if isinstance(error, VisionbenchError) else first_line(error)
            raise ConfigError(
                f"{KEY}=true: other processes cannot load the images of this model ({reason})", f"use {KEY}=false"
            ) from error
        loaders.start_s = perf_counter() - began
        return loaders

    def load(self, examples: Sequence[Example]) -> tuple[Loaded, dict[str, Any]]:
        """Return a batch from the next process that is idle. Raises LoaderError."""
        one = self._idle.get()
        try:
            return one.load(examples)
        finally:
            self._idle.put(one)

    def close(self) -> None:
        """End all processes."""
        for one in self.processes:
            one.close()
        self.processes = []

    def __enter__(self) -> LoaderProcesses:
        """Return the processes."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self.close()


def images_of(loaded: Loaded) -> list[Image.Image]:
    """Return empty images of the sizes of the decoded images, whose pixels stay in their process."""
    return [Image.new("1", size) for size in loaded.sizes]


def _start_process() -> LoaderProcess:
    pipe, other = Pipe()
    memory = os.memfd_create("visionbench-batch")
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import work; work({other.fileno()}, {memory})"],
            pass_fds=(other.fileno(), memory),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        )
    except BaseException:
        pipe.close()
        os.close(memory)
        raise
    finally:
        other.close()
    return LoaderProcess(process, pipe, memory)


def _without_weights(model: LoadedModel) -> LoadedModel:
    """Return the model without its weights and without what a runtime executes, which a process need not have."""
    light = copy(model)
    own = next(base for base in type(model).__mro__ if "<locals>" not in base.__qualname__)  # not that of autocast
    object.__setattr__(light, "__class__", own)
    for name, value in (("module", None), ("executed", {})):
        if hasattr(light, name):
            object.__setattr__(light, name, value)
    return light


# ------------------------------------------------------------------------------------------------- in another process
def work(pipe_number: int, memory: int) -> None:
    """Load batches until the pipe is closed."""
    import torch

    torch.set_num_threads(1)
    pipe = Connection(pipe_number)
    try:
        sys.path[:] = pipe.recv()
        model, decoding = pipe.recv()
        while True:
            examples = pipe.recv()
            try:
                answer: Any = _load(model, decoding, examples, memory)
            except Exception as error:
                answer = LoaderError(f"{type(error).__name__}: {first_line(error)}")
            pipe.send(answer)
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _load(model: LoadedModel, decoding: Decoding, examples: Sequence[Example], memory: int) -> Loaded:
    import torch

    seconds = {}
    start = perf_counter()
    encoded = [example.image.read_bytes() for example in examples]
    seconds["read"] = perf_counter() - start
    start = perf_counter()
    images = [decoding.decode(*pair) for pair in zip(examples, encoded, strict=True)]
    seconds["decode"] = perf_counter() - start
    start = perf_counter()
    with torch.inference_mode():
        inputs = model.preprocess(images, [example.captions[0] if example.captions else "" for example in examples])
    tensors, memory_bytes = _write(memory, {name: tensor.numpy() for name, tensor in inputs.items()})
    seconds["preprocess"] = perf_counter() - start
    left_to_pillow = dict(decoding.left_to_pillow)
    decoding.left_to_pillow.clear()
    return Loaded([image.size for image in images], tensors, memory_bytes, seconds, left_to_pillow)


def _write(memory: int, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, tuple[str, tuple[int, ...], int]], int]:
    """Write arrays into the shared memory, which grows if it is too small. Return their places, and the size."""
    places, end = {}, 0
    for name, array in arrays.items():
        places[name] = (array.dtype.str, array.shape, end)
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    size = max(end, os.fstat(memory).st_size)
    os.ftruncate(memory, size)
    with mmap.mmap(memory, size) as view:
        for name, array in arrays.items():
            _, shape, offset = places[name]
            np.frombuffer(view, array.dtype, array.size, offset).reshape(shape)[...] = array
    return places, size
