"""The checks of `visionbench selftest`: each passes for the known result only."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from visionbench.commands import selftest
from visionbench.commands.selftest import FAST_S, SLOW_S, SPIN_S, Finding
from visionbench.core import Samples
from visionbench.devices.cpu import Cpu


def peaks_can_be_reset():
    return "peak_since_start" not in memory_flags()


def memory_flags():
    device = Cpu()
    device.reset_peak_memory()
    return device.peak_memory(0).flags


resets = pytest.mark.skipif(not peaks_can_be_reset(), reason="/proc/self/clear_refs may not be written here")


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def series(host):
    return Samples({"latency/host_s": np.asarray(host)})


@pytest.mark.parametrize(("factor", "passed"), [(1.0, True), (1.019, True), (0.979, False), (1.05, False)])
def test_a_fixed_spin_passes_within_two_percent(factor, passed):
    assert selftest.fixed(np.full(100, SPIN_S * factor)).passed is passed


def test_both_of_two_modes_must_be_measured():
    host = np.array([FAST_S] * 70 + [SLOW_S] * 30)
    assert selftest.bimodal(host).passed
    assert not selftest.bimodal(np.full(100, FAST_S)).passed
    assert not selftest.bimodal(host * 1.1).passed


def test_a_drift_must_be_flagged():
    assert selftest.drifting(series(np.linspace(1.0, 1.3, 200))).passed
    assert not selftest.drifting(series(1 + 0.01 * np.random.default_rng(0).standard_normal(200))).passed


@pytest.mark.parametrize(("delay", "passed"), [(0.0, True), (0.03, False), (0.5, False)])
def test_a_disturbed_machine_is_not_quiet(delay, passed):
    finding = selftest.quiet(Samples({"latency/run_delay_fraction": np.array([delay])}))
    assert finding.passed is passed
    assert "run delay" in finding.measured or "run_delay" in finding.measured


def test_low_coverage_has_a_remedy():
    rng = np.random.default_rng(1)
    calls = selftest.SERIES * selftest.SERIES_CALLS
    assert selftest.coverage(rng.lognormal(0, 0.1, calls)).passed
    finding = selftest.coverage(1 + np.repeat(rng.standard_normal(selftest.SERIES), selftest.SERIES_CALLS) / 10)
    assert not finding.passed
    assert "measure.repeats=5" in finding.remedy


@resets
def test_a_known_peak_and_a_leak_are_measured_within_one_mib():
    """It runs in another process, because here the allocator holds memory that other tests freed."""
    code = "from visionbench.commands import selftest; print(selftest.known_peak(), selftest.leak(), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("passed=True") == 2, done.stdout


@resets
def test_a_peak_of_another_size_does_not_pass(monkeypatch):
    small = selftest._peak_above_start(lambda: np.ones((selftest.PEAK_MIB - 8) * selftest.MIB, np.uint8), calls=3)
    assert not selftest._memory("known peak", small, selftest.PEAK_MIB).passed


def test_without_a_reset_of_the_peak_the_check_fails_with_the_reason():
    assert selftest._memory("leak", "may not be written", 32) == Finding(
        "leak", False, "may not be written", "32 ± 1 MiB"
    )


@pytest.mark.parametrize(
    ("findings", "code", "line"),
    [
        ([Finding("a", True, "x", "y")], 0, "can be trusted"),
        ([Finding("a", True, "x", "y"), Finding("b", False, "x", "y", "repeat it")], 0, "? b: repeat it"),
        ([Finding("a", False, "x", "y"), Finding("b", True, "x", "y")], 1, "cannot be trusted for measuring now: a"),
    ],
)
def test_the_exit_code_is_1_if_a_check_without_a_remedy_fails(monkeypatch, capsys, findings, code, line):
    monkeypatch.setattr(selftest, "checks", lambda: iter(findings))
    assert selftest.show() == code
    assert line in capsys.readouterr().out
