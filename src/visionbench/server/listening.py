"""The socket of the server, and uvicorn, the HTTP server on it."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visionbench.core import ConfigError

if TYPE_CHECKING:
    import uvicorn

MOST_SECONDS_TO_END = 10


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet: connections are refused. Raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(
            f"--host {host}: no such host", "give an address of this machine, such as 127.0.0.1"
        ) from None
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except PermissionError:
        bound.close()
        raise ConfigError(f"--port {port}: this user may not use it", "use one above 1023") from None
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise _in_use(port) from None
        raise ConfigError(f"--host {host}: {error.strerror}", "give an address of this machine") from None
    return bound


def listen(bound: socket.socket) -> None:
    """Accept connections from now on. Raises ConfigError if another process listens by now."""
    try:
        bound.listen(socket.SOMAXCONN)
    except OSError:
        raise _in_use(bound.getsockname()[1]) from None


def _in_use(port: int) -> ConfigError:
    return ConfigError(f"--port {port}: it is in use", f"use another, as in --port {port % 65535 + 1}")


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def url(bound: socket.socket, host: str) -> str:
    """Return the base URL of the server for a client."""
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}/v1"


def make_server(app: Callable[..., Any], seconds: float) -> uvicorn.Server:
    """Return the HTTP server of an application. After a signal, requests have `seconds` to finish."""
    import uvicorn

    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # its lines about refused requests contain parts of them
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, min(int(seconds), MOST_SECONDS_TO_END)),
        )
    )
