"""`visionbench doctor`: show facts about this machine, and problems that would affect a measurement."""

from __future__ import annotations

from visionbench.diagnosis import examine
from visionbench.terminal.console import screen
from visionbench.terminal.diagnosis_view import show as show_diagnosis


def show() -> int:
    """Print facts and problems; return exit code 1 if there are problems."""
    diagnosis = examine()
    show_diagnosis(diagnosis, screen())
    return 1 if diagnosis.problems else 0
