"""Disjoint sets of cores: physical cores with their hardware threads, by NUMA node."""

import os

import pytest

from visionbench.engines.cores import Core, Cores, affinity, physical_cores


@pytest.fixture
def two_nodes(tmp_path):
    """A folder as /sys/devices/system: two NUMA nodes with two cores each, and two hardware threads for each core."""
    for node, threads in enumerate(("0-1,4-5", "2-3,6-7")):
        (tmp_path / "node" / f"node{node}").mkdir(parents=True)
        (tmp_path / "node" / f"node{node}" / "cpulist").write_text(f"{threads}\n")
    for thread in range(8):
        folder = tmp_path / "cpu" / f"cpu{thread}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{thread % 4},{thread % 4 + 4}\n")
    return tmp_path


def test_hardware_threads_of_a_core_are_one_core(two_nodes):
    assert physical_cores(range(8), two_nodes) == [
        Core(frozenset({0, 4}), 0),
        Core(frozenset({1, 5}), 0),
        Core(frozenset({2, 6}), 1),
        Core(frozenset({3, 7}), 1),
    ]


def test_only_usable_hardware_threads_are_listed(two_nodes):
    assert physical_cores({3, 4, 7}, two_nodes) == [Core(frozenset({4}), 0), Core(frozenset({3, 7}), 1)]


def test_without_a_topology_each_hardware_thread_is_a_core(tmp_path):
    assert physical_cores({0, 2}, tmp_path) == [Core(frozenset({0})), Core(frozenset({2}))]


def test_the_cores_of_a_job_are_on_one_node_if_a_node_has_enough(two_nodes):
    cores = Cores(tuple(physical_cores(range(8), two_nodes)))
    first = cores.take(1)
    both = cores.take(2)
    assert affinity(first) == {0, 4}
    assert {core.node for core in both} == {1}
    assert affinity(cores.take(1)) == {1, 5}


def test_a_job_with_more_cores_than_a_node_has_gets_cores_of_several_nodes(two_nodes):
    cores = Cores(tuple(physical_cores(range(8), two_nodes)))
    assert {core.node for core in cores.take(3)} == {0, 1}


def test_there_are_no_cores_for_a_job_until_others_give_them_back(two_nodes):
    cores = Cores(tuple(physical_cores(range(8), two_nodes)))
    taken = cores.take(3)
    assert cores.take(2) is None
    cores.give_back(taken)
    assert len(cores.free) == 4 and cores.free == list(cores.all)


def test_the_cores_of_this_process_are_within_its_affinity():
    assert affinity(Cores.of_this_process().all) == os.sched_getaffinity(0)
