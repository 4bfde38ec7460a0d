"""The identity of the machine, and disturbances as differences of two readings."""

import os
import platform
import threading
from pathlib import Path

import pytest

from visionbench import machine
from visionbench.machine import Activity, Noise, RunDelay

TASKS = Path("/proc/self/task")


def test_the_fingerprint_names_the_host_and_the_version_of_every_library():
    values = machine.fingerprint()
    assert values["host"] == platform.node()
    assert values["python"] == platform.python_version()
    assert values["memory_mib"] > 256
    assert [values[name] for name in ("torch", "numpy", "pillow", "hydra-core")] == [
        machine.library_version(name) for name in ("torch", "numpy", "pillow", "hydra-core")
    ]
    assert None not in (values["torch"], values["transformers"], values["numpy"])


def test_a_library_that_is_not_installed_has_no_version():
    assert machine.library_version("a-library-that-does-not-exist") is None


def test_the_processor_is_named():
    assert machine.cpu_name().strip()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_usable_cores_are_those_that_this_process_is_bound_to():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert machine.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert machine.usable_cores() == len(before)


def test_the_run_delay_is_a_share_of_the_window_and_of_the_threads():
    earlier, later = RunDelay(waited_s=1.0, clock_s=10.0), RunDelay(waited_s=1.5, clock_s=20.0)
    assert later.fraction_since(earlier, threads=1) == pytest.approx(0.05)
    assert later.fraction_since(earlier, threads=2) == pytest.approx(0.025)


def test_a_run_delay_that_the_kernel_does_not_report_is_unknown():
    known, unknown = RunDelay(1.0, 10.0), RunDelay(None, 10.0)
    assert known.fraction_since(unknown, 1) is None
    assert unknown.fraction_since(known, 1) is None


def test_without_schedstat_the_reading_is_unknown(monkeypatch):
    monkeypatch.setattr(machine, "Path", lambda _: Path("/nowhere"))
    assert RunDelay.now().waited_s is None


def test_the_reading_is_the_sum_over_all_threads(monkeypatch, tmp_path):
    for thread, waited in (("11", 250_000_000), ("12", 500_000_000)):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(f"999 {waited} 7\n")
    (tmp_path / "13").mkdir()  # ended between the listing and the reading
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path)
    assert RunDelay.now().waited_s == 0.75


@pytest.mark.skipif(not (TASKS / str(os.getpid()) / "schedstat").exists(), reason="this kernel keeps no schedstat")
def test_a_later_reading_is_never_smaller():
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    earlier = RunDelay.now()
    sum(range(100_000))
    later = RunDelay.now()
    done.set()
    other.join()
    assert later.waited_s >= earlier.waited_s >= 0
    assert later.clock_s > earlier.clock_s


def test_noise_is_a_rate_and_a_share_of_the_window(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    earlier, later = Noise(RunDelay(1.0, 10.0), 100, 2.0), Noise(RunDelay(2.0, 20.0), 150, 6.0)
    values = later.since(earlier, threads=2)
    assert (values["run_delay_fraction"], values["involuntary_switches_per_s"], values["steal_fraction"]) == (
        0.05,
        5.0,
        0.1,
    )
    assert values["load_count"] >= 0


def test_noise_that_the_kernel_does_not_report_is_none():
    earlier, later = Noise(RunDelay(None, 10.0), 0, None), Noise(RunDelay(None, 20.0), 0, 3.0)
    values = later.since(earlier, threads=1)
    assert values["run_delay_fraction"] is None and values["steal_fraction"] is None


@pytest.mark.skipif(not (TASKS / str(os.getpid()) / "schedstat").exists(), reason="this kernel keeps no schedstat")
def test_a_reading_of_the_calling_thread_excludes_other_threads(monkeypatch, tmp_path):
    for thread, waited in ((threading.get_native_id(), 250_000_000), (12, 500_000_000)):
        (tmp_path / str(thread)).mkdir()
        (tmp_path / str(thread) / "schedstat").write_text(f"999 {waited} 7\n")
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path)
    assert RunDelay.now(this_thread_only=True).waited_s == 0.25


