"""The width of the console."""

import pytest

from visionbench.terminal.console import screen

LONG = "word " * 60


def test_a_line_in_a_pipe_is_not_wrapped(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    screen().print(LONG)
    assert capsys.readouterr().out.count("\n") == 1


def test_columns_in_the_environment_set_the_width_of_a_pipe(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    screen().print(LONG)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize("width", [60, 100])
def test_the_width_of_a_terminal_is_not_changed(monkeypatch, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert screen(force_terminal=True, width=width).width == width
