"""What a runtime cannot execute is refused in the plan, in one line with a remedy."""

from importlib import util

import pytest

from visionbench.config import RuntimeConfig
from visionbench.core import Precision
from visionbench.devices.cuda import Cuda
from visionbench.exports import onnx
from visionbench.models.promptable_segmenter import PromptableSegmenter
from visionbench.parts import find_runtime, quantizations
from visionbench.plan import plan
from visionbench.registry import names
from visionbench.runtimes.compile import Compile
from visionbench.weights import quantization

ON_A_CPU = [name for name in names("runtimes") if name != "cuda_graph"]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: "no NVIDIA driver answers")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["runtime.name=opemvino"], "did you mean 'openvino'?"),
        (["runtime.mode=fast"], "runtime.mode=fast: runtime=eager does not use it; remove it"),
        (["runtime=openvino", "runtime.dynamic=true"], "runtime.dynamic=true: runtime=openvino does not use it"),
        (["runtime=compile", "runtime.mode=fast"], "runtime.mode=fast: no such mode; there are: default"),
        (["runtime=onnxruntime", "precision=bf16"], "on a CPU it computes in fp32, not in bf16; use precision=fp32"),
        (
            ["runtime=onnxruntime", "precision=int8_weight_only"],
            "precision=int8_weight_only: runtime=onnxruntime cannot quantise by int8_weight_only, only by "
            "int8_dynamic or int8_static; use runtime=compile or runtime=eager",
        ),
        (
            ["runtime=openvino", "precision=int8_dynamic"],
            "cannot quantise by int8_dynamic, only by int8_static; use runtime=compile or runtime=eager or "
            "runtime=onnxruntime",
        ),
        (
            ["precision=int8_static"],
            "precision=int8_static: runtime=eager cannot quantise by int8_static, only by int8_dynamic or "
            "int8_weight_only or fp8; use runtime=onnxruntime or runtime=openvino",
        ),
        (["precision=fp8"], "fp8 products need an NVIDIA GPU of compute capability 8.9; on a CPU use int8_dynamic or"),
        (["precision=int8_static", "runtime=compile"], "runtime=compile cannot quantise by int8_static"),
        (
            ["precision=int8_static", "runtime=openvino", "precision.calibration_images=null"],
            "precision.calibration_images is null, and precision.quantization=int8_static needs images; give a number",
        ),
        (["precision=int8_static", "runtime=openvino", "precision.calibration_images=0"], "calibration_images=0"),
        (
            ["precision=int8_dynamic", "precision.calibration_images=8"],
            "precision.calibration_images=8: int8_dynamic is not calibrated; remove it, or use precision=int8_static",
        ),
        (["precision.calibration_images=8"], "precision.calibration_images=8: fp32 is not calibrated"),
        (["runtime=onnxruntime", "precision=autocast_bf16"], "is done by torch.autocast, which needs torch; use"),
        (["runtime=openvino", "precision=autocast_fp16"], "autocast_fp16 is done by torch.autocast, which needs torch"),
        (["runtime=cuda_graph"], "runtime=cuda_graph: CUDA graphs are for NVIDIA GPUs, not for cpu; use runtime=eager"),
        (["runtime=cuda_graph", "runtime.mode=default"], "runtime.mode=default: runtime=cuda_graph does not use it"),
        (["runtime=onnxruntime", "runtime.options.spining=true"], "did you mean 'runtime.options.spinning'?"),
    ],
)
def test_a_runtime_that_cannot_work_is_refused(refusal, overrides, message):
    assert message in refusal(*overrides)


def test_a_model_without_a_part_for_a_runtime_is_refused(refusal, monkeypatch):
    monkeypatch.delattr(PromptableSegmenter, "graph_names")
    message = "model sam_tiny has no part that a runtime can execute; use runtime=eager"
    assert message in refusal("runtime=openvino", "model=sam_tiny")


@pytest.mark.parametrize("part", ["encoder", "decoder", "both"])
def test_each_part_of_a_segmenter_can_be_executed_by_a_runtime(config, part):
    planned = plan(config("runtime=openvino", "model=sam_tiny", f"model.options.part={part}"))
    assert planned.runtime == "openvino"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_missing_package_is_refused_with_the_command_that_installs_it(refusal, monkeypatch, runtime):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == runtime else util.find_spec(name))
    assert refusal(f"runtime={runtime}") == (
        f"runtime={runtime}: {runtime} not installed; pip install 'visionbench[{runtime}]'"
    )


