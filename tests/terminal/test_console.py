"""How wide the screen is taken to be."""

import pytest

from visionbench.terminal.console import screen

LONG = "word " * 60


def test_in_a_pipe_a_line_stays_a_line(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    screen().print(LONG)
    assert capsys.readouterr().out.count("\n") == 1


def test_a_width_that_is_asked_for_holds_in_a_pipe_too(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    screen().print(LONG)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize("width", [60, 100])
def test_a_terminal_has_its_own_width(monkeypatch, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert screen(force_terminal=True, width=width).width == width
