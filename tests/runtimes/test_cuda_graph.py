"""CUDA graphs: a call is recorded once for each shape, and each replay has its own inputs and outputs."""

import pytest
import torch
from command_line import call
from torch import nn

from visionbench.core import Precision
from visionbench.results import archive
from visionbench.runtimes.cuda_graph import CudaGraph, RecordedPart, Recording, record

FP32 = Precision("fp32", "float32")


def on_host(recorded):
    """Return a function that records on the host: a replay computes the part again, in place."""

    def record_on_host(graph, tensors):
        inputs = tuple(tensor.clone() for tensor in tensors)
        result = graph(*inputs)
        outputs = result if isinstance(result, tuple) else (result,)
        recorded.append([tuple(tensor.shape) for tensor in tensors])

        def replay():
            result = graph(*inputs)
            for place, value in zip(outputs, result if isinstance(result, tuple) else (result,), strict=True):
                place.copy_(value)

        return Recording(inputs, outputs, replay)

    return record_on_host


def test_a_call_is_recorded_once_for_each_shape_and_again_after_a_reset():
    recorded = []
    part = RecordedPart(lambda images: images * 2, on_host(recorded))
    for size in (2, 3, 2):
        assert torch.equal(part(torch.ones(size, 4)), torch.full((size, 4), 2.0))
    assert recorded == [[(2, 4)], [(3, 4)]]
    part.forget()
    part(torch.ones(2, 4))
    assert recorded[2:] == [[(2, 4)]]


def test_an_output_is_not_overwritten_by_the_next_call():
    part = RecordedPart(lambda images: (images + 1, images.sum()), on_host([]))
    first = part(torch.zeros(2))
    second = part(torch.ones(2))
    assert first[0].tolist() == [1, 1] and second[0].tolist() == [2, 2]
    assert (float(first[1]), float(second[1])) == (0, 2)


def test_a_cpu_is_refused():
    message = CudaGraph().why_unsupported("cpu", FP32)
    assert message == "CUDA graphs are for NVIDIA GPUs, not for cpu; use runtime=eager or runtime=compile"
    assert CudaGraph().why_unsupported("cuda", FP32) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_recorded_network_gives_the_outputs_of_eager_on_a_gpu():
    network = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 16)).cuda().eval().requires_grad_(False)
    part = RecordedPart(network, record)
    with torch.inference_mode():
        for size in (2, 5, 2):
            images = torch.randn(size, 64, device="cuda")
            torch.testing.assert_close(part(images), network(images))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_clip_tiny_is_measured_with_cuda_graphs(tmp_path):
    words = ["run", "device=cuda", "runtime=cuda_graph", "metrics=[latency,parity,recall]", "batch.sizes=[1,4]"]
    done = call(tmp_path, *words, "data.options.samples=24", "measure=quick", "tracking=none")
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = archive.read(tmp_path / "outputs")
    assert all(row.metrics.values["parity_cosine_ratio"] > 0.9999 for row in run.timed)