def test_a_quantisation_for_a_cpu_has_no_runtime_on_a_gpu(refusal, monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)
    message = refusal("precision=int8_static", "device=cuda")
    assert message.endswith("only by int8_dynamic or int8_weight_only or fp8; use another precision")


def test_a_missing_nncf_is_refused_with_the_command_that_installs_it(refusal, config, monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "nncf" else util.find_spec(name))
    message = refusal("runtime=openvino", "precision=int8_static")
    assert message == "precision=int8_static: nncf not installed; pip install 'visionbench[nncf]'"
    plan(config("runtime=onnxruntime", "precision=int8_static"))
    plan(config("runtime=openvino", "precision=bf16"))


def test_a_runtime_that_quantises_by_itself_does_not_need_torchao(config, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    assert plan(config("runtime=onnxruntime", "precision=int8_dynamic")).precision == "int8_dynamic"


@pytest.mark.parametrize("runtime", ON_A_CPU)
def test_the_precision_of_a_run_is_in_its_name_and_its_plan(config, runtime):
    methods = [method for method in quantizations(find_runtime(RuntimeConfig(runtime))) if method != "fp8"]
    planned = [plan(config(f"runtime={runtime}", f"precision={method}")) for method in methods]
    assert [one.precision for one in planned] == methods
    assert len({one.name for one in planned}) == len(methods)
    assert all(method in one.name for one, method in zip(planned, methods, strict=True))


def test_kernels_are_counted_in_eager_only(config):
    planned = plan(config("runtime=compile", "metrics=[latency,kernels]"))
    assert planned.refused["kernels"] == "the profiled call is executed by torch eager, not by runtime=compile"
    assert all("kernels" not in case.stages for case in planned.cases)
    assert "kernels" not in plan(config("metrics=[latency,kernels]")).refused


def test_a_gpu_is_refused_by_openvino(refusal, monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)
    assert "on a CPU only, not on cuda; use runtime=eager" in refusal("runtime=openvino", "device=cuda")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["precision=fp16"], "with CUDA it computes in fp32 or TF32, not in fp16; use precision=tf32"),
        (["runtime.options.provider=tensorrt"], "TensorRT computes fp32 products in TF32; use precision=tf32"),
        (["precision=int8_dynamic"], "visionbench uses its int8_dynamic on a CPU only; use precision=fp16 on a GPU"),
        (["precision=autocast_fp16"], "is done by torch.autocast"),
        (["runtime.options.provider=tensort"], "no such provider; did you mean 'tensorrt'?"),
    ],
)
def test_onnx_runtime_on_a_gpu_refuses_other_precisions(refusal, monkeypatch, overrides, message):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)
    assert message in refusal("runtime=onnxruntime", "device=cuda", *overrides)


@pytest.mark.parametrize(("provider", "precision"), [("cuda", "fp32"), ("cuda", "tf32"), ("tensorrt", "fp16")])
def test_onnx_runtime_is_planned_for_a_gpu(config, monkeypatch, provider, precision):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)
    words = [f"precision={precision}", f"runtime.options.provider={provider}", "device=cuda"]
    assert plan(config("runtime=onnxruntime", *words)).precision == precision


def test_compiling_for_a_cpu_needs_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "needs a compiler of C++" in Compile().why_unsupported("cpu", Precision("fp32", "float32"))
    assert Compile().why_unsupported("cuda", Precision("fp32", "float32")) is None


def test_a_run_with_cuda_graphs_is_planned_for_a_gpu(config, monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)
    planned = plan(config("runtime=cuda_graph", "device=cuda"))
    assert planned.name == "clip_tiny · cuda:0 · fp32 · cuda_graph"


@pytest.mark.parametrize("runtime", ON_A_CPU)
def test_a_run_is_named_by_a_runtime_other_than_eager(config, runtime):
    planned = plan(config(f"runtime={runtime}"))
    assert planned.runtime == runtime
    assert planned.name == "clip_tiny · cpu · fp32" + ("" if runtime == "eager" else f" · {runtime}")


def test_parity_does_not_apply_to_eager_fp32_only(config):
    metrics = "metrics=[latency,parity]"
    assert "parity" in plan(config(metrics)).unsuited
    for overrides in (["precision=bf16"], ["precision=int8_dynamic"], ["runtime=openvino"]):
        assert "parity" in plan(config(metrics, *overrides)).cases[0].metrics
