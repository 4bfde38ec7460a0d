"""The routes of the server: chat completions, models, health and the sums of the steps."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from visionbench.server.answering import END_OF_STREAM, Envelope, GrowingText, event
from visionbench.server.engine import Answer, BatchFailed, Engine, Job
from visionbench.server.gate import BODY, ClientLeft, Gate, Limits, internal_error
from visionbench.server.reading import ChatRequest, RequestError, read, unknown_model
from visionbench.serving.batching import Batcher, QueueClosed

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

T = TypeVar("T")
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass
class Service:
    """A served model with its batcher and its worker threads."""

    model: str
    """The id of the model in requests and answers."""
    facts: Mapping[str, Any]
    """What `/v1/models` shows of the model beside OpenAI's fields."""
    engine: Engine
    batcher: Batcher[Job, Answer]
    pool: ThreadPoolExecutor
    limits: Limits
    created: int = field(default_factory=lambda: int(time.time()))

    def close(self) -> None:
        """End the threads, after the requests that they have."""
        self.pool.shutdown(wait=True)
        self.batcher.close()

    # ----------------------------------------------------------------------------------------------------- small routes
    async def health(self, request: Request) -> Response:
        """Return that the server answers."""
        return _json({"status": "ok", "model": self.model})

    async def models(self, request: Request) -> Response:
        """Return the list of models, which has one."""
        return _json({"object": "list", "data": [self._describe()]})

    async def one_model(self, request: Request) -> Response:
        """Return the description of the model."""
        if (name := request.path_params["name"]) != self.model:
            raise unknown_model(name, self.model)
        return _json(self._describe())

    async def batches(self, request: Request) -> Response:
        """Return the sizes of the batches, and the sums of the steps."""
        return _json(self.engine.timings.content())

    def _describe(self) -> dict[str, Any]:
        own = {"id": self.model, "object": "model", "created": self.created, "owned_by": "visionbench"}
        return {**own, "visionbench": dict(self.facts)}

    # ------------------------------------------------------------------------------------------------- chat completions
    async def chat(self, request: Request) -> Response:
        """Answer a request for a chat completion. Raises RequestError and ClientLeft."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limits.seconds
        chat, job = await self._until(end, loop.run_in_executor(self.pool, self._prepare, request.scope[BODY]))
        envelope = Envelope(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), self.model)
        events: asyncio.Queue[int | None] = asyncio.Queue()
        if chat.stream and self.engine.streaming != "end":
            job.notify = partial(_put, loop, events)
        job.submitted = perf_counter()
        try:
            pending = self.batcher.submit(job)
        except QueueClosed:
            raise RequestError("The server is being stopped.", None, "server_stopped", 503, "server_error") from None
        future = asyncio.wrap_future(pending)
        future.add_done_callback(_retrieve)
        headers = {
            "x-request-id": envelope.id,
            "x-visionbench-streaming": self.engine.streaming,
            "x-visionbench-prompt": "read" if self.engine.reads_prompts else "not read",
        }
        waiting = Waiting(job, future, pending, request, end)
        if chat.stream:
            future.add_done_callback(lambda _: events.put_nowait(None))
            first = await waiting.first_of(events)
            stream = self._stream(chat, envelope, waiting, events, first)
            return _stream_response(stream, {**headers, **STREAM_HEADERS})
        answer = await waiting.answer()
        with self.engine.timings.timed("respond"):
            content = envelope.completion(answer.text, answer.finish, answer.usage)
            return _json(content, {**headers, "x-visionbench-batch-size": str(answer.batch_size)})

    def _prepare(self, body: bytes) -> tuple[ChatRequest, Job]:
        """Read a request, and return it with the inputs of the model."""
        with self.engine.timings.timed("parse"):
            chat = read(body, self.model)
        return chat, self.engine.prepare(chat)

    async def _until(self, end: float, awaitable: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(end):
                return await awaitable
        except TimeoutError:
            raise _timed_out(self.limits.seconds) from None

    async def _stream(
        self,
        chat: ChatRequest,
        envelope: Envelope,
        waiting: Waiting,
        events: asyncio.Queue[int | None],
        token: int | None,
    ) -> AsyncIterator[bytes]:
        """Yield the events of a stream. `token` is the first event of the queue."""
        growing = GrowingText(self.engine.to_text, chat.stops, self.engine.streaming == "words")
        delta: dict[str, str] = {"role": "assistant"}
        try:
            while token is not None:
                if part := growing.add(token):
                    yield envelope.chunk({**delta, "content": part}, with_usage=chat.include_usage)
                    delta = {}
                async with asyncio.timeout(self.limits.seconds):
                    token = await events.get()
            answer = waiting.result()
            rest = growing.finish(answer.text)
            if rest or delta:
                yield envelope.chunk({**delta, "content": rest}, with_usage=chat.include_usage)
            yield envelope.chunk({}, answer.finish, with_usage=chat.include_usage)
            if chat.include_usage:
                yield envelope.usage_chunk(answer.usage)
            yield END_OF_STREAM
        except RequestError as error:
            yield event(error.content())
        except TimeoutError:
            yield event(_timed_out(self.limits.seconds).content())
        except ValueError:  # the text changed after a part of it was sent
            yield event(internal_error("The text of the stream is not that of the complete answer.").content())
        finally:
            waiting.give_up()


@dataclass
class Waiting:
    """A job of the batcher that a client waits for."""

    job: Job
    future: asyncio.Future[Answer]
    pending: Future[Answer]
    request: Request
    end: float
    """The time of the event loop at which the request must have its answer."""

    async def answer(self) -> Answer:
        """Return the answer. Raises RequestError after the time limit or a failure, and ClientLeft."""
        await self._first_completed(self.future)
        return self.result()

    async def first_of(self, events: asyncio.Queue[int | None]) -> int | None:
        """Return the first token of a stream, or None if it ends without one. Raises as `answer` does."""
        token = asyncio.ensure_future(events.get())
        try:
            await self._first_completed(token)
            if token.result() is None:
                self.result()
            return token.result()
        finally:
            token.cancel()

    def result(self) -> Answer:
        """Return the answer of a job that is done. Raises RequestError if the batch failed."""
        try:
            answer = self.future.result()
        except BatchFailed as error:
            raise internal_error(str(error)) from error
        except QueueClosed:
            raise RequestError("The server is being stopped.", None, "server_stopped", 503, "server_error") from None
        if answer.problem:
            raise internal_error(answer.problem)
        return answer

    def give_up(self) -> None:
        """End the job if it is not done: it leaves the queue, or its text ends with the next token."""
        self.job.cancelled = True
        self.pending.cancel()

    async def _first_completed(self, awaited: asyncio.Future[Any]) -> None:
        """Wait for a future. Raises RequestError after the time limit, and ClientLeft if the client disconnects."""
        left = asyncio.ensure_future(_disconnected(self.request))
        try:
            remaining = max(0.0, self.end - asyncio.get_running_loop().time())
            await asyncio.wait({awaited, left}, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            if awaited.done():
                return
            self.give_up()
            if left.done():
                raise ClientLeft
            raise _timed_out()
        except asyncio.CancelledError:
            self.give_up()
            raise
        finally:
            left.cancel()
            with suppress(asyncio.CancelledError):
                await left


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _put(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[int | None], token: int) -> None:
    """Add a token to the queue of a stream, from another thread."""
    loop.call_soon_threadsafe(events.put_nowait, token)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark the error of a future as read, because a client that left does not read it."""
    if not future.cancelled():
        future.exception()