ACTIVE = Activity(0.0, thread_cpu_s=0.0, process_cpu_s=0.0, others={}, waited_s=0.0, stolen_s=0.0, suspended_s=0.0)


def active(clock_s, thread_cpu_s, process_cpu_s, others, waited_s=0.0, stolen_s=0.0):
    return Activity(clock_s, thread_cpu_s, process_cpu_s, others, waited_s, stolen_s, 0.0)


def test_idle_time_excludes_cpu_time_and_waits_and_steal():
    later = active(50.0, 5.0, 8.0, {"2": (3.0, 2.0)}, waited_s=1.0, stolen_s=0.5)
    assert later.idle_since(ACTIVE) == pytest.approx(50 - 5 - 1 - 2 - 0.5)
    assert later.stopped_since(ACTIVE) == pytest.approx(50 - 8 - 3 - 0.5)


def test_a_thread_that_waits_for_a_thread_that_waits_for_a_core_is_not_idle():
    """On a busy machine each of two threads has a core for a third of the time."""
    assert active(3.0, 1.0, 2.0, {"2": (1.0, 1.0)}, waited_s=1.0).idle_since(ACTIVE) == 0.0


def test_a_thread_that_waits_for_a_thread_with_more_work_is_not_idle():
    assert active(3.0, 1.0, 4.0, {"2": (3.0, 0.0)}).idle_since(ACTIVE) == 0.0


def test_idle_time_is_never_negative_and_unknown_without_schedstat():
    busy = active(1.0, 0.5, 2.0, {}, waited_s=0.9)
    assert busy.idle_since(ACTIVE) == busy.stopped_since(ACTIVE) == 0.0
    unknown = active(1.0, 0.5, 2.0, None)
    assert unknown.idle_since(ACTIVE) is None and busy.stopped_since(unknown) is None


def test_a_thread_that_waits_for_an_event_is_idle():
    earlier = Activity.now()
    threading.Event().wait(0.01)
    later = Activity.now()
    assert later.clock_s > earlier.clock_s
    assert later.suspended_s - earlier.suspended_s == pytest.approx(0.0, abs=0.01)


GROUP_2 = {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 100\ninactive_file 200\n"}
GROUP_1 = {
    "memory.limit_in_bytes": "1000\n",
    "memory.usage_in_bytes": "700\n",
    "memory.stat": "total_inactive_file 200\n",
}


def write_group(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_control_group_has_its_limit_without_what_is_used_and_with_files_that_can_be_dropped(tmp_path, monkeypatch):
    (tmp_path / "cgroup.controllers").touch()
    monkeypatch.setattr(machine, "_control_group", lambda controller: "/jobs/7" if controller == "" else "/")
    write_group(tmp_path / "jobs" / "7", GROUP_2)
    write_group(tmp_path / "jobs", {**GROUP_2, "memory.max": "max\n"})
    assert list(machine._control_group_memory(tmp_path)) == [500.0]
    write_group(tmp_path / "jobs", {**GROUP_2, "memory.max": "600\n"})
    assert list(machine._control_group_memory(tmp_path)) == [500.0, 100.0]


def test_a_control_group_of_version_1_has_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_control_group", lambda controller: "/docker/7")
    write_group(tmp_path / "memory", GROUP_1)
    assert list(machine._control_group_memory(tmp_path)) == [500.0]


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert list(machine._control_group_memory(tmp_path)) == []


def test_the_smallest_limit_of_the_memory_counts(monkeypatch):
    monkeypatch.setattr(machine, "_free_memory", lambda: 1000.0)
    monkeypatch.setattr(machine, "_control_group_memory", lambda root: [2000.0])
    assert machine.available_memory() == (1000.0, "free memory of the machine")
    monkeypatch.setattr(machine, "_control_group_memory", lambda root: [2000.0, 300.0])
    assert machine.available_memory() == (300.0, "free memory of the control group")


def test_the_free_memory_of_this_machine_is_at_most_its_memory():
    free, source = machine.available_memory()
    assert 0 < free <= machine.memory_bytes()
    assert source.startswith("free memory of the ")
