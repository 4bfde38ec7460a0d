"""An NVIDIA GPU. What needs one is marked `gpu` and is skipped elsewhere; the rest says why there is none."""

import os
from types import SimpleNamespace

import pynvml
import pytest
import stand_in_gpu
import torch

from visionbench.core import Precision, Samples
from visionbench.devices import cuda
from visionbench.devices.cuda import Cuda

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
    """A call that takes milliseconds on the device, and next to nothing to enqueue."""
    matrix = torch.randn(4096, 4096, device=device.id)
    torch.mm(matrix, matrix)  # the library starts
    return lambda: [torch.mm(matrix, matrix) for _ in range(4)]


def value(samples, name):
    return float(samples.get(f"memory/{name}_bytes")[0])


# ------------------------------------------------------------------------------------------------------------- absence
def test_hidden_gpus_are_told_by_the_variable_that_hides_them(monkeypatch):
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert Cuda().why_absent() == "CUDA_VISIBLE_DEVICES hides every GPU"


def test_a_torch_without_cuda_is_told(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cuda, "_torch_has_cuda", lambda: False)
    assert Cuda().why_absent() == "this torch was built without CUDA"


def test_torchs_build_is_read_without_importing_it():
    assert cuda._torch_has_cuda() is (torch.version.cuda is not None)


@pytest.mark.parametrize(
    ("count", "index", "why"),
    [
        (0, 0, "of the 0 GPUs that can be used, counted from 0, none is 0"),
        (1, 0, None),
        (2, 2, "of the 2 GPUs that can be used, counted from 0, none is 2"),
    ],
)
def test_with_a_driver_the_gpus_are_counted(monkeypatch, count, index, why):

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cuda, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: count)
    assert Cuda(index=index).why_absent() == why


def test_a_gpu_that_the_variable_hides_is_absent(monkeypatch):

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(cuda, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 4)
    assert Cuda().why_absent() is None
    assert Cuda(index=1).why_absent() == "of the 1 GPUs that can be used, counted from 0, none is 1"


def test_without_a_driver_nvmls_own_words_are_the_reason(monkeypatch):

    def refuse():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cuda, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert Cuda().why_absent() == "no NVIDIA driver answers (NVML Shared Library Not Found)"


def test_its_id_is_torchs_name_of_it():
    assert (Cuda().id, Cuda(index=1).id) == ("cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_it_knows_when_there_was_no_room(error, is_one):
    assert Cuda().is_out_of_memory(error) is is_one


class Nvml:
    """A process as NVML tells of it."""

    def __init__(self, pid, used):
        self.pid, self.usedGpuMemory = pid, used


@pytest.mark.parametrize(
    ("processes", "used"),
    [
        ([Nvml(1, 5 * MIB), Nvml(os.getpid(), 7 * MIB)], 7.0 * MIB),
        ([Nvml(os.getpid(), None)], None),
        ([Nvml(1, 5 * MIB)], None),
    ],
    ids=["this process's share", "not told", "hidden by a container"],
)
def test_the_memory_that_nvml_counts_is_this_processs_own(monkeypatch, processes, used):

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: processes)
    assert cuda._process_memory("a handle") == used


# -------------------------------------------------------------------------------------------------------------- timing
@gpu
def test_a_call_is_timed_by_events_inside_the_hosts_time_and_enqueued_before_it_ends(device, product):
    timing = device.time_call(product)
    assert 0 < timing.device_s <= timing.host_s
    assert 0 < timing.enqueue_s < timing.host_s


@gpu
def test_work_that_was_pending_is_not_counted_to_the_next_call(device, product):
    product()
    assert device.time_call(lambda: None).device_s < device.time_call(product).device_s / 2


@gpu
def test_completions_rise_and_there_is_one_for_each_call(device, product):
    completed = device.back_to_back([product] * 6, in_flight=2)
    assert len(completed) == 6
    assert completed == sorted(completed) and completed[0] > 0


@gpu
@pytest.mark.parametrize("in_flight", [1, 3])
def test_no_more_calls_are_unfinished_than_are_allowed(device, product, in_flight):
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
def test_the_peak_allocated_is_that_of_a_known_tensor_made_and_freed_inside_the_window(device):
    device.reset_peak_memory()
    before = value(device.memory_in_use(), "allocated")
    torch.empty(64 * MIB, dtype=torch.uint8, device=device.id)
    found = device.peak_memory(0)
    assert value(found, "peak_allocated") - before == 64 * MIB
    assert value(found, "peak_reserved") >= value(found, "peak_allocated")


