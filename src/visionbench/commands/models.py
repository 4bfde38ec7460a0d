"""`visionbench models`: what can be run by name, and fetching what is not here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from visionbench import weights
from visionbench.config import models
from visionbench.registry import ConfigError, find, nearest


def show(config_dir: Path | None) -> int:
    """Print the models of `conf/model` and of one's own folder."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("model", "task"):
        table.add_column(title)
    table.add_column("parameters", justify="right")
    for title in ("checkpoint", "revision", "here"):
        table.add_column(title)
    for name, model in models(config_dir).items():
        table.add_row(
            name,
            find("models", model.family).task,
            f"{weights.parameter_count(model):,}" if model.architecture else "–",
            model.checkpoint or "–",
            (model.revision or "–")[:8],
            "yes" if model.checkpoint and weights.present(model) else "no",
        )
    Console().print(table)
    return 0


def fetch(names: Sequence[str], config_dir: Path | None) -> int:
    """Download the named models' checkpoints; one that is here already costs nothing."""
    known = models(config_dir)
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no model '{name}'{nearest(name, known)}")
    console = Console()
    for name in names:
        model = known[name]
        path = weights.present(model) or weights.fetch(model)
        console.print(f"{name}: {path}", soft_wrap=True, highlight=False)
    return 0
