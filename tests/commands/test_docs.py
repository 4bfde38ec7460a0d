"""`visionbench docs`: the index, a document, and the documents that messages name."""

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from visionbench.cli import cli
from visionbench.commands import docs
from visionbench.core import ConfigError

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"visionbench docs ([a-z][\w./-]*)")


def call(*words):
    done = CliRunner().invoke(cli, ["docs", *words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def texts():
    """Return the strings that users see, by their place: strings of the code, and the files of conf."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        definitions = [node for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list)]
        docstrings = {
            id(node.body[0].value) for node in definitions if node.body and isinstance(node.body[0], ast.Expr)
        }
        shown = {"cli.py"}  # the help of the commands
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and (id(node) not in docstrings or path.name in shown):
                yield path.name, node.value
    for path in [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "src").rglob("*.html"), *(ROOT / "src").rglob("*.md")]:
        yield path.name, path.read_text("utf-8")


def named_documents():
    return {name.rstrip(".") for _, text in texts() for name in NAMED.findall(" ".join(text.split()))}


def test_the_index_has_every_document():
    indexed = [path for path, _ in docs.index(ROOT / "docs")]
    existing = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(indexed) == existing - {"README"}
    assert indexed[0] == "tutorial"
    listed = call()
    assert all(re.search(rf"^{path}  +\w", listed, re.MULTILINE) for path in indexed)
    assert str(ROOT / "docs") in listed


@pytest.mark.parametrize("name", ["comparing", "comparing.md", "docs/comparing.md", "results/h100"])
def test_a_document_is_printed_as_it_is(name):
    path = ROOT / "docs" / f"{name.removeprefix('docs/').removesuffix('.md')}.md"
    assert call(name) == path.read_text("utf-8")


@pytest.mark.parametrize("name", ["compering", "../README", "/etc/passwd", "images/mlflow.png"])
def test_a_document_that_does_not_exist_is_refused(name):
    with pytest.raises(ConfigError, match="there is no such document"):
        call(name)


def test_every_document_that_a_message_names_can_be_opened():
    names = named_documents()
    assert {"data", "extending", "measuring", "running"} <= names
    for name in names:
        assert call(name).startswith("# ")


def test_no_message_names_a_file_of_the_repository():
    """The package has no `docs/data.md` in the current folder, so messages name `visionbench docs data`."""
    for place, text in texts():
        assert not re.search(r"\bdocs/\w+\.md|\b(README|CONTRIBUTING)(\.md)?\b", text) or place == "docs.py", (
            place,
            text,
        )
