"""Loading is timed, and a model that does not look at its input is not measured."""

from dataclasses import dataclass, field

import pytest
import torch

from visionbench.config import ModelConfig
from visionbench.stages import load
from visionbench.stages.load import OutputCheckError

CPU = torch.device("cpu")


# ------------------------------------------------------------------------------------------------------------ loading
@pytest.fixture
def device(measured):
    return measured(3.0).device


def test_the_seconds_of_loading_end_when_the_device_is_done(device, clock):
    class Adapter:
        def load(self, model, place, dtype):
            clock.now += 2.5
            return type("Loaded", (), {"identity": {"weights_bytes": 400}})()

    _, found = load.load(Adapter(), ModelConfig(), device, CPU, torch.float32)
    assert device.log == ["synchronize"]
    assert {name: values.tolist() for name, values in found.series.items()} == {
        "load/seconds_s": [2.5],
        "memory/weights_bytes": [400.0],
        "memory/after_load_process_bytes": [5.0],
    }
    assert found.missing == {"memory/allocated_bytes": "no allocator"}


def test_the_first_call_is_timed_by_itself(measured):
    context = measured(3.0, 1.0)
    found = load.first_call(context.model, context.device, {"name": "a"})
    assert found.get("load/first_call_s").tolist() == [3.0]
    assert context.model.called == ["a"]
    assert context.model.inference == {True}


# ----------------------------------------------------------------------------------------------------------- evidence
@dataclass
class Model:
    """Outputs by name, each a function of the batch and of how often the model was asked."""

    outputs: dict
    asked: int = 0
    inference: set = field(default_factory=set)

    def probe_outputs(self, inputs):
        self.asked += 1
        self.inference.add(torch.is_inference_mode_enabled())
        return {name: output(inputs, self.asked) for name, output in self.outputs.items()}


def inputs(*values):
    return [{"pixels": torch.tensor([value])} for value in values]


def check(*outputs, singles=None, dtype=torch.float32):
    """Check a model with these outputs, the image's first, on two different inputs unless others are given."""
    model = Model(dict(zip(("image", "text"), outputs, strict=False)))
    load.check_output_follows_input(model, singles or inputs(1.0, 2.0), CPU, dtype)
    return model


def follows(batch, asked):
    return batch["pixels"] * 3


def constant(batch, asked):
    return torch.ones(1)


def noise(batch, asked):
    return torch.tensor([float(asked)])


def drifting(batch, asked):
    return follows(batch, asked) + 0.5 * asked


def nan(batch, asked):
    return batch["pixels"] * float("nan")


def infinite_for_the_other(batch, asked):
    return 1 / (2 - batch["pixels"])


def test_an_output_that_follows_its_input_passes():
    assert check(follows).inference == {True}


def test_a_little_noise_beside_a_clear_difference_passes():
    check(lambda batch, asked: follows(batch, asked) + 0.01 * asked)


@pytest.mark.parametrize("output", [constant, noise, drifting])
def test_an_output_that_does_not_follow_its_input_is_told_with_both_differences(output):
    with pytest.raises(
        OutputCheckError, match=r"a different input does not change the image output \(largest difference"
    ):
        check(output)


def test_each_output_must_follow_and_the_one_that_does_not_is_named():
    with pytest.raises(OutputCheckError, match="does not change the text output"):
        check(follows, constant)


@pytest.mark.parametrize("output", [nan, infinite_for_the_other])
def test_an_output_that_is_not_a_number_is_refused(output):
    with pytest.raises(OutputCheckError, match="the image output holds NaN or infinity"):
        check(output)


@pytest.mark.parametrize("singles", [inputs(1.0), inputs(1.0, 1.0, 1.0)], ids=["one", "equal ones"])
def test_data_without_two_different_inputs_shows_nothing_and_says_so(singles):
    with pytest.raises(OutputCheckError, match="the data holds no two different inputs"):
        check(follows, singles=singles)


def test_the_input_to_compare_with_differs_in_as_much_as_possible():
    """With equal captions everywhere but in the third sample, only that one can show that the text is read."""
    singles = [{"pixels": torch.tensor([float(i)]), "ids": torch.tensor([float(i == 2)])} for i in range(3)]
    check(follows, lambda batch, asked: batch["ids"], singles=singles)


def test_the_inputs_are_of_the_precision_that_is_measured():
    seen = []
    check(lambda batch, asked: seen.append(batch["pixels"].dtype) or follows(batch, asked), dtype=torch.bfloat16)
    assert set(seen) == {torch.bfloat16}
