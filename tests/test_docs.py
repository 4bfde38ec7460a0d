"""The README and the documents are correct: links resolve, commands plan, examples run and print the shown output."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pytest
from command_line import plan_runs, python_path

from visionbench import registry
from visionbench.cli import cli
from visionbench.composition import parse
from visionbench.config import build_part
from visionbench.core import (
    FAILED,
    INTERRUPTED,
    KILLED,
    NOT_RUN,
    OUT_OF_MEMORY,
    SKIPPED_AFTER_OOM,
    Predictions,
)
from visionbench.devices.cuda import Cuda
from visionbench.devices.cuda.nvml import COUNTERS, FAULTS, LABELS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIALS = [ROOT / "docs" / "tutorial.md", ROOT / "docs" / "tutorial.zh.md"]
FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"(?<!`)`(?!`)([^`]+)`")
ENVIRONMENT = {"HOME": "/home/me", "PWD": "/home/me", "SLURM_JOB_ID": "4711"}
SHOWN_ONLY = {
    "visionbench run --config-dir my_conf device=xpu": "needs an installed package that provides the device",
}
"""Commands that cannot be planned here, each with the reason."""


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(page, kind):
    return [match["body"] for match in FENCE.finditer(text_of(page)) if match["kind"] == kind]


def prose(page):
    return FENCE.sub("", text_of(page))


def anchors(page):
    """The anchors of the headings: lower case, without punctuation, hyphens in place of blanks."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page):
    """All visionbench commands in shell blocks, in first comments of YAML blocks and in running text, without `…`."""
    shell = [body for kind in ("sh", "bash", "") for body in blocks(page, kind)]
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    first_comments = [body.partition("\n")[0].partition(": ")[2] for body in blocks(page, "yaml")]
    spans = [" ".join(span.split()) for span in SPAN.findall(prose(page))]
    for line in [*lines, *first_comments, *spans]:
        match = re.match(r'(?:eval "\$\()?(?:[A-Z_]+=\S+ )*(visionbench(?: .+)?)$', line.strip())
        if match and "…" not in line:
            yield re.split(r"\s+#|\s&&|\s\|\||\s[|>]|\)\"", match[1])[0].strip()


