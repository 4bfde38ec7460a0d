"""Hydra's launcher for visionbench: all jobs of a sweep are composed and prepared before the first is measured.

Hydra finds launchers only in the namespace package `hydra_plugins`. It imports this module in every program that uses
Hydra, so nothing heavy is imported here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

if TYPE_CHECKING:
    from visionbench.composition.application import Task
    from visionbench.config import Place


ConfigStore.instance().store(
    group="hydra/launcher",
    name="visionbench",
    node={"_target_": "hydra_plugins.visionbench_launcher.VisionbenchLauncher"},
    provider="visionbench",
)


class VisionbenchLauncher(Launcher):
    """Runs the jobs of a sweep one after the other in this process, after it has prepared all of them."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments for `launch`, and the sweep's folder, which is removed if the sweep is refused."""
        from visionbench.composition.application import Task

        if not isinstance(task_function, Task):
            raise TypeError("hydra/launcher=visionbench runs visionbench only; choose hydra/launcher=basic")
        self.context, self.task, self.config = hydra_context, task_function, config
        self.task.folder = Path(str(config.hydra.sweep.dir))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Compose and prepare all jobs, then measure each job. Return Hydra's result of each job."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [self.compose(overrides, number) for number, overrides in enumerate(job_overrides, initial_job_idx)]
        places = [place(job) for job in jobs]
        raise_on_shared_folders(places, self.config)
        self.task.prepare([self.task.compose(job, job.hydra, place) for job, place in zip(jobs, places, strict=True)])
        results = [self.run_prepared(job, index, folder) for index, job in enumerate(jobs)]
        self.task.application.complete()
        return [result for result in results if result is not None]

    def run_prepared(self, job: DictConfig, index: int, folder: Path) -> JobReturn | None:
        """Run a prepared job; return None if all its results exist, so that it needs no folder of Hydra."""
        application = self.task.application
        if application.is_complete(index):
            application.measure(index, folder, folder.name)
            return None
        if (continued := application.folder_of(index)) is not None:
            with read_write(job.hydra.sweep):
                job.hydra.sweep.subdir = os.path.relpath(continued, folder)
        return self.run(job, partial(measure, self.task, index, folder.name))

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """Compose one job of the sweep."""
        config: DictConfig = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        return config

    def run(self, config: DictConfig, task_function: TaskFunction) -> JobReturn:
        """Run one job as Hydra runs jobs: with its folder, its files, its logging and its callbacks."""
        return run_job(
            hydra_context=self.context,
            task_function=task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def place(job: DictConfig) -> Place:
    """Return the folders of a job, which `run_job` creates later."""
    from visionbench.config import Place

    HydraConfig.instance().set_config(job)  # for a folder's name with ${hydra:…}
    sweep = Path(str(OmegaConf.select(job, "hydra.sweep.dir"))).absolute()
    return Place(sweep / str(OmegaConf.select(job, "hydra.sweep.subdir")), sweep, sweep.name)


def raise_on_shared_folders(places: Sequence[Place], config: DictConfig) -> None:
    """Raise ConfigError if two jobs have the same folder, or if the folder of one contains that of another."""
    from visionbench.composition.run_folders import refuse_shared_folders

    pattern = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    refuse_shared_folders([place.folder for place in places], str(pattern["subdir"]))  # type: ignore[index,call-overload]


def measure(task: Task, index: int, sweep: str, cfg: Any) -> None:
    """Measure the prepared run of a job into the job's folder."""
    task.application.measure(index, Path(HydraConfig.get().runtime.output_dir), sweep)
