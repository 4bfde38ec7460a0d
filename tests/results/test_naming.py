"""The names of runs that are shown together, and filters by what differs."""

import pytest
from saved_runs import run, speed

from visionbench.core import ConfigError
from visionbench.results import archive
from visionbench.results.naming import Names


def threads(count, **more):
    """Return a run with this number of threads in its configuration."""
    return run(speed(1.0), **{"config": {"device": {"name": "cpu", "threads": count}}, **more})


def test_runs_are_named_by_what_differs():
    runs = [threads(1), threads(5)]
    names = Names.of(runs)
    assert [names.name(one) for one in runs] == [
        "clip_tiny · cpu · fp32 · threads 1",
        "clip_tiny · cpu · fp32 · threads 5",
    ]
    assert [names.short(one) for one in runs] == ["threads 1", "threads 5"]
    assert names.differing_first(runs[1]) == "threads 5 · clip_tiny · cpu · fp32"
    assert names.columns == ("threads",)
    assert names.values(runs[1]) == {"threads": "5"}
    assert names.varying == ()


def test_the_parts_that_differ_come_first():
    runs = [threads(1), threads(1, precision="bf16"), threads(2, precision="bf16")]
    names = Names.of(runs)
    assert names.varying == ("precision",)
    assert names.differing_first(runs[2]) == "bf16 · threads 2 · clip_tiny · cpu"
    assert names.short(runs[0]) == "fp32 · threads 1"


def test_a_single_run_has_its_usual_name():
    alone = threads(1)
    names = Names.of([alone])
    assert names.name(alone) == names.short(alone) == names.differing_first(alone) == "clip_tiny · cpu · fp32"
    assert names.columns == ()


def test_equal_runs_of_two_sweeps_are_named_by_the_sweep():
    runs = [threads(1, sweep="monday"), threads(1, sweep="tuesday")]
    names = Names.of(runs)
    assert [names.short(one) for one in runs] == ["sweep monday", "sweep tuesday"]


def test_equal_runs_of_one_sweep_are_named_by_their_start():
    runs = [threads(1), threads(1)]
    names = Names.of(runs)
    assert names.columns == ("started at",)
    assert len({names.name(one) for one in runs}) == 2


def test_equal_configurations_on_two_devices_are_named_by_the_device():
    runs = [threads(1, device={"device_name": "one"}), threads(1, device={"device_name": "other"})]
    assert [Names.of(runs).short(one) for one in runs] == ["device name one", "device name other"]


@pytest.mark.parametrize("name", ["device.threads", "recall.ks", "ks", "metrics.recall.ks"])
def test_a_filter_accepts_a_configuration_key_or_its_end(name):
    value = "5" if name == "device.threads" else "1,5"
    runs = [threads(5), threads(1, config={"device": {"threads": 1}, "metrics": {"recall": {"ks": [10]}}})]
    assert archive.select(runs, archive.parse_filter(f"{name}=[{value}]", "--where"), "--where") == runs[:1]


def test_the_error_for_a_name_that_may_be_several_keys_has_the_keys():
    runs = [run(speed(1.0), config={"measure": {"latency": {"calls": 1}, "throughput": {"calls": 2}}})]
    with pytest.raises(ConfigError, match=r"'calls' may be measure.latency.calls or measure.throughput.calls"):
        archive.choose(runs, {"calls": "1"}, "--where calls=1")
