"""The folders that a command is about to create, so that a refused command can remove them again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class NewFolders(Callback):
    """Hydra calls this before it creates the folder of a run or of a sweep. `conf/config.yaml` names the class."""

    folder: ClassVar[Path | None] = None
    """The folder of the run or of the sweep. Hydra creates the callback, so this attribute belongs to the class."""
    missing: ClassVar[tuple[Path, ...]] = ()
    """The folder and its parents that did not exist, innermost first."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Store which folders a single run creates."""
        self._store(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Store which folders a sweep creates."""
        self._store(config, "hydra.sweep.dir")

    def _store(self, config: DictConfig, key: str) -> None:
        with suppress(OmegaConfBaseException, OSError, ValueError):  # Hydra raises them again
            folder = Path(str(OmegaConf.select(config, key))).absolute()
            NewFolders.missing = tuple(path for path in (folder, *folder.parents) if not path.exists())
            NewFolders.folder = folder
