"""`visionbench doctor`: what this machine is, and what would go wrong on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from rich.console import Console
from rich.table import Table

from visionbench import machine
from visionbench.parts import ACCELERATORS
from visionbench.registry import find
from visionbench.terminal.console import screen

GIB = 2**30
LEAST_DISK_GIB = 5
LEAST_MEMORY_GIB = 4
TRACKER = "mlflow"
"""Runs without it, with `tracking=none`."""


@dataclass(frozen=True)
class Facts:
    """What was found, by name, and what would go wrong: a finding and what to do about it."""

    found: dict[str, Any]
    troubles: list[tuple[str, str]]


def show() -> int:
    """Print facts and troubles; exit code 1 where there is trouble."""
    facts = examine()
    console = screen()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in facts.found.items():
        table.add_row(f"[bold]{name}[/bold]", str(value))
    console.print(table)
    console.print()
    for trouble, remedy in facts.troubles:
        console.print(f"[bold yellow]![/bold yellow] {trouble}: {remedy}", soft_wrap=True, highlight=False)
    if not facts.troubles:
        console.print("nothing here stands in the way of a measurement")
    return 1 if facts.troubles else 0


def tell(console: Console) -> None:
    """Print in three lines what this machine is, and its troubles, before something is measured on it."""
    facts = examine()
    found = facts.found
    accelerators = ", ".join(f"{kind}: {found[f'{kind} device']}" for kind in ACCELERATORS)
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "transformers"))
    lines = (
        f"{found['processor']}, {found['instructions']}; {found['memory']}; disk {found['disk']}",
        f"{found['system']}; {versions}",
        accelerators,
    )
    for heading, line in zip(("machine", "", ""), lines, strict=True):
        console.print(f"{heading:<9}{line}", soft_wrap=True, highlight=False, markup=False)
    for trouble, remedy in facts.troubles:
        console.print(f"! {trouble}: {remedy}", style="yellow", soft_wrap=True, highlight=False, markup=False)


def examine(folder: Path = Path()) -> Facts:
    """Look at processor, memory, disk, accelerators, libraries and what the kernel lets a process know of itself."""
    import torch

    disk, memory = shutil.disk_usage(folder).free, _available_memory()
    host = machine.fingerprint()
    busy = _busy_elsewhere()
    absent = {kind: find("devices", kind)().why_absent() for kind in ACCELERATORS}
    found = {
        "processor": f"{host['cpu']}, {machine.usable_cores()} of {host['cpu_cores']} cores usable",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": f"{torch.get_num_threads()} (torch's choice; device.threads sets them)",
        "busy elsewhere": f"{busy:.0%} of the cores during half a second",
        "memory": f"{memory / GIB:.1f} GiB available of {host['memory_mib'] / 1024:.1f} GiB",
        "disk": f"{disk / GIB:.1f} GiB free here",
        "system": host["system"],
        "python": host["python"],
        **{name: host[name] or _not_installed(name) for name in machine.LIBRARIES},
        "CUDA of torch": torch.version.cuda or "none: this is a CPU build",
        **{f"{kind} device": why or _describe(kind) for kind, why in absent.items()},
        "Hub cache": os.environ.get("HF_HOME", "~/.cache/huggingface"),
    }
    return Facts(found, list(_troubles(disk, memory, busy, host)))


def _troubles(disk: float, memory: float, busy: float, host: Any) -> Iterator[tuple[str, str]]:
    if disk < LEAST_DISK_GIB * GIB:
        yield f"{disk / GIB:.1f} GiB of disk are free", "a checkpoint like BLIP-2 takes 15; make room or move HF_HOME"
    if memory < LEAST_MEMORY_GIB * GIB:
        yield f"{memory / GIB:.1f} GiB of memory are available", "larger models will be killed; close other programs"
    if busy > 0.1:
        yield f"{busy:.0%} of the cores are busy with other work", "timings will come out invalid; wait or end it"
    if machine.RunDelay.now().waited_s is None:
        yield "/proc/self/schedstat cannot be read", "a disturbed timing will not be noticed"
    if not os.access("/proc/self/clear_refs", os.W_OK):
        yield "/proc/self/clear_refs cannot be written", "peak memory on the CPU is since the start of the process"
    if machine.has_nvidia_gpu() and (why := find("devices", "cuda")().why_absent()):
        yield "there is an NVIDIA GPU that cannot be used", why
    missing = [name for name in machine.LIBRARIES if not host[name] and name != TRACKER]
    if missing:
        yield f"not installed: {', '.join(missing)}", "install visionbench again, as its README says"


def _not_installed(name: str) -> str:
    return "not installed: runs need tracking=none" if name == TRACKER else "not installed"


def _describe(kind: str) -> str:
    device = find("devices", kind)()
    facts = device.fingerprint()
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)


def _available_memory() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    kib = next((float(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)
    return float(machine.memory_bytes()) if kib is None else kib * 1024


def _busy_elsewhere(seconds: float = 0.5) -> float:
    """Share of all cores' time that was not idle while this process slept."""

    def reading() -> tuple[float, float]:
        ticks = [float(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

    if not Path("/proc/stat").exists():
        return 0.0
    total, idle = reading()
    sleep(seconds)
    total_after, idle_after = reading()
    return 1 - (idle_after - idle) / max(total_after - total, 1.0)
