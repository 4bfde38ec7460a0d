"""An NVIDIA GPU. Tests that need a GPU are marked `gpu` and skipped elsewhere; the others use invented readings."""

import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pynvml
import pytest
import stand_in_gpu
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from visionbench.core import Precision, Samples
from visionbench.devices import cuda
from visionbench.devices.cuda import Cuda
from visionbench.devices.cuda import nvml as nvml_readings
from visionbench.engines import End, Job
from visionbench.engines.processes import Processes

MIB = 2**20
FP32, TF32 = Precision("fp32", "float32"), Precision("tf32", "float32", tf32=True)


def gpu(test):
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
    return pytest.mark.gpu(absent(test))


@pytest.fixture
def device():
    """The first GPU, set up for IEEE products."""
    device = Cuda()
    device.setup(FP32, threads=None)
    yield device
    torch.cuda.empty_cache()


@pytest.fixture
def product(device):
    """A call that takes milliseconds on the device and much less time to enqueue."""
    matrix = torch.randn(4096, 4096, device=device.id)
    torch.mm(matrix, matrix)  # starts the library
    return lambda: [torch.mm(matrix, matrix) for _ in range(4)]


def value(samples, name):
    return float(samples.get(f"memory/{name}_bytes")[0])


# ------------------------------------------------------------------------------------------------------------- absence
def test_a_hidden_gpu_is_absent_because_of_the_variable(monkeypatch):
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert Cuda().why_absent() == "CUDA_VISIBLE_DEVICES hides every GPU"


def test_a_gpu_is_absent_for_a_torch_without_cuda(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cuda, "_cuda_of_torch", lambda: None)
    assert Cuda().why_absent() == "this torch was built without CUDA"


def test_the_cuda_version_of_torchs_build_is_read_from_its_files():
    assert cuda._cuda_of_torch() == torch.version.cuda


@pytest.mark.parametrize("line", ["cuda: Optional[str] = '13.0'", 'cuda = "13.0"'])
def test_the_cuda_version_is_read_from_both_forms_of_the_version_file(monkeypatch, tmp_path, line):
    (tmp_path / "version.py").write_text(f"debug = False\n{line}\n")
    monkeypatch.setattr(cuda, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    assert cuda._cuda_of_torch() == "13.0"


@pytest.fixture
def driver(monkeypatch):
    """A torch built for CUDA 13.0, and a driver whose GPUs and CUDA version the test may change."""
    values = SimpleNamespace(count=1, cuda=13000, nvml=True)

    def init():
        if not values.nvml:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cuda, "_cuda_of_torch", lambda: "13.0")
    monkeypatch.setattr(pynvml, "nvmlInit", init)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: values.count)
    monkeypatch.setattr(pynvml, "nvmlSystemGetCudaDriverVersion", lambda: values.cuda)
    return values


@pytest.mark.parametrize(
    ("count", "index", "why"),
    [
        (0, 0, "device index 0 is out of range: no GPU is visible"),
        (1, 0, None),
        (1, 1, "device index 1 is out of range: 1 GPU is visible (0)"),
        (2, 2, "device index 2 is out of range: 2 GPUs are visible (0, 1)"),
    ],
)
def test_an_index_beyond_the_gpus_of_the_driver_is_out_of_range(driver, count, index, why):
    driver.count = count
    assert Cuda(index=index).why_absent() == why


@pytest.mark.parametrize(
    ("visible", "shown"),
    [
        ("3", 1),
        ("0, 1", 2),
        ("GPU-0b2e,GPU-77aa,1", 3),
        ("0,-1,1", 1),
        ("0,9,1", 1),
        ("MIG-41c6f0e4,MIG-99aa", 1),
    ],
    ids=[
        "one",
        "two",
        "by UUID",
        "a negative entry ends the list",
        "a GPU that does not exist ends the list",
        "MIG: one only",
    ],
)
def test_an_index_beyond_the_visible_gpus_is_out_of_range(driver, monkeypatch, visible, shown):
    driver.count = 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Cuda(index=shown - 1).why_absent() is None
    assert Cuda(index=shown).why_absent().startswith(f"device index {shown} is out of range")


@pytest.mark.parametrize(("visible", "count"), [(None, 4), ("2,3", 2), ("GPU-8a5c,1,9", 2), ("", 0)])
def test_only_visible_gpus_are_counted(driver, monkeypatch, visible, count):
    driver.count = 4
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Cuda().count() == count


