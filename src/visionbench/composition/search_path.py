"""The search path of configuration files: the user's folder comes before the bundled one, and its files are checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, cast

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin

from visionbench.yaml_limits import check_limits


class CheckedFiles(ConfigSource):
    """A folder whose files are checked before Hydra loads them, because loading expands aliases."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        known = Plugins.instance().discover(ConfigSource)
        source = next(cast(type[ConfigSource], each) for each in known if each.scheme() == "file")  # type: ignore
        self.files = source(provider, f"file://{self.path}")

    @staticmethod
    def scheme() -> str:
        """Return the scheme of the addresses of such folders."""
        return "checked"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file. Raises ConfigError if it exceeds a limit."""
        path = Path(self.path, f"{config_path.removesuffix('.yaml')}.yaml")
        check_limits(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        return self.files.load_config(config_path)

    def is_group(self, config_path: str) -> bool:
        """Return whether there is a group of this name."""
        return self.files.is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        """Return whether there is a file of this name."""
        return self.files.is_config(config_path)

    def available(self) -> bool:
        """Return whether the folder exists."""
        return self.files.available()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of the files and groups in a group."""
        return self.files.list(config_path, results_filter)


class UserFolderFirst(SearchPathPlugin):
    """Put the folder of `--config-dir` before the bundled folder, so that a user's file replaces a bundled file."""

    folder: ClassVar[Path | None] = None
    """Hydra creates the plugin without arguments, so the folder is an attribute of the class."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Insert the folder. Hydra itself would append it after the bundled one."""
        if self.folder is not None:
            search_path.prepend(
                "user", f"{CheckedFiles.scheme()}://{self.folder.absolute()}", SearchPathQuery(provider="main")
            )


@contextmanager
def user_folder_first(folder: Path | None) -> Iterator[None]:
    """Search the user's folder before the bundled folder while the context is open."""
    Plugins.instance().register(CheckedFiles)
    Plugins.instance().register(UserFolderFirst)
    UserFolderFirst.folder = folder
    try:
        yield
    finally:
        UserFolderFirst.folder = None
