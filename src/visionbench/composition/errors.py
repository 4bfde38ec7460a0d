"""Convert Hydra's and OmegaConf's exceptions, recognised by their types, to ConfigErrors of one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from visionbench.config import explain, list_options, option_fields, project_folder, schema_keys, unknown_key
from visionbench.core import ConfigError
from visionbench.registry import find, names, nearest


@contextmanager
def one_line_errors(overrides: Sequence[str], config_dir: Path | None) -> Iterator[None]:
    """Convert Hydra's and OmegaConf's exceptions to ConfigErrors, with the origin of a wrong key.

    `overrides` are the overrides on the command line, and `config_dir` is the user's folder of configuration files.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise translate(error, overrides, config_dir) from error


def translate(error: Exception, overrides: Sequence[str] = (), config_dir: Path | None = None) -> ConfigError:
    """Return the ConfigError that names the value, its origin, and the nearest valid value."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        options = error.options or list(list_options(group))
        if not group:
            return ConfigError(f"--config-name {option}: there is no such file{nearest(option, options)}")
        return ConfigError(f"{group}={option}: no such option{nearest(option, options)}")
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"'{error.override}': not of the form key=value",
            "quote a value that has special characters, as in 'key=\"~/images\"'",
        )
    # Hydra raises some of its exceptions while it handles one of OmegaConf, and sets `__cause__` in others.
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        key = str(cause.full_key)
        file, value = _origin(key, overrides, config_dir)
        return ConfigError(f"{file}: " * bool(file) + unknown_key(key, known_keys(key), value))
    if isinstance(cause, OmegaConfBaseException):
        return explain(cause)
    return ConfigError(" ".join(str(error).split()))


def known_keys(key: str) -> list[str]:
    """Return the valid keys to compare a wrong key with: those of the schema, or the options of registered parts."""
    groups = [path.name for path in project_folder("conf").iterdir() if path.is_dir() and path.name != "hydra"]
    kind, *below = key.split(".")[:-1] or [key]
    if below and kind in ("model", "data", "metrics"):
        registered = "models" if kind == "model" else kind
        parts = below[:1] if kind == "metrics" else names(registered)
        with suppress(ConfigError):
            return [f"{kind}.{below[0]}.{option}" for part in parts for option in option_fields(find(registered, part))]
    return [*schema_keys(), *groups]


def _origin(key: str, overrides: Sequence[str], config_dir: Path | None) -> tuple[Path | None, Any]:
    """Return the user's file that sets a key, and the value. The file is None if an override sets the key."""
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    for name, _, value in pairs:
        if name == key:
            return None, value
    for path in sorted(config_dir.rglob("*.yaml")) if config_dir else ():
        content = OmegaConf.load(path)
        below = key.removeprefix(f"{path.parent.name}.")  # a file of a group holds the keys below the group
        for name in dict.fromkeys((key, below)):
            with suppress(OmegaConfBaseException):
                if (value := OmegaConf.select(content, name)) is not None:
                    return path, value
    return None, None
