"""Every YAML in conf/ composes and plans, and begins with a command that uses it."""

import shlex
from importlib import import_module
from math import prod
from pkgutil import iter_modules

import pytest
import yaml
from command_line import plan_runs
from hydra.core.override_parser.overrides_parser import OverridesParser

from visionbench.composition import parse
from visionbench.config import MeasureConfig, project_folder, schema_keys
from visionbench.core import ConfigError
from visionbench.devices.cuda import Cuda
from visionbench.plan import plan

CONF = project_folder("conf")
OPTIONS = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name != "experiment")
MODELS = sorted((CONF / "model").glob("*.yaml"))
REMOTE = "remote"
"""The model at an endpoint, which has no random weights."""
LAYOUTS_OF_KARPATHY = ("coco_karpathy", "flickr30k")
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.fixture
def a_gpu(monkeypatch):
    """Let planning assume a GPU; it loads nothing."""
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)


def name(path):
    return str(path.relative_to(CONF))


def command(path):
    """The arguments of the command that is the YAML's first comment."""
    first = next(line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    assert first.startswith("# visionbench run"), f"{name(path)} does not begin with a command that uses it"
    return shlex.split(first.removeprefix("# visionbench run"))


def read(path):
    return yaml.safe_load(path.read_text())


def shipped(kind):
    return {module.name for module in iter_modules(import_module(f"visionbench.{kind}").__path__)}


# ------------------------------------------------------------------------------------------------ composed and planned
@pytest.mark.parametrize("path", OPTIONS, ids=name)
def test_every_option_begins_with_a_command_that_chooses_it_and_plans(config, a_gpu, path):
    overrides = parse(command(path)).overrides
    group, option = path.parent.name, path.stem
    chosen = next(value for key, _, value in (word.partition("=") for word in overrides) if key == group)
    assert option in chosen.strip("[]").split(",")
    assert OverridesParser.create().parse_overrides(overrides)
    assert plan(config(*overrides)).cases


@pytest.mark.parametrize("path", [path for path in MODELS if path.stem != REMOTE], ids=name)
def test_every_model_plans_with_random_weights(config, path):
    run = plan(config(f"model={path.stem}", "model.weights=random"))
    assert run.model == path.stem
    assert len(run.cases) == 4


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name)
def test_every_experiment_begins_with_a_command_that_plans(a_gpu, path):
    overrides = command(path)
    assert f"experiment={path.stem}" in overrides
    swept = read(path).get("hydra", {}).get("sweeper", {}).get("params", {})
    jobs = plan_runs(overrides)
    assert len(jobs) == prod(len(str(values).split(",")) for values in swept.values())
    assert all(run.cases for _, run in jobs)


def test_the_tutorial_has_three_tasks_at_batch_sizes_1_2_4():
    jobs = plan_runs(["experiment=tutorial", "model.weights=random"])
    assert len({run.task for _, run in jobs}) == 3
    assert all([case.batch_size for case in run.cases] == [1, 2, 4] for _, run in jobs)


@pytest.mark.parametrize("path", sorted((CONF / "hydra").rglob("*.yaml")), ids=name)
def test_every_option_of_hydra_begins_with_a_command(path):
    parse(command(path))


@pytest.mark.skipif(Cuda().why_absent() is None, reason="this machine has a GPU")
@pytest.mark.parametrize("override", ["device=cuda", "precision=tf32"])
def test_an_option_for_a_gpu_is_refused_without_one(config, override):
    with pytest.raises(
        ConfigError, match=r"^(device=cuda, device\.index=0: .*; use device=auto|precision=tf32: .* on a CPU use fp32)"
    ):
        plan(config(override))


# ----------------------------------------------------------------------------------------------------------- complete
def test_every_bundled_part_has_an_option():
    for group, kind, beside in [
        ("metrics", "metrics", {"all"}),
        ("data", "data", set()),
        ("device", "devices", {"auto"}),
        ("tracking", "trackers", set()),
    ]:
        chosen = {read(path)["name"] if group == "data" else path.stem for path in (CONF / group).glob("*.yaml")}
        assert chosen == shipped(kind) | beside, group


def test_every_bundled_family_has_a_model():
    """The generic family is for models of users: `visionbench models inspect` writes their files."""
    assert {read(path)["family"] for path in MODELS} == shipped("models") - {"generic"}


def test_every_option_has_the_name_of_its_file():
    for path in OPTIONS:
        if path.parent.name not in ("metrics", "batch") and path.stem not in LAYOUTS_OF_KARPATHY:
            assert read(path)["name"] == path.stem, name(path)


def test_every_metric_group_has_one_key_with_its_name():
    for path in (CONF / "metrics").glob("*.yaml"):
        assert list(read(path)) == (["defaults"] if path.stem == "all" else [path.stem]), name(path)


def test_metrics_all_lists_every_metric():
    assert set(read(CONF / "metrics" / "all.yaml")["defaults"]) == shipped("metrics")


def test_the_standard_protocol_sets_every_key_of_the_schema():
    def below(values, prefix):
        for key, value in values.items():
            yield prefix + key
            yield from below(value, f"{prefix}{key}.") if isinstance(value, dict) else ()

    written = set(below(read(CONF / "measure" / "standard.yaml"), "measure."))
    assert {key for key in schema_keys() if key.startswith("measure.")} <= written


def test_the_defaults_of_the_schema_are_the_standard_protocol(config):
    assert config("measure=standard").measure == MeasureConfig(name="standard")
