"""The output of a diagnosis of this machine on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from visionbench.diagnosis import Diagnosis
from visionbench.parts import ACCELERATORS


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print all facts as a table, then the problems."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in diagnosis.facts.items():
        table.add_row(f"[bold]{name}[/bold]", str(value))
    console.print(table)
    console.print()
    show_problems(diagnosis, console)
    if not diagnosis.problems:
        console.print("no problems found")


def show_summary(diagnosis: Diagnosis, console: Console) -> None:
    """Print the main facts in three lines, then the problems."""
    facts = diagnosis.facts
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "torch", "transformers"))
    lines = (
        f"{facts['processor']}, {facts['instructions']}; {facts['memory']}; disk {facts['disk']}",
        f"{facts['system']}; {versions}",
        ", ".join(f"{kind}: {facts[f'{kind} device']}" for kind in ACCELERATORS),
    )
    for heading, line in zip(("machine", "", ""), lines, strict=True):
        console.print(f"{heading:<9}{line}", soft_wrap=True, highlight=False, markup=False)
    show_problems(diagnosis, console)


def show_problems(diagnosis: Diagnosis, console: Console) -> None:
    """Print a line for each problem, with its remedy."""
    for problem, remedy in diagnosis.problems:
        console.print(f"! {problem}: {remedy}", style="yellow", soft_wrap=True, highlight=False, markup=False)