@pytest.mark.parametrize(("supports", "refused"), [(13000, False), (13020, False), (12080, True), (11040, True)])
def test_a_driver_too_old_for_torchs_build_is_refused_with_both_versions(driver, supports, refused):
    driver.cuda = supports
    why = Cuda().why_absent()
    assert bool(why) is refused
    if refused:
        major, minor = supports // 1000, supports % 1000 // 10
        assert why.startswith(
            f"the driver supports CUDA {major}.{minor} and this torch was built for CUDA 13.0: update"
        )


def test_without_a_driver_the_message_of_nvml_is_the_reason(driver):
    driver.nvml = False
    assert Cuda().why_absent() == "no NVIDIA driver answers (NVML Shared Library Not Found)"


@pytest.mark.parametrize(
    ("answer", "why"), [("2 13000", None), ("0 13000", "no NVIDIA driver answers"), ("", "no NVIDIA")]
)
def test_without_nvml_the_cuda_driver_is_queried(driver, monkeypatch, answer, why):
    driver.nvml = False
    monkeypatch.setattr(cuda, "COUNT_GPUS", f"print('{answer}')")
    absent = Cuda(index=1).why_absent()
    assert absent is None if why is None else absent.startswith(why)


@pytest.mark.parametrize(
    ("index", "visible", "only"), [(0, None, "0"), (2, None, "2"), (1, "5, 7", "7"), (0, "GPU-0b2e", "GPU-0b2e")]
)
def test_a_measuring_process_sees_only_its_gpu(index, visible, only):
    assert cuda.only_visible(index, visible) == only


def test_the_id_is_torchs_name_of_the_gpu():
    assert (Cuda().id, Cuda(index=1).id) == ("cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_errors_of_memory_shortage_are_recognised(error, is_one):
    assert Cuda().is_out_of_memory(error) is is_one


class Nvml:
    """A process in NVML's list."""

    def __init__(self, pid, used):
        self.pid, self.usedGpuMemory = pid, used


@pytest.mark.parametrize(
    ("processes", "used"),
    [
        ([Nvml(1, 5 * MIB), Nvml(os.getpid(), 7 * MIB)], 7.0 * MIB),
        ([Nvml(os.getpid(), None)], None),
        ([Nvml(1, 5 * MIB)], None),
    ],
    ids=["this process's share", "not reported", "hidden by a container"],
)
def test_the_memory_of_nvml_is_that_of_this_process(monkeypatch, processes, used):

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: processes)
    assert nvml_readings.process_memory("a handle") == used


@pytest.mark.parametrize("kind", ["GPU", "MIG"])
def test_a_handle_is_found_by_the_uuid_of_a_gpu_or_a_mig_instance(monkeypatch, kind):
    def by_uuid(uuid):
        if uuid != f"{kind}-41c6f0e4":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return f"handle of a {kind}"

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
    assert nvml_readings.handle("41c6f0e4") == f"handle of a {kind}"
    assert nvml_readings.handle("77aa") is None


# -------------------------------------------------------------------------------------------------------------- timing
@gpu
def test_device_and_enqueue_times_are_within_the_host_time(device, product):
    timing = device.time_call(product)
    assert 0 < timing.device_s <= timing.host_s
    assert 0 < timing.enqueue_s < timing.host_s


@gpu
def test_pending_work_does_not_count_for_the_next_call(device, product):
    product()
    assert device.time_call(lambda: None).device_s < device.time_call(product).device_s / 2


@gpu
def test_there_is_a_completion_for_each_call_in_rising_order(device, product):
    completed = device.back_to_back([product] * 6, in_flight=2)
    assert len(completed) == 6
    assert completed == sorted(completed) and completed[0] > 0


@gpu
@pytest.mark.parametrize("in_flight", [1, 3])
def test_the_number_of_unfinished_calls_is_limited(device, product, in_flight):
    ends, unfinished = [], []

    def call():
        product()
        ends.append(torch.cuda.Event())
        ends[-1].record()
        unfinished.append(sum(not end.query() for end in ends))

    device.back_to_back([call] * 8, in_flight)
    assert max(unfinished) <= in_flight
    assert max(unfinished[in_flight - 1 :]) == in_flight


# -------------------------------------------------------------------------------------------------------------- memory
@gpu
def test_the_peak_includes_a_tensor_allocated_and_freed_in_the_window(device):
    device.reset_peak_memory()
    before = value(device.memory_in_use(), "allocated")
    torch.empty(64 * MIB, dtype=torch.uint8, device=device.id)
    samples = device.peak_memory(0)
    assert value(samples, "peak_allocated") - before == 64 * MIB
    assert value(samples, "peak_reserved") >= value(samples, "peak_allocated")


