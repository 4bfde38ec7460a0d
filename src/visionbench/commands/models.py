"""`visionbench models`: list the models, fetch their checkpoints, and write the YAML of another checkpoint."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from visionbench import weights
from visionbench.config import ModelConfig, models, replaced_option
from visionbench.core import ConfigError
from visionbench.parts import find_adapter
from visionbench.registry import find, nearest
from visionbench.terminal.console import screen


def show(config_dir: Path | None) -> int:
    """Print the bundled models and the models of the user's folder."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # transformers warns about token ids that a config lacks
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    table.add_column("task", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("checkpoint", overflow="fold")
    problems = []
    for name, model in models(config_dir).items():
        try:
            parameters = _count_parameters(model)
        except ConfigError as error:
            parameters = "–"
            problems.append(f"{name}: {error}")
        table.add_row(
            name,
            find("models", model.family).task,
            parameters,
            "yes" if model.checkpoint and weights.find_checkpoint(model) else "no",
            model.checkpoint or "–",
        )
    console = screen()
    console.print(table)
    _show_replaced(console, models(config_dir), config_dir)
    for problem in problems:
        console.print(f"! {problem}", style="yellow", soft_wrap=True, highlight=False, markup=False)
    return 0


def _count_parameters(model: ModelConfig) -> str:
    """Return the number of parameters, or a dash if it is not known.

    It is counted on the meta device, from `architecture:` or, without one, from a checkpoint on this machine. Raises
    ConfigError if the family does not read the checkpoint.
    """
    auto_class = weights.auto_class_for(find_adapter(model), model)
    if auto_class is None:
        return "–"
    if model.architecture:
        return f"{weights.count_parameters(model, auto_class):,}"
    folder = weights.find_checkpoint(model) if model.checkpoint else None
    return "–" if folder is None else f"{weights.count_checkpoint_parameters(model, auto_class, folder):,}"


def fetch(names: Sequence[str], config_dir: Path | None) -> int:
    """Download the checkpoints of these models that are not on this machine."""
    known = models(config_dir)
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no model '{name}'{nearest(name, known)}")
    console = screen()
    _show_replaced(console, names, config_dir)
    for name in names:
        console.print(f"{name}: {weights.obtain_checkpoint(known[name])}", soft_wrap=True, highlight=False)
    return 0


def inspect(checkpoint: str, revision: str | None, file: Path | None) -> int:
    """Print the YAML of a checkpoint's model, or write it to a file that does not exist yet.

    Raises ConfigError if the model cannot be measured, or if the file has a wrong place.
    """
    from visionbench.model_inspection import inspect as inspect_checkpoint

    if file is not None:
        _refuse_place(file)
    inspection = inspect_checkpoint(checkpoint, file.stem if file else None, revision)
    folder = file.absolute().parent.parent if file else Path("FOLDER")
    command = f"visionbench run --config-dir {shlex.quote(str(folder))} model={inspection.model.name}"
    text = inspection.to_yaml(command)
    if file is None:
        print(text, end="")
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as stream:
        stream.write(text)
    screen().print(f"{file}: {inspection.task}; {command}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _refuse_place(file: Path) -> None:
    """Raise ConfigError if a new YAML of a model cannot have this path."""
    if file.suffix != ".yaml" or file.absolute().parent.name != "model":
        raise ConfigError(f"--write {file}: not the place of a model's YAML", "write FOLDER/model/NAME.yaml")
    if file.exists():
        raise ConfigError(f"--write {file}: it exists", "give another name, or remove the file")


def _show_replaced(console: Console, names: Iterable[str], config_dir: Path | None) -> None:
    """Print a line for each of the user's models that replaces a bundled one."""
    for name in names:
        if note := replaced_option("model", name, config_dir):
            console.print(f"! {note}", style="yellow", soft_wrap=True, highlight=False, markup=False)
