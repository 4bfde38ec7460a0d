"""Fetching from a Hub server on this machine, with the real huggingface_hub in separate processes."""

import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import torch
from hub_server import Repository, serving
from open_clip_checkpoint import open_clip_state
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from visionbench.core import ConfigError
from visionbench.weights import fetching

PINNED, OTHER = "1" * 40, "2" * 40
CUT_AT, KEPT = 24_000_000, 2 * 10 * 2**20
"""The byte of a file of 32 MB at which the connection is lost, and the bytes that are kept: huggingface_hub writes
10 MiB at once."""

OPEN_CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"layers": 1, "width": 16, "head_width": 8, "mlp_ratio": 1.0, "patch_size": 8, "image_size": 16},
    "text_cfg": {"layers": 1, "width": 16, "heads": 2, "mlp_ratio": 1.0, "context_length": 8, "vocab_size": 10},
}
"""The configuration of open_clip for the model of `clip`."""

FETCHER = """
import json, sys
from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError

for call, checkpoint, revision in json.loads(sys.argv[1]):
    model = ModelConfig("m", "dual_encoder", checkpoint, revision, pickled_weights=True)
    try:
        answer = str(getattr(weights, call)(model))
    except ConfigError as error:
        answer = f"ConfigError: {error}"
    print(json.dumps(answer))
"""
EMBEDDER = """
import json, sys
import torch
from PIL import Image
from visionbench.config import ModelConfig
from visionbench.models.dual_encoder import DualEncoder

for checkpoint, revision in json.loads(sys.argv[1]):
    model = ModelConfig("m", "dual_encoder", checkpoint, revision, pickled_weights=True)
    loaded = DualEncoder(text_tokens=8).load(model, torch.device("cpu"), torch.float32)
    answers = loaded.call(loaded.preprocess([Image.new("RGB", (40, 30), "red")], ["a red square"]))
    print(json.dumps([dict(loaded.identity), {part: rows.tolist() for part, rows in answers.items()}]))
"""


# ------------------------------------------------------------------------------------------------------------ fixtures
def clip(words):
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": words, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 3}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(projection_dim=16, text_config=text, vision_config=vision)).eval()


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    """A processor and a tokenizer, as in a checkpoint."""
    folder = tmp_path_factory.mktemp("side")
    words = {"[pad]": 0, "[begin]": 1, "[unknown]": 2, "[end]": 3, "a": 4, "red": 5, "square": 6}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[unknown]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[pad]", eos_token="[end]").save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def hub(side, tmp_path_factory):
    """The server. `tiny/clip` has two commits, with both formats of weights in the pinned one; the others have one."""

    def commit(name, **saving):
        folder = tmp_path_factory.mktemp(name)
        clip(500_000 if name == "pinned" else 10).save_pretrained(folder, **saving)
        shutil.copytree(side, folder, dirs_exist_ok=True)
        return folder

    def pickled(name):
        folder = commit(name)
        torch.save(clip(10).state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        return folder

    pinned = commit("pinned")
    torch.save(clip(10).state_dict(), pinned / "pytorch_model.bin")
    (pinned / "README.md").write_text("Not needed.")
    open_clip = tmp_path_factory.mktemp("open_clip")
    save_file(open_clip_state(clip(10)), open_clip / "open_clip_model.safetensors")
    (open_clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))
    for file in side.glob("tokenizer*"):
        shutil.copy(file, open_clip)
    no_weights, no_processor = pickled("no-weights"), pickled("no-processor")
    (no_weights / "pytorch_model.bin").unlink()
    for file in no_processor.glob("*processor_config.json"):
        file.unlink()
    repositories = {
        "tiny/clip": Repository({PINNED: pinned, OTHER: pickled("other")}, {"main": OTHER}),
        "tiny/bin": Repository({PINNED: pickled("bin")}, {"main": PINNED}),
        "tiny/sharded": Repository({PINNED: commit("sharded", max_shard_size="10KB")}),
        "tiny/open-clip": Repository({PINNED: open_clip}),
        "tiny/gated": Repository({PINNED: pickled("gated")}, gated=True),
        "tiny/no-weights": Repository({PINNED: no_weights}),
        "tiny/no-processor": Repository({PINNED: no_processor}),
    }
    with serving(repositories) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hf_home")