@gpu
def test_the_peak_excludes_larger_allocations_before_the_window(device):
    torch.empty(256 * MIB, dtype=torch.uint8, device=device.id)
    device.reset_peak_memory()
    before = value(device.memory_in_use(), "allocated")
    torch.empty(MIB, dtype=torch.uint8, device=device.id)
    samples = device.peak_memory(0)
    assert value(samples, "peak_allocated") - before == MIB
    assert value(samples, "peak_reserved") < 256 * MIB + before


@gpu
def test_the_memory_of_the_process_is_reported_or_has_a_reason(device):
    device.reset_peak_memory()
    samples = device.peak_memory(0)
    reported = len(samples.get("memory/process_peak_bytes"))
    assert bool(reported) != ("memory/process_peak_bytes" in samples.missing)


@gpu
def test_torchs_error_of_memory_shortage_is_recognised_on_this_gpu(device):
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device=device.id)
    assert device.is_out_of_memory(caught.value)


@gpu
def test_the_context_is_a_separate_figure_and_part_of_the_memory_of_the_process(device):
    held = torch.empty(256 * MIB, dtype=torch.uint8, device=device.id)
    samples = device.peak_memory(0)
    if "memory/context_bytes" in samples.missing:
        pytest.skip("this machine hides the process's memory")
    assert 64 * MIB < value(samples, "context") < 2048 * MIB
    assert value(samples, "process_peak") >= value(samples, "context") + held.numel()


# ------------------------------------------------------------------------------------------------------------- profile
@gpu
def test_a_profile_counts_kernels_and_waits_of_the_host(device):
    numbers = torch.randn(512, 512, device=device.id)

    def call():
        for _ in range(3):
            float(torch.mm(numbers, numbers)[0, 0])

    call()
    samples = device.profile(call)
    silent = device.profile(lambda: torch.mm(numbers, numbers))
    assert samples.get("kernels/launched_count")[0] >= 3
    assert samples.get("kernels/host_waits_count")[0] == 3
    assert silent.get("kernels/host_waits_count")[0] == 0
    assert 0 < silent.get("kernels/busy_s")[0] < samples.get("kernels/busy_s")[0]


# ---------------------------------------------------------------------------------------------------------- visibility
@gpu
def test_after_setup_a_process_sees_one_gpu():
    code = (
        "import os, torch; from visionbench.core import Precision; from visionbench.devices.cuda import Cuda; "
        "device = Cuda(); assert device.why_absent() is None and not torch.cuda.is_initialized(); "
        "device.setup(Precision('fp32', 'float32'), None); "
        "print(os.environ['CUDA_VISIBLE_DEVICES'], torch.cuda.device_count(), device.id)"
    )
    env = {name: text for name, text in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "cuda:0"]


def visible_in_job(path, index, beside):
    """Write what a job sees of the GPUs. Fails if another job uses the GPU at the same time."""
    lock = path.with_name(f"gpu-{index}")
    lock.touch(exist_ok=False)
    device = Cuda(index)
    device.setup(FP32, None)
    torch.mm(*[torch.ones(2048, 2048, device=device.id)] * 2)
    device.synchronize()
    path.write_text(f"{torch.cuda.device_count()} {device.id} {device.fingerprint()['device_uuid']}")
    lock.unlink()
    return 0


@gpu
def test_runs_of_one_gpu_follow_each_other_and_each_sees_this_gpu_only(tmp_path):
    jobs = [
        Job(number, str(number), tmp_path, partial(visible_in_job, tmp_path / str(number), 0), "cuda:0", threads=1)
        for number in range(2)
    ]
    ends = [end for _, end in Processes(parallel=True).run(jobs, print)]
    assert ends == [End(0), End(0)]
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    assert [(tmp_path / str(number)).read_text() for number in range(2)] == [f"1 cuda:0 {uuid}"] * 2


@gpu
def test_the_gpus_of_this_process_are_counted():
    assert Cuda().count() == torch.cuda.device_count()


