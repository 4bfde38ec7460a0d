"""Runs that several machines measured: they stay separate, and tables, names and the report show their hosts."""

import pytest
from saved_runs import run, speed

from visionbench.report.document import _remarks
from visionbench.results.naming import Names
from visionbench.results.sides import sides
from visionbench.terminal.footnotes import details, overview


@pytest.fixture
def two_hosts():
    return [run(speed(10.0), host={"host": "node1"}), run(speed(15.0), host={"host": "node2"})]


def test_runs_of_two_hosts_are_never_pooled(two_hosts):
    assert [[each.record.host.name for each in side.runs] for side in sides(two_hosts)] == [["node1"], ["node2"]]


def test_runs_on_other_cores_of_one_host_are_pooled():
    runs = [run(speed(10.0), device={"cores": cores}) for cores in ("0", "1")]
    assert len(sides(runs)) == 1


def test_runs_on_two_gpus_of_one_host_are_never_pooled():
    runs = [run(speed(10.0), device={"device_uuid": uuid}) for uuid in ("41c6", "99aa")]
    assert len(sides(runs)) == 2


def test_a_run_beside_others_is_not_comparable_with_a_run_alone():
    beside = run(speed(10.0), plan={"beside": "up to 1 other run of the sweep at the same time"})
    assert sides([beside])[0].binding["other runs"] != sides([run(speed(10.0))])[0].binding["other runs"]


def test_equal_runs_of_two_hosts_have_the_host_in_their_name(two_hosts):
    names = Names.of(two_hosts)
    assert [names.short(each) for each in two_hosts] == ["host node1", "host node2"]


def test_tables_and_the_report_state_that_there_are_several_hosts(two_hosts):
    line = "measured on 2 hosts (node1, node2): a difference between hosts may be that of the machines"
    assert line in list(overview(two_hosts))
    assert line in list(details(two_hosts, lambda each: each.name, verbose=False))
    assert any("several hosts (node1, node2)" in remark for remark in _remarks(two_hosts, "en"))
    assert not any("hosts" in remark for remark in _remarks(two_hosts[:1], "en"))
