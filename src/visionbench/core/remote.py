"""The values of remote endpoints: one attempt of a request, its kind, and the prices of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from visionbench.core.data import Row

if TYPE_CHECKING:
    from PIL.Image import Image

ANSWERED = "answered"
"""The kind of an attempt with a complete answer. The kinds of attempts without one follow."""
RATE_LIMITED = "rate_limited"
SERVER_ERROR = "server_error"
TIMED_OUT = "timeout"
CONNECTION = "connection"
MALFORMED = "malformed"
REFUSED = "refused"
BAD_REQUEST = "bad_request"
AUTHENTICATION = "auth"
QUOTA = "quota"
REDIRECTED = "redirected"
FAILURES: Mapping[str, str] = {
    RATE_LIMITED: "429: too many requests",
    SERVER_ERROR: "5xx: an error of the server",
    TIMED_OUT: "no answer in remote.timeout_seconds, or 408",
    CONNECTION: "no connection, or a connection that was cut",
    MALFORMED: "an answer that is not JSON or lacks a field",
    REFUSED: "the model refused to answer, or a content filter removed the answer",
    BAD_REQUEST: "another 4xx",
    AUTHENTICATION: "401 or 403: the key is not accepted",
    QUOTA: "402, or 429 with the code insufficient_quota: the account has no credit",
    REDIRECTED: "3xx: a redirect, which is not followed",
}
"""The kinds of attempts without an answer, each with its meaning."""
KINDS = (ANSWERED, *FAILURES)
"""All kinds. A series of attempts holds the index."""
REPEATED = frozenset({RATE_LIMITED, SERVER_ERROR, TIMED_OUT, CONNECTION, MALFORMED})
"""The kinds after which a request is sent again."""
ENDING = frozenset({AUTHENTICATION, QUOTA, REDIRECTED})
"""The kinds that every further request would have too. They end the run."""


@dataclass(frozen=True)
class Attempt:
    """One attempt of a request: what was sent, and what was received."""

    kind: str
    seconds: float
    """From sending to the complete answer, or to the failure."""
    status: int | None = None
    """The status of HTTP; None without a response."""
    sent_bytes: int = 0
    """The body of the request, after it is encoded."""
    received_bytes: int = 0
    """The body of the response, as transferred."""
    text: str = ""
    """The answer."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """The tokens that the endpoint counted; None if the answer has no usage."""
    truncated: bool = False
    """Whether the answer ends because it has `max_tokens` tokens."""
    first_token_s: float | None = None
    """From sending to the first part of the answer that has text; None without streaming."""
    retry_after_s: float | None = None
    """The wait that the endpoint requires before the next attempt."""
    detail: str = ""
    """The reason of a failure, without any part of the key."""


@dataclass(frozen=True)
class EncodedImage:
    """An image as it is sent."""

    media_type: str
    data: bytes


@dataclass
class Prices:
    """The prices of a model. `date` is the day on which they were read, in the form 2026-11-27."""

    input_per_million_tokens: float = 0.0
    output_per_million_tokens: float = 0.0
    per_image: float = 0.0
    currency: str | None = None
    date: str | None = None
    most_input_tokens: int = 4000
    """An upper bound of the input tokens of a request, image and prompt, for limits and estimates."""

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """Return the cost of one request with one image."""
        tokens = input_tokens * self.input_per_million_tokens + output_tokens * self.output_per_million_tokens
        return tokens / 1e6 + self.per_image


class Endpoint(Protocol):
    """A model at an endpoint. Several threads use it at once."""

    identity: Mapping[str, Any]
    """The identity of the model and of the endpoint, without any credential."""

    def encode(self, image: Image) -> EncodedImage:
        """Encode an image as it is sent."""

    def send(self, image: EncodedImage, prompt: str) -> Attempt:
        """Send one request, once. No failure is raised."""

    def close(self) -> None:
        """Close the connections."""


@runtime_checkable
class Connects(Protocol):
    """A model family whose models are at a remote endpoint, so that nothing is loaded into this process."""

    def connect(self, model: Any, remote: Any) -> Endpoint:
        """Return the endpoint of a `config.ModelConfig` with the connection of a `config.RemoteConfig`.

        Raises ConfigError if the address or the key is missing.
        """

    def why_unavailable(self, model: Any, remote: Any) -> str | None:
        """Return why a request cannot be sent, with a remedy, or None. Imports nothing large and uses no network."""

    def connection_warnings(self, model: Any, remote: Any) -> Sequence[str]:
        """Return warnings about the connection, such as a key that is sent without encryption."""

    def address(self, model: Any, remote: Any) -> str:
        """Return the address of the endpoint, without any credential. Raises ConfigError if it is missing."""

    def prompt_for(self, classes: Sequence[str]) -> str:
        """Return the prompt beside each image. `classes` are those of the data, or nothing."""

    def to_row(self, text: str, columns: frozenset[str], classes: Sequence[str]) -> Row:
        """Convert an answer to the columns of the predictions. An empty text is a refusal."""

    def request_limits(self, model: Any) -> tuple[Prices | None, int | None]:
        """Return the prices of a request and the most tokens of its answer; None if they are not given."""
