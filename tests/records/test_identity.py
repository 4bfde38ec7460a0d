"""The identity of a case depends on everything that can change its numbers, and on nothing else."""

from dataclasses import replace

import pytest
from saved_runs import BATCH, record

from visionbench.core import Case
from visionbench.records import identity
from visionbench.records.identity import Identity

STORED = {"visionbench": "0.1.0", "code": "c" * 64, "libraries": {"timm": "1.0"}, "weights": {"sha256": "d" * 64}}


def identify(**more):
    return Identity.of_record(record(identity=STORED, **more))


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


def test_the_order_of_keys_and_metrics_does_not_change_the_digest():
    one = record(identity=STORED)
    other = replace(one, config=reversed_keys(one.config), identity=reversed_keys(STORED))
    case = replace(BATCH, metrics=tuple(reversed(BATCH.metrics)), stages=tuple(reversed(BATCH.stages)))
    assert Identity.of_record(one).digest(BATCH) == Identity.of_record(other).digest(case)


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        ({"host": {"torch": "2.12.0"}}, "torch 2.12.0 → 2.13.0"),
        ({"host": {"host": "other"}}, "host other → box"),
        ({"device": {"driver": "550"}}, None),
        ({"device": {"threads": 4}}, "device.threads 4 → 2"),
        ({"data": {"contents_sha256": "a" * 64}}, "data.contents_sha256 aaaaaaaaaa… → f00f00f00f…"),
        ({"config": {"model": {"seed": 1}}}, "model.seed 1 → 0"),
        ({"config": {"measure": {"latency": {"calls": 21}}}}, "measure.latency.calls 21 → 20"),
        ({"config": {"model": {"options": {"beams": 5}}}}, "model.options.beams 5 → –"),
        ({"identity": {"code": "e" * 64}}, "code eeeeeeeeee… → cccccccccc…"),
        ({"identity": {"libraries": {"timm": "2.0"}}}, "timm 2.0 → 1.0"),
        ({"identity": {"weights": {"sha256": "e" * 64}}}, "weights.sha256 eeeeeeeeee… → dddddddddd…"),
    ],
)
def test_each_condition_changes_the_digest_and_is_named(more, difference):
    stored = {**STORED, **more.pop("identity", {})}
    before = Identity.of_record(record(**more, identity=stored))
    assert before.digest(BATCH) != identify().digest(BATCH)
    assert [str(change) for change in before.changes(identify())] == ([difference] if difference else [])


@pytest.mark.parametrize(
    "more",
    [
        {"config": {"output_dir": "elsewhere"}},
        {"config": {"tracking": {"name": "none"}}},
        {"config": {"report": {"language": "zh"}}},
        {"config": {"batch": {"sizes": [1, 2]}}},
        {"config": {"measure": {"repeats": 3, "order_seed": 4, "name": "other", "retries": 9}}},
        {"config": {"metrics": {"captioning": {"spice": True}}}},
        {"device": {"clock_sm_mhz": 1980}},
        {"host": {"mlflow": "9.9"}},
        {"git_commit": "b" * 40},
        {"sweep": "another"},
    ],
)
def test_settings_without_effect_on_the_numbers_do_not_change_the_digest(more):
    assert identify(**more).digest(BATCH) == identify().digest(BATCH)


def test_the_batch_size_and_the_options_of_its_metrics_are_part_of_a_case():
    one, quality = identify(), Case("quality", 32, ("evaluation",), ("recall",))
    assert one.digest(BATCH) != one.digest(replace(BATCH, batch_size=2))
    other = identify(config={"metrics": {"recall": {"ks": [1]}}})
    assert one.digest(quality) != other.digest(quality)
    assert one.digest(BATCH) == other.digest(BATCH)


def test_a_record_of_an_older_version_is_compared_by_what_it_stored():
    old = Identity.of_record(record(git_commit="a" * 40))
    assert old.conditions["git commit"] == "a" * 40
    assert not old.changes(identify())


def test_the_digest_of_the_code_depends_on_the_files_of_own_parts(tmp_path):
    part = tmp_path / "part.py"
    part.write_text("x = 1\n")
    first = identity.code_digest((part,))
    identity.code_digest.cache_clear()
    part.write_text("x = 2\n")
    assert identity.code_digest((part,)) != first
