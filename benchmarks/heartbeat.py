"""Measure by how much the thread that detects pauses prolongs a busy pipeline.

    python benchmarks/heartbeat.py
    python benchmarks/heartbeat.py --rounds 30

A loop decodes, resizes and convolves images in one thread, in turns with the thread of `stages.heartbeat` and without
it. The cost of a reading is the time of the three images around it. It is compared with the time of the three images
around moments without a reading, because a moment is more often in a long step than in a short one. The median ignores
readings in which another program used the core.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from time import perf_counter
from unittest import mock

import numpy as np
import torch
from PIL import Image

from visionbench.stages.heartbeat import TICK_S, Beat, Heartbeat

SECONDS = 2.0
AROUND = 1
"""The images before and after the image of a reading whose time is counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help=f"rounds of {SECONDS:g} s with and without the thread")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    process = image_step()
    with torch.inference_mode():
        times(process)
        costs: dict[bool, list[float]] = {False: [], True: []}
        for index in range(rounds):
            for with_thread in (index % 2 == 0, index % 2 == 1):
                costs[with_thread] += cost_of_moments(process, with_thread)
    without, with_thread_ms = (1000 * float(np.median(costs[key])) for key in (False, True))
    extra = with_thread_ms - without
    print(f"without a reading {without:.3f} ms, with a reading {with_thread_ms:.3f} ms ({len(costs[True])} readings)")
    print(f"a reading prolongs the loop by {extra:.3f} ms, which is {extra / 1000 / TICK_S:.2%}")


def image_step() -> Callable[[], object]:
    """Return a function that processes one image."""
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 16, 16), torch.nn.GELU()).eval()

    def process() -> object:
        image = Image.open(io.BytesIO(file.getvalue())).convert("RGB").resize((224, 224))
        return model(torch.tensor(np.asarray(image)).permute(2, 0, 1)[None].float() / 255)

    return process


def times(process: Callable[[], object]) -> np.ndarray:
    """Return the time at the start and after each image, for SECONDS."""
    clock = [perf_counter()]
    while clock[-1] < clock[0] + SECONDS:
        process()
        clock.append(perf_counter())
    return np.array(clock)


def cost_of_moments(process: Callable[[], object], with_thread: bool) -> list[float]:
    """Return the seconds of the images around each reading of the thread, or around as many moments without one."""
    readings: list[float] = []
    original = Beat.now

    def record(earlier: Beat | None = None) -> Beat:
        beat = original(earlier)
        readings.append(beat.clock_s)
        return beat

    with mock.patch.object(Beat, "now", record), Heartbeat() if with_thread else nullcontext():
        clock = times(process)
    moments: Sequence[float] = readings if with_thread else list(np.arange(clock[0] + TICK_S, clock[-1], TICK_S))
    steps = np.diff(clock)
    indices = np.searchsorted(clock, moments) - 1
    inside = indices[(indices >= AROUND) & (indices < len(steps) - AROUND)]
    return [float(steps[index - AROUND : index + AROUND + 1].sum()) for index in inside]


if __name__ == "__main__":
    main()