@pytest.fixture(scope="module")
def nowhere():
    """An address without a server."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


def environment(home, endpoint, **more):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return {**inherited, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, **more, "VISIONBENCH_CACHE": str(home)}


def run(script, steps, home, endpoint, **more):
    """Return the script's output for each of the steps, and its standard error."""
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(steps)],
        env=environment(home, endpoint, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


STEPS = {
    "cut": ("fetch_checkpoint", "tiny/clip", PINNED),
    "incomplete": ("find_checkpoint", "tiny/clip", PINNED),
    "again": ("fetch_checkpoint", "tiny/clip", PINNED),
    "complete": ("find_checkpoint", "tiny/clip", PINNED),
    "another revision": ("find_checkpoint", "tiny/clip", OTHER),
    "once more": ("ensure_checkpoint", "tiny/clip", PINNED),
    "pickled, of a branch": ("fetch_checkpoint", "tiny/bin", None),
    "sharded": ("fetch_checkpoint", "tiny/sharded", PINNED),
    "open_clip, not fetched": ("find_checkpoint", "tiny/open-clip", PINNED),
    "open_clip": ("obtain_checkpoint", "tiny/open-clip", PINNED),
    "open_clip, again": ("find_checkpoint", "tiny/open-clip", PINNED),
    "unknown repository": ("fetch_checkpoint", "tiny/clap", PINNED),
    "unknown revision": ("fetch_checkpoint", "tiny/clip", "3" * 40),
    "gated": ("fetch_checkpoint", "tiny/gated", PINNED),
    "no weights": ("fetch_checkpoint", "tiny/no-weights", PINNED),
    "no processor": ("fetch_checkpoint", "tiny/no-processor", PINNED),
    "no name": ("ensure_checkpoint", "not a name", None),
}


@pytest.fixture(scope="module")
def session(hub, home):
    """All steps of one process that uses the Hub: the answer of each step, and its standard error."""
    hub.cut_once["model.safetensors"] = CUT_AT
    answers, stderr = run(FETCHER, list(STEPS.values()), home, hub.endpoint)
    return dict(zip(STEPS, answers, strict=True)), stderr


@pytest.fixture(scope="module")
def offline(session, home, nowhere):
    """Identity and embeddings of the models that one process loads without a server and with the Hub forbidden."""
    steps = [("tiny/clip", PINNED), ("tiny/bin", None), ("tiny/sharded", PINNED), ("tiny/open-clip", PINNED)]
    answers, _ = run(EMBEDDER, steps, home, nowhere, HF_HUB_OFFLINE="1")
    return dict(zip((repo for repo, _ in steps), answers, strict=True))


# --------------------------------------------------------------------------------------------------------------- fetch
def test_a_fetched_checkpoint_is_the_pinned_commit_in_one_format(session):
    answers, _ = session
    folder = Path(answers["again"])
    assert folder.name == PINNED
    assert answers["complete"] == answers["again"]
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not {"pytorch_model.bin", "README.md"} & names


def test_another_revision_does_not_replace_the_pinned_one(session):
    answers, _ = session
    assert answers["another revision"] == "None"
    assert not any(OTHER in str(file) for file in Path(answers["again"]).parents[1].rglob("*"))


def test_a_complete_checkpoint_is_not_fetched_again(session, hub):
    assert session[0]["once more"] == "None"
    assert len(hub.sent("tokenizer.json")) == 4  # once for each of four repositories


def test_the_error_for_a_lost_connection_names_the_file_and_the_remedy(session):
    answer = session[0]["cut"]
    assert answer.startswith("ConfigError: model.checkpoint=tiny/clip: model.safetensors: ")
    assert "the connection was lost at 21 of 32 MB" in answer
    assert "run the same command again" in answer
    assert "\n" not in answer
    assert session[0]["incomplete"] == "None"


def test_an_interrupted_download_is_resumed(session, hub):
    first, second = hub.sent("model.safetensors")[:2]
    size = (Path(session[0]["again"]) / "model.safetensors").stat().st_size
    assert (first.range, first.sent) == (None, CUT_AT)
    assert (second.range, second.sent) == (f"bytes={KEPT}-", size - KEPT)


def test_a_repository_with_only_pickled_weights_is_fetched(session):
    names = {file.name for file in Path(session[0]["pickled, of a branch"]).iterdir()}
    assert "pytorch_model.bin" in names


def test_all_shards_are_fetched(session):
    shards = sorted(file.name for file in Path(session[0]["sharded"]).glob("model-*.safetensors"))
    assert len(shards) > 1
    assert shards[-1].endswith(f"-of-{len(shards):05}.safetensors")


def test_no_progress_bar_is_shown_without_a_terminal(session):
    assert "%" not in session[1]


def test_a_progress_bar_is_shown_on_a_terminal(hub, tmp_path):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    steps = json.dumps([("fetch_checkpoint", "tiny/bin", PINNED)])
    process = subprocess.Popen(
        [sys.executable, "-c", FETCHER, steps],
        env=environment(tmp_path, hub.endpoint),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    output = b""
    try:
        while piece := os.read(ours, 4096):
            output += piece
    except OSError:
        pass  # Linux raises this error when the process has ended
    finally:
        os.close(ours)
    assert process.wait() == 0
    assert b"pytorch_model.bin" in output
    assert b"100%" in output


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("unknown repository", ["model.checkpoint=tiny/clap", "no such repository", "HF_TOKEN"]),
        ("unknown revision", ["model.revision=" + "3" * 40, "tiny/clip", "no such revision"]),
        ("gated", ["model.checkpoint=tiny/gated", "request access", "HF_TOKEN", "model.weights=random"]),
        ("no weights", ["model.checkpoint=tiny/no-weights", "no model.safetensors or pytorch_model.bin"]),
        ("no processor", ["model.checkpoint=tiny/no-processor", "no preprocessor_config.json"]),
        ("no name", ["model.checkpoint=not a name", "neither a folder nor"]),
    ],
)
def test_a_refused_request_is_an_error_of_one_line_with_a_remedy(session, step, expected):
    answer = session[0][step]
    assert answer.startswith("ConfigError: ")
    assert "\n" not in answer
    for words in expected:
        assert words in answer


