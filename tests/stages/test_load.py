"""Loading is timed, and a model whose outputs do not depend on its inputs is refused."""

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


def test_the_time_of_loading_includes_a_synchronisation(device, clock):
    class Adapter:
        def load(self, model, place, dtype):
            clock.now += 2.5
            return type("Loaded", (), {"identity": {"weights_bytes": 400}})()

    _, samples = load.load(Adapter(), ModelConfig(), device, CPU, torch.float32)
    assert device.log == ["synchronize"]
    assert {name: values.tolist() for name, values in samples.series.items()} == {
        "load/seconds_s": [2.5],
        "memory/weights_bytes": [400.0],
        "memory/after_load_process_bytes": [5.0],
    }
    assert samples.missing == {"memory/allocated_bytes": "no allocator"}


def test_the_first_call_is_timed(measured):
    context = measured(3.0, 1.0)
    samples = load.first_call(context.model, context.device, {"name": "a"})
    assert samples.get("load/first_call_s").tolist() == [3.0]
    assert context.model.called == ["a"]
    assert context.model.inference == {True}


# ---------------------------------------------------------------------------------------------------- output check
@dataclass
class Model:
    """A model with outputs by name, each a function of the batch and of the number of calls so far."""

    outputs: dict
    calls: int = 0
    inference: set = field(default_factory=set)

    def probe_outputs(self, inputs):
        self.calls += 1
        self.inference.add(torch.is_inference_mode_enabled())
        return {name: output(inputs, self.calls) for name, output in self.outputs.items()}


def inputs(*values):
    return [{"pixels": torch.tensor([value])} for value in values]


def check(*outputs, singles=None, dtype=torch.float32):
    """Check a model with these outputs, `image` first, on two different inputs unless `singles` are given."""
    model = Model(dict(zip(("image", "text"), outputs, strict=False)))
    load.check_output_follows_input(model, singles or inputs(1.0, 2.0), CPU, dtype)
    return model


def follows(batch, calls):
    return batch["pixels"] * 3


def constant(batch, calls):
    return torch.ones(1)


def noise(batch, calls):
    return torch.tensor([float(calls)])


def drifting(batch, calls):
    return follows(batch, calls) + 0.5 * calls


def nan(batch, calls):
    return batch["pixels"] * float("nan")


def infinite_for_the_other(batch, calls):
    return 1 / (2 - batch["pixels"])


def nan_the_second_time(batch, calls):
    return follows(batch, calls) if calls < 3 else nan(batch, calls)


def test_an_output_that_follows_its_input_passes():
    assert check(follows).inference == {True}


def test_noise_that_is_small_beside_the_difference_passes():
    check(lambda batch, calls: follows(batch, calls) + 0.01 * calls)


@pytest.mark.parametrize("output", [constant, noise, drifting])
def test_an_output_that_does_not_follow_its_input_is_refused_with_both_differences(output):
    with pytest.raises(
        OutputCheckError, match=r"a different input does not change the image output \(largest difference"
    ):
        check(output)


def test_every_output_must_follow_its_input():
    with pytest.raises(OutputCheckError, match="does not change the text output"):
        check(follows, constant)


@pytest.mark.parametrize("output", [nan, infinite_for_the_other, nan_the_second_time])
def test_an_output_that_is_not_finite_is_refused(output):
    with pytest.raises(OutputCheckError, match="the image output holds NaN or infinity"):
        check(output)


@pytest.mark.parametrize("singles", [inputs(1.0), inputs(1.0, 1.0, 1.0)], ids=["one", "equal ones"])
def test_data_without_two_different_inputs_is_refused(singles):
    with pytest.raises(OutputCheckError, match="the data holds no two different inputs"):
        check(follows, singles=singles)


def test_the_second_input_differs_in_as_many_tensors_as_possible():
    """Only the third sample has another caption, so only this sample shows that the text is read."""
    singles = [{"pixels": torch.tensor([float(i)]), "ids": torch.tensor([float(i == 2)])} for i in range(3)]
    check(follows, lambda batch, calls: batch["ids"], singles=singles)


def test_the_outputs_are_checked_in_the_runs_dtype():
    dtypes = []
    check(lambda batch, calls: dtypes.append(batch["pixels"].dtype) or follows(batch, calls), dtype=torch.bfloat16)
    assert set(dtypes) == {torch.bfloat16}
