"""The pipeline stage: the steps of serial batches add up, and overlapped batches give the same answers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from visionbench.config import InputsConfig, PipelineConfig
from visionbench.core import PIPELINE_STEPS, CallTiming, Case, Example, ModelPart, Samples
from visionbench.stages import pipeline


class Model:
    """A model that adds up pixels. Each step advances the fake clock by a known time."""

    def __init__(self, clock):
        self.clock, self.outputs = clock, []
        self.module, self.dtype = torch.nn.Linear(1, 1), torch.float32

    def preprocess(self, images, captions):
        self.clock.now += 3.0
        return {"pixel_values": torch.stack([torch.tensor(np.asarray(image), dtype=torch.float32) for image in images])}

    def call(self, inputs):
        self.clock.now += 5.0
        return inputs["pixel_values"].sum(dim=(1, 2, 3))

    def postprocess(self, output, images):
        self.clock.now += 2.0
        self.outputs += output.tolist()
        return output.tolist()


@pytest.fixture
def context(measured, clock, monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "perf_counter", clock)
    monkeypatch.setattr(pipeline, "loader_count", lambda rule: 2)
    examples = []
    for number in range(5):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
        examples.append(Example(str(number), tmp_path / f"{number}.png"))

    def context(batch_size=2, **rule):
        case = measured()
        case.measure.pipeline = PipelineConfig(**{"min_batches": 3, "min_seconds": 0.0, **rule})
        return replace(case, case=Case("b", batch_size, (), ()), examples=examples, model=Model(clock))

    return context


def test_the_steps_of_serial_batches_add_up(context):
    samples = pipeline.serial(context())
    assert samples.get("pipeline/serial_s").tolist() == [10.0] * 3
    means = {step: samples.get(f"pipeline/{step}_s").mean() for step in PIPELINE_STEPS}
    assert means == {"read": 0, "decode": 0, "preprocess": 3.0, "copy": 0, "forward": 5.0, "postprocess": 2.0}
    assert len(samples.get("pipeline/serial_cpu_s")) == 3
    assert samples.get("pipeline/copied_bytes").tolist() == [2 * 4 * 4 * 3 * 4.0] * 3
    assert not samples.flags


def test_serial_batches_last_for_min_seconds(context):
    assert len(pipeline.serial(context(min_seconds=95.0)).get("pipeline/serial_s")) == 10


def test_steps_that_do_not_add_up_are_flagged(context, monkeypatch):
    case = context()
    timed = pipeline._run_step

    def lossy(context, batch, step):
        timed(context, batch, step)
        context.device.clock.now += 0.2 if step == "copy" else 0.0
        context.device.clock.now += 0.8 if step == "forward" else 0.0

    monkeypatch.setattr(pipeline, "_run_step", lossy)
    assert pipeline.serial(case).flags == {"stages_do_not_add_up": "they make -9.1% of the end-to-end time"}


def test_only_the_distinct_images_are_used_in_rotation(context):
    case = context(batch_size=2)
    case.measure.inputs = InputsConfig(distinct_samples=3)
    pipeline.serial(case)
    assert case.model.outputs == [16.0 * number for number in (0, 1, 2, 0, 1, 2, 0, 1)]


def test_overlapping_gives_the_same_answers_in_order(context):
    case = context(min_batches=7)
    samples = pipeline.overlapped(case)
    assert case.model.outputs == [16.0 * (number % 5) for number in range(14)]
    assert samples.get("pipeline/overlapped_images_count").tolist() == [14.0]
    assert samples.get("pipeline/loaders_count").tolist() == [2.0]


@pytest.mark.parametrize(("shared", "pinned"), [(False, True), (True, False)])
def test_overlapped_batches_are_pinned_unless_the_device_shares_host_memory(context, monkeypatch, shared, pinned):
    copies = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: copies.append(len(tensor)) or tensor)
    case = context()
    case.device.shares_host_memory = shared
    pipeline.overlapped(case)
    assert bool(copies) is pinned


def test_a_copy_ahead_by_the_loaders_is_not_repeated_before_the_model(context, monkeypatch):
    copies = []

    def copy_ahead(context, batch):
        copies.append(batch)
        pipeline._copy(context, batch)
        batch.seconds["copy"] = 0.25

    monkeypatch.setattr(pipeline, "_copies_ahead", lambda context: True)
    monkeypatch.setattr(pipeline, "_copy_ahead", copy_ahead)
    monkeypatch.setattr(pipeline, "_pinned", lambda tensor: tensor)
    case = context()
    case.device.shares_host_memory = False
    samples = pipeline.overlapped(case)
    assert len(copies) == 3
    assert samples.get("pipeline/overlapped_copy_s").tolist() == [0.75]
    assert samples.get("pipeline/copied_ahead_count").tolist() == [1.0]
    assert case.model.outputs[:2] == pipeline_outputs(case)


def pipeline_outputs(case):
    """The sums of the first two images, as the model computes them."""
    return [float(np.asarray(Image.open(example.image)).sum()) for example in case.examples[:2]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_on_a_gpu_the_loaders_copy_while_the_model_runs(context):
    case = context()
    case.device.shares_host_memory = False
    case.model.module.to("cuda")
    samples = pipeline.overlapped(case)
    assert samples.get("pipeline/copied_ahead_count").tolist() == [1.0]
    assert case.model.outputs[:2] == pipeline_outputs(case)


@pytest.mark.parametrize(("overlapped_s", "flagged"), [(10.0, False), (5.1, False), (4.6, False), (4.4, True)])
def test_a_rate_above_its_upper_bound_is_flagged(overlapped_s, flagged):
    """Ten images in batches of two, with a bound of one second for a batch: more than 10 % above is not possible."""
    series = {f"pipeline/{step}_s": np.array([0.0]) for step in PIPELINE_STEPS}
    series |= {"pipeline/forward_s": np.array([1.0]), "pipeline/serial_cpu_s": np.array([1.0])}
    counts = {"cores_count": 4.0, "loaders_count": 2.0, "overlapped_images_count": 10.0, "overlapped_s": overlapped_s}
    series |= {f"pipeline/{name}": np.array([value]) for name, value in counts.items()}
    flags = pipeline.check_bound(Samples(series), 2).flags
    assert list(flags) == (["bound_exceeded"] if flagged else [])


def test_an_error_in_a_loader_is_raised(context):
    case = context()
    case.examples[3].image.write_bytes(b"no picture")
    with pytest.raises(Exception, match="cannot be decoded"):
        pipeline.overlapped(case)


def test_a_model_that_generates_text_is_timed_by_its_parts(context):
    case = context()
    case.device.time_call = lambda call: CallTiming(call())
    case.model.parts = lambda inputs: {
        "vision": ModelPart(lambda: 1.0),
        "prefill": ModelPart(lambda: 2.0),
        "decode": ModelPart(lambda: 0.5, 19),
    }
    samples = pipeline.time_tokens(case, SimpleNamespace(inputs={}))
    assert {name: values.tolist() for name, values in samples.series.items()} == {
        "pipeline/vision_s": [1.0] * 3,
        "pipeline/prefill_s": [2.0] * 3,
        "pipeline/token_s": [0.5] * 3,
    }


def test_a_model_without_text_has_the_reason_for_missing_times(context):
    samples = pipeline.time_tokens(context(), SimpleNamespace(inputs={}))
    assert set(samples.missing.values()) == {"this model generates no tokens"}


def test_on_a_cpu_copies_are_missing_with_the_reason(context):
    samples = pipeline.run(context())
    assert samples.missing["pipeline/copy_pinned_bytes_per_s"] == "on a CPU nothing is copied to a device"
    assert len(samples.get("pipeline/serial_s")) == 3
    assert samples.get("pipeline/overlapped_s")[0] > 0
