"""The tables of faults in docs/faults.md: every row names tests, and pytest collects each of them."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")
COLUMNS = ["fault", "what the user sees", "what is kept", "test"]
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def tables():
    """Return the cells of each table of the section, without the line below the heading."""
    section = PAGE.partition("\n## Faults that were tried\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    tables = [[[cell.strip() for cell in row.strip("|").split(" | ")] for row in block.split("\n")] for block in blocks]
    return [[rows[0], *(row for row in rows[2:] if row != [""])] for rows in tables]


ROWS = [row for table in tables() for row in table[1:]]


@cache
def collected(path):
    """Return the functions that pytest collects from a module, except those that are always skipped."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {each.name for each in functions if not any("mark.skip(" in ast.unparse(d) for d in each.decorator_list)}


def test_every_table_has_the_same_columns_and_every_row_has_all_of_them():
    assert len(ROWS) > 30
    assert all(rows[0] == COLUMNS for rows in tables())
    assert [row for row in ROWS if len(row) != len(COLUMNS) or not all(row)] == []


def test_no_fault_is_listed_twice():
    faults = [row[0] for row in ROWS]
    assert [fault for fault in faults if faults.count(fault) > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:50])
def test_every_fault_names_tests_that_exist_and_are_not_skipped(row):
    tests = TEST.findall(row[-1])
    assert tests and TEST.sub("", row[-1]).strip(", ·") == "", f"{row[-1]}: write `FOLDER/test_FILE.py::test_NAME`"
    for path, name in tests:
        assert (TESTS / path).is_file() and Path(path).name.startswith("test_"), f"tests/{path}: no such module"
        assert name in collected(path), f"tests/{path} has no test {name}"
