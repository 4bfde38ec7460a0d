"""The throughput stage issues a number of calls, or calls for a time, with a limited number in flight."""

from visionbench.config import ThroughputConfig
from visionbench.stages import throughput


def completed(context):
    return throughput.run(context).get("throughput/completed_s").tolist()


def test_a_fixed_number_of_calls_is_exact(measured):
    assert completed(measured(0.5, rule=ThroughputConfig(calls=4))) == [0.5, 1.0, 1.5, 2.0]


def test_a_fixed_count_overrides_the_other_rules(measured):
    rule = ThroughputConfig(calls=2, min_calls=100, min_seconds=100.0)
    assert completed(measured(1.0, rule=rule)) == [1.0, 2.0]


def test_calls_last_for_min_seconds(measured):
    assert len(completed(measured(1.0, rule=ThroughputConfig(min_calls=2, min_seconds=7.0)))) == 7


def test_at_least_min_calls_are_made(measured):
    assert len(completed(measured(1.0, rule=ThroughputConfig(min_calls=9, min_seconds=3.0)))) == 9


def test_the_device_receives_the_limit_of_calls_in_flight(measured):
    context = measured(rule=ThroughputConfig(calls=1, in_flight=4))
    completed(context)
    assert context.device.log[0] == "in flight 4"


def test_calls_rotate_over_the_batches_in_a_quiet_window(measured):
    context = measured(rule=ThroughputConfig(calls=3), batches=("a", "b"))
    completed(context)
    assert context.model.called == ["a", "b", "a"]
    assert context.model.collected_garbage == {False}
    assert context.model.inference == {True}
