"""A small model family of another package, which can fail on purpose."""

import os
import signal
import weakref
from dataclasses import dataclass
from typing import ClassVar

import torch

from visionbench.core import ModelPart
from visionbench.registry import register


@register("models", "own_parts")
@dataclass
class OwnFamily:
    """Options: the kind of failure, for calls with a batch of at least `at_batch`, and a file.

    With the fault `stop`, a call stops its process if the file exists, and removes the file. With `stop_at_load`, the
    loading does so.
    """

    fault: str = "none"
    at_batch: int = 1
    file: str = ""

    task: ClassVar[str] = "averaging"
    predicts: ClassVar[frozenset[str]] = frozenset()

    def uses(self):
        return frozenset()

    def load(self, model, device, dtype):
        if self.fault == "raise_at_load":
            raise RuntimeError("no such weights")
        if self.fault == "stop_at_load":
            stop_once(self.file)
        module = torch.nn.Linear(3, 2).to(device, dtype)
        return OwnModel(module, dtype, self.fault, self.at_batch, self.file)


def stop_once(file):
    if os.path.exists(file):
        os.unlink(file)
        os.kill(os.getpid(), signal.SIGSTOP)


class Activations:
    """The activations of a call."""


HELD: list = []
"""Weak references to the activations of calls that ran out of memory."""


@dataclass
class OwnModel:
    module: torch.nn.Linear
    dtype: torch.dtype
    fault: str
    at_batch: int
    file: str = ""

    @property
    def identity(self):
        return {"weights": "random", "weights_bytes": 32, "dtype": "float32"}

    def work(self, batch_size):
        return {"images": batch_size}

    def preprocess(self, images, captions):
        means = [torch.tensor(image.resize((1, 1)).getpixel((0, 0)), dtype=torch.float32) / 255 for image in images]
        return {"pixel_values": torch.stack(means)}

    def call(self, inputs):
        pixels = inputs["pixel_values"]
        if self.fault == "stop":
            stop_once(self.file)
        if self.fault == "constant":
            pixels = torch.ones_like(pixels)
        elif len(pixels) >= self.at_batch:
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "raise":
                raise RuntimeError("the third layer is upside down")
            if self.fault == "memory":
                activations = Activations()
                HELD.append(weakref.ref(activations))
                raise MemoryError("no room for the batch")
            if self.fault == "gpu_memory":
                raise torch.OutOfMemoryError("no room for the batch\nGPU 0 has a total capacity of 8.00 GiB")
        return self.module(pixels)

    def parts(self, inputs):
        return {"image": ModelPart(lambda: self.call(inputs))}

    def probe_outputs(self, inputs):
        return {"image": self.call(inputs)}

    def postprocess(self, output, images):
        return list(output)
