"""Hydra's launchers for visionbench: all jobs of a sweep are composed and prepared before the first is measured.

VisionbenchLauncher  one run after the other in this process, or several processes of this machine
SlurmLauncher        an array of jobs of SLURM
RayLauncher          tasks of Ray

`conf/hydra/launcher/` has their options. Hydra finds launchers only in the namespace package `hydra_plugins`. It
imports this module in every program that uses Hydra, so nothing heavy is imported here. It imports the module before
it registers it, so the module has no dataclass.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

if TYPE_CHECKING:
    from visionbench.composition.application import Task
    from visionbench.config import ComposedRun, Place
    from visionbench.engines import Engine


class PreparingLauncher(Launcher):
    """A launcher that composes and prepares all jobs of a sweep before the first is measured."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments for `launch`, and the sweep's folder, which is removed if the sweep is refused."""
        from visionbench.composition.application import Task
        from visionbench.composition.sweep_jobs import SweepJobs

        if not isinstance(task_function, Task):
            raise TypeError("this launcher runs visionbench only; choose hydra/launcher=basic")
        self.context, self.task, self.config = copy(hydra_context), task_function, config
        self.sweep_jobs = SweepJobs(hydra_context.config_loader)
        hydra_context.config_loader = self.sweep_jobs  # for the sweeper, which composes each job as a check
        self.task.folder = Path(str(config.hydra.sweep.dir))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Compose and prepare all jobs, then measure each job. Return Hydra's result of each job."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        jobs = [self.compose(overrides, number) for number, overrides in enumerate(job_overrides, initial_job_idx)]
        places = [place(job) for job in jobs]
        raise_on_shared_folders(places, self.config)
        runs = [self.task.compose(job, job.hydra, place) for job, place in zip(jobs, places, strict=True)]
        jobs, runs = drop_equal_runs(jobs, runs)
        return self.measure(jobs, runs)

    @abstractmethod
    def measure(self, jobs: Sequence[DictConfig], runs: Sequence[ComposedRun]) -> Sequence[JobReturn]:
        """Prepare and measure the runs of composed jobs."""

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """Compose one job of the sweep."""
        config = self.sweep_jobs.take(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        return config

    def measure_with(
        self, engine: Engine, jobs: Sequence[DictConfig], runs: Sequence[ComposedRun], *, here: bool, gpus: Any = None
    ) -> Sequence[JobReturn]:
        """Prepare the runs, and measure them in the processes of an engine."""
        from visionbench.composition.application import JobPlan
        from visionbench.composition.job import HydraJob
        from visionbench.core import ConfigError

        self.task.prepares = True
        application = self.task.application
        prepared = application.prepare_jobs(runs, JobPlan(engine, gpus, here))
        if not prepared:
            return []
        calls = []
        positions = {run.place.folder: index for index, run in enumerate(runs) if run.place is not None}
        for job in prepared:
            config = jobs[positions[job.folder]]
            with read_write(config.hydra):  # resolved once, so that the job finds its folder
                config.hydra.sweep.subdir = os.path.relpath(job.folder, str(config.hydra.sweep.dir))
                config.hydra.sweep.dir = os.path.abspath(str(config.hydra.sweep.dir))
            calls.append(replace(job, call=HydraJob(self.context, config, job.call)))
        try:
            for job, end in engine.run(calls, application.show):
                application.add_end(job, end)
        except ConfigError:
            application.withdraw()
            raise
        return []


class VisionbenchLauncher(PreparingLauncher):
    """Runs the jobs of a sweep one after the other in this process, or at the same time in several processes."""

    def __init__(self, parallel: Any = False, gpus: Any = None, timeout_min: Any = None) -> None:
        self.parallel, self.gpus, self.timeout_min = parallel, gpus, timeout_min

    def measure(self, jobs: Sequence[DictConfig], runs: Sequence[ComposedRun]) -> Sequence[JobReturn]:
        """Prepare and measure the runs."""
        from visionbench.engines import options

        parallel = options.flag("hydra.launcher.parallel", self.parallel)
        gpus = options.gpus("hydra.launcher.gpus", self.gpus)
        timeout_min = options.minutes("hydra.launcher.timeout_min", self.timeout_min)
        if parallel or gpus is not None or timeout_min is not None:
            from visionbench.engines.processes import Processes

            engine = Processes(parallel or gpus is not None, timeout_min)
            return self.measure_with(engine, jobs, runs, here=True, gpus=gpus)
        self.task.prepare(runs)
        folder = Path(str(self.config.hydra.sweep.dir))
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

    def run(self, config: DictConfig, task_function: TaskFunction) -> JobReturn:
        """Run one job in this process."""
        from visionbench.composition.job import run_in_folder

        return run_in_folder(self.context, config, task_function)


class SlurmLauncher(PreparingLauncher):
    """Runs the jobs of a sweep as an array of jobs of SLURM."""

    def __init__(self, submitit_folder: str, cluster: str = "slurm", max_num_timeout: int = 0, **options: Any) -> None:
        self.folder, self.options = submitit_folder, options
        self.cluster, self.max_num_timeout = cluster, max_num_timeout

    def measure(self, jobs: Sequence[DictConfig], runs: Sequence[ComposedRun]) -> Sequence[JobReturn]:
        """Prepare and measure the runs."""
        from visionbench.engines.slurm import Slurm

        given = {
            name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for name, value in self.options.items()
        }
        engine = Slurm(str(Path(self.folder).absolute()), given, self.cluster, self.max_num_timeout)
        return self.measure_with(engine, jobs, runs, here=False)


class RayLauncher(PreparingLauncher):
    """Runs the jobs of a sweep as tasks of Ray."""

    def __init__(self, ray: Any, timeout_min: Any = None) -> None:
        self.ray, self.timeout_min = OmegaConf.to_container(ray, resolve=True), timeout_min

    def measure(self, jobs: Sequence[DictConfig], runs: Sequence[ComposedRun]) -> Sequence[JobReturn]:
        """Prepare and measure the runs."""
        from visionbench.engines import options
        from visionbench.engines.ray import Ray

        assert isinstance(self.ray, dict)
        timeout_min = options.minutes("hydra.launcher.timeout_min", self.timeout_min)
        engine = Ray(self.ray.get("init") or {}, self.ray.get("remote") or {}, timeout_min)
        return self.measure_with(engine, jobs, runs, here=False)


def drop_equal_runs(
    jobs: Sequence[DictConfig], runs: Sequence[ComposedRun]
) -> tuple[list[DictConfig], list[ComposedRun]]:
    """Return the jobs and runs without those of a model at an endpoint that would measure the same again."""
    from visionbench.plan import distinct_runs

    kept, notes = distinct_runs([run.config.values for run in runs])
    noted = [
        replace(run, notes=(*run.notes, notes[index])) if index in notes else run for index, run in enumerate(runs)
    ]
    return [jobs[index] for index in kept], [noted[index] for index in kept]


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
