"""What an input pipeline cannot do is refused in the plan, in one line with a remedy."""

from importlib import util

import pytest

from visionbench.decoders import simplejpeg
from visionbench.devices.cuda import Cuda
from visionbench.plan import plan


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.decoder=simplejpg"], "data.decoder=simplejpg: no such value; did you mean 'simplejpeg'?"),
        (["data.decoder=turbo"], "data.decoder=turbo: no such value; there are: pillow, pillow_draft, simplejpeg"),
        (["data.preprocess=devise"], "data.preprocess=devise: no such value; did you mean 'device'?"),
        (
            ["model=sam_tiny", "data.decoder=pillow_draft"],
            "data.decoder=pillow_draft: model sam_tiny predicts masks or boxes in the size of the stored image, and "
            "this decoder gives smaller images; use data.decoder=pillow",
        ),
    ],
)
def test_an_input_pipeline_that_cannot_work_is_refused(refusal, overrides, message):
    assert refusal(*overrides) == message


def test_loader_processes_are_refused_if_each_would_use_the_gpu(refusal, monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)
    assert refusal("device=cuda", "data.preprocess=device", "measure.pipeline.processes=true") == (
        "measure.pipeline.processes=true: not with data.preprocess=device on cuda, because each process would use the "
        "device; use data.preprocess=transformers or measure.pipeline.processes=false"
    )


def test_a_missing_package_is_refused_with_the_command_that_installs_it(refusal, monkeypatch):
    monkeypatch.setattr(simplejpeg, "find_spec", lambda name: None if name == "simplejpeg" else util.find_spec(name))
    assert refusal("data.decoder=simplejpeg") == (
        "data.decoder=simplejpeg: simplejpeg not installed; pip install 'visionbench[simplejpeg]'"
    )


def test_the_name_of_a_run_has_what_is_not_the_reference(config):
    assert plan(config("device=cpu")).name == "clip_tiny · cpu · fp32"
    planned = plan(config("device=cpu", "data.decoder=simplejpeg"))
    assert planned.name == "clip_tiny · cpu · fp32 · decoder simplejpeg"
    assert planned.decoder == "simplejpeg"
    both = ["data.decoder=pillow_draft", "data.preprocess=device", "runtime=openvino"]
    assert plan(config("device=cpu", *both)).name == (
        "clip_tiny · cpu · fp32 · openvino · decoder pillow_draft · preprocess device"
    )


@pytest.mark.parametrize("other", ["data.decoder=simplejpeg", "data.preprocess=device"])
def test_parity_is_measured_in_eager_fp32_with_another_input_pipeline(config, other):
    metrics = "metrics=[latency,parity]"
    assert "parity" in plan(config(metrics, "device=cpu")).unsuited
    assert "parity" not in plan(config(metrics, "device=cpu", other)).unsuited
