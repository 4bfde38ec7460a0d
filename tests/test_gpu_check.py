"""`make gpu`: its message without a GPU, and the bounds that its summary compares results with."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from saved_runs import record, row

from visionbench.core import Case, Samples
from visionbench.records.folder import RunFolder

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SPEED = {"latency_p50_ms": 10.0, "latency_device_p50_ms": 9.0, "flops_mfu_fraction": 0.3}


@pytest.fixture(scope="module")
def summary():
    spec = importlib.util.spec_from_file_location("gpu_summary", BENCHMARKS / "gpu_summary.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def check(summary, tmp_path, capsys):
    """A function from facts and cases (step, precision, row) to the exit code and what is printed."""

    def check(*cases, **facts):
        (tmp_path / "facts.json").write_text(json.dumps(facts))
        for number, (step, precision, result) in enumerate(cases):
            folder = RunFolder.create(tmp_path / "outputs" / step / str(number), "{}")
            folder.append(result, Samples())
            folder.write_record(record("sam_vit_b", "cuda:0", precision))
        code = summary.main(str(tmp_path / "facts.json"), str(tmp_path / "outputs"))
        return code, capsys.readouterr().out

    return check


def batch(size, **values):
    return row(Case(f"batch-{size}", size, ("latency",), ("latency",)), **{**SPEED, **values})


SAM = [
    ("precisions", "fp32", batch(8, throughput_images_per_s=30.0)),
    ("precisions", "tf32", batch(8, throughput_images_per_s=45.0)),
]


def test_a_machine_without_a_gpu_is_reported_in_one_line():
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable}
    done = subprocess.run(["bash", BENCHMARKS / "gpu_check.sh"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "make gpu: no GPU to check: CUDA_VISIBLE_DEVICES hides every GPU\n"


def test_an_interpreter_without_visionbenchs_packages_is_reported_in_one_line(tmp_path):
    env = {**os.environ, "PYTHON": str(tmp_path / "python")}
    done = subprocess.run(["bash", BENCHMARKS / "gpu_check.sh"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.startswith("make gpu: visionbench does not start with ") and done.stdout.count("\n") == 1


def test_results_within_all_bounds_pass(check):
    code, printed = check(*SAM)
    assert (code, "5 checked, 0 missed; 2 cases, 0 failed unexpectedly." in printed) == (0, True)


@pytest.mark.parametrize(
    ("values", "missed"),
    [
        ({"latency_device_p50_ms": 10.1}, "device ÷ host time"),
        ({"none": {"flops_mfu_fraction": "1.20 is above 1"}}, "MFU"),
        ({"throughput_images_per_s": 29.0}, "images/s of tf32 ÷ fp32"),
    ],
)
def test_a_result_out_of_bounds_fails_and_is_named(check, values, missed):
    code, printed = check(SAM[0], ("precisions", "tf32", batch(8, **{"throughput_images_per_s": 45.0, **values})))
    assert code == 1
    assert missed in printed.partition("## Speed")[0]


def test_attention_that_is_off_fails(check):
    code, printed = check(*SAM, **{"attention, SAM window, bfloat16": {"relative error": 0.2}})
    assert code == 1 and "attention, SAM window, bfloat16: relative error | 0.2" in printed


def test_an_h100_is_checked_against_the_rates_of_an_h100(check):
    code, printed = check(*SAM, fingerprint={"device_name": "NVIDIA H100"}, **{"copy GB/s": 900.0})
    assert code == 1 and "| copy, GB/s | 900 | 2700 | 3350 |" in printed


FULL = row(Case("batch-8", 8, (), ()), "out_of_memory", "no room")


def test_a_case_without_room_on_purpose_passes(check):
    assert check(*SAM, ("out-of-memory", "bf16", FULL))[0] == 0


def test_a_case_that_failed_elsewhere_fails_the_check(check):
    code, printed = check(*SAM, ("bf16", "bf16", FULL))
    assert code == 1 and "bf16: sam_vit_b · cuda:0 · bf16, batch-8: out_of_memory, no room" in printed


def test_no_results_at_all_fail(check):
    assert check()[0] == 1