def _timed_out(seconds: float | None = None) -> RequestError:
    limit = "" if seconds is None else f" within {seconds:g} s"
    return RequestError(f"The server has no answer{limit}.", None, "timeout", 504, "server_error")


def _json(content: object, headers: Mapping[str, str] | None = None) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, headers=headers)


def _error(error: RequestError) -> Response:
    from starlette.responses import JSONResponse

    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse(error.content(), error.status, headers)


def _stream_response(stream: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
    from starlette.responses import StreamingResponse

    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def build_app(service: Service) -> Gate:
    """Return the ASGI application of a service."""
    app: Any = _routes(service)
    return Gate(app, service.limits, service.engine.timings)


def _routes(service: Service) -> Starlette:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        method, path = request.method[:20], request.url.path[:100]
        known = "there are POST /v1/chat/completions, GET /v1/models and GET /health"
        message = f"{method} {path} does not exist; {known}."
        return _error(RequestError(message, None, "unknown_url", error.status_code))

    async def refuse_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return _error(error)

    async def fail(request: Request, error: Exception) -> Response:
        return _error(internal_error())  # Starlette raises the error again, and the gate writes it to the log

    async def leave(request: Request, error: Exception) -> Response:
        return _error(RequestError("The client has disconnected.", status=499))

    routes = [
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/v1/models", service.models, methods=["GET"]),
        Route("/v1/models/{name:path}", service.one_model, methods=["GET"]),
        Route("/v1/visionbench/batches", service.batches, methods=["GET"]),
        Route("/health", service.health, methods=["GET"]),
    ]
    handlers: Any = {HTTPException: refuse, RequestError: refuse_request, ClientLeft: leave, Exception: fail}
    return Starlette(routes=routes, exception_handlers=handlers)