# ------------------------------------------------------------------------------------------------------------ numerics
@gpu
@pytest.mark.parametrize(("dtype", "within"), [("bfloat16", 1e-2), ("float16", 1e-2), ("float32", 1e-5)])
@pytest.mark.parametrize(
    "shape", [(25, 12, 196, 64), (1, 12, 4096, 64)], ids=["SAM's windows", "SAM's global attention"]
)
def test_attention_with_a_bias_agrees_with_float64(device, shape, dtype, within):
    drawn = torch.Generator(device.id).manual_seed(0)
    dtype = getattr(torch, dtype)
    q, k, v = (torch.randn(shape, device=device.id, generator=drawn).to(dtype) for _ in range(3))
    bias = torch.randn(*shape[:3], shape[2], device=device.id, generator=drawn).to(dtype)
    attend = torch.nn.functional.scaled_dot_product_attention
    samples = attend(q, k, v, attn_mask=bias).double()
    with sdpa_kernel(SDPBackend.MATH):
        exact = attend(q.double(), k.double(), v.double(), attn_mask=bias.double())
    assert float((samples - exact).norm() / exact.norm()) < within


@pytest.mark.parametrize("allowed", [True, False, True])
def test_all_switches_of_tf32_agree(allowed):
    cuda._allow_tf32(allowed)
    products = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    assert {part.fp32_precision for part in products} == {"tf32" if allowed else "ieee"}
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed
    assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")
    with torch.backends.cudnn.flags(enabled=False):  # reads and sets all of them
        pass
    assert torch.backends.cudnn.allow_tf32 is allowed


@gpu
def test_tf32_rounds_products_and_ieee_does_not(device):
    if torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("this GPU has no TF32")
    seeded = torch.Generator().manual_seed(0)
    left, right = torch.rand(2, 512, 512, generator=seeded)
    images, kernels = torch.rand(8, 64, 32, 32, generator=seeded), torch.rand(64, 64, 3, 3, generator=seeded)

    def errors():
        matrix = (left.to(device.id) @ right.to(device.id)).double().cpu() / (left.double() @ right.double()) - 1
        exact = torch.conv2d(images.double(), kernels.double())
        convolved = torch.conv2d(images.to(device.id), kernels.to(device.id)).double().cpu() / exact - 1
        return float(matrix.abs().max()), float(convolved.abs().max())

    assert max(errors()) < 2e-5
    device.setup(TF32, threads=None)
    assert min(errors()) > 2e-5
    device.setup(FP32, threads=None)
    assert max(errors()) < 2e-5


# ------------------------------------------------------------------------------------------------------------ identity
@gpu
def test_nvmls_handle_is_that_of_torchs_gpu(device):

    by_nvml, by_torch = pynvml.nvmlDeviceGetPciInfo(device._nvml()), torch.cuda.get_device_properties(0)
    assert (by_nvml.domain, by_nvml.bus, by_nvml.device) == (
        by_torch.pci_domain_id,
        by_torch.pci_bus_id,
        by_torch.pci_device_id,
    )


@gpu
def test_the_fingerprint_has_the_gpu_the_driver_and_its_clocks(device):
    samples = device.fingerprint()
    assert samples["device_name"] == torch.cuda.get_device_name(0)
    assert samples["cuda"] == torch.version.cuda
    for name in ("driver", "clock_sm_mhz", "clock_sm_max_mhz", "power_limit_w", "device_memory_mib"):
        assert samples[name], name
    assert samples["multiprocessors"] == torch.cuda.get_device_properties(0).multi_processor_count
    assert "math" in samples["attention_backends"].split()


@gpu
def test_a_reading_of_this_gpu_has_power_clock_and_temperature(device):
    torch.mm(torch.randn(4096, 4096, device=device.id), torch.randn(4096, 4096, device=device.id))
    samples = device.probe()
    assert 0 < samples["telemetry/gpu_clock_sm_mhz"] <= device.fingerprint()["clock_sm_max_mhz"]
    assert 0 < samples["telemetry/gpu_power_w"] < 2 * device.fingerprint()["power_limit_w"]
    assert 0 < samples["telemetry/gpu_temperature_celsius"] < 110


# ----------------------------------------------------------------------------------- windows, with invented readings
@pytest.fixture
def nvml(monkeypatch):
    """The values of NVML, which the test may change."""
    monkeypatch.setattr(Cuda, "synchronize", lambda self: None)
    return stand_in_gpu.nvml(monkeypatch)


