"""Linear layers are quantised by torchao, counted, and stored in int8."""

import sys

import pytest
import torch
import torchao
from torch import nn

from visionbench import weights
from visionbench.core import ConfigError, Precision
from visionbench.weights import quantization


def network():
    """A network with two linear layers and a convolution."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 2), nn.Flatten(), nn.Linear(8 * 9, 64), nn.ReLU(), nn.Linear(64, 32)
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize("method", ["int8_dynamic", "int8_weight_only"])
def test_linear_layers_are_quantised_and_counted(method):
    module, images = network(), torch.randn(4, 3, 4, 4)
    with torch.inference_mode():
        before = module(images)
        facts = weights.quantize(module, method)
        after = module(images)
    assert (facts["quantization"], facts["quantized_layers"], facts["linear_layers"]) == (method, 2, 2)
    assert facts["quantized_parameters"] == 72 * 64 + 64 * 32
    assert facts["torchao"] == torchao.__version__
    assert not torch.equal(before, after)
    assert nn.functional.cosine_similarity(before, after).min() > 0.99


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_linear_layers_are_quantised_to_fp8():
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8 products")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32)).to("cuda", torch.bfloat16)
    inputs = torch.randn(16, 64, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode():
        before = module(inputs)
        facts = weights.quantize(module.eval().requires_grad_(False), "fp8")
        after = module(inputs)
    assert (facts["quantization"], facts["quantized_layers"], facts["linear_layers"]) == ("fp8", 2, 2)
    assert not torch.equal(before, after)
    assert nn.functional.cosine_similarity(before.float(), after.float()).min() > 0.98


def test_the_bytes_of_quantised_weights_are_those_of_int8_and_of_the_scales():
    module = network()
    before = weights.count_bytes(module)
    facts = weights.quantize(module, "int8_weight_only")
    numbers = 72 * 64 + 64 * 32
    assert facts["weights_bytes"] == weights.count_bytes(module)
    assert 0 < facts["weights_bytes"] - (before - 3 * numbers) <= 12 * (64 + 32)


def test_a_layer_that_torchao_skips_is_not_counted_as_quantised(monkeypatch):
    """torchao leaves a layer unchanged without an error if its own filter does not accept the layer."""
    from torchao import quantization as library

    quantize = library.quantize_
    monkeypatch.setattr(library, "quantize_", lambda module, method: quantize(module[2], method))
    facts = weights.quantize(network(), "int8_dynamic")
    assert (facts["quantized_layers"], facts["linear_layers"]) == (1, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_a_model_without_a_quantised_layer_is_refused(monkeypatch, count):
    monkeypatch.setattr("torchao.quantization.quantize_", lambda module, method: None)
    module = nn.Sequential(nn.Conv2d(3, 8, 2), *[nn.Linear(8, 8)] * count)
    with pytest.raises(ConfigError, match=f"quantised none of the {count} linear layers of this model; use precision="):
        weights.quantize(module, "int8_dynamic")


def test_an_error_of_torchao_is_one_line(monkeypatch):
    def fail(module, method):
        raise RuntimeError("no kernel\nfor this device")

    monkeypatch.setattr("torchao.quantization.quantize_", fail)
    with pytest.raises(ConfigError, match=r"int8_dynamic: torchao cannot quantise this model \(.*no kernel\); use"):
        weights.quantize(network(), "int8_dynamic")


def test_a_version_of_torch_for_which_torchao_skips_its_kernels_is_a_doubt(monkeypatch):
    monkeypatch.setattr(torchao, "_skip_reason", "Please upgrade to torch >= 9.")
    assert "does not use its compiled kernels: Please upgrade" in weights.kernel_doubts("cpu")["kernels_skipped"]


def test_a_kernel_that_cannot_be_loaded_is_a_doubt_on_a_gpu_only(monkeypatch):
    monkeypatch.setattr(torchao, "_skip_reason", None)
    monkeypatch.setattr(quantization, "missing_kernels", lambda: ["_C_cutlass_90a"])
    assert "_C_cutlass_90a" in weights.kernel_doubts("cuda")["kernels_skipped"]
    assert weights.kernel_doubts("cpu") == {}
    monkeypatch.setattr(quantization, "missing_kernels", list)
    assert weights.kernel_doubts("cuda") == {}


def test_a_kernel_is_missing_until_torch_has_loaded_its_file(monkeypatch, tmp_path):
    files = [tmp_path / name for name in ("_C_one.abi3.so", "_C_two.abi3.so")]
    for file in (*files, tmp_path / "__init__.py"):
        file.touch()
    monkeypatch.setattr(torchao, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(torch.ops, "loaded_libraries", {str(files[1])})
    assert quantization.missing_kernels() == ["_C_one"]


def test_a_missing_torchao_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    assert weights.why_no_quantization() == "torchao not installed; pip install 'visionbench[torchao]'"


@pytest.mark.parametrize(
    ("options", "stored", "limit", "fp32"),
    [
        ({"dtype": "float32"}, "float32", "float32", True),
        ({"dtype": "float32", "tf32": True}, "float32", "float32", False),
        ({"dtype": "bfloat16"}, "bfloat16", "bfloat16", False),
        ({"dtype": "bfloat16", "autocast": True}, "float32", "bfloat16", False),
        ({"dtype": "float32", "quantization": "int8_dynamic"}, "float32", "int8", False),
        ({"dtype": "bfloat16", "quantization": "int8_dynamic"}, "bfloat16", "int8", False),
        ({"dtype": "bfloat16", "quantization": "fp8"}, "bfloat16", "fp8", False),
    ],
)
def test_a_precision_has_a_dtype_of_weights_and_a_limit_of_parity(options, stored, limit, fp32):
    precision = Precision("p", **options)
    assert (precision.stored_dtype, precision.parity_limit, precision.is_fp32) == (stored, limit, fp32)
