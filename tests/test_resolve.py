"""Open values of a configuration: weights from the Hub of the tests, data from the file server, and refusals."""

import json
import subprocess
import sys

import pytest
from hub_server import Repository, serving
from test_hub import environment

from visionbench.config import from_hydra, project_folder, with_changes
from visionbench.core import ConfigError
from visionbench.resolve import Resolver, check

PINNED = "1" * 40
SCRIPT = """
import json, sys
from visionbench.resolve import Resolver
from visionbench.config import ExperimentConfig, DataConfig, ModelConfig, models
from visionbench.core import ConfigError

resolver, here = Resolver(), models()
for name, keys in json.loads(sys.argv[1]):
    model = ModelConfig(**{**vars(here[name]), "weights": "auto", **keys})
    try:
        answer = resolver.resolve(ExperimentConfig(model=model, data=DataConfig("shapes")))
        print(json.dumps([answer.changes["model.weights"], *answer.notes]))
    except ConfigError as error:
        print(json.dumps(["refused", str(error)]))
"""


def resolved_models(models, home, endpoint, **more):
    """Weights and notes for each model, resolved by one process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(models)],
        env=environment(home, endpoint, **more),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def hub():
    """The bundled CLIP on a local Hub."""
    folder = project_folder("data") / "clip_tiny"
    with serving({"tiny/clip": Repository({PINNED: folder}), "tiny/other": Repository({PINNED: folder})}) as server:
        yield server


def of(config, *overrides):
    return Resolver().resolve(config(*overrides))


def data_of(config, answer):
    """The data section with the resolved values."""
    return from_hydra(with_changes(config, answer.changes)).data


# ------------------------------------------------------------------------------------------------------------- weights
def test_auto_is_pretrained_if_the_checkpoint_can_be_fetched_and_else_random_with_the_reason(hub, tmp_path):
    at = {"checkpoint": "tiny/clip", "revision": PINNED}
    hub.cut_once["model.safetensors"] = 1000
    cut, fetched, missing, nameless = resolved_models(
        [
            ("clip_tiny", {**at, "checkpoint": "tiny/other"}),
            ("clip_tiny", at),
            ("clip_vit_b32", {"checkpoint": "tiny/clap"}),
            ("clip_tiny", {"checkpoint": None}),
        ],
        tmp_path,
        hub.endpoint,
    )
    assert fetched == ["pretrained"]
    assert cut[0] == missing[0] == nameless[0] == "random"
    assert cut[1].startswith("model.weights=auto: random for clip_tiny, since ") and "the connection was lost" in cut[1]
    assert missing[1].endswith("model.checkpoint=tiny/clap: the Hub has no such repository")
    assert nameless[1].endswith("it names no checkpoint")


def test_an_unreachable_hub_is_tried_once_and_present_checkpoints_are_used(tmp_path):
    tutorial = [(name, {}) for name in ("clip_vit_b32", "sam_vit_b", "blip2_opt_2_7b", "clip_tiny")]
    first, *rest, bundled = resolved_models(tutorial, tmp_path, "http://127.0.0.1:9")
    assert first[0] == "random" and "http://127.0.0.1:9 cannot be read" in first[1]
    for name, checkpoint, (weights, note) in zip(
        ("sam_vit_b", "blip2_opt_2_7b"), ("facebook/sam-vit-base", "Salesforce/blip2-opt-2.7b"), rest, strict=True
    ):
        assert weights == "random"
        assert note.startswith(f"model.weights=auto: random for {name}, since {checkpoint} is not on this machine")
        assert note.endswith("the Hub was not tried again")
    assert bundled == ["pretrained"]


def test_a_forbidden_hub_is_a_reason_for_random_weights(tmp_path):
    (answer,) = resolved_models([("sam_vit_b", {})], tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert answer[0] == "random" and "HF_HUB_OFFLINE forbids fetching it" in answer[1]


def test_auto_is_refused_without_a_checkpoint_and_an_architecture(tmp_path):
    (answer,) = resolved_models([("clip_tiny", {"checkpoint": "./nowhere", "architecture": {}})], tmp_path, "")
    assert answer[0] == "refused"
    assert answer[1].startswith("model.weights=auto: model.checkpoint=./nowhere: there is no folder")
    problem, remedy = answer[1].rsplit("; ", 1)
    assert problem.endswith("clip_tiny has no 'architecture:' for random weights")
    assert remedy == "give a checkpoint that exists, or choose another model"


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_other_values_of_weights_are_unchanged(config, weights):
    assert of(config, "model=sam_vit_b", f"model.weights={weights}").changes == {}


# ---------------------------------------------------------------------------------------------------------------- data
def test_a_missing_folder_is_fetched_and_an_existing_one_is_used(config, coco_server, tmp_path):
    here = ("data=coco", f"data.root={tmp_path}/val2017-4", "data.prepare=4")
    assert of(config, *here).changes == {}
    assert (tmp_path / "val2017-4" / "provenance.json").is_file()
    requests = len(coco_server.requests)
    assert of(config, *here).changes == {}
    assert len(coco_server.requests) == requests


def test_an_incomplete_download_is_continued(config, coco_server, tmp_path):
    here = ("data=coco", f"data.root={tmp_path}/val2017-4", "data.prepare=4", "data.fallback=shapes")
    last = sorted(path for path in coco_server.files if path.startswith("/val2017/"))[3]
    coco_server.cut[last] = 10
    assert of(config, *here).changes["data.name"] == "shapes"
    assert of(config, *here).changes == {}


def test_the_fallback_has_as_many_images_as_the_data_that_cannot_be_fetched(config, compose, coco_server, tmp_path):
    coco_server.cut["/annotations/annotations_trainval2017.zip"] = 500
    words = ("data=coco", f"data.root={tmp_path}/val2017-4", "data.prepare=4", "data.fallback=shapes")
    answer = of(config, *words)
    data = data_of(compose(*words), answer)
    assert (data.name, data.root, data.prepare, data.fallback) == ("shapes", None, None, None)
    assert data.options["samples"] == 4 and data.options["split"] == "test"
    (note,) = answer.notes
    assert note.startswith("data=coco: shapes is used instead, since http://")
    assert "the connection was lost after 500" in note
    assert "run the same" not in note


def test_without_a_fallback_a_failed_download_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr("visionbench.datafiles.coco_download.SERVER", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"^http://127\.0\.0\.1:9/annotations/.*: cannot be read"):
        of(config, "data=coco", f"data.root={tmp_path}/val2017-100")


def test_any_missing_folder_can_have_a_fallback(config, tmp_path):
    words = ("data=captioned_folder", f"data.root={tmp_path}/nowhere")
    assert of(config, *words).changes == {}
    answer = of(config, *words, "data.fallback=shapes", "data.options.samples=7")
    assert answer.changes["data.name"] == "shapes" and answer.changes["data.options"]["samples"] == 7
    assert answer.notes == (f"data=captioned_folder: shapes is used instead, since {tmp_path}/nowhere does not exist",)
    assert of(config, "data=captioned_folder", f"data.root={tmp_path}", "data.fallback=shapes").changes == {}


def test_a_fallback_can_be_a_users_option(config, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "few.yaml").write_text("name: shapes\noptions: {samples: 5}\n")
    chosen = config("data=captioned_folder", f"data.root={tmp_path}/nowhere", "data.fallback=few")
    check(chosen, tmp_path)
    assert Resolver(tmp_path).resolve(chosen).changes["data.options"] == {"samples": 5}


# ------------------------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.fallback=shaeps"], "data.fallback=shaeps: no such option of data; did you mean 'shapes'?"),
        (["data.fallback=coco"], "data.fallback=coco: it is read from a folder, which may be missing too; choose"),
        (["data.prepare=5"], "data.prepare=5: data=shapes cannot be fetched; remove data.prepare, or choose data=coco"),
        (
            ["data=coco", "data.root=nowhere", "data.prepare=5"],
            "data.root=nowhere: COCO is not in it, and data.prepare=5 makes a folder named val2017-5; give",
        ),
        (
            ["data=coco", "data.root=x/val2014-5", "data.prepare=5", "data.options.split=val2014"],
            "data.options.split=val2014: cannot be fetched; did you mean 'val2017'?",
        ),
    ],
)
def test_invalid_keys_are_refused_before_anything_is_fetched(config, overrides, line):
    with pytest.raises(ConfigError) as caught:
        check(config(*overrides))
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("overrides", [[], ["data.fallback=shapes"], ["data=coco", "data.fallback=shapes"]])
def test_valid_keys_are_accepted(config, overrides):
    check(config(*overrides))
