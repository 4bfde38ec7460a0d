"""The command as Hydra runs it: each composed configuration becomes a `ComposedRun`, which an `Application` measures.

Without `-m`, Hydra calls `Task` with the configuration. With `-m`, Hydra passes all jobs of the sweep to a launcher of
visionbench (`hydra_plugins/visionbench_launcher.py`), which composes all and prepares all. It then measures one after
the other, or starts other processes that measure. Any other launcher, such as `hydra/launcher=basic`, calls `Task` for
each job. Each job is then prepared, measured and finished separately.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from visionbench import credentials
from visionbench.composition import overrides
from visionbench.composition.arguments import Arguments, command_line
from visionbench.composition.errors import is_raised_by_composition, translate
from visionbench.composition.new_folders import NewFolders
from visionbench.composition.paths import UserFiles, resolve_paths
from visionbench.composition.schema import register_schema
from visionbench.composition.search_path import user_folder_first
from visionbench.composition.user_files import (
    refuse_faulty_files,
    refuse_replaced_schema,
    refuse_unsafe_files,
    search_folders,
)
from visionbench.config import ComposedConfig, ComposedRun, Place, project_folder, replaced_option
from visionbench.core import ConfigError, VisionbenchError, one_line
from visionbench.engines import End, Engine, Job
from visionbench.references import limited_references
from visionbench.variation import EXPERIMENT

INFORMATION = ("--cfg", "--help", "--hydra-help", "--info")
"""The flags with which Hydra shows something instead of running."""
HYDRA_FILES = {".hydra", "multirun.yaml"}
"""The files and folders that Hydra itself writes into the folder of a run or of a sweep."""
PLAN = "sweep.json"
"""The plan of the runs, which is in a new folder before the first run."""


class JobFailed(Exception):
    """A job of another launcher has failed. Its results are in its folder."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Application(Protocol):
    """The part of the command that prepares and measures runs. An instance can be pickled before its first call."""

    def prepare(self, runs: Sequence[ComposedRun]) -> None:
        """Prepare these runs. Raises ConfigError if any of them is wrong, before anything is measured."""

    def folder_of(self, index: int) -> Path | None:
        """Return the folder of a prepared run of a continued sweep, or None if the run uses the folder of its job."""

    def is_complete(self, index: int) -> bool:
        """Return whether all results of a prepared run exist, so that `measure` measures nothing."""

    def measure(self, index: int, folder: Path, sweep: str) -> None:
        """Measure one of the prepared runs into its folder. `sweep` is the id that all runs of the command share."""

    def complete(self) -> None:
        """Measure the work that is deferred until all runs were passed to `measure`, such as repeats."""

    def run_alone(self, run: ComposedRun, folder: Path, sweep: str) -> int:
        """Prepare, measure and finish one run of a sweep that another launcher distributes; return its exit code."""

    def prepare_jobs(self, runs: Sequence[ComposedRun], plan: JobPlan) -> list[Job]:
        """Prepare runs that other processes measure. Raises ConfigError if any run is wrong.

        An application that measures nothing returns no jobs. The function of each job measures the run into the folder
        of `ComposedRun.place`.
        """

    def add_end(self, job: Job, end: End) -> None:
        """Add the results of a job that has ended. Cases without a row become rows with the reason."""

    def withdraw(self) -> None:
        """Remove the record of the sweep, because no job of it was started."""

    def show(self, line: str) -> None:
        """Print a line about the jobs."""