COMMANDS = sorted({command for page in PAGES for command in commands(page)})
RUNS = [command for command in COMMANDS if command.startswith("visionbench run")]
OTHERS = [command for command in COMMANDS if command not in RUNS]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with all files that the documents contain. The first comment of a file is its name."""
    folder = tmp_path_factory.mktemp("docs")
    for page in PAGES:
        for body in [*blocks(page, "python"), *blocks(page, "yaml")]:
            if name := re.match(r"# ([\w/]+\.(?:py|yaml))\b", body):
                path = folder / name[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(body)
    return folder


@pytest.fixture
def in_workplace(workplace, monkeypatch):
    """Use this folder as the working folder, and treat the machine as one with a GPU. Planning loads no model."""
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    yield workplace
    for module in (path.stem for path in workplace.glob("*.py")):
        sys.modules.pop(module, None)
        registry._registered.pop(("metrics", module), None)


# --------------------------------------------------------------------------------------------------------------- links
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_has_a_target(page):
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


# ------------------------------------------------------------------------------------------------------------ commands
def test_commands_are_collected_from_every_kind_of_text():
    assert "visionbench run -sc install=bash" in RUNS  # within eval "$( )"
    assert any("batch=tutorial measure=standard" in command for command in RUNS)  # indented, in a list
    assert "visionbench run --config-dir my_conf model=clip_b16" in RUNS  # a YAML's first comment
    assert "visionbench doctor" in OTHERS
    assert all(shown in RUNS for shown in SHOWN_ONLY)


@pytest.mark.parametrize("command", [command for command in RUNS if command not in SHOWN_ONLY])
def test_every_run_composes_and_plans(in_workplace, command):
    words = shlex.split(os.path.expandvars(command))[2:]
    planned = plan_runs(words)
    assert all(run.cases for _, run in planned)
    assert planned or {"--help", "--shell-completion"} & {*parse(words).flags}


@pytest.mark.parametrize("command", OTHERS)
def test_every_other_command_exists_and_has_these_options(in_workplace, command):
    words = shlex.split(command)[1:]
    words = ["." if before == "--from" else word for before, word in pairwise(["", *words])]
    shown, context = cli, None
    if words[:1] == ["--config-dir"]:  # the only option before a command
        context = cli.make_context("visionbench", words)
        words = words[2:]
    while isinstance(shown, click.Group) and words and words != ["--help"]:
        name, shown, words = shown.resolve_command(click.Context(shown, parent=context), words)
        is_group = isinstance(shown, click.Group)
        context = shown.make_context(name, list(words), parent=context, resilient_parsing=is_group and not words)
        protected = "_protected_args" if hasattr(context, "_protected_args") else "protected_args"  # in click 8.1
        words = [*getattr(context, protected), *context.args] if is_group else []
    assert not words or words == ["--help"]


# -------------------------------------------------------------------------------------------------------------- faults
def test_every_status_and_every_mark_has_a_row():
    cells = re.findall(r"^\| .*? \|", text_of(ROOT / "docs" / "faults.md"), re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", "".join(cells)))
    sources = "".join(text_of(path) for path in (ROOT / "src" / "visionbench").rglob("*.py"))
    flags = set(re.findall(r'(?:flags|faults)=\{"(\w+)"', sources))
    assert {"not_converged", "tied_scores", "empty_masks"} <= flags
    statuses = {FAILED, OUT_OF_MEMORY, SKIPPED_AFTER_OOM, KILLED, NOT_RUN, INTERRUPTED}
    assert not ({*statuses, *flags, *FAULTS, *LABELS, *COUNTERS} - documented)


# ------------------------------------------------------------------------------------------------------------ messages
OF_OTHER_LIBRARIES = {
    "No space left on device",
    "Error while deserializing header",
    "Connection refused",
    "database is locked",
    "could not be acquired",
    "requires accelerate",
}


def messages():
    """All strings of the source code, with a blank in place of each value that is filled in."""
    for path in (ROOT / "src" / "visionbench").rglob("*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else " " for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def windows(text, size=3):
    """All sequences of three words of a text, without punctuation."""
    words = re.findall(r"[\w.{}()/-]+", text)
    return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}


def quotes():
    """The messages in the first columns of docs/faults.md, split at values and remedies."""
    for cell in re.findall(r"^\| (.+?) \|", text_of(ROOT / "docs" / "faults.md"), re.MULTILINE):
        for span in SPAN.findall(cell):
            yield from (part for part in re.split(r"'?…'?|; |: ", span) if len(part.split()) >= 4)


def test_the_code_has_every_message_that_the_page_of_faults_quotes():
    known = set().union(*map(windows, messages()))
    missing = [quote for quote in quotes() if windows(quote) and not windows(quote) & known]
    assert [quote for quote in missing if not any(text in quote for text in OF_OTHER_LIBRARIES)] == []


# ------------------------------------------------------------------------------------------------------------ examples
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_in_python_compiles(page):
    for body in blocks(page, "python"):
        compile(body, page.name, "exec")


def test_the_example_by_hand_prints_the_shown_output():
    body = next(body for body in blocks(TUTORIALS[0], "python") if "by_hand.py" in body)
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout in blocks(TUTORIALS[0], "text")


def test_the_metric_of_the_tutorial_passes_its_check_by_hand(in_workplace):
    metric = build_part("metrics", "reciprocal_rank", {}, "metrics.reciprocal_rank")
    cosines = np.array([[0.9, 0.2, 0.1], [0.3, 0.5, 0.6], [0.2, 0.1, 0.7]])
    captions = np.hstack([cosines, np.sqrt(1 - (cosines**2).sum(axis=1, keepdims=True))])
    columns = {"image_embedding": list(np.eye(3, 4)), "caption_embeddings": [caption[None] for caption in captions]}
    metrics = metric.compute(metric.score(Predictions(["A", "B", "C"], columns)))
    assert metrics.values == {"t2i_mrr_fraction": pytest.approx((1 + 1 / 2 + 1) / 3)}


def test_the_metric_of_the_tutorial_runs_as_documented(workplace):
    body = next(body for body in blocks(TUTORIALS[0], "sh") if "reciprocal_rank]" in body)
    words = shlex.split(body.splitlines()[0])
    assert words[:2] == ["PYTHONPATH=.", "visionbench"]
    small = ["tracking=none", "data.options.samples=40", "hydra.run.dir=metric_run"]
    done = subprocess.run(
        [sys.executable, "-m", *words[1:], *small],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": python_path(".")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    values = json.loads((workplace / "metric_run" / "results.jsonl").read_text())["metrics"]["values"]
    first = values["recall_t2i_at_1_fraction"]
    assert first <= values["t2i_mrr_fraction"] <= first + (1 - first) / 2
    assert "t→i MRR" in done.stdout


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.name)
def test_memory_of_weights_is_parameters_times_bytes(page):
    rows = re.findall(r"^\| [\w./-]+ \| ([\d,]+) \| ([\d,.]+) \| ([\d,.]+) \|$", prose(page), re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        count, fp32, half = (float(cell.replace(",", "")) for cell in row)
        assert (fp32, half) == (pytest.approx(count * 4 / 2**20, abs=0.06), pytest.approx(count * 2 / 2**20, abs=0.06))


def test_both_tutorials_have_the_same_blocks_and_headings():
    """Comments in shell blocks may differ, because they are translated."""
    english, chinese = ([match.groups() for match in FENCE.finditer(text_of(page))] for page in TUTORIALS)
    assert [without_comments(*block) for block in english] == [without_comments(*block) for block in chinese]
    levels = [re.findall(r"^#+", prose(page), re.MULTILINE) for page in TUTORIALS]
    assert levels[0] == levels[1]


def without_comments(indent, kind, body):
    return indent, kind, re.sub(r" +#.*", "", body) if kind == "sh" else body
