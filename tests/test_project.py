"""The files of the project agree: dependencies, versions, Makefile, CI workflow and hooks."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import visionbench

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
JOB = WORKFLOW["jobs"]["test"]
MATRIX = JOB["strategy"]["matrix"]["include"]
COMMANDS = [line for step in JOB["steps"] if "run" in step for line in step["run"].splitlines()]
NAMESPACES = {"mlflow": "mlflow", "PIL": "pillow", "mlperf_loadgen": "mlcommons-loadgen"}
"""Imported names that several distributions provide, and the distribution that is declared."""
OF_EXTRAS = {name: name for name in ("ray", "onnxruntime", "openvino", "nncf", "simplejpeg", "torchao")} | {
    "submitit": "slurm",
    "onnx": "onnxruntime",
    "optuna": "tune",
    "mlperf_loadgen": "loadgen",
    "openai": "remote",
}
"""Imported names that an extra of the same or of another name installs."""
USED_WITHOUT_IMPORT = {
    "sacrebleu": "its tokenizers are imported by name",
    "safetensors": "transformers reads checkpoints with it",
}


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements):
    return {normalized(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def imported(folder):
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


def targets():
    """The targets of the Makefile that `make help` lists."""
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def make_calls(text):
    """The targets in the `make …` commands of a text, without variables and options."""
    for call in re.findall(r"(?:^|[`\s])make ([^`\n#|;&]+)", text):
        yield from (word for word in shlex.split(call.split(",")[0]) if "=" not in word and not word.startswith("-"))


@pytest.fixture(scope="module")
def lowest():
    spec = importlib.util.spec_from_file_location("lowest", ROOT / "scripts" / "lowest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lowest


# ------------------------------------------------------------------------------------------------------- dependencies
def test_every_distribution_that_src_imports_is_declared_and_no_other():
    providers = packages_distributions()
    third_party = set(imported(ROOT / "src")) - set(sys.stdlib_module_names) - {"visionbench"}
    extras = {name for name in OF_EXTRAS if name in third_party}
    needed = {normalized(NAMESPACES.get(name) or providers[name][0]) for name in third_party - extras}
    assert extras == set(OF_EXTRAS)
    for name, extra in OF_EXTRAS.items():
        assert NAMESPACES.get(name, name) in declared(PROJECT["optional-dependencies"][extra])
    assert needed - declared(PROJECT["dependencies"]) == set()
    assert declared(PROJECT["dependencies"]) - needed <= set(USED_WITHOUT_IMPORT)


def test_every_declared_distribution_has_its_tested_version_in_the_constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normalized(line.partition("==")[0]) for line in lines if "==" in line}
    assert declared([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]) <= pinned


def test_no_distribution_has_two_versions_in_the_constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [normalized(line.partition("==")[0]) for line in lines if not line.startswith("#")]
    assert len(names) == len(set(names))


def test_the_lowest_versions_are_the_lower_bounds(lowest):
    assert lowest(["torch>=2.11,<2.14", "hydra-core>=1.3.2,<1.4"]) == ["torch==2.11", "hydra-core==1.3.2"]
    assert len(lowest(PROJECT["dependencies"])) == len(PROJECT["dependencies"])


def test_a_dependency_without_a_lower_bound_is_refused(lowest):
    with pytest.raises(ValueError, match=r"^torch<3: no lower bound"):
        lowest(["torch<3"])


def test_the_documented_image_copies_all_that_the_wheel_contains():
    page = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", page, re.MULTILINE) for word in line.split()}
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {path.partition("/")[0] for path in [*wheel["force-include"], *wheel["packages"]]}
    assert needed | {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]} <= copied


# ------------------------------------------------------------------------------------------------------------ metadata
def test_the_version_is_the_same_in_the_package_the_citation_and_the_changelog():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    released = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == "Unreleased"
    assert visionbench.__version__ == citation["version"] == released[1]


def test_the_licence_is_the_same_in_the_metadata_the_citation_and_its_text():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_the_package_is_marked_as_typed():
    assert (ROOT / "src" / "visionbench" / "py.typed").is_file()


# ------------------------------------------------------------------------------------------------------------------ CI
def test_the_workflow_calls_targets_of_the_makefile():
    called = [target for command in COMMANDS for target in make_calls(command)]
    assert {"check", "quick", "test"} <= set(called) <= targets()


def test_the_workflow_tests_every_python_of_the_classifiers():
    prefix = "Programming Language :: Python :: 3."
    named = {f"3.{line.removeprefix(prefix)}" for line in PROJECT["classifiers"] if line.startswith(prefix)}
    assert {job["python"] for job in MATRIX if job["libraries"] == "tested"} == named
    assert min(named, key=lambda version: int(version[2:])) == PROJECT["requires-python"].removeprefix(">=")


def test_the_workflow_runs_the_lowest_the_tested_and_the_highest_libraries():
    files = {job["libraries"]: job["constraints"] for job in MATRIX}
    assert files == {"lowest": "lowest.txt", "tested": "constraints.txt", "highest": ""}
    assert "python scripts/lowest.py > lowest.txt" in COMMANDS
    assert JOB["env"]["CONSTRAINTS"] == "${{ matrix.constraints }}"
    assert "CONSTRAINTS ?= constraints.txt" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_lowest_python_runs_the_lowest_libraries_and_the_highest_python_the_highest():
    pythons = sorted({job["python"] for job in MATRIX}, key=lambda version: int(version[2:]))
    assert [job["python"] for job in MATRIX if job["libraries"] == "lowest"] == pythons[:1]
    assert [job["python"] for job in MATRIX if job["libraries"] == "highest"] == pythons[-1:]


def test_the_local_check_runs_the_same_targets():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("make ")] == ["check", "test"]


@pytest.mark.parametrize("ci", ["", "false", "true"])
def test_system_packages_are_installed_only_if_ci_is_true(tmp_path, ci):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name in ("apt-get", "make"):
        (tmp_path / name).write_text(f'#!{shutil.which("bash")}\necho "{name} $*" >> {tmp_path}/calls\n')
    (tmp_path / "id").write_text(f"#!{shutil.which('bash')}\necho 0\n")
    for name in ("apt-get", "make", "id"):
        (tmp_path / name).chmod(0o755)
    env = {"PATH": str(tmp_path), "CI": ci}
    subprocess.run([shutil.which("bash"), ROOT / ".ci" / "run"], env=env, capture_output=True, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    installing = ["apt-get -qq update", "apt-get -qq install --yes chromium chromium-driver"] if ci == "true" else []
    assert calls == [*installing, "make check", "make test COVERAGE=1"]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_every_make_target_in_a_document_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    spans = [span for span in re.findall(r"`(make [^`]+)`", text)]
    blocks = re.findall(r"^make .+$", text, re.MULTILINE)
    assert spans + blocks
    assert {target for line in spans + blocks for target in make_calls(line)} <= targets()


@pytest.mark.parametrize("target", re.findall(r"\(([^)#\s]+\.md)(#[\w-]+)?\)", (ROOT / "CONTRIBUTING.md").read_text()))
def test_every_link_of_the_contributing_guide_has_a_heading(target):
    path, anchor = target
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert not anchor or anchor[1:] in {heading.lower().replace(" ", "-") for heading in headings}


def test_the_contributing_guide_lists_every_room_of_the_package():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^[├└]── (\w+)(?:\.py|/) ", text, re.MULTILINE))
    files = (ROOT / "src" / "visionbench").iterdir()
    assert listed == {path.stem for path in files if path.suffix in ("", ".py") and not path.stem.startswith("__")}


# --------------------------------------------------------------------------------------------------- hooks, templates
def test_the_commit_hooks_are_local_and_run_ruff_and_mypy():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert {Path(hook["entry"].split()[0]).name for hook in hooks} == {"ruff", "mypy"}
    assert all(hook["language"] == "system" for hook in hooks)


def test_every_issue_template_has_its_name_and_fields():
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    names = set()
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        names.add(form["name"])
        ids = [field["id"] for field in form["body"]]
        assert form["description"] and len(ids) == len(set(ids))
        assert all(field["attributes"]["label"] for field in form["body"])
    assert names == {"Bug", "Wrong figure", "New model"}
