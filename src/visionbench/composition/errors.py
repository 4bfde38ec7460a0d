"""Convert the exceptions of Hydra, OmegaConf and YAML to ConfigErrors of one line, recognised by their types."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from visionbench.composition import overrides as override_checks
from visionbench.composition.user_files import file_with_default, refuse_faulty_files, selected_files
from visionbench.config import (
    explain,
    list_options,
    option_fields,
    project_folder,
    schema_keys,
    unknown_key,
    yaml_problem,
)
from visionbench.core import ConfigError, first_line
from visionbench.registry import find, names, nearest
from visionbench.suggestions import option as option_ending

OF_VISIONBENCH = ("visionbench", "hydra_plugins")
HELP = "see visionbench run --help"
LAUNCHERS = "remove hydra/launcher to measure one run after the other, or see visionbench docs deploying"
FOLDERS = {"hydra.run.dir", "hydra.sweep.dir"}
"""Keys whose default value contains a reference to `output_dir`."""


def is_raised_by_composition(error: Exception) -> bool:
    """Return whether a library raised an exception, and not the code of visionbench."""
    if isinstance(error, InterpolationResolutionError):  # `references` raises it too
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__", "")) if frames else ""
    return module.partition(".")[0] not in OF_VISIONBENCH


def translate(error: Exception, overrides: Sequence[str] = (), config_dir: Path | None = None) -> ConfigError:
    """Return the ConfigError that names the value, its origin, and the nearest valid value.

    `overrides` are the overrides on the command line, and `config_dir` is the user's folder of configuration files.
    """
    try:
        refuse_faulty_files(overrides, config_dir)
    except ConfigError as problem:
        return problem
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_option(error, overrides, config_dir)
    if isinstance(error, OverrideParseException):
        return override_checks.wrong_form(str(error.override), config_dir)
    if isinstance(error, HydraException) and "--multirun" in str(error):
        return _sweep_without_flag(overrides)
    if isinstance(error, YAMLError):
        return ConfigError(yaml_problem(error), "correct the file")
    if isinstance(error, OSError) and error.strerror:
        return _unusable_file(error)
    if isinstance(error, RecursionError):
        return ConfigError("the configuration refers to itself", "remove the file or the value that contains itself")
    # Hydra raises some of its exceptions while it handles one of OmegaConf, and sets `__cause__` in others.
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        key = str(cause.full_key)
        file, value = _origin(key, overrides, config_dir)
        return ConfigError(f"{file}: " * bool(file) + unknown_key(key, known_keys(key), value))
    if isinstance(cause, OmegaConfBaseException):
        key = str(cause.full_key)
        if key in FOLDERS and not any(override.lstrip("+").startswith(f"{key}=") for override in overrides):
            cause.full_key = "output_dir"
        return explain(cause)
    text = " ".join(str(error).split()) if isinstance(error, HydraException | ValueError) else first_line(error)
    return ConfigError(text.rstrip(".") or type(error).__name__, HELP)


def _missing_option(error: MissingConfigException, overrides: Sequence[str], config_dir: Path | None) -> ConfigError:
    file = str(error.missing_cfg_file)
    group, _, option = file.rpartition("/")
    if known := [name for name in override_checks.list_groups(config_dir) if file.startswith(f"{name}/")]:
        group, option = known[0], file.removeprefix(f"{known[0]}/")
    options = (error.options if group == file.rpartition("/")[0] else None) or list(list_options(group, config_dir))
    if not group:
        return ConfigError(f"--config-name {option}: there is no such file{nearest(option, options)}")
    ending = option_ending(group, option, options)
    if group == "hydra/launcher" and "did you mean" not in ending:
        return ConfigError(f"{group}={option}: this launcher is not installed", LAUNCHERS)
    if origin := file_with_default(group, option, overrides, config_dir):
        return ConfigError(f"{origin}: defaults: {group}={option}: no such option{ending}")
    return ConfigError(f"{group}={option}: no such option{ending}")


def _sweep_without_flag(overrides: Sequence[str]) -> ConfigError:
    """Return the error for several values without `-m`."""
    for text in overrides:
        override = override_checks.parse(text, {})
        if override.is_sweep_override():
            key, _, values = text.partition("=")
            is_list = key in ("metrics", "batch.sizes")
            remedy = f"write a list, as in {key}=[{values}]" if is_list else f"sweep over them, as in -m {text}"
            return ConfigError(f"{text}: several values for one run", remedy)
    return ConfigError("several values for one run", "sweep over them with -m")


def _unusable_file(error: OSError) -> ConfigError:
    if error.errno == errno.ENAMETOOLONG and error.filename:
        return ConfigError(f"{Path(error.filename).name}: {error.strerror}", "give a shorter name")
    return ConfigError(
        f"{error.filename or 'the folder of results'}: {error.strerror}",
        "free space, or give a folder that can be written to, as in output_dir=results",
    )


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
    for path, group, content in selected_files(overrides, config_dir):
        below = key.removeprefix(f"{group}.")  # a file of a group holds the keys below the group
        for name in dict.fromkeys((key, below)):
            with suppress(OmegaConfBaseException):
                if (value := OmegaConf.select(OmegaConf.create(dict(content)), name)) is not None:
                    return path, value
    return None, None
