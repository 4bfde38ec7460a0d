"""A service over a bundled model within the process of the tests, and requests to it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from server.faulty import running

from visionbench import session
from visionbench.commands.serve import build_service
from visionbench.composition import compose_runs
from visionbench.resolve import Resolver
from visionbench.server.app import Service, build_app
from visionbench.server.gate import Limits

FEW = ("data.options.samples=24", "device=cpu", "device.threads=1")


@contextmanager
def served(*overrides: str, limits: Limits | None = None, config_dir: Path | None = None) -> Iterator[Service]:
    """Load a model as `visionbench serve` does, and yield its service. It has no socket yet."""
    prepared = session.resolve(compose_runs([*FEW, *overrides], config_dir)[0], Resolver(config_dir))
    service = build_service(prepared, limits or Limits(requests=256))
    try:
        yield service
    finally:
        service.close()


@contextmanager
def answering(service: Service) -> Iterator[str]:
    """Serve it on a free port, and yield its base URL."""
    with running(build_app(service)) as url:
        yield url


def data_url(image: Image.Image | Path, kind: str = "PNG") -> str:
    """Return an image as a data URL."""
    if isinstance(image, Path):
        encoded = image.read_bytes()
    else:
        file = BytesIO()
        image.save(file, kind)
        encoded = file.getvalue()
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded).decode()}"


def messages(url: str, text: str = "Describe the image.") -> list[dict[str, Any]]:
    """Return the messages of a request about an image."""
    return [
        {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]}
    ]


def post(
    url: str, content: Any, headers: dict[str, str] | None = None, path: str = "/chat/completions"
) -> tuple[int, dict[str, Any]]:
    """Send a body, and return the status and the content of the response."""
    parts = urlsplit(url)
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    try:
        connection.request("POST", parts.path + path, body, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
