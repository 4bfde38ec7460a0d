"""Execute jobs with Ray, in a cluster of this machine or in one that exists. Needs `visionbench[ray]`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from visionbench.core import ConfigError, first_line
from visionbench.engines import End, Job
from visionbench.engines.processes import supervise

LOCAL = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
"""Arguments of `ray.init` for a cluster of this machine: no other machine can reach it."""
SHARED = "other runs of the sweep at the same time: Ray does not pin runs to cores"
RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""The names of a task's resources and of the cluster's resources."""


@dataclass
class Ray:
    """An engine that executes jobs as tasks of Ray.

    `init` are the arguments of `ray.init`, and `remote` those of `ray.remote`.
    """

    outlives_command: ClassVar[bool] = False

    init: Mapping[str, Any]
    remote: Mapping[str, Any]
    timeout_min: float | None = None
    """The time limit of a job in minutes."""

    def check(self, threads: Sequence[int | None]) -> None:
        """Start or join the cluster. Raises ConfigError if Ray is not installed or lacks a resource of the runs."""
        if find_spec("ray") is None:
            raise ConfigError("hydra/launcher=ray: ray is not installed", "pip install 'visionbench[ray]'")
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # otherwise every process that reaches a port can run code
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        available: Callable[[], Mapping[str, float]] = ray.cluster_resources
        exists = self.init.get("address") is not None
        try:
            ray.init(**{"logging_level": "ERROR", **({} if exists else LOCAL), **self.init})
        except (ConnectionError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"hydra.launcher.ray.init: {first_line(error)}") from error
        try:
            self._refuse_impossible(available())
        except ConfigError:
            ray.shutdown()
            raise

    def run(self, jobs: Sequence[Job], show: Callable[[str], None]) -> Iterator[tuple[Job, End]]:
        """Execute the jobs as tasks of Ray and yield each job when it ends. Ctrl-C ends the tasks."""
        import ray

        try:
            task = ray.remote(**{"max_retries": 0, **self.remote})(_call)
            pending = {task.remote(job.call, len(jobs) > 1, self.timeout_min): job for job in jobs}
            show(f"submitted {len(jobs)} tasks to Ray")
            while pending:
                (done,), _ = ray.wait(list(pending), num_returns=1)
                yield pending.pop(done), self._end(ray, done)
        finally:
            ray.shutdown()

    def _end(self, ray: Any, task: Any) -> End:
        try:
            end: End = ray.get(task)
            return end
        except ray.exceptions.RayError as error:
            return End(1, f"the process of the task ended ({type(error).__name__}: {first_line(error)})")

    def _refuse_impossible(self, available: Mapping[str, float]) -> None:
        """Raise ConfigError for a resource that the cluster does not have, because such tasks would wait forever."""
        for name, resource in RESOURCES.items():
            needed = self.remote.get(name) or 0
            if needed > available.get(resource, 0):
                raise ConfigError(
                    f"hydra.launcher.ray.remote.{name}={needed}: the cluster has {available.get(resource, 0):g}",
                    "give less, or a larger cluster in hydra.launcher.ray.init.address",
                )


def _call(call: Callable[[str], int], several: bool, timeout_min: float | None) -> End:
    """Measure a run in a child of a process of Ray, so that a killed run does not end the process of Ray."""
    return supervise(call, SHARED if several else "", timeout_min)
