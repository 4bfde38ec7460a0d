"""The memory stage: peaks of a few calls between a reset and a reading."""

from visionbench.config import MemoryConfig
from visionbench.stages import memory


def test_the_peak_is_reset_before_the_calls_and_read_when_they_are_done(measured):
    context = measured(rule=MemoryConfig(calls=3), kept_bytes=11)
    samples = memory.run(context)
    assert context.device.log == ["reset", "call", "call", "call", "synchronize", "peak, 11 kept"]
    assert samples.get("memory/process_peak_bytes").tolist() == [7.0]


def test_the_calls_are_made_in_inference_mode(measured):
    context = measured(rule=MemoryConfig(calls=1))
    memory.run(context)
    assert context.model.inference == {True}
