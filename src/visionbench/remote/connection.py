"""The address and the key of an endpoint, from the configuration and the environment.

The key is read from an environment variable when it is needed. It is in no value that is printed, pickled or written.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from visionbench.config import RemoteConfig
from visionbench.core import ConfigError
from visionbench.credentials import public

BASE_URL = "OPENAI_BASE_URL"
"""The environment variable of the address, if `remote.base_url` is null."""
NO_KEY = "none"
"""The key for an endpoint on this machine that needs none, because the client requires a text. It is not sent."""
LEAST_KEY = 6
"""The least characters of a key, because a shorter one cannot be removed from texts without removing words."""


@dataclass(frozen=True)
class Connection:
    """The address of an endpoint, and its key."""

    base_url: str
    key: str = field(repr=False)
    is_loopback: bool

    @property
    def has_key(self) -> bool:
        """Whether the environment has a key."""
        return self.key != NO_KEY


def find_connection(remote: RemoteConfig, environment: Mapping[str, str] | None = None) -> Connection:
    """Return the connection. Raises ConfigError if the address or the key is missing or cannot be used."""
    environment = os.environ if environment is None else environment
    base_url, loopback = find_address(remote, environment)
    return Connection(base_url, _find_key(remote, environment, base_url, loopback), loopback)


def find_address(remote: RemoteConfig, environment: Mapping[str, str] | None = None) -> tuple[str, bool]:
    """Return the address, and whether it is on this machine. Raises ConfigError if it is missing or no address."""
    environment = os.environ if environment is None else environment
    given = (remote.base_url or "").strip()
    setting = "remote.base_url" if given else BASE_URL
    address = given or environment.get(BASE_URL, "").strip()
    if not address:
        raise ConfigError(
            f"remote.base_url has no value, and the environment variable {BASE_URL} is not set",
            "give the address of the endpoint, as in remote.base_url=http://127.0.0.1:8000/v1",
        )
    shown = public(address)
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not address.isprintable() or " " in address:
        raise ConfigError(f"{setting}={shown}: not an address", "write it as https://host/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"{setting}={shown}: an address with a user, a password, a query or a fragment",
            f"give only the address, and put the key into the environment variable {remote.key_env}",
        )
    return address.rstrip("/"), _is_loopback(host)


def why_unavailable(remote: RemoteConfig) -> str | None:
    """Return why no request can be sent, with a remedy, or None: a package, the address or the key is missing."""
    if importlib.util.find_spec("openai") is None:
        return "the package openai is not installed; pip install 'visionbench[remote]'"
    try:
        find_connection(remote)
    except ConfigError as error:
        return str(error)
    return None


def warnings(remote: RemoteConfig) -> list[str]:
    """Return a warning if images and the key are sent to another machine without encryption."""
    address, loopback = find_address(remote)
    if loopback or address.startswith("https:"):
        return []
    return [f"{address}: images and the key are sent without encryption; use an address with https"]


def _find_key(remote: RemoteConfig, environment: Mapping[str, str], address: str, loopback: bool) -> str:
    name = remote.key_env
    if not name.strip() or not name.isascii() or not name.replace("_", "a").isalnum() or name[0].isdigit():
        raise ConfigError(  # the value may be the key itself
            "remote.key_env is not the name of an environment variable", "give a name, as in remote.key_env=MY_KEY"
        )
    key = environment.get(name, "")
    if not key:
        if loopback:
            return NO_KEY
        raise ConfigError(
            f"remote.key_env={name}: this environment variable is not set, and {address} is on another machine",
            f"set {name}, or name another variable with remote.key_env=…",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"remote.key_env={name}: the value of this environment variable has a character that a key cannot have",
            "set it without spaces and line breaks",
        )
    if len(key) < LEAST_KEY:
        raise ConfigError(
            f"remote.key_env={name}: the value of this environment variable is shorter than {LEAST_KEY} characters",
            "set the complete key",
        )
    return key


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
