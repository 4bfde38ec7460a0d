"""Tables that fit a width: no number is cut at any width."""

from io import StringIO

import pytest
from rich.console import Console

from visionbench.terminal.fitting import Column, fitted

COLUMNS = (
    Column("model", ["clip_tiny", "a_model_with_a_name_of_fifty_one_characters_in_all_xy"], number=False),
    Column("batch", ["1", "128"]),
    Column("p50 ms", ["12.34", "1,234,567"]),
    Column("±", ["1.2%", "0.4%"], rank=7),
    Column("p95 ms", ["–", "1,300,000"], rank=5),
    Column("img/s", ["81.04", "0.000103"]),
    Column("peak MiB", ["340", "1,234"], rank=2),
    Column("R@1", ["0.417", "0.583?"], rank=3),
    Column("", ["?", "out_of_memory"], number=False, complete=True),
)
NUMBERS_KEPT = ("12.34", "1,234,567", "81.04", "0.000103")


def lines_at(width, columns=COLUMNS, **options):
    file = StringIO()
    Console(width=width, file=file).print(fitted(columns, width, **options))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", range(24, 140))
def test_no_line_is_wider_than_the_width_and_no_number_is_cut(width):
    lines = lines_at(width)
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    assert words.issuperset(NUMBERS_KEPT)
    assert {"?", "out_of_memory"} <= words


def test_a_wide_table_has_all_columns_and_complete_texts():
    lines = lines_at(140)
    assert lines[0].split("  ")[0] == "model" and "±" in lines[0] and "R@1" in lines[0]
    assert COLUMNS[0].cells[1] in lines[2]
    assert len(lines) == 3


def test_columns_of_the_highest_rank_are_left_out_first_and_named_below():
    lines = lines_at(80)
    assert "±" not in lines[0] and "p95 ms" not in lines[0]
    assert lines[-1] == "not shown at this width: ±, p95 ms, R@1"


def test_texts_are_shortened_in_the_middle_before_a_column_is_left_out():
    lines = lines_at(110)
    assert "±" in lines[0]
    assert "…" in lines[2] and lines[2].startswith("a_model_") and "_xy " in lines[2]


def test_a_very_narrow_table_becomes_a_list_with_all_numbers():
    text = "\n".join(lines_at(40))
    assert "batch 128" in text and "p50 ms 1,234,567" in text and "p95 ms 1,300,000" in text
    assert "not shown" not in text


def test_an_empty_column_without_a_heading_takes_no_width():
    columns = [Column("batch", ["1"]), Column("", [""], number=False)]
    assert lines_at(5, columns) == ["batch", "    1"]
