"""The errors of visionbench.

VisionbenchError
├── ConfigError            bad input; the command exits with 2
│   └── Unreachable        a server cannot be reached (datafiles.download)
├── PictureError           an image file cannot be used (datafiles.images)
├── OutputCheckError       a model's output does not follow its input (stages.load)
├── LoaderError            a process that loads images ended early (stages.loader_processes)
├── ParityError            the outputs differ too much from those of eager fp32 (stages.parity)
├── EvaluationError        an image has no usable prediction (stages.evaluation)
├── NotWritten             the results of a run cannot be written (records.output)
├── WorkerDied             the measuring process ended early (worker)
│   └── WorkerKilled       it was killed by SIGKILL, as by the out-of-memory killer (worker)
├── WorkerFailed           the measuring process raised an error (worker)
├── GeneratorError         the load generator ended early (serving.generator)
├── QueueFull              the queue of a server has reached its limit (serving.batching)
├── QueueClosed            the queue of a server is closed (serving.batching)
├── LoadGenError           LoadGen did not measure the requests (serving.loadgen)
├── BatchFailed            a served model raised an error for a batch (server.engine)
├── RequestError           a request to a served model is refused (server.reading)
└── TrackingError          the tracking store cannot be reached or refused a request
"""

from __future__ import annotations


class VisionbenchError(Exception):
    """An error with a problem and, if possible, a remedy. Its text is one line: "problem; remedy"."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.problem, self.remedy)))


class ConfigError(VisionbenchError):
    """Bad input. The problem names the value and its origin. The command exits with 2."""


class TrackingError(VisionbenchError):
    """The tracking store cannot be reached or refused a request. The results are in the run's folder."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def problem_of(error: BaseException) -> str:
    """Return the problem of an error without its remedy, in one line."""
    return error.problem if isinstance(error, VisionbenchError) else first_line(error)
