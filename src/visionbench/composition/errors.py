"""Hydra's and OmegaConf's exceptions as ConfigErrors of one line, recognised by their types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from visionbench.config import explain, option_fields, options_of_group, project_folder, schema_keys, unknown_key
from visionbench.registry import ConfigError, find, names, nearest


@contextmanager
def one_line_errors(overrides: Sequence[str]) -> Iterator[None]:
    """Turn Hydra's and OmegaConf's exceptions into ConfigErrors. `overrides` are the ones on the command line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise translate(error, overrides) from error


def translate(error: Exception, overrides: Sequence[str] = ()) -> ConfigError:
    """Return the ConfigError that names the value, its origin, and the nearest valid value."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        options = error.options or list(options_of_group(group))
        if not group:
            return ConfigError(f"--config-name {option}: there is no such file{nearest(option, options)}")
        return ConfigError(f"{group}={option}: no such option{nearest(option, options)}")
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"'{error.override}': not of the form key=value; quote a value that has special characters, "
            "as in 'key=\"~/pictures\"'"
        )
    # Hydra raises some of its exceptions while it handles OmegaConf's, and names the cause in others.
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        key = str(cause.full_key)
        return ConfigError(unknown_key(key, known_keys(key), _value_of(key, overrides)))
    if isinstance(cause, OmegaConfBaseException):
        return explain(cause)
    return ConfigError(" ".join(str(error).split()))


def known_keys(key: str) -> list[str]:
    """Return the keys to compare a wrong one with: the schema's keys, or the options of the registered parts."""
    groups = [path.name for path in project_folder("conf").iterdir() if path.is_dir() and path.name != "hydra"]
    kind, *below, _ = key.split(".")
    if below and kind in ("model", "data", "metrics"):
        registered = "models" if kind == "model" else kind
        parts = below[:1] if kind == "metrics" else names(registered)
        with suppress(ConfigError):
            return [f"{kind}.{below[0]}.{option}" for part in parts for option in option_fields(find(registered, part))]
    return [*schema_keys(), *groups]


def _value_of(key: str, overrides: Sequence[str]) -> str | None:
    """Return the value that the command line gives to a key, or None if it gives none."""
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return next((value for name, _, value in pairs if name == key), None)
