"""ONNX Runtime with torch's memory for inputs and outputs, and its settings on a GPU."""

import numpy as np
import onnxruntime
import pytest
import torch
from command_line import call
from torch import nn

from visionbench import exports, weights
from visionbench.core import ConfigError, Precision
from visionbench.results import archive
from visionbench.runtimes.onnxruntime import OnnxRuntime, provider_settings
from visionbench.runtimes.onnxruntime.binding import bound_call

FP32, TF32 = Precision("fp32", "float32"), Precision("tf32", "float32", tf32=True)
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's converter warns


class TwoOutputs(nn.Module):
    """From images [B, 3, 8, 8] and numbers [B] to features [B, 4] and the sum of both [B]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(192, 4)

    def forward(self, images: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.layer(images.flatten(1))
        return features, features.sum(1) + numbers


def batch(size, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 8, 8, generator=numbers), torch.arange(size)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        graph = weights.as_graph(TwoOutputs().eval(), lambda model, images, numbers: model(images, numbers))
        file = exports.to_onnx(graph, batch(2)).file
        return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_bound_calls_of_several_sizes_give_the_results_of_torch(session, dtype):
    execute, model = bound_call(session, CPU, dtype), TwoOutputs()
    for size, seed in ((2, 0), (5, 1), (2, 2), (1, 3)):
        images, numbers = batch(size, seed)
        with torch.no_grad():
            expected = model(images.to(dtype).float(), numbers)
        for result, one in zip(execute(images.to(dtype), numbers), expected, strict=True):
            assert result.dtype == dtype
            torch.testing.assert_close(result, one.to(dtype))


def test_a_result_is_not_overwritten_by_the_next_call(session):
    execute = bound_call(session, CPU, torch.float32)
    first = execute(*batch(2))[0]
    before = first.clone()
    execute(*batch(2, seed=1))
    assert torch.equal(first, before)


def test_an_input_that_is_not_contiguous_is_read_in_its_order(session):
    images, numbers = batch(2)
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)
    execute = bound_call(session, CPU, torch.float32)
    assert not turned.is_contiguous()
    np.testing.assert_array_equal(execute(turned, numbers)[0], execute(images, numbers)[0])


def test_products_are_in_tf32_only_if_the_precision_is():
    assert provider_settings("cuda", 1, "7", FP32) == {"device_id": "1", "user_compute_stream": "7", "use_tf32": "0"}
    assert provider_settings("cuda", 0, "0", TF32)["use_tf32"] == "1"
    half = provider_settings("tensorrt", 0, "0", Precision("fp16", "float16"))
    assert (half["trt_fp16_enable"], half["trt_bf16_enable"]) == ("1", "0")


def test_an_onnx_runtime_without_the_provider_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"has no CUDAExecutionProvider, only .*CPUExecutionProvider"):
        OnnxRuntime()._open_on(torch.device("cuda", 0), tmp_path / "model.onnx", FP32)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs a GPU and onnxruntime-gpu",
)
@pytest.mark.parametrize(("provider", "precision"), [("cuda", "fp32"), ("cuda", "tf32"), ("tensorrt", "fp16")])
def test_clip_tiny_is_measured_by_a_provider_on_a_gpu(tmp_path, provider, precision):
    words = ["run", "device=cuda", "runtime=onnxruntime", "metrics=[latency,parity,recall]", "batch.sizes=[1,4]"]
    words += [f"precision={precision}", f"runtime.options.provider={provider}", "data.options.samples=24"]
    done = call(tmp_path, *words, "measure=quick", "tracking=none")
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = archive.read(tmp_path / "outputs")
    assert all(row.metrics.values["parity_cosine_ratio"] > 0.999 for row in run.timed)
