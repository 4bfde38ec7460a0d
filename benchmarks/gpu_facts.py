"""Measure on this GPU what visionbench's CUDA code assumes; print each fact and write them to $OUT/facts.json.

`make gpu` runs this script. A fact that cannot be measured is the text of the error, and the script continues.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import torch
import torch.nn.functional as functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from visionbench.core import Precision
from visionbench.devices.cuda import Cuda, nvml

SIDE, COPY_BYTES = 8192, 2**30
SHAPES = {
    "CLIP image": ((8, 12, 50, 64), (8, 12, 50, 64), False),
    "SAM window": ((25, 12, 196, 64), (25, 12, 196, 64), True),
    "SAM global": ((1, 12, 4096, 64), (1, 12, 4096, 64), True),
    "BLIP-2 vision": ((4, 16, 257, 88), (4, 16, 257, 88), False),
    "OPT decode": ((4, 32, 1, 80), (4, 32, 41, 80), False),
    "OPT decode, next length": ((4, 32, 1, 80), (4, 32, 42, 80), False),
}
"""Attention of the three models: query [B, heads, L, D], key and value [B, heads, S, D], and if a bias is added."""
facts: dict[str, Any] = {}


def note(name: str, measure: Callable[[], Any]) -> None:
    """Store and print one fact, or the error that prevented it."""
    start = time.perf_counter()
    try:
        facts[name] = measure()
    except Exception as error:
        facts[name] = f"{type(error).__name__}: {str(error)[:300]}"
    print(f"{name} ({time.perf_counter() - start:.2f} s): {facts[name]}", flush=True)


def median_s(call: Callable[[], object], times: int = 10) -> float:
    """Return the median time of a call on the device in seconds, after one call that is not counted."""
    call()
    return sorted(float(device.time_call(call).device_s or 0.0) for _ in range(times))[times // 2]


def window(seconds: float, work: Callable[[], object]) -> dict[str, Any]:
    """Return the driver's counters over a window of work."""
    before, energy, start = nvml.lowered_clocks(handle), nvml.energy_j(handle), time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
    torch.cuda.synchronize()
    elapsed = time.perf_counter() - start
    after, used = nvml.lowered_clocks(handle), float(nvml.energy_j(handle)) - float(energy)
    return {
        "clocks lowered, share of the window": {k: round((after[k] - before[k]) / 1e9 / elapsed, 4) for k in after},
        "W by the energy counter": round(used / elapsed, 1),
        "readings": {name: round(value, 3) for name, value in nvml.readings(handle).items()},
        "reasons now": sorted(nvml.clock_reasons(handle)),
    }


def product() -> None:
    for _ in range(20):
        torch.mm(left, right)
    torch.cuda.synchronize()


def launches() -> float:
    """Return the microseconds of one launch of a tiny kernel."""
    small.add_(1)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(5000):
        small.add_(1)
    torch.cuda.synchronize()
    return round((time.perf_counter() - start) / 5000 * 1e6, 3)


def attention(query: Any, key: Any, biased: bool, dtype: torch.dtype) -> dict[str, Any]:
    """Return the kernel of torch's default attention, the cost of its first call, and its error against float64."""
    q = torch.randn(query, device=device.id, dtype=dtype)
    k, v = (torch.randn(key, device=device.id, dtype=dtype) for _ in range(2))
    bias = torch.randn(*query[:3], key[2], device=device.id, dtype=dtype) if biased else None

    def call() -> torch.Tensor:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    torch.cuda.synchronize()
    start = time.perf_counter()
    output = call()
    torch.cuda.synchronize()
    first_s = time.perf_counter() - start
    with sdpa_kernel(SDPBackend.MATH):
        exact = functional.scaled_dot_product_attention(
            q.double(), k.double(), v.double(), attn_mask=None if bias is None else bias.double()
        )
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        call()
        torch.cuda.synchronize()
    kernel = max(profiler.events(), key=lambda event: event.device_time, default=None)
    return {
        "first call s": round(first_s, 3),
        "later ms": round(median_s(call) * 1e3, 3),
        "relative error": float(f"{(output.double() - exact).norm() / exact.norm():.2e}"),
        "kernel": kernel and kernel.name[:70],
    }


note(
    "driver", lambda: (pynvml.nvmlInit(), pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion())
)
note("torch", lambda: (torch.__version__, torch.version.cuda, torch.backends.cudnn.version()))
device = Cuda()
device.setup(Precision("bf16", "bfloat16"), threads=None)
handle = device._nvml()
small = torch.ones(1, device=device.id)
note("fingerprint", lambda: dict(device.fingerprint()))
note("memory after setup", lambda: {k: v.tolist() for k, v in device.peak_memory(0).series.items()})
note("counters of lowered clocks, ns", lambda: nvml.lowered_clocks(handle))
note("their fields", lambda: nvml.fields(handle, [getattr(pynvml, field) for field, _ in nvml.COUNTERS.values()]))
note("us a launch", launches)
left, right = (torch.randn(SIDE, SIDE, device=device.id).bfloat16() for _ in range(2))
note("bf16 8192 TFLOP/s", lambda: round(2 * SIDE**3 / median_s(lambda: torch.mm(left, right)) / 1e12, 1))
source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device.id)
target = torch.empty_like(source)
note("copy GB/s", lambda: round(2 * COPY_BYTES / median_s(lambda: target.copy_(source)) / 1e9, 1))
note("window: idle", lambda: window(1.5, lambda: time.sleep(0.1)))
note("window: small kernels", lambda: window(1.5, lambda: [small.add_(1) for _ in range(2000)]))
note("window: bf16 products", lambda: window(2.5, product))
note(
    "profile of a call with one value read back",
    lambda: {
        name: values.tolist() for name, values in device.profile(lambda: small.add_(1).sum().item()).series.items()
    },
)
note("us a launch after the profiler", launches)
for dtype in (torch.bfloat16, torch.float16, torch.float32):
    for name, (query, key, biased) in SHAPES.items():
        note(f"attention, {name}, {str(dtype)[6:]}", lambda q=query, k=key, b=biased, d=dtype: attention(q, k, b, d))
Path(os.environ.get("OUT", "."), "facts.json").write_text(json.dumps(facts, indent=1, default=str))
