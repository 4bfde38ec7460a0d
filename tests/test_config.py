"""The conversion of a composed configuration: its refusals and their messages, and the YAML that is saved."""

from dataclasses import asdict

import pytest
import yaml
from omegaconf import OmegaConf

from visionbench.config import ExperimentConfig, build_part, from_hydra, models, schema_keys, to_safe_yaml
from visionbench.core import ConfigError


@pytest.fixture(scope="module")
def composed(compose):
    return compose()


@pytest.fixture
def altered(composed):
    """The default configuration with other values, without the checks that Hydra makes of an override."""

    def altered(**changes):
        return OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(composed)), changes)

    return altered


def refusal(cfg):
    with pytest.raises(ConfigError) as caught:
        from_hydra(cfg)
    return str(caught.value)


def test_the_defaults_become_plain_dataclasses(composed):
    config = from_hydra(composed)
    assert type(config) is ExperimentConfig
    assert config.model.name == "clip_tiny"
    assert config.batch.sizes == [1, 2, 4, 8] and type(config.batch.sizes) is list
    assert config.measure.latency.median_within == {"cpu": 0.05, "cuda": 0.03}
    quality = {"recall", "segmentation", "semantic_segmentation", "depth", "detection"}
    quality |= {"captioning", "question_answering", "classification", "features", "evaluation"}
    assert set(config.metrics) == {"latency", "throughput", "endpoint", "cost", "memory", *quality}


def test_two_configurations_of_one_composition_share_no_value(composed):
    first, second = from_hydra(composed), from_hydra(composed)
    first.batch.sizes.append(99)
    first.metrics.clear()
    assert second.batch.sizes == [1, 2, 4, 8] and second.metrics


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": {"name": "x"}}, "there is no key 'modle'; did you mean 'model'?"),
        ({"device": {"zzz": 3}}, "there is no key 'device.zzz'; did you mean 'device.name'?"),
        ({"model": {"checkpont": "x"}}, "there is no key 'model.checkpont'; did you mean 'model.checkpoint'?"),
        (
            {"measure": {"latency": {"min_call": 3}}},
            "there is no key 'measure.latency.min_call'; did you mean 'measure.latency.min_calls'?",
        ),
        (
            {"device": {"wwwwwwwwwwww": 3}},
            "there is no key 'device.wwwwwwwwwwww'; there are: device.cost_per_hour, device.currency, device.index, "
            "device.name, device.threads",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_key(altered, changes, message):
    assert refusal(altered(**changes)) == message


@pytest.mark.parametrize("override", ["+model.checkpont=x", "+measure.latency.min_call=3", "+modle=x"])
def test_a_leading_plus_does_not_allow_an_unknown_key(compose, override):
    key = override[1:].partition("=")[0]
    assert refusal(compose(override)).startswith(f"there is no key '{key}'; did you mean ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": {"index": "one"}}, "device.index=one: not a whole number"),
        ({"device": {"index": 1.5}}, "device.index=1.5: not a whole number"),
        ({"measure": {"warmup": {"min_seconds": "long"}}}, "measure.warmup.min_seconds=long: not a number"),
        ({"model": {"trust_remote_code": "perhaps"}}, "model.trust_remote_code=perhaps: not true or false"),
        ({"measure": {"warmup": {"max_ratio": {"cpu": "wide"}}}}, "measure.warmup.max_ratio.cpu=wide: not a number"),
        ({"batch": {"sizes": [1, "two"]}}, "batch.sizes[1]=two: not a whole number"),
        ({"batch": {"sizes": 4}}, "batch.sizes=4: not a list; write a list, as in batch.sizes=[4]"),
        ({"batch": {"sizes": "x"}}, "batch.sizes=x: not a list; write a list, as in batch.sizes=[1,2,4]"),
        (
            {"measure": {"latency": 5}},
            "measure.latency=5: a section has keys, not one value; write measure.latency.KEY=VALUE",
        ),
        ({"model": {"options": 5}}, "model.options: a section has keys, not one value; write model.options.KEY=VALUE"),
        ({"model": {"seed": None}}, "model.seed=null: not a whole number"),
    ],
)
def test_a_wrong_type_is_refused_with_its_key(altered, changes, message):
    assert refusal(altered(**changes)) == message


def test_a_missing_value_is_refused_with_its_key(composed):
    gap = OmegaConf.create(OmegaConf.to_container(composed))
    gap.model.name = "???"
    assert refusal(gap) == "'model.name' has no value; give it one, as in model.name=…"