@gpu
def test_the_peak_forgets_what_was_larger_before_the_window(device):
    torch.empty(256 * MIB, dtype=torch.uint8, device=device.id)
    device.reset_peak_memory()
    before = value(device.memory_in_use(), "allocated")
    torch.empty(MIB, dtype=torch.uint8, device=device.id)
    found = device.peak_memory(0)
    assert value(found, "peak_allocated") - before == MIB
    assert value(found, "peak_reserved") < 256 * MIB + before


@gpu
def test_the_processs_own_memory_is_told_or_the_reason_why_not(device):
    device.reset_peak_memory()
    found = device.peak_memory(0)
    told = len(found.get("memory/process_peak_bytes"))
    assert bool(told) != ("memory/process_peak_bytes" in found.missing)


@gpu
def test_it_knows_torchs_own_refusal_on_this_gpu(device):
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device=device.id)
    assert device.is_out_of_memory(caught.value)


# ------------------------------------------------------------------------------------------------------------ numerics
@pytest.mark.parametrize("allowed", [True, False, True])
def test_every_switch_of_tf32_says_the_same(allowed):
    cuda._allow_tf32(allowed)
    products = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    assert {part.fp32_precision for part in products} == {"tf32" if allowed else "ieee"}
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed
    assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")
    with torch.backends.cudnn.flags(enabled=False):  # reads and sets them all
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
def test_nvmls_handle_is_of_the_card_that_torch_runs_on(device):

    told, torchs = pynvml.nvmlDeviceGetPciInfo(device._nvml()), torch.cuda.get_device_properties(0)
    assert (told.domain, told.bus, told.device) == (torchs.pci_domain_id, torchs.pci_bus_id, torchs.pci_device_id)


@gpu
def test_the_fingerprint_tells_the_card_the_driver_and_its_clocks(device):
    found = device.fingerprint()
    assert found["device_name"] == torch.cuda.get_device_name(0)
    assert found["cuda"] == torch.version.cuda
    for name in ("driver", "clock_sm_mhz", "clock_sm_max_mhz", "power_limit_w", "device_memory_mib"):
        assert found[name], name


# ---------------------------------------------------------------- windows, against an NVML that does as it is told
@pytest.fixture
def nvml(monkeypatch):
    """What NVML says, to be changed by the test."""
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
def test_a_slowdown_voids_the_window(nvml, reason, fault):
    ended = Cuda().watch()
    nvml.bits = getattr(pynvml, f"nvmlClocksThrottleReason{reason}")
    assert set(ended().faults) == {fault}


def test_the_power_limit_is_told_and_voids_nothing(nvml):
    nvml.bits = pynvml.nvmlClocksThrottleReasonSwPowerCap
    found = Cuda().watch()()
    assert (set(found.flags), found.faults) == ({"software_power_cap"}, {})


def test_a_driver_that_knows_only_the_older_question_is_asked_it(nvml, monkeypatch):
    def refuse(handle):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    nvml.bits = pynvml.nvmlClocksThrottleReasonHwSlowdown
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", refuse)
    assert set(Cuda().watch()().faults) == {"hardware_slowdown"}


def test_the_newer_question_is_enough(nvml, monkeypatch):
    nvml.bits = pynvml.nvmlClocksEventReasonHwSlowdown
    monkeypatch.delattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons")
    assert set(Cuda().watch()().faults) == {"hardware_slowdown"}


def test_a_power_limit_between_the_ends_is_found_by_its_counter(nvml):
    ended = Cuda().watch()
    nvml.violated = {pynvml.NVML_PERF_POLICY_POWER: 1_500_000_000}
    assert ended() == Samples(flags={"software_power_cap": "1.5 s of the window"})


def test_throttling_between_the_ends_is_found_by_its_counter(nvml):
    nvml.violated = {pynvml.NVML_PERF_POLICY_THERMAL: 5_000_000_000}
    ended = Cuda().watch()
    nvml.violated = {pynvml.NVML_PERF_POLICY_THERMAL: 5_250_000_000}
    assert ended().faults == {"thermal_throttling": "0.25 s of the window"}


