"""The identity of this machine, which every result contains, and readings of disturbances of a measurement."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
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


CGROUPS = Path("/sys/fs/cgroup")
"""The folder of Linux's control groups."""


def available_memory() -> tuple[float, str]:
    """Return the bytes of memory that processes can still take, and where this limit comes from.

    It is the machine's free memory or, if that is less, what the control group of this process has left.
    """
    limits = [(_free_memory(), "free memory of the machine")]
    limits += [(left, "free memory of the control group") for left in _control_group_memory(CGROUPS)]
    return min(limits)


def _free_memory() -> float:
    """Return MemAvailable of /proc/meminfo, or the size of the memory if it is unknown."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    return float(memory_bytes())


def _control_group_memory(root: Path) -> Iterator[float]:
    """Yield the memory that is left in the control group of this process and in each group above it.

    Pages of files that the kernel can drop count as left.
    """
    names = {"max": "memory.max", "current": "memory.current", "cache": "inactive_file"}
    folder = root / _control_group("").lstrip("/")
    if not (root / "cgroup.controllers").exists():  # version 1
        names = {"max": "memory.limit_in_bytes", "current": "memory.usage_in_bytes", "cache": "total_inactive_file"}
        root = root / "memory"
        folder = root / _control_group("memory").lstrip("/")
    if not folder.is_dir():  # a container shows its own group as the root
        folder = root
    for group in [folder, *folder.parents]:
        if not group.is_relative_to(root):
            return
        with suppress(OSError, ValueError):  # no limit: `max` is no number
            limit = int((group / names["max"]).read_text())
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            used = int((group / names["current"]).read_text()) - int(statistics.get(names["cache"], 0))
            yield float(max(0, limit - used))


def _control_group(controller: str) -> str:
    """Return the path of this process's control group; of version 2 if no controller is named."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return path
    return "/"


@cache
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
        times = _times_of_threads(this_thread_only)
        return RunDelay(None if times is None else sum(waited for _, waited in times.values()), perf_counter())

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


@dataclass(frozen=True)
class Activity:
    """A reading of the CPU times of the calling thread and of its process. A pause is detected from two readings.

    A process that is stopped, frozen or waits for swapped memory uses no CPU time and does not wait for a core.
    """

    clock_s: float
    """The time of the reading, on the clock of `perf_counter`."""
    thread_cpu_s: float
    process_cpu_s: float
    others: Mapping[str, tuple[float, float]] | None
    """For each other thread, its CPU time and the time that it has waited for a core. None if it is unknown."""
    waited_s: float
    """The time that the calling thread has waited for a core."""
    stolen_s: float
    """Seconds in which a hypervisor withdrew cores from this machine, over all cores; 0 if unknown."""
    suspended_s: float
    """Seconds in which the machine was suspended since boot: CLOCK_BOOTTIME minus CLOCK_MONOTONIC."""

    @staticmethod
    def now(this_thread_only: bool = False) -> Activity:
        """Read the clocks, and the waiting times of all threads or of the calling thread."""
        suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() if hasattr(time, "CLOCK_BOOTTIME") else 0
        threads = _times_of_threads(this_thread_only)
        _, waited = threads.pop(str(get_native_id()), (0.0, 0.0)) if threads else (0.0, 0.0)
        return Activity(
            perf_counter(),
            time.thread_time(),
            time.process_time(),
            threads,
            waited,
            _stolen_s() or 0.0,
            suspended,
        )

    def idle_since(self, earlier: Activity) -> float | None:
        """Return the seconds in which the thread neither ran nor waited for a core or for another thread.

        A lower bound: the thread waits for another one at most as long as that one waits for a core, and as long as it
        runs more than the thread. These times are subtracted completely. None if it is unknown.
        """
        if self.others is None or earlier.others is None:
            return None
        own_cpu_s = self.thread_cpu_s - earlier.thread_cpu_s
        idle = self.clock_s - earlier.clock_s - own_cpu_s - (self.waited_s - earlier.waited_s)
        for thread, (cpu_s, waited_s) in self.others.items():
            cpu_before_s, waited_before_s = earlier.others.get(thread, (0.0, 0.0))
            idle -= waited_s - waited_before_s + max(0.0, cpu_s - cpu_before_s - own_cpu_s)
        return max(0.0, idle - (self.stolen_s - earlier.stolen_s))

    def stopped_since(self, earlier: Activity) -> float | None:
        """Return the least number of seconds in which no thread of the process ran. None if it is unknown."""
        if self.others is None or earlier.others is None:
            return None
        waited = self.waited_s - earlier.waited_s
        for thread, (_, waited_s) in self.others.items():
            waited += waited_s - earlier.others.get(thread, (0.0, 0.0))[1]
        stopped = self.clock_s - earlier.clock_s - (self.process_cpu_s - earlier.process_cpu_s)
        return max(0.0, stopped - waited - (self.stolen_s - earlier.stolen_s))


def _times_of_threads(this_thread_only: bool) -> dict[str, tuple[float, float]] | None:
    """Return the first two fields of /proc/self/task/*/schedstat in seconds, by thread, or None without such files.

    They are the CPU time of a thread, and the time that it has waited for a core.
    """
    times = {}
    try:
        tasks = Path("/proc/self/task")
        for task in [tasks / str(get_native_id())] if this_thread_only else tasks.iterdir():
            with suppress(FileNotFoundError):  # the thread ended in the meantime
                cpu, waited, *_ = (int(text) / 1e9 for text in (task / "schedstat").read_text().split())
                times[task.name] = (cpu, waited)
    except (OSError, ValueError):
        return None
    return times


def _stolen_s() -> float | None:
    """Return the steal time since boot in seconds: the eighth number in the first line of /proc/stat, see proc(5)."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK")
    return None
