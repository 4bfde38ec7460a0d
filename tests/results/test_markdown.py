"""Names and reasons cannot change a Markdown document, a page or a terminal."""

from io import StringIO

import pytest
from saved_runs import row, run, speed

from visionbench.core import FAILED, one_line, visible
from visionbench.report import document, page
from visionbench.results import gate, markdown, summary
from visionbench.results.comparison import compare
from visionbench.terminal import comparison_view, table
from visionbench.terminal.console import SafeConsole

HOSTILE = "m|`x`*b*[a](http://h)<script>alert(1)</script>\n# heading\n| --- |\x1b]0;title\x07\x1b[31m\u202e&lt;_i_~~s~~"
"""A name with every kind of mark-up, line feeds, and sequences that would control a terminal."""


def hostile_run():
    return run(speed(10.0), row(status=FAILED, reason=HOSTILE), name=HOSTILE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clip_vit_b32 · cpu · fp32", "clip_vit_b32 · cpu · fp32"),
        ("latency [0.9, 1.1] of batch.sizes=[1,2]", "latency [0.9, 1.1] of batch.sizes=[1,2]"),
        ("a|b", r"a\|b"),
        ("`rm` *x* ~y~ _z_", r"\`rm\` \*x\* \~y\~ \_z\_"),
        ("[a](b) ![c](d) [e][f]", r"[a\](b) ![c\](d) [e\][f]"),
        ("<b> &lt; a & b", "&lt;b> &amp;lt; a & b"),
        ("one\ntwo\r\nthree", "one two three"),
        (r"C:\dir \*", r"C:\dir \\\*"),
        ("\x1b[31mred", "\ufffd[31mred"),
    ],
)
def test_a_text_is_one_line_without_markup(text, shown):
    assert markdown.escaped(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("> a", r"\> a"),
        ("1. a", r"1\. a"),
        ("--- ", r"\---"),
        ("4 of 6 runs", "4 of 6 runs"),
        ("-0.5 ms", "-0.5 ms"),
    ],
)
def test_a_line_begins_no_block(text, shown):
    assert markdown.item(text) == shown


def test_the_markdown_of_a_report_has_the_lines_and_the_cells_of_a_report_with_usual_names():
    def lines(name, reason):
        one = run(speed(10.0), row(status=FAILED, reason=reason), name=name)
        text = page.render(page.MARKDOWN, document.compose([one]), dict.fromkeys(page.SECTIONS, ()))
        return [(line[:2], line.replace(r"\|", "").count("|")) for line in text.splitlines()]

    assert lines(HOSTILE, HOSTILE) == lines("usual", "usual")


def test_the_page_of_a_report_has_no_element_of_a_name():
    text = page.render(page.HTML, document.compose([hostile_run()]), dict.fromkeys(page.SECTIONS, ()))
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_the_markdown_of_a_comparison_and_of_a_note_has_no_element_of_a_name():
    comparison = compare([hostile_run()], [hostile_run()])
    texts = [
        comparison_view.markdown(comparison, gate.judge(comparison)),
        summary.note(hostile_run().record, hostile_run().results),
    ]
    for text in texts:
        assert (
            "<script>" not in text
            and "\x1b" not in text
            and "\n# heading" not in text
            and "](" not in text.replace(r"\](", "")
        )


def test_a_terminal_receives_no_control_sequence_of_a_name_or_a_reason():
    file = StringIO()
    console = SafeConsole(file=file, width=200, force_terminal=True, color_system="standard")
    table.show([hostile_run()], console)
    console.print("bold", style="bold")
    assert "\x1b]0" not in file.getvalue() and "\x07" not in file.getvalue() and "\u202e" not in file.getvalue()
    assert "\x1b[31m" not in file.getvalue() and "\x1b[1mbold\x1b[0m" in file.getvalue()


def test_control_characters_are_replaced_and_line_feeds_and_tabs_are_left():
    assert visible("a\tb\nc\x1b[2J\x9b1m\x7f") == "a\tb\nc\ufffd[2J\ufffd1m\ufffd"
    assert one_line("a\n\x1bb") == "a \ufffdb"
