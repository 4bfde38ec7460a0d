"""The command as Hydra runs it: each composed configuration becomes a `ComposedRun`, which an `Application` measures.

Without `-m`, Hydra calls `Task` with the configuration. With `-m`, Hydra passes all jobs of the sweep to the launcher
of visionbench (`hydra_plugins/visionbench_launcher.py`), which composes all, prepares all, and then measures one after
the other. Any other launcher (`hydra/launcher=basic`, joblib, submitit, Ray) calls `Task` for each job, in any process.
Each job is then prepared, measured and finished separately.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from visionbench.composition.arguments import Arguments, command_line
from visionbench.composition.errors import one_line_errors
from visionbench.composition.schema import register_schema
from visionbench.composition.search_path import user_folder_first
from visionbench.config import ComposedConfig, ComposedRun, project_folder, replaced_option
from visionbench.core import ConfigError
from visionbench.variation import EXPERIMENT

HYDRA_FILES = {".hydra", "multirun.yaml"}
"""The files and folders that Hydra itself writes into the folder of a run or of a sweep."""


class JobFailed(Exception):
    """A job of another launcher has failed. Its results are in its folder."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Application(Protocol):
    """The part of the command that prepares and measures runs. An instance can be pickled before its first call."""

    def prepare(self, runs: Sequence[ComposedRun]) -> None:
        """Prepare these runs. Raises ConfigError if any of them is wrong, before anything is measured."""

    def measure(self, index: int, folder: Path, sweep: str) -> None:
        """Measure one of the prepared runs into its folder. `sweep` is the id that all runs of the command share."""

    def complete(self) -> None:
        """Measure the work that is deferred until all runs were passed to `measure`, such as repeats."""

    def run_alone(self, run: ComposedRun, folder: Path, sweep: str) -> int:
        """Prepare, measure and finish one run of a sweep that another launcher distributes; return its exit code."""


@dataclass
class Task:
    """The task function of `hydra.main`. Hydra may pickle it and call it in another process."""

    application: Application
    config_dir: Path | None = None
    folder: Path | None = None
    """The folder that Hydra created for the run or the sweep."""
    error: Exception | None = None
    """The error of a single run. It is stored, because Hydra would print another line if the task raised it."""

    def __call__(self, cfg: DictConfig) -> None:
        """Run one job."""
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        if settings.mode == RunMode.MULTIRUN:
            run = self.compose(cfg, settings)
            if exit_code := self.application.run_alone(run, folder, Path(settings.sweep.dir).name):
                raise JobFailed(exit_code)
            return
        self.folder = folder
        try:
            self.application.prepare([self.compose(cfg, settings)])
            self.application.measure(0, folder, folder.name)
            self.application.complete()
        except (ConfigError, OSError) as error:
            self.error = error

    def compose(self, cfg: DictConfig, settings: HydraConf) -> ComposedRun:
        """Return the run of a composed configuration. `settings` is its `hydra` section."""
        choices = [
            (str(group), str(option))
            for group, options in settings.runtime.choices.items()
            for option in (options if OmegaConf.is_list(options) else [options])
        ]
        notes = [note for choice in choices if (note := replaced_option(*choice, self.config_dir))]
        experiment = ",".join(option for group, option in choices if group == EXPERIMENT)
        return ComposedRun(ComposedConfig.of(cfg), tuple(settings.overrides.task), tuple(notes), experiment)


def main(arguments: Arguments, application: Application) -> None:
    """Run Hydra's command line with an application. Raises ConfigError for bad input and JobFailed for a failed job."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing a traceback and ending the process
    register_schema()
    task = Task(application, arguments.config_dir)
    command = hydra.main(version_base="1.3", config_path=str(project_folder("conf")), config_name="config")(task)
    try:
        with (
            one_line_errors(arguments.overrides, arguments.config_dir),
            user_folder_first(arguments.config_dir),
            command_line(arguments),
        ):
            refuse_mixed_metrics(arguments.overrides)
            command()
        if task.error is not None:
            raise task.error
    except ConfigError:
        remove_unused(task.folder)
        raise


def refuse_mixed_metrics(overrides: Sequence[str]) -> None:
    """Raise ConfigError if `metrics` is both replaced and extended, because Hydra would ignore one of the two."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    lists = [override for override in parsed if override.key_or_group == "metrics" and not override.is_delete()]
    if len({override.is_add() for override in lists}) == 2:
        typed = " ".join(str(override.input_line) for override in lists)
        raise ConfigError(
            f"{typed}: both a list and additions are given",
            "give either the full list, as in metrics=[…,…], or only additions",
        )


def remove_unused(folder: Path | None) -> None:
    """Remove the folder of a refused run or sweep if only Hydra wrote into it, and its parent if it is then empty."""
    if folder is None or not folder.is_dir() or not {path.name for path in folder.iterdir()} <= HYDRA_FILES:
        return
    shutil.rmtree(folder)
    if folder.resolve().parent != Path.cwd():
        with suppress(OSError):  # the parent holds other results
            folder.parent.rmdir()
