"""Open an address in the browser when a server answers there. It runs as a process beside the server."""

from __future__ import annotations

import os
import socket
import sys
import time
import webbrowser
from urllib.parse import urlsplit

WAIT_SECONDS = 120


def main(address: str) -> None:
    """Wait until the server answers or its process ends, and open the address."""
    server, until = os.getppid(), time.monotonic() + WAIT_SECONDS
    while os.getppid() == server and time.monotonic() < until:
        if _answers(address):
            webbrowser.open(address)
            return
        time.sleep(0.1)


def _answers(address: str) -> bool:
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1])
