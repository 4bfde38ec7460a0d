"""The defaults that protect a user from the content of checkpoints, data and configuration files."""

import ast
import re
import zipfile
from pathlib import Path

import pytest

import visionbench
from visionbench.composition import overrides
from visionbench.composition.user_files import refuse_unsafe_files
from visionbench.config import ModelConfig, TrackingConfig, models, project_folder
from visionbench.core import ConfigError
from visionbench.datafiles import coco_download
from visionbench.trackers.mlflow import MlflowTracker
from visionbench.weights.location import has_files, local_folder, refuse_pickled

GLOBAL = "# @package _global_\n"
PACKAGE = Path(visionbench.__file__).parent
FORBIDDEN = re.compile(
    r"(eval|exec|__import__|os\.system|os\.popen|\w*\.?extractall|pickle\.loads?|marshal\.loads?|yaml\.(unsafe_)?load"
    r"|hydra\.utils\.(instantiate|call)|instantiate|joblib\.load|shelve\.open)"
)


def calls():
    """Yield each call in the source of the package: its file, its line, the name of its function, and the call."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path.relative_to(PACKAGE), node.lineno, ast.unparse(node.func), node


def test_no_function_that_runs_or_unpacks_foreign_content_is_called():
    assert [f"{path}:{line} {name}" for path, line, name, _ in calls() if FORBIDDEN.fullmatch(name)] == []


def test_no_command_is_passed_to_a_shell():
    words = [(path, line) for path, line, _, node in calls() for key in node.keywords if key.arg == "shell"]
    assert words == []


def test_torch_loads_only_tensors():
    loads = [node for *_, name, node in calls() if name == "torch.load"]
    assert loads
    assert all("weights_only=True" in ast.unparse(node) for node in loads)


def test_no_server_listens_on_all_interfaces():
    assert [path for path in PACKAGE.rglob("*.py") if "0.0.0.0" in path.read_text()] == []
    command, _ = MlflowTracker(TrackingConfig(), Path("outputs")).server(5000)
    assert command[command.index("--host") + 1] == "127.0.0.1"


PICKLED = {
    *("align_base", "blip_base", "chinese_clip_vit_b16", "clip_vit_b16", "clip_vit_l14_336", "convnext_tiny"),
    *("convnextv2_tiny", "deit_small", "dpt_large", "efficientnet_b0", "git_base", "mask2former_swin_tiny"),
    *("metaclip_l14", "mobilenet_v2", "sam_vit_l", "segformer_b0", "swin_tiny", "vit_mae_base", "yolos_tiny"),
}
"""Models whose repository may have no safetensors. Pickles are read by the unpickler that accepts only tensors."""
UNPINNED = {
    *("convnext_tiny", "deit_small", "detr_r50", "florence2_base", "llava_onevision_0_5b", "mobilenet_v2"),
    *("paligemma2_3b", "swin_tiny"),
}
"""Models whose YAML states that no revision is pinned, because no commit could be confirmed."""


def test_code_and_pickles_of_a_checkpoint_are_off_by_default():
    assert ModelConfig.trust_remote_code is False
    assert [name for name, model in models().items() if model.trust_remote_code] == []
    assert {name for name, model in models().items() if model.pickled_weights} <= PICKLED
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json"):
        with pytest.raises(ConfigError, match="is a pickle, not safetensors; .*pickled_weights=true"):
            refuse_pickled(ModelConfig(checkpoint="owner/name"), name)
        refuse_pickled(ModelConfig(checkpoint="owner/name", pickled_weights=True), name)
    for name in ("model.safetensors", "model.safetensors.index.json"):
        refuse_pickled(ModelConfig(checkpoint="owner/name"), name)


def test_every_bundled_model_of_the_hub_has_a_pinned_revision():
    for name, model in models().items():
        if model.checkpoint and has_files(model) and local_folder(model) is None:
            assert name in UNPINNED or re.fullmatch("[0-9a-f]{40}", model.revision or ""), name


def test_an_archive_is_unpacked_only_to_the_names_that_are_needed(tmp_path):
    archive = tmp_path / "annotations.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("annotations/captions.json", "{}")
        packed.writestr("../outside.json", "{}")
        packed.writestr("/absolute.json", "{}")
    coco_download._unpack(archive, tmp_path / "data", ["captions.json"])
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "annotations.zip",
        "data",
        "data/captions.json",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "+model.options._target_=os.system",
        "+model.options={_target_: os.system}",
        "+model.options={deep: [{_target_: os.system}]}",
        "+hydra.callbacks.mine._target_=os.system",
        "+hydra.callbacks.mine={_target_: os.system}",
        "hydra.launcher._target_=os.system",
        "hydra.sweeper._target_=os.system",
    ],
)
def test_a_typed_name_of_code_is_refused(text):
    with pytest.raises(ConfigError, match="_target_: a configuration cannot name code to run; remove it"):
        overrides.check([text])


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("model/mine.yaml", "options: {x: {_target_: os.system}}", "model=mine"),
        (
            "experiment/mine.yaml",
            "# @package _global_\nhydra: {callbacks: {x: {_target_: os.system}}}",
            "experiment=mine",
        ),
        ("hydra/launcher/mine.yaml", "_target_: os.system", "hydra/launcher=mine"),
        ("config.yaml", "defaults: [visionbench_schema]\nhydra: {sweeper: {_target_: os.system}}", "model.seed=1"),
        ("metrics/mine.yaml", "mine: {list: [{_target_: os.system}]}", "+metrics=mine"),
    ],
)
def test_a_name_of_code_in_a_file_of_the_user_is_refused(tmp_path, name, text, word):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=f"{name}: .*_target_: a configuration cannot name code to run"):
        refuse_unsafe_files([word], tmp_path)


def test_a_copy_of_the_bundled_main_file_is_accepted(tmp_path):
    (tmp_path / "config.yaml").write_text((project_folder("conf") / "config.yaml").read_text())
    refuse_unsafe_files([], tmp_path)
