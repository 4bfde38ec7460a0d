"""A signal before anything is measured ends the command with one line, wherever it arrives."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import SECONDS

from visionbench import cli, signals

AT_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
module, number, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]

class Send:
    def find_spec(self, name, *_):
        if name == module:
            sys.meta_path.remove(self)
            os.killpg(0, number)

sys.meta_path.insert(0, Send())
sys.argv = ["visionbench", *words]
from visionbench.__main__ import main
main()
"""
"""A program that runs the command, and sends a signal to all its processes when a module is imported."""


@pytest.mark.parametrize(
    ("module", "number", "code"),
    [
        ("click", signal.SIGINT, 130),  # the first import
        ("hydra.core.utils", signal.SIGINT, 130),  # before the composition
        ("visionbench.data_check", signal.SIGINT, 130),  # before the fork server
        ("visionbench.model_check", signal.SIGINT, 130),  # the fork server imports torch
        ("visionbench.records.sweep", signal.SIGINT, 130),
        ("visionbench.model_check", signal.SIGHUP, 129),
        ("visionbench.model_check", signal.SIGTERM, 143),
        ("numpy", signal.SIGINT, 130),
    ],
)
def test_a_signal_before_the_first_run_prints_one_line_and_leaves_no_folder(tmp_path, module, number, code):
    words = ["run", "model=clip_tiny", "tracking=none", f"output_dir={tmp_path / 'outputs'}"]
    done = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, str(int(number)), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=SECONDS,
    )
    assert done.returncode == code, done.stderr
    assert (done.stdout, done.stderr) == ("", f"visionbench: {signals.REASONS[number]}\n")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def handlers(monkeypatch):
    """Restore the handlers of signals and of errors that cannot be raised."""
    before = {number: signal.getsignal(number) for number in signals.REASONS}
    monkeypatch.setattr(signals.Received, "signal", None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ends_with(monkeypatch, capsys, error):
    """Return the exit code and the error output of a command that receives Ctrl-C and then raises an error."""

    def run(**options):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as interrupt:
            raise error from interrupt

    monkeypatch.setattr(cli, "cli", run)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize("error", [ImportError("numpy.core failed to import"), OSError(5, "an error"), SystemExit(1)])
def test_an_error_that_a_library_makes_of_a_signal_is_the_signal(handlers, monkeypatch, capsys, error):
    assert ends_with(monkeypatch, capsys, error) == (130, "visionbench: interrupted from the keyboard\n")


def test_without_a_signal_an_end_of_file_is_no_interruption(handlers, monkeypatch):
    def run(*arguments):
        raise EOFError("of a file")

    monkeypatch.setattr("visionbench.commands.doctor.run", run, raising=False)
    monkeypatch.setattr("visionbench.commands.doctor.show", run, raising=False)
    monkeypatch.setattr(sys, "argv", ["visionbench", "doctor"])
    with pytest.raises(RuntimeError, match="EOFError: of a file"):
        cli.main()


def test_a_signal_that_a_library_catches_is_raised_again(handlers):
    signals.raise_from_now_on()
    signals.raise_if_received()
    with pytest.raises(signals.Ended):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(signals.Ended, match="ended by SIGTERM"):
        signals.raise_if_received()


def test_a_signal_that_the_parent_ignores_stays_ignored(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.raise_from_now_on()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.Received.signal is None
    signals.end_silently()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_few_modules_are_imported_before_signals_are_handled():
    code = "import sys; before = {*sys.modules}; import visionbench.signals; print(*sorted({*sys.modules} - before))"
    modules = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=Path(signals.__file__).parents[1], capture_output=True, text=True
    )
    assert {"visionbench.signals", "signal"} <= {*modules.stdout.split()}
    assert not {"multiprocessing", "threading", "typing", "click"} & {*modules.stdout.split()}
