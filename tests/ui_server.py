"""`visionbench ui` as a user runs it: in a pseudo-terminal, with a browser that records the requested addresses."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command_line import COMMAND

SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def served(folder: Path, work: Path) -> Iterator[tuple[str, str]]:
    """What the command printed first, and the address that it opened in the browser once the server answered."""
    opened = work / "opened"
    os.mkfifo(opened)
    browser = work / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    terminal, its_end = pty.openpty()
    reader = os.open(opened, os.O_RDWR)  # both ways, so that opening waits for nobody
    process = subprocess.Popen(
        [COMMAND, "ui", "--output-dir", folder, "--port", str(free_port())],
        env={**os.environ, "BROWSER": f"{browser} %s"},
        stdin=subprocess.DEVNULL,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    try:
        ready, _, _ = select.select([reader], [], [], SECONDS)
        printed = os.read(terminal, 4096).decode().splitlines()[0]
        assert ready, f"the browser was not opened; the command said: {printed}"
        yield printed, os.read(reader, 4096).decode().strip()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(SECONDS)
        os.close(terminal)
        os.close(reader)
