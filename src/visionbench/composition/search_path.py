"""The search path of configuration files: the user's folder comes before the bundled one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin


class UserFolderFirst(SearchPathPlugin):
    """Put the folder of `--config-dir` before the bundled folder, so that a user's file replaces a bundled file."""

    folder: ClassVar[Path | None] = None
    """Hydra creates the plugin without arguments, so the folder is an attribute of the class."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Insert the folder. Hydra itself would append it after the bundled one."""
        if self.folder is not None:
            search_path.prepend("user", f"file://{self.folder.absolute()}", SearchPathQuery(provider="main"))


@contextmanager
def user_folder_first(folder: Path | None) -> Iterator[None]:
    """Search the user's folder before the bundled folder while the context is open."""
    Plugins.instance().register(UserFolderFirst)
    UserFolderFirst.folder = folder
    try:
        yield
    finally:
        UserFolderFirst.folder = None
