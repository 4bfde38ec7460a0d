"""Output streams that cannot end a command."""

import errno
import io
import os

import pytest

from visionbench import cli
from visionbench.terminal import streams
from visionbench.terminal.streams import LenientStream


class Broken(io.RawIOBase):
    """A stream whose writes fail."""

    def __init__(self, code):
        self.code = code
        self.null = os.open(os.devnull, os.O_WRONLY)

    def fileno(self):
        return self.null

    def write(self, data):
        raise OSError(self.code, os.strerror(self.code))


@pytest.fixture
def as_stdout(monkeypatch):
    """A function that makes a failing stream the standard output."""

    def replace(code):
        lenient = io.BufferedWriter(LenientStream(Broken(code)))
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(lenient, "utf-8", line_buffering=True))

    return replace


@pytest.mark.parametrize(("code", "reason"), [(errno.ENOSPC, os.strerror(errno.ENOSPC)), (errno.EPIPE, None)])
def test_output_that_cannot_be_written_is_dropped_and_only_a_closed_pipe_is_no_loss(as_stdout, code, reason):
    as_stdout(code)
    print("first")
    print("second")
    assert streams.lost_output() == reason


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_of_a_run_is_that_of_the_measurement_although_its_output_is_lost(
    as_stdout, monkeypatch, capsys, code
):
    as_stdout(errno.ENOSPC)
    monkeypatch.setattr("sys.argv", ["visionbench", "run"])
    monkeypatch.setattr("visionbench.commands.run.run", lambda _: print("a table") or code)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    assert capsys.readouterr().err.startswith(f"visionbench: standard output: {os.strerror(errno.ENOSPC)}; the results")


@pytest.mark.parametrize("words", [["--dry-run"], ["--cfg=job"], ["--help"]], ids=" ".join)
def test_lost_output_of_a_command_that_measures_nothing_is_an_error(as_stdout, monkeypatch, capsys, words):
    def show(_):
        print("a plan, a configuration or a help text")
        if words == ["--help"]:
            raise SystemExit

    as_stdout(errno.ENOSPC)
    monkeypatch.setattr("sys.argv", ["visionbench", "run", *words])
    monkeypatch.setattr("visionbench.commands.run.run", show)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"visionbench: standard output: {os.strerror(errno.ENOSPC)}; free space")


def test_other_streams_lose_no_output():
    assert streams.lost_output() is None


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_every_character_can_be_printed_and_none_becomes_the_mark_of_a_doubt(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding))
    streams.protect()
    print("clip_tiny · cpu – 1 × 2 … ± 5 → µs ≤")
    print("\ud800", end="", flush=True)
    text = raw.getvalue().decode(encoding)
    assert text.startswith("clip_tiny") and text.endswith("?") and text.count("?") == 1


def test_ascii_text_replaces_the_signs_of_the_tables(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "ascii"))
    streams.protect()
    print("a · b – c × d … ± →", flush=True)
    assert raw.getvalue() == b"a - b - c x d ... +- ->\n"