def test_a_reference_to_nothing_is_refused_in_one_line(altered):
    message = refusal(altered(output_dir="${nowhere}"))
    assert message.startswith("output_dir: ") and "nowhere" in message and "\n" not in message


# ------------------------------------------------------------------------------------------------------------- parts
def test_a_part_is_built_with_its_options():
    data = build_part("data", "image_folder", {"root": "pictures", "samples": 3}, "data.options")
    assert (data.root, data.samples) == ("pictures", 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rot": "x"}, "there is no key 'data.options.rot'; did you mean 'data.options.root'?"),
        ({"root": "x", "samples": "all"}, "data.options.samples=all: not a whole number"),
        ({}, "'data.options.root' has no value; give it one, as in data.options.root=…"),
        ({"root": "x", "samples": 0}, "data.options.samples=0: must be at least 1"),
        (5, "data.options=5: not options; give options as in data.options={} or data.options.option=value"),
    ],
)
def test_wrong_options_are_refused_with_their_full_key(options, message):
    with pytest.raises(ConfigError) as caught:
        build_part("data", "image_folder", options, "data.options")
    assert str(caught.value) == message


# ------------------------------------------------------------------------------------------------------------- saved
@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2")


def test_a_reference_to_the_environment_is_saved_unresolved(altered, token):
    text = to_safe_yaml(altered(tracking={"uri": "http://me:${oc.env:TOKEN}@host"}))
    assert OmegaConf.create(text)._get_node("tracking")._get_node("uri")._value() == "http://me:${oc.env:TOKEN}@host"
    assert "hunter2" not in text


@pytest.mark.parametrize("via", ["${tracking.uri}", "see ${tracking.uri}"])
def test_a_secret_is_not_saved_through_another_key(altered, token, via):
    text = to_safe_yaml(altered(tracking={"uri": "http://me:${oc.env:TOKEN}@host"}, output_dir=via))
    assert "hunter2" not in text and via in text


def test_a_secret_in_a_list_is_not_saved(altered, token):
    assert "hunter2" not in to_safe_yaml(altered(model={"options": {"keys": ["a", "${oc.env:TOKEN}"]}}))


def test_other_references_are_saved_resolved_and_without_hydras_section(altered):
    text = to_safe_yaml(altered(output_dir="results/${model.name}", hydra={"job": {"name": "visionbench"}}))
    assert "output_dir: results/clip_tiny" in text
    assert "hydra" not in OmegaConf.create(text)


def test_the_saved_yaml_is_the_same_configuration(composed):
    assert yaml.safe_load(to_safe_yaml(composed)) == asdict(from_hydra(composed))


# ------------------------------------------------------------------------------------------------------------ models
@pytest.fixture
def own_models(tmp_path):
    """A function that writes a model YAML into the user's folder, and returns the folder."""

    def write(name, text):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


def test_every_bundled_model_is_listed_by_its_name():
    shipped = models()
    assert {"clip_tiny", "clip_vit_b32", "sam_vit_b", "blip2_opt_2_7b"} <= set(shipped)
    assert list(shipped) == sorted(shipped)
    assert all(model.name == name for name, model in shipped.items())


def test_a_users_model_is_listed_and_replaces_a_bundled_model(own_models):
    own_models("mine", "name: mine\nfamily: dual_encoder")
    listed = models(own_models("vit_b16", "name: vit_b16\nfamily: dual_encoder"))
    assert listed["mine"].family == "dual_encoder"
    assert listed["vit_b16"].family == "dual_encoder"
    assert set(listed) == {*models(), "mine"}


def test_a_wrong_model_yaml_is_refused_with_its_path(own_models):
    folder = own_models("mine", "name: mine\nfamly: dual_encoder")
    with pytest.raises(
        ConfigError, match=r"mine\.yaml: there is no key 'model\.famly'; did you mean 'model\.family'\?$"
    ):
        models(folder)


# ------------------------------------------------------------------------------------------------------------ schema
def test_the_keys_of_the_schema_are_those_of_a_configuration(composed):
    def below(values, prefix=""):
        for name, value in values.items():
            yield prefix + name
            if isinstance(value, dict) and prefix + name in SECTIONS:
                yield from below(value, f"{prefix}{name}.")

    SECTIONS = {key.rpartition(".")[0] for key in schema_keys()}
    assert list(below(asdict(from_hydra(composed)))) == schema_keys()
    assert "measure.latency.min_calls" in schema_keys()