def test_a_missing_network_is_an_error_of_one_line(session, home, nowhere):
    (answer,), _ = run(FETCHER, [("ensure_checkpoint", "tiny/clip", OTHER)], home, nowhere)
    assert answer.startswith("ConfigError: model.checkpoint=tiny/clip: not on this machine")
    assert f"{nowhere} cannot be read" in answer
    assert "visionbench models fetch m" in answer
    assert "\n" not in answer


def test_a_full_disk_is_the_error_of_the_operating_system(hub, tmp_path):
    """A limit on the size of files simulates a full disk."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))" + FETCHER
    done = subprocess.run(
        [sys.executable, "-c", limited, json.dumps([STEPS["again"]])],
        env=environment(tmp_path, hub.endpoint),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "OSError: [Errno 27] File too large"


def test_a_file_that_is_larger_than_the_free_disk_space_is_not_downloaded(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^m: 1,000,000,000,000 MB must be downloaded, but only [\d,]+ MB of disk are free; "
    ):
        fetching._download_blob("http://127.0.0.1:9/file", 10**18, tmp_path / "blob", "m")
    assert not (tmp_path / "blob.incomplete").read_bytes()


def test_offline_mode_is_named_and_an_incomplete_snapshot_is_not_used(session, offline, home, hub):
    """The shard is removed after `offline` has loaded the model."""
    shard = sorted(Path(session[0]["sharded"]).glob("model-*.safetensors"))[1]
    kept = shard.readlink()
    shard.unlink()
    steps = [
        ("find_checkpoint", "tiny/sharded", PINNED),
        ("ensure_checkpoint", "tiny/sharded", PINNED),
        ("ensure_checkpoint", "tiny/clip", PINNED),
    ]
    answers, _ = run(FETCHER, steps, home, hub.endpoint, HF_HUB_OFFLINE="1")
    shard.symlink_to(kept)
    incomplete, refused, complete = answers
    assert incomplete == complete == "None"
    assert "HF_HUB_OFFLINE" in refused
    assert "\n" not in refused


# ------------------------------------------------------------------------------------------------------------- offline
def test_a_repository_of_open_clip_is_fetched_and_converted_once(session, offline):
    answers, _ = session
    assert answers["open_clip, not fetched"] == "None"
    assert Path(answers["open_clip"]).is_dir() and answers["open_clip, again"] == answers["open_clip"]
    image = torch.tensor(offline["tiny/open-clip"][1]["image"])
    torch.testing.assert_close(image, torch.tensor(offline["tiny/sharded"][1]["image"]))


@pytest.mark.parametrize("repo", ["tiny/clip", "tiny/bin", "tiny/sharded", "tiny/open-clip"])
def test_a_fetched_model_computes_embeddings_offline(offline, repo):
    identity, answers = offline[repo]
    assert identity["model_class"] == "CLIPModel"
    assert (identity["checkpoint"], identity["revision"]) == (repo, PINNED)
    assert identity["tokenizer"] != "HashedTokenizer"
    for part in ("image", "text"):
        assert torch.tensor(answers[part]).shape == (1, 16)


def test_the_embeddings_are_those_of_the_checkpoint(offline, side):
    model, words = clip(10), [[4, 5, 6, 0, 0, 0, 0, 0]]
    mask = torch.tensor(words).ne(0).long()
    with torch.inference_mode():
        expected = model.get_text_features(input_ids=torch.tensor(words), attention_mask=mask).pooler_output
    for repo in ("tiny/bin", "tiny/sharded"):
        torch.testing.assert_close(torch.tensor(offline[repo][1]["text"]), expected)
