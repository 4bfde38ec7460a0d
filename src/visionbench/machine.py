"""The identity of this machine, which every result contains, and readings of disturbances of a measurement."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import get_native_id
from time import perf_counter
from typing import Any

LIBRARIES = ("torch", "transformers", "numpy", "pillow", "hydra-core", "omegaconf", "mlflow", "pandas", "nvidia-ml-py")


def fingerprint() -> Mapping[str, Any]:
    """Return the host, its processor and memory, and the versions of the libraries."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "memory_mib": memory_bytes() // 2**20,
        "python": platform.python_version(),
        **{name: library_version(name) for name in LIBRARIES},
    }


def cpu_name() -> str:
    """Return the processor's name from /proc/cpuinfo, or the platform's name for it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_nvidia_gpu() -> bool:
    """Return whether the system lists an NVIDIA GPU, usable or not."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_list() -> str | None:
    """Return the numbers of the cores that this process may run on, such as `0-3,8`, or None if they are unknown."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Cpus_allowed_list:"):
                return line.partition(":")[2].strip()
    return None


def memory_bytes() -> int:
    """Return the size of the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def library_version(name: str) -> str | None:
    """Return the installed version of a package, or None if it is not installed."""
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error means that the host ran out of memory: Python's, torch's or the kernel's error."""
    messages = ("can't allocate memory", "Cannot allocate memory")
    return isinstance(error, MemoryError) or any(message in str(error) for message in messages)


@dataclass(frozen=True)
class RunDelay:
    """A reading of the time that threads of this process have waited for a core. A window is judged by two readings."""

    waited_s: float | None
    clock_s: float
    """The time of the reading, on the clock of `perf_counter`."""

    @staticmethod
    def now(this_thread_only: bool = False) -> RunDelay:
        """Read the second field of /proc/self/task/*/schedstat, of all threads or of the calling thread.

        `waited_s` is None if the kernel has no such files.
        """
        waited = 0
        try:
            tasks = Path("/proc/self/task")
            for task in [tasks / str(get_native_id())] if this_thread_only else tasks.iterdir():
                with suppress(FileNotFoundError):  # the thread ended in the meantime
                    waited += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError):
            return RunDelay(None, perf_counter())
        return RunDelay(waited / 1e9, perf_counter())

    def fraction_since(self, earlier: RunDelay, threads: int) -> float | None:
        """Return the share of the window that the working threads waited in the run queue, or None if it is unknown."""
        if self.waited_s is None or earlier.waited_s is None:
            return None
        return (self.waited_s - earlier.waited_s) / ((self.clock_s - earlier.clock_s) * threads)


@dataclass(frozen=True)
class Noise:
    """A reading of possible disturbances on the host. A window is judged by two readings. An unknown value is None."""

    delay: RunDelay
    involuntary_switches: int
    """Involuntary context switches of this process's threads since they started."""
    stolen_s: float | None
    """Seconds in which a hypervisor withdrew cores from this machine, over all cores, since boot."""

    @staticmethod
    def now(this_thread_only: bool = False) -> Noise:
        """Read schedstat, the resource usage of the process or of the calling thread, and /proc/stat."""
        scope = resource.RUSAGE_THREAD if this_thread_only else resource.RUSAGE_SELF
        return Noise(RunDelay.now(this_thread_only), resource.getrusage(scope).ru_nivcsw, _stolen_s())

    def since(self, earlier: Noise, threads: int) -> Mapping[str, float | None]:
        """Return the disturbances since an earlier reading, each None if it is unknown.

        `run_delay_fraction` of the working threads, `involuntary_switches_per_s`, `steal_fraction` of all cores, and
        `load_count`, the machine's load average over the last minute.
        """
        seconds = self.delay.clock_s - earlier.delay.clock_s
        known = self.stolen_s is not None and earlier.stolen_s is not None and seconds > 0
        return {
            "run_delay_fraction": self.delay.fraction_since(earlier.delay, threads) if seconds > 0 else None,
            "involuntary_switches_per_s": (self.involuntary_switches - earlier.involuntary_switches) / seconds
            if seconds > 0
            else None,
            "steal_fraction": (self.stolen_s - earlier.stolen_s) / (seconds * (os.cpu_count() or 1)) if known else None,  # type: ignore[operator]
            "load_count": os.getloadavg()[0],
        }


def _stolen_s() -> float | None:
    """Return the steal time since boot in seconds: the eighth number in the first line of /proc/stat, see proc(5)."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK")
    return None
