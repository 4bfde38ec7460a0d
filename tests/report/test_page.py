"""The HTML page of a report: its structure, its tables, its texts about doubts, and its size."""

import re
from html.parser import HTMLParser

import many_runs
import pytest

from visionbench.report import document, translations
from visionbench.report.page import write_report
from visionbench.results.doubts import CAUSES


class Tables(HTMLParser):
    """A parser that collects the tables of a page: the attributes and the texts of their cells."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.cell = [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.cell = (tag, dict(attributes), [])
            self.tables[-1][-1].append(self.cell)

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.cell = None

    def handle_data(self, data):
        if self.cell:
            self.cell[2].append(data)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The text of the page of each fabricated sweep."""
    folder = tmp_path_factory.mktemp("pages")
    return {path.parent.name: path.read_text(encoding="utf-8") for path in many_runs.write_all(folder)}


def test_every_heading_of_a_table_has_a_scope_and_every_row_has_as_many_cells(pages):
    for name, text in pages.items():
        for heading, *rows in Tables(text).tables:
            assert {(tag, attributes["scope"]) for tag, attributes, _ in heading} == {("th", "col")}, name
            for cells in rows:
                assert len(cells) == len(heading)
                assert (cells[0][0], cells[0][1]["scope"]) == ("th", "row")
                assert {tag for tag, _, _ in cells[1:]} == {"td"}


def test_each_table_is_a_region_with_a_name_that_the_keyboard_can_reach(pages):
    for text in pages.values():
        regions = re.findall(r'<div class="wide[^"]*" role="region" aria-label="[^"]+" tabindex="0"><table', text)
        assert len(regions) == text.count("<table")


def test_every_figure_has_a_name_and_marks_have_tooltips(pages):
    for name, text in pages.items():
        assert text.count("<svg") == len(re.findall(r'<svg role="img" aria-label="[^"]+" viewBox="[^"]+">', text)), name
        assert text.count("<title>") > text.count("<svg")


def test_the_page_of_thirty_runs_is_smaller_than_a_megabyte(pages):
    assert len(pages["thirty"].encode()) < 1_000_000
    assert len(pages["tasks"].encode()) < 1_000_000


@pytest.mark.parametrize(
    ("sweep", "column", "values"),
    [
        (many_runs.threads, "threads", ["1", "2", "3", "4", "5"]),
        (many_runs.attention, "attention", ["eager", "sdpa", "flash_attention_2"]),
        (many_runs.image_size, "image size", ["224", "336", "448"]),
    ],
)
def test_what_differs_is_a_column_and_a_filter_and_part_of_each_name(sweep, column, values, tmp_path):
    report = document.compose(sweep(tmp_path))
    for grid in (report.summary, report.quality):
        index = list(grid.headings).index(column)
        assert index in grid.filters and index < grid.names
        assert list(dict.fromkeys(row[index] for row in grid.rows)) == values
    names = [row[0] for row in report.conditions.rows]
    assert [name.rpartition(" · ")[2] for name in names] == [f"{column} {value}" for value in values]


def test_the_quality_is_sorted_by_its_value_and_not_by_the_number_in_its_title(tmp_path):
    grid = document.compose(many_runs.threads(tmp_path)).summary
    index = list(grid.headings).index("quality")
    assert grid.rows[0][index] == "t→i R@1 0.43"
    assert grid.values[0] == {index: 0.43}


def test_causes_of_doubt_have_counts_and_the_reasons_of_each_case_are_listed(tmp_path):
    report = document.compose(many_runs.threads(tmp_path))
    (cause,) = report.causes.rows
    assert cause[:2] == ["other programs used the cores", "12"]
    assert "visionbench doctor" in cause[2]
    assert cause[3].startswith("clip_tiny · cpu · fp32 · threads 3, batch-1: run_delay: threads waited")
    assert len(report.doubts) == 12
    assert all(f"threads {count}" in "".join(report.doubts) for count in (3, 4, 5))


def test_the_page_begins_with_a_sentence_if_cases_are_invalid_or_questionable(pages):
    def sentence(name):
        match = re.search(r'<p class="verdict"[^>]*>([^<]+)</p>', pages[name])
        return match and match.group(1)

    assert sentence("invalid").startswith("All 16 cases are invalid: other programs used the cores; ")
    assert sentence("threads").startswith("12 of 20 cases are questionable: other programs used the cores; ")
    assert "visionbench doctor" in sentence("threads")
    assert sentence("alone") is None


def test_the_sentence_and_the_causes_have_chinese_texts(tmp_path):
    report = document.compose(many_runs.invalid(tmp_path), "zh")
    assert report.verdict.startswith("16 个结果中 16 个无效、0 个存疑：其他程序占用了处理器核心（16）；")
    assert report.causes.rows[0][0] == "其他程序占用了处理器核心"
    assert set(translations.CAUSES) == {cause.name for cause in CAUSES}


def test_a_failed_run_is_in_the_table_and_has_a_remedy(pages):
    assert "broken_model" in pages["failed"]
    assert "ValueError: no such layer" in pages["failed"]
    assert "a smaller batch size" in pages["failed"]


def test_a_run_alone_has_a_page(tmp_path):
    paths = write_report(many_runs.alone(tmp_path / "runs"), "en", tmp_path)
    assert all(path.stat().st_size for path in paths)
    assert "runs are drawn" not in paths[0].read_text()