def test_another_process_on_the_gpu_voids_the_window(nvml):
    ended = Cuda().watch()
    nvml.pids = [os.getpid(), 4242]
    assert ended().faults == {"foreign_process": "also on this GPU: process 4242"}


def test_another_process_that_was_gone_by_the_end_voids_it_too(nvml):
    nvml.pids = [4242, os.getpid()]
    ended = Cuda().watch()
    nvml.pids = [os.getpid()]
    assert ended().faults == {"foreign_process": "also on this GPU: process 4242"}


def test_where_a_container_hides_process_ids_none_is_taken_for_foreign(nvml):
    nvml.pids = [999_999_999]
    assert Cuda().watch()() == Samples()


def test_energy_is_the_difference_of_the_counter(nvml):
    nvml.millijoules = 1_000
    ended = Cuda().meter()
    nvml.millijoules = 3_500
    assert ended().get("telemetry/energy_j").tolist() == [2.5]


def test_what_nvml_does_not_tell_is_left_out_with_a_reason(nvml):
    nvml.told = False
    assert Cuda().watch()() == Samples()
    assert "NVML does not tell this GPU's energy" in Cuda().meter()().missing["telemetry/energy_j"]
    assert Cuda().probe() == {}


def test_a_reading_is_in_the_units_of_its_names(nvml):
    assert Cuda().probe() == {
        "telemetry/gpu_sm_fraction": 0.75,
        "telemetry/gpu_memory_fraction": 0.5,
        "telemetry/gpu_clock_sm_mhz": 1980.0,
        "telemetry/gpu_clock_memory_mhz": 1980.0,
        "telemetry/gpu_temperature_celsius": 61.0,
        "telemetry/gpu_power_w": 512.0,
    }


@pytest.fixture
def counters(nvml, monkeypatch):
    """GPM counters: what they say, in percent and with NVML's status, which samples were asked about, and the time."""
    says = SimpleNamespace(answers=[(80.0, 0), (40.0, 0), (20.0, 0)], between=[], allocated=[], now=100.0)
    nvml.gpm = 1

    def sample():
        says.allocated.append(pynvml.c_nvmlGpmSample_t())
        return says.allocated[-1]

    def metrics(asked):
        says.between.append((asked.sample1, asked.sample2))
        wanted = [asked.metrics[at].metricId for at in range(asked.numMetrics)]
        assert wanted == [2, 5, 10]  # SM, any tensor core, DRAM bandwidth
        for at, (value, status) in enumerate(says.answers):
            asked.metrics[at].value, asked.metrics[at].nvmlReturn = value, status

    monkeypatch.setattr(pynvml, "nvmlGpmSampleAlloc", sample)
    monkeypatch.setattr(pynvml, "nvmlGpmSampleGet", lambda handle, into: into)
    monkeypatch.setattr(pynvml, "nvmlGpmMetricsGet", metrics)
    monkeypatch.setattr(cuda, "perf_counter", lambda: says.now)
    return says


def gpm(device):
    return {name: value for name, value in device.probe().items() if "gpm" in name}


def test_counters_are_read_between_one_sample_and_the_next(counters):
    device = Cuda()
    assert gpm(device) == {}  # a first sample has none before it
    for _ in range(2):
        counters.now += 0.25
        assert gpm(device) == {
            "telemetry/gpu_gpm_sm_fraction": 0.8,
            "telemetry/gpu_gpm_tensor_fraction": 0.4,
            "telemetry/gpu_gpm_dram_fraction": 0.2,
        }
    assert (len(counters.allocated), len(counters.between)) == (2, 2)


def test_counters_are_not_asked_oftener_than_nvml_renews_them(counters):
    device = Cuda()
    device.probe()
    found = []
    for _ in range(8):
        counters.now += 0.0625
        found.append(bool(gpm(device)))
    assert found == [False, True] * 4


def test_a_counter_that_nvml_refuses_or_cannot_compute_is_left_out(counters):
    counters.answers = [(80.0, 0), (float("nan"), 0), (0.0, pynvml.NVML_ERROR_NOT_SUPPORTED)]
    device = Cuda()
    device.probe()
    counters.now += 1.0
    assert gpm(device) == {"telemetry/gpu_gpm_sm_fraction": 0.8}
