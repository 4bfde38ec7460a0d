"""Open an address in the browser as soon as its server responds. This module runs as a child process of the server."""

from __future__ import annotations

import os
import socket
import sys
import time
import webbrowser
from urllib.parse import urlsplit

WAIT_SECONDS = 120


def main(address: str) -> None:
    """Wait for the server, and open the address. Do nothing if the server ends or does not respond in time."""
    server, deadline = os.getppid(), time.monotonic() + WAIT_SECONDS
    while os.getppid() == server and time.monotonic() < deadline:
        if _responds(address):
            webbrowser.open(address)
            return
        time.sleep(0.1)


def _responds(address: str) -> bool:
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1])
