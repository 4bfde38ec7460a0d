"""Addresses of MLflow's stores, and the errors of a store in one line."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from visionbench.credentials import public

LONGEST_REASON = 300
"""The number of characters of an error's reason."""

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""The databases in which MLflow stores runs."""

SERVER_FAULTS = {
    r"failed with error code (\d{3}) != 200": r"the server refused the request (status \1)",
    r"too many (\d{3}) error respon": r"the server has a fault (status \1)",
    r"not in a valid JSON format": "the server is not MLflow (its answer is not JSON)",
    r"Exceeded \d+ redirects": "the server redirects each request",
    r"BadStatusLine|InvalidHeader": "the server is not a web server",
    r"IncompleteRead|Connection broken": "the connection was cut",
    r"NameResolutionError|getaddrinfo failed": "there is no server of this name",
}
"""Patterns of MLflow's messages about a server, and the reason in short."""


def is_database(uri: str) -> bool:
    """Return whether a store is a database that this process opens by itself, and not a server."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASES


def sqlite_file(uri: str) -> Path | None:
    """Return the absolute path of a SQLite store, or None for any other store."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(unquote(match[1])).absolute() if match else None


def sqlite_uri(file: Path) -> str:
    """Return the address of a SQLite file. Characters with a meaning in an address are encoded; MLflow decodes them."""
    return "sqlite:///" + re.sub("[%?]", lambda mark: quote(mark[0]), str(file))


def remove_stray_folder(uri: str) -> None:
    """Remove the empty folders that MLflow creates from an encoded SQLite address beside the real folder."""
    stray = Path(uri.removeprefix("sqlite:///")).parent
    file = sqlite_file(uri)
    if file is None or stray == file.parent:
        return
    with suppress(OSError):  # a folder that is not empty belongs to the user
        for folder in (stray, *stray.parents):
            folder.rmdir()


def reason(error: BaseException) -> str:
    """Return the reason of an error of a file, a network or a database in one short line, without a password."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    message = public(" ".join(str(error).split())) or type(error).__name__
    if match := re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", message):
        return match[1].strip(": ")
    if "timed out" in message:
        return "no answer in time"
    for pattern, text in SERVER_FAULTS.items():
        if match := re.search(pattern, message):
            return match.expand(text)
    return message if len(message) <= LONGEST_REASON else f"{message[:LONGEST_REASON]} …"
