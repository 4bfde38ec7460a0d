"""Run batches through overlapping steps: while the model runs on one batch, the next batches are loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

from visionbench.config import EvaluationConfig
from visionbench.machine import usable_cores

Item = TypeVar("Item")
Batch = TypeVar("Batch")

MAX_LOADERS = 8
"""The maximum number of loader threads, unless the config gives a number."""
MAX_FINISHING = 2
"""The number of batches that may be in the last step or wait for it."""


def loader_count(rule: EvaluationConfig) -> int:
    """Return the number of threads that load batches: one for each usable core, unless the config gives a number."""
    return rule.workers or min(usable_cores(), MAX_LOADERS)


def overlap(
    source: Iterator[Item],
    load: Callable[[Item], Batch],
    forward: Callable[[Batch], None],
    finish: Callable[[Batch], Batch],
    loaders: int,
    recover: Callable[[Batch, Exception], Batch] | None = None,
) -> Iterator[tuple[Batch, float]]:
    """Yield finished batches in the order of the source, each with the seconds that the model waited for it to load.

    `load` runs in `loaders` threads, `forward` in the calling thread, and `finish` in one more thread. At most
    `loaders + 1` batches are loaded ahead of the model, and the model is at most `MAX_FINISHING` batches ahead of
    `finish`. If `forward` or `finish` raises an error, `recover` returns a batch to yield instead, or raises the error.
    `recover` runs in the calling thread, after all earlier batches were yielded. After an error the threads end, and
    batches that are not loaded yet are cancelled.
    """
    loading, finishing = deque[Future[Batch]](), deque[tuple[Future[Batch], Batch, float]]()

    def finished() -> tuple[Batch, float]:
        future, batch, waited = finishing.popleft()
        try:
            return future.result(), waited
        except Exception as error:
            if recover is None:
                raise
            return recover(batch, error), waited

    with ThreadPoolExecutor(loaders, "load") as load_pool, ThreadPoolExecutor(1, "finish") as finish_pool:
        try:
            while True:
                while len(loading) <= loaders and (item := next(source, None)) is not None:
                    loading.append(load_pool.submit(load, item))
                if not loading:
                    break
                start = perf_counter()
                batch = loading.popleft().result()
                waited = perf_counter() - start
                try:
                    forward(batch)
                except Exception as error:
                    if recover is None:
                        raise
                    while finishing:
                        yield finished()
                    yield recover(batch, error), waited
                    continue
                finishing.append((finish_pool.submit(finish, batch), batch, waited))
                while len(finishing) > MAX_FINISHING:
                    yield finished()
            while finishing:
                yield finished()
        finally:
            load_pool.shutdown(cancel_futures=True)