def test_an_undisturbed_window_has_neither_faults_nor_flags(nvml):
    assert Cuda().watch()() == Samples()


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("SwThermalSlowdown", "thermal_throttling"),
        ("HwSlowdown", "hardware_slowdown"),
        ("HwThermalSlowdown", "hardware_thermal_slowdown"),
        ("HwPowerBrakeSlowdown", "power_brake"),
    ],
)
def test_a_slowdown_is_a_fault(nvml, reason, fault):
    end = Cuda().watch()
    nvml.bits = getattr(pynvml, f"nvmlClocksThrottleReason{reason}")
    assert set(end().faults) == {fault}


def test_the_power_limit_is_a_label(nvml):
    nvml.bits = pynvml.nvmlClocksThrottleReasonSwPowerCap
    samples = Cuda().watch()()
    assert (set(samples.labels), samples.flags, samples.faults) == ({"software_power_cap"}, {}, {})


def test_an_older_driver_is_queried_with_the_older_function(nvml, monkeypatch):
    def refuse(handle):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    nvml.bits = pynvml.nvmlClocksThrottleReasonHwSlowdown
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", refuse)
    assert set(Cuda().watch()().faults) == {"hardware_slowdown"}


def test_the_newer_function_is_enough(nvml, monkeypatch):
    nvml.bits = pynvml.nvmlClocksEventReasonHwSlowdown
    monkeypatch.delattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons")
    assert set(Cuda().watch()().faults) == {"hardware_slowdown"}


@pytest.fixture
def ten_seconds(monkeypatch):
    """A window of ten seconds by the device's clock."""
    times = iter([100.0, 110.0])
    monkeypatch.setattr(cuda, "perf_counter", lambda: next(times))


@pytest.mark.parametrize(
    ("policy", "name"),
    [(pynvml.NVML_PERF_POLICY_POWER, "software_power_cap"), (pynvml.NVML_PERF_POLICY_RELIABILITY, "reliability_cap")],
)
def test_a_limit_within_the_window_is_a_label_by_its_counter(nvml, ten_seconds, policy, name):
    end = Cuda().watch()
    nvml.violated = {policy: 1_500_000_000}
    assert end() == Samples(labels={name: "1.5 s of a window of 10 s"})


def test_throttling_within_the_window_is_a_fault_by_its_counter(nvml, ten_seconds):
    nvml.violated = {pynvml.NVML_PERF_POLICY_THERMAL: 5_000_000_000}
    end = Cuda().watch()
    nvml.violated = {pynvml.NVML_PERF_POLICY_THERMAL: 5_250_000_000}
    assert end().faults == {"thermal_throttling": "0.25 s of a window of 10 s"}


@pytest.mark.parametrize("reason", ["POWER", "THERMAL", "RELIABILITY"])
def test_a_counter_that_grows_by_less_than_a_hundredth_of_the_window_is_ignored(nvml, ten_seconds, reason):
    end = Cuda().watch()
    nvml.violated = {getattr(pynvml, f"NVML_PERF_POLICY_{reason}"): 99_000_000}
    assert end() == Samples()


def test_a_field_of_the_driver_counts_a_reason_without_a_policy(nvml, ten_seconds):
    brake = pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN
    nvml.fields = {brake: 0}
    end = Cuda().watch()
    nvml.fields = {brake: 2_000_000_000}
    assert end().faults == {"power_brake": "2 s of a window of 10 s"}


def test_another_process_on_the_gpu_is_a_fault(nvml):
    end = Cuda().watch()
    nvml.pids = [os.getpid(), 4242]
    assert end().faults == {"foreign_process": "also on this GPU: process 4242"}


def test_another_process_that_ended_within_the_window_is_a_fault(nvml):
    nvml.pids = [4242, os.getpid()]
    end = Cuda().watch()
    nvml.pids = [os.getpid()]
    assert end().faults == {"foreign_process": "also on this GPU: process 4242"}


def test_hidden_process_ids_are_not_foreign_processes(nvml):
    nvml.pids = [999_999_999]
    assert Cuda().watch()() == Samples()


def test_energy_is_the_difference_of_the_counter(nvml):
    nvml.millijoules = 1_000
    end = Cuda().meter()
    nvml.millijoules = 3_500
    assert end().get("telemetry/energy_j").tolist() == [2.5]


def test_values_that_nvml_does_not_report_are_left_out(nvml):
    nvml.supported = False
    assert Cuda().watch()() == Samples()
    assert "NVML does not report this GPU's energy" in Cuda().meter()().missing["telemetry/energy_j"]
    assert Cuda().probe() == {}


