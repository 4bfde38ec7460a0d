"""Facts about this machine, and the problems that would affect a measurement on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from visionbench import machine
from visionbench.parts import ACCELERATORS
from visionbench.registry import find

GIB = 2**30
MIN_DISK_GIB = 5
MIN_MEMORY_GIB = 4
MAX_BUSY_FRACTION = 0.1
TRACKER = "mlflow"
"""A library that runs do not need if `tracking=none`."""


@dataclass(frozen=True)
class Diagnosis:
    """Facts by name, and problems, each with its consequence or its remedy."""

    facts: dict[str, Any]
    problems: list[tuple[str, str]]


def examine(folder: Path = Path()) -> Diagnosis:
    """Examine the processor, memory, disk, accelerators, libraries, and the kernel's files that a run reads."""
    import torch

    disk, memory = shutil.disk_usage(folder).free, _available_memory()
    host = machine.fingerprint()
    busy = _busy_fraction()
    absent = {kind: find("devices", kind)().why_absent() for kind in ACCELERATORS}
    facts = {
        "processor": f"{host['cpu']}, {machine.usable_cores()} of {host['cpu_cores']} cores usable",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": f"{torch.get_num_threads()} (torch's default; set device.threads to change it)",
        "busy elsewhere": f"{busy:.0%} of the cores during half a second",
        "memory": f"{memory / GIB:.1f} GiB available of {host['memory_mib'] / 1024:.1f} GiB",
        "disk": f"{disk / GIB:.1f} GiB free here",
        "system": host["system"],
        "python": host["python"],
        **{name: host[name] or _not_installed(name) for name in machine.LIBRARIES},
        "CUDA of torch": torch.version.cuda or "none: this is a CPU build",
        **{f"{kind} device": reason or _describe(kind) for kind, reason in absent.items()},
        "Hub cache": os.environ.get("HF_HOME", "~/.cache/huggingface"),
    }
    return Diagnosis(facts, list(_problems(disk, memory, busy, host)))


def _problems(disk: float, memory: float, busy: float, host: Any) -> Iterator[tuple[str, str]]:
    if disk < MIN_DISK_GIB * GIB:
        yield f"{disk / GIB:.1f} GiB of disk are free", "BLIP-2's checkpoint takes 15 GiB; free disk or move HF_HOME"
    if memory < MIN_MEMORY_GIB * GIB:
        yield f"{memory / GIB:.1f} GiB of memory are available", "larger models will be killed; close other programs"
    if busy > MAX_BUSY_FRACTION:
        yield f"{busy:.0%} of the cores are busy with other work", "timings will be invalid; wait or stop that work"
    if machine.RunDelay.now().waited_s is None:
        yield "/proc/self/schedstat cannot be read", "disturbed timings will not be detected"
    if not os.access("/proc/self/clear_refs", os.W_OK):
        yield "/proc/self/clear_refs cannot be written", "peak memory on the CPU counts from the start of the process"
    if machine.has_nvidia_gpu() and (reason := find("devices", "cuda")().why_absent()):
        yield "the NVIDIA GPU of this machine cannot be used", reason
    missing = [name for name in machine.LIBRARIES if not host[name] and name != TRACKER]
    if missing:
        yield f"not installed: {', '.join(missing)}", "install visionbench again with its dependencies"


def _not_installed(name: str) -> str:
    return "not installed: runs need tracking=none" if name == TRACKER else "not installed"


def _describe(kind: str) -> str:
    facts = find("devices", kind)().fingerprint()
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)


def _available_memory() -> float:
    """Return the available memory in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    kib = next((float(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)
    return float(machine.memory_bytes()) if kib is None else kib * 1024


def _busy_fraction(seconds: float = 0.5) -> float:
    """Return the fraction of all cores' time that was not idle while this process slept."""

    def read_ticks() -> tuple[float, float]:
        ticks = [float(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

    if not Path("/proc/stat").exists():
        return 0.0
    total, idle = read_ticks()
    sleep(seconds)
    total_after, idle_after = read_ticks()
    return 1 - (idle_after - idle) / max(total_after - total, 1.0)
