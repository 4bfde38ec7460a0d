"""`visionbench ui`: serve MLflow's pages for the results of an output folder, on this machine only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path

from visionbench.config import TrackingConfig
from visionbench.core import ConfigError, TrackingError
from visionbench.credentials import public
from visionbench.deadline import Caller, DeadlineExceeded
from visionbench.terminal.console import screen
from visionbench.trackers.mlflow import MlflowTracker

REFUSED_BY_BROWSERS = {5060, 5061, 6000, 6566, *range(6665, 6670), 6697, 10080}
"""Ports above 1023 that Chromium will not open."""

CLOSE_ASSISTANT = "MLflow's Assistant panel opens at first; close it with its × to give the charts more room"
"""MLflow opens the panel at the first visit of a browser. No setting of the server or of the experiment prevents it."""


def serve(
    output_dir: Path, uri: str | None, experiment: str, port: int, browser: bool = True, timeout_seconds: float = 30.0
) -> int:
    """Print the address of the experiment's charts, and replace this process by the server of a local store.

    With `browser`, open the address if there is a terminal and a display. Ctrl-C ends the server.
    """
    config = TrackingConfig(uri=uri, experiment=experiment, timeout_seconds=timeout_seconds)
    tracker = MlflowTracker(config, output_dir)
    if uri is None and not (output_dir / "mlflow.db").is_file():
        raise ConfigError(f"--output-dir {output_dir}: no mlflow.db in it", "measure something first: visionbench run")
    if port in REFUSED_BY_BROWSERS:
        raise ConfigError(f"--port {port}: browsers refuse to open it", "use another, such as 5000")
    console = screen()
    try:
        tracker.load()
        page = Caller(tracker.timeout_seconds).make(tracker.page)
    except TrackingError as error:
        raise ConfigError(error.problem, error.remedy) from error
    except DeadlineExceeded:
        problem = f"tracking.uri={public(tracker.uri)}: no answer within {tracker.timeout_seconds:g} s"
        raise ConfigError(problem, "check the address and the server") from None
    if page.startswith("http"):
        console.print(page, soft_wrap=True, highlight=False)
        if browser and _has_browser():
            webbrowser.open(page)
        return 0
    if not _is_free(port):
        raise ConfigError(f"--port {port}: it is in use", f"use another, as in --port {port + 1}")
    command, environment = tracker.server(port)
    address = f"http://127.0.0.1:{port}/{page}"
    console.print(address, soft_wrap=True, highlight=False)
    console.print("Ctrl-C ends it", style="dim")
    console.print(CLOSE_ASSISTANT, style="dim", soft_wrap=True)
    if browser and _has_browser():
        opener = [sys.executable, "-m", "visionbench.commands.open_page", address]
        null = subprocess.DEVNULL  # hides the messages of browsers
        subprocess.Popen(opener, stdin=null, stdout=null, stderr=null)
    os.execve(command[0], command, environment)  # a signal that ends this command then ends the server


def _has_browser() -> bool:
    """Return whether a browser can open a window. Without a display, only browsers in the terminal are available."""
    display = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & set(os.environ)
    if not display or not sys.stdout.isatty():
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
