"""What this machine is and how busy it is: identity for every result, and the run delay around a window."""

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
    """The host and the library versions, as they travel with every run."""
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
    """The processor's name as the kernel tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_nvidia_gpu() -> bool:
    """Whether the system shows an NVIDIA GPU, usable or not."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def library_version(name: str) -> str | None:
    """The installed version of a package, None where it is not installed."""
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that the host had no memory: Python's MemoryError, or torch's or the kernel's refusal."""
    refusals = ("can't allocate memory", "Cannot allocate memory")
    return isinstance(error, MemoryError) or any(refusal in str(error) for refusal in refusals)


@dataclass(frozen=True)
class RunDelay:
    """A reading of how long threads of this process have waited for a core; subtract two to judge a window."""

    waited_s: float | None
    at_s: float

    @staticmethod
    def now(this_thread_only: bool = False) -> RunDelay:
        """Read the second field of /proc/self/task/*/schedstat, of all threads or of the calling one; `waited_s` is
        None where there is none."""
        waited = 0
        try:
            tasks = Path("/proc/self/task")
            for task in [tasks / str(get_native_id())] if this_thread_only else tasks.iterdir():
                with suppress(FileNotFoundError):  # a thread that ended meanwhile
                    waited += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError):
            return RunDelay(None, perf_counter())
        return RunDelay(waited / 1e9, perf_counter())

    def fraction_since(self, earlier: RunDelay, threads: int) -> float | None:
        """Share of the window that the working threads stood in the run queue; None where the kernel does not tell."""
        if self.waited_s is None or earlier.waited_s is None:
            return None
        return (self.waited_s - earlier.waited_s) / ((self.at_s - earlier.at_s) * threads)


@dataclass(frozen=True)
class Noise:
    """A reading of what may disturb a window on the host; subtract two to judge it. None where the kernel is silent."""

    delay: RunDelay
    involuntary_switches: int
    """Of this process's threads, so far."""
    stolen_s: float | None
    """Seconds that a hypervisor gave to others, over all cores, since boot."""

    @staticmethod
    def now(this_thread_only: bool = False) -> Noise:
        """Read schedstat, the usage of the process or of the calling thread, and the first line of /proc/stat."""
        who = resource.RUSAGE_THREAD if this_thread_only else resource.RUSAGE_SELF
        return Noise(RunDelay.now(this_thread_only), resource.getrusage(who).ru_nivcsw, _stolen_s())

    def since(self, earlier: Noise, threads: int) -> Mapping[str, float | None]:
        """`run_delay_fraction` of the working threads, `involuntary_switches_per_s`, `steal_fraction` of all cores, and
        the machine's load average over the last minute, `load_count`."""
        seconds = self.delay.at_s - earlier.delay.at_s
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
    """The eighth number of /proc/stat's first line, see proc(5)."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK")
    return None
