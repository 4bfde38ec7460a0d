"""Words and names that this project does not use, because they are vague, old, or treat code as a person.

CONTRIBUTING.md gives the rules. This test holds the part of them that a machine can check.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = re.compile(
    r"\b(told|tells?|said|says?|wants?|wanted|mend(s|ed|ing)?|things?|stands?(?!-)|lies|nobody|brings?|brought|came of|"
    r"on account of|asks|knows|speaks|alike|oftener|thereby|to be doubted|of its own|where there is none)\b",
    re.IGNORECASE,
)
NAMES = {"found", "said", "told", "seen", "wanted", "meant", "taken", "lacking", "trouble", "asked", "whole", "apart"}
NOT_YET: set[str] = set()
"""Places that are still to be rewritten: folders or files below the repository."""
PYTHON = [path for folder in ("src", "benchmarks", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
TEXT = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "data").glob("README.md")),
    *sorted((ROOT / "data").glob("*_tiny/README.md")),
    *sorted((ROOT / "conf").rglob("*.yaml")),
    ROOT / "Makefile",
]
ALLOWED = {"tutorial.zh.md"}
KEYS_IN_FILES = {'"wanted"'}
"""Keys of result files, which keep their names so that old folders still read."""


def name(path):
    return path.relative_to(ROOT).as_posix()


def pending(path):
    return name(path).startswith(tuple(NOT_YET)) if NOT_YET else False


def prose(path):
    """Line numbers and texts of comments and strings."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) and token.string not in KEYS_IN_FILES:
            yield from enumerate(token.string.splitlines(), token.start[0])


def without_output(text):
    """A document without code spans and without blocks of output: these quote the program, whose code is checked."""
    text = re.sub(r"^( *)```text\n.*?^\1```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]+`", "", text)


def words(lines):
    return [f"line {number}: {match[0]}" for number, line in lines for match in WORDS.finditer(line)]


@pytest.mark.parametrize("path", [path for path in PYTHON if not pending(path)], ids=name)
def test_comments_and_messages_use_plain_words(path):
    assert words(prose(path)) == []


@pytest.mark.parametrize("path", [path for path in TEXT if path.name not in ALLOWED and not pending(path)], ids=name)
def test_documents_use_plain_words(path):
    assert words(enumerate(without_output(path.read_text("utf-8")).splitlines(), 1)) == []


@pytest.mark.parametrize("path", [path for path in PYTHON if not pending(path)], ids=name)
def test_names_are_nouns_or_verbs_that_mean_something(path):
    tree = ast.parse(path.read_text("utf-8"))
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert not (stored | arguments | defined) & NAMES


def test_a_vague_word_in_a_comment_is_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('x = 1  # what came of it\ny = "nobody"\n')
    assert words(prose(path)) == ["line 1: came of", "line 2: nobody"]