def test_readings_have_the_units_of_their_names(nvml):
    assert Cuda().probe() == {
        "telemetry/gpu_kernel_active_fraction": 0.75,
        "telemetry/gpu_memory_active_fraction": 0.5,
        "telemetry/gpu_clock_sm_mhz": 1980.0,
        "telemetry/gpu_clock_memory_mhz": 1980.0,
        "telemetry/gpu_temperature_celsius": 61.0,
        "telemetry/gpu_power_w": 512.0,
    }


def test_the_momentary_power_replaces_the_mean_over_a_second(nvml):
    nvml.fields = {pynvml.NVML_FI_DEV_POWER_INSTANT: 640_000, pynvml.NVML_FI_DEV_MEMORY_TEMP: 77}
    samples = Cuda().probe()
    assert (samples["telemetry/gpu_power_w"], samples["telemetry/gpu_memory_temperature_celsius"]) == (640.0, 77.0)


@pytest.mark.parametrize(
    ("spans", "covered"),
    [([], 0), ([(0, 2), (5, 6)], 3), ([(0, 4), (1, 2), (3, 6)], 6)],
    ids=["none", "separate", "overlapping"],
)
def test_kernels_that_overlap_count_once(spans, covered):
    assert cuda._covered(spans) == covered


@pytest.fixture
def counters(nvml, monkeypatch):
    """GPM counters: their values in percent with NVML's status, the pairs of samples that were read, and the time."""
    values = SimpleNamespace(answers=[(80.0, 0), (40.0, 0), (20.0, 0)], between=[], allocated=[], now=100.0)
    nvml.gpm = 1

    def sample():
        values.allocated.append(pynvml.c_nvmlGpmSample_t())
        return values.allocated[-1]

    def metrics(request):
        values.between.append((request.sample1, request.sample2))
        ids = [request.metrics[index].metricId for index in range(request.numMetrics)]
        assert ids == [2, 5, 10]  # SM, any tensor core, DRAM bandwidth
        for index, (value, status) in enumerate(values.answers):
            request.metrics[index].value, request.metrics[index].nvmlReturn = value, status

    monkeypatch.setattr(pynvml, "nvmlGpmSampleAlloc", sample)
    monkeypatch.setattr(pynvml, "nvmlGpmSampleGet", lambda handle, into: into)
    monkeypatch.setattr(pynvml, "nvmlGpmMetricsGet", metrics)
    monkeypatch.setattr(nvml_readings, "perf_counter", lambda: values.now)
    return values


def gpm(device):
    return {name: value for name, value in device.probe().items() if "gpm" in name}


def test_counters_are_read_between_two_samples(counters):
    device = Cuda()
    assert gpm(device) == {}  # the first sample has no predecessor
    for _ in range(2):
        counters.now += 0.25
        assert gpm(device) == {
            "telemetry/gpu_gpm_sm_fraction": 0.8,
            "telemetry/gpu_gpm_tensor_fraction": 0.4,
            "telemetry/gpu_gpm_dram_fraction": 0.2,
        }
    assert (len(counters.allocated), len(counters.between)) == (2, 2)


def test_counters_are_not_read_more_often_than_nvml_updates_them(counters):
    device = Cuda()
    device.probe()
    updated = []
    for _ in range(8):
        counters.now += 0.0625
        updated.append(bool(gpm(device)))
    assert updated == [False, True] * 4


def test_a_counter_without_a_value_is_left_out(counters):
    counters.answers = [(80.0, 0), (float("nan"), 0), (0.0, pynvml.NVML_ERROR_NOT_SUPPORTED)]
    device = Cuda()
    device.probe()
    counters.now += 1.0
    assert gpm(device) == {"telemetry/gpu_gpm_sm_fraction": 0.8}


def test_the_memory_limit_is_the_free_memory_with_what_torch_has_reserved(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (5 * 2**30, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 2**30)
    limit = Cuda().memory_limit()
    assert (limit.bytes, limit.source) == (6 * 2**30, "free memory of the GPU")
    peaks = Samples({"memory/peak_reserved_bytes": np.array([7.0])})
    assert Cuda().limited_peak(peaks) == 7.0
    assert Cuda().limited_peak(Samples()) is None


@gpu
def test_memory_that_torch_reserves_stays_within_the_limit_of_the_process(device):
    before = device.memory_limit().bytes
    device.reset_peak_memory()
    block = torch.ones(2**28, dtype=torch.uint8, device=device.id)
    assert abs(device.memory_limit().bytes - before) < 2**26
    peak = device.limited_peak(device.peak_memory(0))
    assert block.nbytes <= peak <= before
