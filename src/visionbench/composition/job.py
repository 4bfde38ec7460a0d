"""Run one job of a sweep as Hydra runs jobs, with its folder and callbacks, in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hydra.core.utils import JobReturn, JobRuntime, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from visionbench.composition.schema import register_schema


@dataclass(frozen=True)
class HydraJob:
    """The function of a job in another process: it runs there as Hydra runs jobs."""

    context: HydraContext
    config: DictConfig
    call: Callable[[str], int]
    """The function that measures. Its argument describes the other runs at the same time; it returns the exit code."""

    def __call__(self, beside: str) -> int:
        """Run the job and return its exit code. Raises the error of the job."""
        register_schema()
        setup_globals()
        JobRuntime.instance().set("name", str(self.config.hydra.job.name))
        result = run_in_folder(self.context, self.config, lambda cfg: self.call(beside))
        return int(result.return_value)


def run_in_folder(context: HydraContext, config: DictConfig, task_function: TaskFunction) -> JobReturn:
    """Run one job as Hydra runs jobs: with its folder, its files, its logging and its callbacks."""
    return run_job(
        hydra_context=context,
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
