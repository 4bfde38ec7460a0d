"""Servers that do not answer as MLflow does: they never answer, answer slowly, refuse, or send something else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PAUSE = 0.2
"""Seconds between the bytes of a slow answer."""


def _reply(status: str, body: bytes = b"", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body


def _never(connection: socket.socket, stopped: threading.Event) -> None:
    stopped.wait()


def _trickle(connection: socket.socket, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not stopped.wait(PAUSE):
        connection.sendall(b" ")


def _trickle_headers(connection: socket.socket, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not stopped.wait(PAUSE):
        connection.sendall(b"x")


def _cut(connection: socket.socket, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")


def _answer(content: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def answer(connection: socket.socket, stopped: threading.Event) -> None:
        connection.sendall(content)

    return answer


BLOCKING = {"never": _never, "trickle": _trickle, "trickle_headers": _trickle_headers}
REFUSING = {
    "status_500": _answer(_reply("500 Internal Server Error", b"broken")),
    "status_401": _answer(_reply("401 Unauthorized", b"You are not authenticated")),
    "status_403": _answer(_reply("403 Forbidden", b"Permission denied")),
    "redirect_loop": _answer(_reply("302 Found", headers="Location: /\r\n")),
    "html": _answer(_reply("200 OK", b"<html><body>a page of a proxy</body></html>", "Content-Type: text/html\r\n")),
    "no_http": _answer(b"220 mail.example ESMTP\r\n"),
    "cut": _cut,
}
KINDS = BLOCKING | REFUSING


@contextmanager
def serve(kind: str) -> Iterator[str]:
    """Yield the address of a server of this kind on a free port of this machine."""
    stopped = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(65536)
            KINDS[kind](connection, stopped)
        connection.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopped.set()
        listener.close()
        for connection in connections:
            connection.close()
