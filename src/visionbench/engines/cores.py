"""Disjoint sets of processor cores for processes that measure at the same time.

The unit is a physical core with all its hardware threads, because hardware threads of one core slow each other down.
The cores of one set belong to one NUMA node if a node has enough free cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True)
class Core:
    """A physical core: the numbers of its hardware threads, and its NUMA node."""

    threads: frozenset[int]
    node: int = 0


@dataclass
class Cores:
    """The physical cores that this process may use, and those of them that no job has."""

    all: tuple[Core, ...]
    free: list[Core] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = list(self.all)

    @classmethod
    def of_this_process(cls, system: Path = SYSTEM) -> Cores:
        """Return the cores in the affinity of this process, with the topology in /sys if it is known."""
        return cls(tuple(physical_cores(os.sched_getaffinity(0), system)))

    def take(self, count: int) -> tuple[Core, ...] | None:
        """Return this number of free cores and mark them as used, or None if there are too few.

        The cores are those of the NUMA node with the fewest free cores that suffice, or else of several nodes.
        """
        if count > len(self.free):
            return None
        by_node: dict[int, list[Core]] = {}
        for core in self.free:
            by_node.setdefault(core.node, []).append(core)
        nodes = sorted((cores for cores in by_node.values() if len(cores) >= count), key=len)
        chosen = tuple((nodes[0] if nodes else self.free)[:count])
        self.free = [core for core in self.free if core not in chosen]
        return chosen

    def give_back(self, cores: Iterable[Core]) -> None:
        """Mark cores as free, in the order of the machine."""
        free = {*self.free, *cores}
        self.free = [core for core in self.all if core in free]


def physical_cores(usable: Iterable[int], system: Path = SYSTEM) -> list[Core]:
    """Return the physical cores of these hardware threads, by NUMA node. Only usable hardware threads are listed.

    Without a topology in /sys, each hardware thread counts as a core of node 0.
    """
    remaining, nodes = set(usable), _nodes(system)
    cores = []
    for number in sorted(remaining):
        if number in remaining:
            siblings = _listed(system / f"cpu/cpu{number}/topology/thread_siblings_list") or {number}
            threads = frozenset(siblings & remaining) | {number}
            remaining -= threads
            cores.append(Core(threads, nodes.get(number, 0)))
    return sorted(cores, key=lambda core: (core.node, min(core.threads)))


def affinity(cores: Iterable[Core]) -> set[int]:
    """Return the hardware threads of these cores, as `os.sched_setaffinity` needs them."""
    return {thread for core in cores for thread in core.threads}


def _nodes(system: Path) -> dict[int, int]:
    """Return the NUMA node of each hardware thread."""
    paths = [path for path in system.glob("node/node*") if path.name[4:].isdigit()]
    return {thread: int(path.name[4:]) for path in paths for thread in _listed(path / "cpulist")}


def _listed(path: Path) -> set[int]:
    """Return the numbers in a list of the kernel such as `0-3,8`, or nothing if it cannot be read."""
    numbers: set[int] = set()
    with suppress(OSError, ValueError):
        for part in filter(None, path.read_text().strip().split(",")):
            first, _, last = part.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers
