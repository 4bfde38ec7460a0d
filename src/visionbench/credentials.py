"""Credentials in the configuration: refuse typed ones, because they would be saved, and remove them from messages.

A credential belongs in an environment variable. A reference such as `${oc.env:NAME}` is saved as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from visionbench.core import ConfigError

LOCAL_SCHEMES = ("sqlite", "file")
"""Addresses of these schemes are paths, in which @ has no special meaning."""
SECRET_NAMES = re.compile(
    r"(access|auth|bearer|hf|huggingfacehub|mlflowtracking|session|security|xamzsecurity)?token"
    r"|(mlflowtracking)?password|passwd|credentials?|xamzcredential|sig|(xamz)?signature"
    r"|(client|aws)?secret|apikey|(aws)?secret(access)?key|accesskey|privatekey"
)
"""Names of keys and of parts of a query that hold a credential, in lower case and without separators."""
TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|sk-[\w-]{20,}"
    r"|dapi[0-9a-f]{30,}|A(?:KI|SI)A[A-Z0-9]{16}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
"""The forms of access tokens of Hugging Face, GitHub, GitLab, OpenAI, Databricks, AWS and Slack, and of JSON Web
Tokens."""
USER_INFO = re.compile(r"([a-z][a-z0-9+.-]{0,30})://([^\s'\"<>]*)@", re.IGNORECASE)
REFERENCE = "${"


def public(text: str) -> str:
    """Return a text without the user's name and password in addresses, and without tokens."""
    text = USER_INFO.sub(lambda match: match[0] if _is_local(match[1]) else f"{match[1]}://", text)
    text = re.sub(r"(?<![\w/:.@])[^\s/'\"@:<>]+:[^\s/'\"@<>]+@(?=[\w\[])", "", text)  # an address without a scheme
    text = re.sub(
        r"([?&])([\w.%-]+)=([^&\s'\"#]+)",
        lambda match: f"{match[1]}{match[2]}=…" if _is_secret_name(match[2]) else match[0],
        text,
    )
    return TOKEN.sub("…", text)


def problem(key: str, value: Any) -> str:
    """Return what makes a typed value a credential, or an empty text. `key` is in dotted form."""
    name = key.rpartition(".")[2].lstrip("+~")
    if not isinstance(value, str) or not value:
        return ""
    if _is_secret_name(name) and REFERENCE not in value:
        return "a credential"
    for match in USER_INFO.finditer(value):
        if not _is_local(match[1]) and REFERENCE not in match[2]:
            return "an address with a user's name or password"
    if name == "uri" and re.match(r"[^/\s:@]+:[^/\s@]+@", value) and REFERENCE not in value.partition("@")[0]:
        return "an address with a user's name or password"
    if "?" in value and "://" in value and any(_secret_parts(value)):
        return "an address with a credential"
    return "an access token" if TOKEN.search(value) else ""


def refuse(values: Any, key: str = "", origin: Callable[[str], Any] = lambda key: None) -> None:
    """Raise ConfigError for the first credential in a value or in nested sections. References must not be resolved.

    The message does not show the credential. `origin` returns the file that sets a key, or None.
    """
    for name, value in _leaves(values, key):
        if reason := problem(name, value):
            file = origin(name)
            place = f"{file}: {name}" if file else name
            raise ConfigError(f"{place}: {reason} would be saved with the results", _remedy(name))


def _leaves(values: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _leaves(value, key)
    else:
        yield key, values


def _remedy(key: str) -> str:
    if key.startswith("tracking."):
        return (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or put the address in an environment "
            "variable: 'tracking.uri=${oc.env:MLFLOW_TRACKING_URI}'"
        )
    return f"put it in an environment variable, as in '{key}=${{oc.env:NAME}}'"


def _is_local(scheme: str) -> bool:
    return scheme.lower().partition("+")[0] in LOCAL_SCHEMES


def _is_secret_name(name: str) -> bool:
    return SECRET_NAMES.fullmatch(re.sub(r"[^a-z0-9]", "", name.lower())) is not None


def _secret_parts(address: str) -> Iterable[bool]:
    """Yield whether each part of the query of an address is a credential that is not a reference."""
    try:
        query = urlsplit(address).query
    except ValueError:
        return
    for name, value in parse_qsl(query):
        yield _is_secret_name(name) and REFERENCE not in value
