"""Compose the runs of overrides for a command that measures them later or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from visionbench.composition.application import Collector, main
from visionbench.composition.arguments import Arguments
from visionbench.config import ComposedRun


def compose_runs(overrides: Sequence[str], config_dir: Path | None, several: bool = False) -> list[ComposedRun]:
    """Return the runs of overrides as Hydra composes them. Nothing is planned or written."""
    flags = ["--multirun"] if several else []
    flags += [f"--config-dir={config_dir}"] if config_dir else []
    with TemporaryDirectory(prefix="visionbench-") as folder:
        places = [f"hydra.run.dir='{folder}/run'", f"hydra.sweep.dir='{folder}/sweep'"]
        collector = Collector()
        with _program_name():
            main(Arguments(tuple(flags), (*overrides, *places), config_dir), collector)
        return collector.runs


@contextmanager
def _program_name() -> Iterator[None]:
    """Restore the command line, which Hydra's entry point changes."""
    original = list(sys.argv)
    try:
        yield
    finally:
        sys.argv[:] = original
