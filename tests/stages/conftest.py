"""A clock, a device and a model whose times the test sets."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import pytest
import torch

from visionbench.config import LatencyConfig, MeasureConfig, MemoryConfig, ThroughputConfig, WarmupConfig
from visionbench.core import CallTiming, Case, Samples
from visionbench.stages import latency, load, throughput, warmup
from visionbench.stages.context import Context


@dataclass
class Clock:
    """A clock that advances only if the test or a fake advances it."""

    now: float = 1000.0

    def __call__(self):
        return self.now


@dataclass
class FakeDevice:
    """Each call takes the next of the given seconds, and the last one repeats. `log` lists the calls of its methods."""

    clock: Clock
    seconds: list = field(default_factory=lambda: [1.0])
    kind: str = "cpu"
    id: str = "cpu"
    queued: bool = False
    shares_host_memory: bool = True
    copy_block_bytes: int = 2**28
    probe_lag_s: float = 0.0
    log: list = field(default_factory=list)

    def __post_init__(self):
        self.script = chain(self.seconds, repeat(self.seconds[-1]))

    def time_call(self, call):
        duration = next(self.script)
        call()
        self.clock.now += duration
        return CallTiming(duration, duration / 2, duration / 4) if self.queued else CallTiming(duration)

    def back_to_back(self, calls, in_flight):
        self.log.append(f"in flight {in_flight}")
        start, completed = self.clock.now, []
        for call in calls:
            self.time_call(call)
            completed.append(self.clock.now - start)
        return completed

    def synchronize(self):
        self.log.append("synchronize")

    def reset_peak_memory(self):
        self.log.append("reset")

    def peak_memory(self, kept_bytes):
        self.log.append(f"peak, {kept_bytes} kept")
        return Samples({"memory/process_peak_bytes": np.array([7.0])})

    def watch(self):
        return Samples

    def meter(self):
        self.log.append("meter")
        start = self.clock.now
        return lambda: Samples({"telemetry/energy_j": np.array([100.0 * (self.clock.now - start)])})

    def probe(self):
        return {"telemetry/gpu_power_w": 100.0}

    def memory_in_use(self):
        return Samples({"memory/process_bytes": np.array([5.0])}, {"memory/allocated_bytes": "no allocator"})


@dataclass
class FakeModel:
    """Records the batches it was called with, and whether garbage collection and inference mode were on."""

    device: FakeDevice
    called: list = field(default_factory=list)
    collected_garbage: set = field(default_factory=set)
    inference: set = field(default_factory=set)
    identity: dict = field(default_factory=dict)

    def call(self, inputs):
        self.called.append(inputs["name"])
        self.device.log.append("call")
        self.collected_garbage.add(gc.isenabled())
        self.inference.add(torch.is_inference_mode_enabled())


@pytest.fixture(autouse=True)
def little_garbage(monkeypatch):
    """Replace garbage collection, which would take longer than the tests."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for stage in (warmup, latency, throughput, load):
        monkeypatch.setattr(stage, "perf_counter", clock)
    return clock


@pytest.fixture
def measured(clock):
    """A function from the seconds of calls and one rule of the protocol to a context."""

    def context(*seconds, rule=None, batches=("a",), kept_bytes=0, **device):
        rules = {type(rule): rule}
        measure = MeasureConfig(
            name="test",
            warmup=rules.get(WarmupConfig, WarmupConfig()),
            latency=rules.get(LatencyConfig, LatencyConfig()),
            throughput=rules.get(ThroughputConfig, ThroughputConfig()),
            memory=rules.get(MemoryConfig, MemoryConfig()),
        )
        fake = FakeDevice(clock, list(seconds) or [1.0], **device)
        case = Case("batch-1", 1, (), ())
        inputs = [{"name": name} for name in batches]
        return Context(case, FakeModel(fake), fake, measure, inputs, kept_bytes)

    return context
