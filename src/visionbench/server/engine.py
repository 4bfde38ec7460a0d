"""The model of the server: inputs of one request in worker threads, and calls of batches in one thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from visionbench import weights
from visionbench.core import (
    Collates,
    ConfigError,
    Evaluator,
    Example,
    Inputs,
    PadsImages,
    Picture,
    Predictor,
    VisionbenchError,
    WritesText,
    first_line,
)
from visionbench.datafiles.images import PictureError
from visionbench.measuring import LoadedRun, precision_of
from visionbench.server.answering import Usage, cut
from visionbench.server.reading import ChatRequest, RequestError
from visionbench.server.timings import Timings
from visionbench.stages.autocast import autocast
from visionbench.stages.inputs import concatenate, reason_for

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

logger = logging.getLogger("visionbench.server")
FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 50_000_000
"""The maximum number of pixels of an image."""
SERVED = frozenset({"caption", "class_scores"})
"""The predictions that can be answers."""
MODEL_FAILED = "The model failed on the batch of this request. The log of the server has the reason."


class BatchFailed(VisionbenchError):
    """A call of the model raised an error, which is in the log. The message is for the client."""


@dataclass
class Job:
    """A request that waits for the model, or is part of its batch."""

    inputs: Inputs
    prompt_tokens: int = 0
    most_tokens: int = 0
    stops: Sequence[str] = ()
    notify: Callable[[int], object] | None = None
    """Receives each new token, except the end token, in the thread of the model."""
    cancelled: bool = False
    """Whether the answer is no longer needed."""
    submitted: float = 0.0
    copies: int = 1
    """How often the job is in its batch. It is more than 1 only for calls before the first request."""


@dataclass(frozen=True)
class Answer:
    """The answer to one request."""

    text: str
    finish: str
    usage: Usage
    batch_size: int
    problem: str = ""
    """Why the output cannot be used, or ''."""


class Engine(Protocol):
    """A loaded model as the server uses it."""

    reads_prompts: bool
    streaming: str
    """What a stream sends: `tokens` or `words` as they are written, or the complete answer at the `end`."""
    timings: Timings

    def prepare(self, request: ChatRequest) -> Job:
        """Decode and preprocess a request. Raises RequestError. Several threads call it at once."""

    def call(self, jobs: Sequence[Job]) -> list[Answer]:
        """Call the model with a batch. One thread calls it."""

    def to_text(self, tokens: Sequence[int]) -> str:
        """Return new tokens as a text."""


def build_engine(loaded: LoadedRun, timings: Timings) -> Engine:
    """Return the engine for a loaded model. Raises ConfigError if its answers are neither texts nor classes."""
    if isinstance(loaded.model, WritesText):
        return TextEngine(Base(loaded, timings), loaded.model)
    classes = loaded.data.labelling.classes or loaded.parts.data.classes()
    if getattr(loaded.parts.adapter, "names_classes", False) and not classes:
        raise ConfigError(
            f"serve: data={loaded.config.data.name} has no class names, and model {loaded.config.model.name} has none",
            "choose data with labels, as in data=shapes",
        )
    names = classes if getattr(loaded.parts.adapter, "names_classes", False) else ()
    import torch

    with torch.inference_mode():
        evaluator = cast(Predictor, loaded.model).evaluator(frozenset({"class_scores"}), names)
    return ClassEngine(Base(loaded, timings), evaluator)


@dataclass
class Base:
    """What both engines need: decoding, batches on the device, and the set-up of the thread that calls the model."""

    loaded: LoadedRun
    timings: Timings
    is_set_up: bool = False

    def decode(self, request: ChatRequest) -> Image:
        """Return the image of a request. Raises RequestError."""
        from io import BytesIO

        from PIL import Image

        place = request.image_param
        with self.timings.timed("decode"):
            try:
                with Image.open(BytesIO(request.encoded), formats=FORMATS) as opened:
                    pixels = opened.width * opened.height
            except Exception as error:  # Pillow raises errors of many types for damaged files
                reason = "the image is not a PNG, a JPEG or a WebP, or it is damaged"
                raise RequestError(f"{place}: {reason}.", place, "invalid_image") from error
            if pixels > MOST_PIXELS:
                raise RequestError(
                    f"{place}: the image has {pixels:,} pixels; the limit is {MOST_PIXELS:,}.", place, "image_too_large"
                )
            try:
                return self.loaded.decoding.decode(Example("request", Path("image")), request.encoded)
            except PictureError as error:
                raise RequestError(f"{place}: the image {error.reason}.", place, "invalid_image") from error

    def prepare(self, request: ChatRequest, prepare: Callable[[Image], Inputs]) -> Inputs:
        """Return the inputs of a request on the host. Raises RequestError."""
        import torch

        image = self.decode(request)
        with self.timings.timed("preprocess"), torch.inference_mode():
            try:
                inputs = prepare(image)
                return {name: tensor.cpu() for name, tensor in inputs.items()}
            except MemoryError:
                raise
            except Exception as error:  # processors raise errors of many types for images of unusual sizes
                raise RequestError(
                    f"{request.image_param}: {reason_for(error)}.", request.image_param, "invalid_image"
                ) from error

    def collate(self, singles: Sequence[Inputs]) -> Inputs:
        """Return one batch on the host."""
        model = self.loaded.model
        if isinstance(model, PadsImages):
            singles, _ = model.pad(singles)
        return model.collate(singles) if isinstance(model, Collates) else concatenate(singles)

    def run(self, jobs: Sequence[Job], call: Callable[[Sequence[Job]], list[Answer]]) -> list[Answer]:
        """Return the answers of a call, with its time. Cancelled jobs are left out."""
        import torch

        start = perf_counter()
        config = self.loaded.config
        if not self.is_set_up:  # threads, and the current GPU, are those of a thread
            self.loaded.parts.device.setup(precision_of(config), config.device.threads)
            self.is_set_up = True
        for job in jobs:
            self.timings.add("wait", start - job.submitted)
        needed = [job for job in jobs if not job.cancelled for _ in range(job.copies)]
        answers: list[Answer] = []
        if needed:
            try:
                with torch.inference_mode(), autocast(self.loaded.place, precision_of(config)):
                    answers = call(needed)
            except Exception as error:
                raise BatchFailed(self._log_failure(error)) from error
            self.timings.add_batch(len(needed), perf_counter() - start)
        by_job = {id(job): answer for job, answer in zip(needed, answers, strict=True)}
        nothing = Answer("", "stop", Usage(0, 0), 0, "cancelled")
        return [by_job.get(id(job), nothing) for job in jobs]

    def _log_failure(self, error: Exception) -> str:
        """Write the traceback of a failed call to the log, and return the message for its clients."""
        logger.error("a batch failed: %s", first_line(error), exc_info=error)
        if self.loaded.parts.device.is_out_of_memory(error):
            return "The device ran out of memory on the batch of this request."
        return MODEL_FAILED


@dataclass
class TextEngine:
    """A model that writes a text. Each new token is passed on at once, unless the model uses beam search."""

    base: Base
    model: WritesText
    reads_prompts: bool = field(init=False)
    streaming: str = field(init=False)
    timings: Timings = field(init=False)

    def __post_init__(self) -> None:
        writing = self.writing = self.model.writing
        self.reads_prompts, self.timings = writing.reads_prompts, self.base.timings
        self.streaming = "end" if writing.beams > 1 else "words" if writing.joins_words else "tokens"

    def prepare(self, request: ChatRequest) -> Job:
        """Decode and preprocess a request. Raises RequestError."""
        prompt = request.prompt if self.reads_prompts else ""
        try:
            inputs = self.base.prepare(request, lambda image: self.model.prepare_request(image, prompt))
        except RequestError as error:
            if "positions" in str(error):
                error.code = "context_length_exceeded"
            raise
        writing, length = self.writing, inputs["input_ids"].shape[1]
        most = request.most_tokens or writing.tokens
        if writing.positions is not None:
            most = min(most, writing.positions - (length if writing.counts_prompt else 0))
        return Job(inputs, length, max(most, 1), request.stops)

    def call(self, jobs: Sequence[Job]) -> list[Answer]:
        """Write the texts of a batch."""
        return self.base.run(jobs, self._search if self.writing.beams > 1 else self._write)

    def to_text(self, tokens: Sequence[int]) -> str:
        """Return new tokens as a text."""
        import torch

        return self.model.to_texts(torch.tensor([list(tokens)]))[0]

    def _write(self, jobs: Sequence[Job]) -> list[Answer]:
        rows = [Row(job, self.writing.end_tokens, self.to_text) for job in jobs]

        def watch(tokens: torch.Tensor) -> torch.Tensor:
            import torch

            return torch.tensor([row.add(token) for row, token in zip(rows, tokens[:, -1].tolist(), strict=True)])

        batch = self._place([job.inputs for job in jobs])
        _, has_nan = self.model.write(batch, max(job.most_tokens for job in jobs), watch)
        return [
            self._answer(row.job, row.tokens, row.finish, nan, len(jobs))
            for row, nan in zip(rows, has_nan.tolist(), strict=True)
        ]

    def _search(self, jobs: Sequence[Job]) -> list[Answer]:
        """Write texts by beam search, in which the maximum length of a text can change its words: one call for each."""
        answers: dict[int, Answer] = {}
        for most in sorted({job.most_tokens for job in jobs}):
            group = [job for job in jobs if job.most_tokens == most]
            tokens, has_nan = self.model.write(self._place([job.inputs for job in group]), most)
            for job, row, nan in zip(group, tokens.tolist(), has_nan.tolist(), strict=True):
                end = next((index for index, token in enumerate(row) if token in self.writing.end_tokens), None)
                kept = row if end is None else row[: end + 1]
                answers[id(job)] = self._answer(job, kept, "length" if end is None else "stop", nan, len(group))
        return [answers[id(job)] for job in jobs]

    def _place(self, singles: Sequence[Inputs]) -> Inputs:
        loaded = self.base.loaded
        return weights.place_inputs(self.base.collate(singles), loaded.place, loaded.dtype)

    def _answer(self, job: Job, tokens: Sequence[int], finish: str, nan: bool, size: int) -> Answer:
        text = self.to_text(tokens)
        if (before := cut(text, job.stops)) is not None:
            text, finish = before, "stop"
        problem = "The output of the model has NaN." if nan else ""
        return Answer(text, finish, Usage(job.prompt_tokens, len(tokens)), size, problem)


@dataclass
class Row:
    """The text of one job of a batch while it is written."""

    job: Job
    end_tokens: frozenset[int]
    to_text: Callable[[Sequence[int]], str]
    tokens: list[int] = field(default_factory=list)
    complete: bool = False
    finish: str = "length"

    def add(self, token: int) -> bool:
        """Add a token unless the text is complete, and return whether it is complete."""
        if self.complete:
            return True
        job = self.job
        self.tokens.append(token)
        if token in self.end_tokens:
            self.finish, self.complete = "stop", True
            return True
        if job.notify is not None:
            job.notify(token)
        stopped = bool(job.stops) and cut(self.to_text(self.tokens), job.stops) is not None
        self.complete = stopped or len(self.tokens) >= job.most_tokens or job.cancelled
        return self.complete


@dataclass
class ClassEngine:
    """A model with scores of classes. Its answer is the name of the best class, and no tokens are written."""

    base: Base
    evaluator: Evaluator
    reads_prompts: bool = False
    streaming: str = "end"
    timings: Timings = field(init=False)

    def __post_init__(self) -> None:
        self.timings = self.base.timings

    def prepare(self, request: ChatRequest) -> Job:
        """Decode and preprocess a request. Raises RequestError."""
        example = Example("request", Path("image"))
        return Job(self.base.prepare(request, lambda image: self.evaluator.prepare([Picture(example, image)])))

    def call(self, jobs: Sequence[Job]) -> list[Answer]:
        """Score the classes for a batch."""
        return self.base.run(jobs, self._score)

    def to_text(self, tokens: Sequence[int]) -> str:
        """Return '': no tokens are written."""
        return ""

    def _score(self, jobs: Sequence[Job]) -> list[Answer]:
        from PIL import Image

        output = self.evaluator.forward(self.base.collate([job.inputs for job in jobs]))
        picture = Picture(Example("request", Path("image")), Image.new("RGB", (1, 1)))
        rows: list[Any] = list(self.evaluator.finish(output, [picture] * len(jobs)))
        answers = []
        for job, row in zip(jobs, rows, strict=True):
            scores = np.asarray(row["class_scores"])
            problem = "" if np.isfinite(scores).all() else "The output of the model has NaN or infinity."
            name = "" if problem else str(self.evaluator.classes[int(scores.argmax())])
            text = next((name[: name.find(stop)] for stop in job.stops if stop in name), name)
            answers.append(Answer(text, "stop", Usage(0, 0), len(jobs), problem))
        return answers