@dataclass
class Collector:
    """An application that keeps the composed runs, and measures nothing. A subclass may show them in `prepare`."""

    runs: list[ComposedRun] = field(default_factory=list, init=False)

    def prepare(self, runs: Sequence[ComposedRun]) -> None:
        """Keep a batch of runs."""
        self.runs += runs

    def folder_of(self, index: int) -> Path | None:
        """Return None: nothing is measured."""
        return None

    def is_complete(self, index: int) -> bool:
        """Return True: nothing is measured."""
        return True

    def measure(self, index: int, folder: Path, sweep: str) -> None:
        """Measure nothing."""

    def complete(self) -> None:
        """Measure nothing."""

    def run_alone(self, run: ComposedRun, folder: Path, sweep: str) -> int:
        """Keep the run, and return 0."""
        self.runs.append(run)
        return 0

    def prepare_jobs(self, runs: Sequence[ComposedRun], plan: JobPlan) -> list[Job]:
        """Prepare the runs, and return no jobs."""
        self.prepare(runs)
        return []

    def add_end(self, job: Job, end: End) -> None:
        """Do nothing: there are no jobs."""

    def withdraw(self) -> None:
        """Do nothing: there are no jobs."""

    def show(self, line: str) -> None:
        """Do nothing: there are no jobs."""


@dataclass(frozen=True)
class JobPlan:
    """How the runs of a sweep are distributed over other processes."""

    engine: Engine
    gpus: str | list[int] | None = None
    """The GPUs that runs get in turn: `auto` for all, a list of indices, or None to use `device.index` of each run."""
    here: bool = True
    """Whether this machine measures the runs."""


@dataclass
class Task:
    """The task function of `hydra.main`. Hydra may pickle it and call it in another process."""

    application: Application
    arguments: Arguments = field(default_factory=Arguments)
    prepares: bool = False
    """Whether the configurations are composed and an application prepares them."""
    folder: Path | None = None
    """The folder that Hydra created for the run or the sweep."""
    error: Exception | None = None
    """The error of a single run. It is stored, because Hydra would print another line if the task raised it."""

    def __call__(self, cfg: DictConfig) -> None:
        """Run one job."""
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        if settings.mode == RunMode.MULTIRUN:
            overrides.refuse_launcher(settings.runtime.choices.get(overrides.LAUNCHER))
            sweep = Path(settings.sweep.dir).name
            run = self.compose(cfg, settings, Place(folder, folder, sweep))
            self.prepares = True
            if exit_code := self.application.run_alone(run, folder, sweep):
                raise JobFailed(exit_code)
            return
        self.folder = folder
        try:
            self.prepare([self.compose(cfg, settings, Place(folder, folder, folder.name))])
            self.application.measure(0, folder, folder.name)
            self.application.complete()
        except (ConfigError, OSError) as error:
            self.error = error

    def prepare(self, runs: Sequence[ComposedRun]) -> None:
        """Prepare the composed runs."""
        self.prepares = True
        self.application.prepare(runs)

    def compose(self, cfg: DictConfig, settings: HydraConf, place: Place | None = None) -> ComposedRun:
        """Return the run of a composed configuration. `settings` is its `hydra` section; `place` has its folders."""
        choices = [
            (str(group), str(option))
            for group, options in settings.runtime.choices.items()
            for option in (options if OmegaConf.is_list(options) else [options])
        ]
        config_dir = self.arguments.config_dir
        notes = [note for choice in choices if (note := replaced_option(*choice, config_dir))]
        try:
            with warnings.catch_warnings(record=True) as deprecations:
                warnings.simplefilter("always")
                config = ComposedConfig.of(cfg)
        except ConfigError:
            refuse_faulty_files(self.arguments.overrides, config_dir)  # its message names the file
            raise
        notes += dict.fromkeys(one_line(str(warning.message)) for warning in deprecations)
        experiment = ",".join(option for group, option in choices if group == EXPERIMENT)
        typed: Any = OmegaConf.to_container(OmegaConf.create(settings.overrides.task), resolve=False)
        overrides_of_run = tuple(map(str, typed))  # a reference to the environment is not replaced by its value
        files = UserFiles(config_dir, dict(choices), settings.job.config_name)
        credentials.refuse(config.unresolved(), origin=files.find)
        credentials.refuse(OmegaConf.to_container(OmegaConf.create(settings.job.env_set)), "hydra.job.env_set")
        config = config.with_changes(resolve_paths(config.values, overrides_of_run, files))
        chosen: dict[str, str | tuple[str, ...]] = {
            str(group): tuple(map(str, options)) if OmegaConf.is_list(options) else str(options)
            for group, options in settings.runtime.choices.items()
            if not str(group).startswith("hydra") and group != EXPERIMENT
        }
        return ComposedRun(config, overrides_of_run, tuple(notes), experiment, place, chosen)


