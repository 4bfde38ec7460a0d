"""The memory pass has the device to itself, with one batch of inputs."""

from visionbench.config import MemoryConfig
from visionbench.stages import memory


def test_the_peak_is_reset_before_the_calls_and_read_when_they_are_done(measured):
    context = measured(rule=MemoryConfig(calls=3), kept_bytes=11)
    found = memory.run(context)
    assert context.device.log == ["reset", "call", "call", "call", "synchronize", "peak, 11 kept"]
    assert found.get("memory/process_peak_bytes").tolist() == [7.0]


def test_the_cases_other_batches_are_let_go_before_the_peak_is_reset(measured):
    context = measured(rule=MemoryConfig(calls=2), batches=("a", "b", "c"))
    left = []
    context.device.reset_peak_memory = lambda: left.append(len(context.batches))
    memory.run(context)
    assert left == [1]
    assert context.model.called == ["a", "a"]


def test_its_calls_are_made_in_inference_mode(measured):
    context = measured(rule=MemoryConfig(calls=1))
    memory.run(context)
    assert context.model.inference == {True}