@limited_references()
def main(arguments: Arguments, application: Application) -> None:
    """Run Hydra's command line with an application. Raises ConfigError for bad input and JobFailed for a failed job."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing a traceback and ending the process
    register_schema()
    refuse_replaced_schema(arguments.config_dir)
    overrides.check(arguments.overrides, arguments.config_dir)
    flags = dict(flag.partition("=")[::2] for flag in arguments.flags)
    folders = [arguments.config_dir, *search_folders(arguments.overrides, arguments.config_dir)]
    if "--config-path" in flags:
        folders.append(Path(flags["--config-path"]))
    for folder in folders:
        refuse_unsafe_files((*arguments.overrides, f"={flags.get('--config-name', '')}"), folder)
    task = Task(application, arguments)
    command = hydra.main(version_base="1.3", config_path=str(project_folder("conf")), config_name="config")(task)
    NewFolders.folder, NewFolders.missing = None, ()
    try:
        with (
            user_folder_first(arguments.config_dir),
            command_line(arguments),
            buffered_information(arguments),
            warnings_in_one_line(arguments),
        ):
            command()
        if task.error is not None:
            raise task.error
    except SystemExit as end:
        if end.code not in (0, None):  # Hydra has printed the problem
            raise SystemExit(2) from end
        raise
    except KeyboardInterrupt:
        remove_unused(task.folder or NewFolders.folder, NewFolders.missing)
        raise
    except Exception as error:
        remove_unused(task.folder or NewFolders.folder, NewFolders.missing)
        if isinstance(error, VisionbenchError | JobFailed) or task.prepares or not is_raised_by_composition(error):
            raise
        for folder in folders[1:]:
            refuse_faulty_files(arguments.overrides, folder)
        raise translate(error, arguments.overrides, arguments.config_dir) from error


def shows_information(arguments: Arguments) -> bool:
    """Return whether Hydra shows something instead of running."""
    return any(flag.startswith(INFORMATION) for flag in arguments.flags)


@contextmanager
def warnings_in_one_line(arguments: Arguments) -> Iterator[None]:
    """Print each warning of a library in one line.

    Warnings about deprecated keys, `${oc.deprecated:…}`, are left out if they are notes of a run.
    """

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"visionbench: {one_line(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        if not shows_information(arguments):
            warnings.filterwarnings("ignore", module=r"omegaconf\.")
        yield


@contextmanager
def buffered_information(arguments: Arguments) -> Iterator[None]:
    """Print what Hydra shows, such as a configuration, only if no error ends it."""
    if not shows_information(arguments):
        yield
        return
    output = StringIO()
    try:
        with redirect_stdout(output):
            yield
    except SystemExit as end:
        if end.code in (0, None):
            print(output.getvalue(), end="")
        raise
    print(output.getvalue(), end="")


def remove_unused(folder: Path | None, new_folders: Sequence[Path] = ()) -> None:
    """Remove the folder of a refused command if only Hydra wrote into it, and those of its parents that are new.

    `new_folders` are the folders that did not exist before the command, innermost first.
    """
    if folder is None or not folder.is_dir():
        return
    paths = list(folder.iterdir())
    expected = HYDRA_FILES | ({PLAN} if folder.absolute() in [path.absolute() for path in new_folders] else set())
    if not {path.name for path in paths} <= expected:
        return
    for path in paths:
        (shutil.rmtree if path.is_dir() else os.unlink)(path)
    with suppress(OSError):  # a folder holds other files
        for path in new_folders or [folder]:
            path.rmdir()
