"""The command as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from visionbench import worker
from visionbench.cli import main
from visionbench.composition import Collector, parse
from visionbench.composition import main as compose_and_run
from visionbench.config import ModelConfig
from visionbench.parts import devices_of_other_machines
from visionbench.resolve import Resolver
from visionbench.session import plan_request
from visionbench.weights import transformers_modules

TESTS = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("visionbench")
SECONDS = 300
FEW_CALLS = [
    "measure.retries=0",
    "measure.warmup.calls=2",
    "measure.latency.calls=8",
    "measure.throughput.calls=5",
    "device.threads=1",
    "data.options.samples=40",
]
"""Overrides that make a run short."""
FEW_CALLS_EACH_STAGE = [
    *("measure=quick", "measure.retries=0", "measure.warmup.calls=2", "measure.latency.calls=8"),
    *("measure.throughput.calls=4", "measure.telemetry.min_seconds=0.2", "measure.telemetry.idle_seconds=0.1"),
    *("measure.pipeline.min_seconds=0.1", "measure.ceiling.calls=1", "measure.ceiling.min_call_ms=1"),
    *("serving.loads=[20]", "measure.serving.min_queries=20", "measure.serving.min_seconds=0.2"),
    *("measure.serving.max_seconds=1", "measure.serving.warmup_calls=1"),
    *("data.options.samples=40", "tracking=none", "device.threads=1"),
]
"""The same for a run with all metrics."""


def python_path(*folders: Path | str) -> str:
    """PYTHONPATH with these folders before what stands in it already, which may be where the packages are."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


def call(folder: Path, *words: str, **env: str) -> Any:
    """The command in a process of its own; what the process printed and its `returncode`."""
    return subprocess.run(
        [COMMAND, *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": python_path(TESTS),
            "COLUMNS": "110",
            "PYTHONWARNINGS": "error::SyntaxWarning",
            **env,
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def fork_server() -> None:
    """Start what runs' processes are forked from, once for all tests, with what most of them import."""
    bundled = (ModelConfig(architecture={"model_type": family}) for family in ("clip", "sam", "blip-2", "resnet"))
    worker.start_fork_server(
        ["torch", "transformers", *(module for model in bundled for module in transformers_modules(model))]
    )


def here(folder: Path, *words: str) -> Any:
    """The same within this process, which has paid already for the imports that take a command most of its time."""
    fork_server()
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["visionbench", *words])
        patch.setenv("COLUMNS", "110")
        patch.setenv("HYDRA_FULL_ERROR", "")  # the command sets it
        with pytest.raises(SystemExit) as ended:
            main()
    return SimpleNamespace(returncode=ended.value.code, stdout=out.getvalue(), stderr=err.getvalue())


class PlanOnly(Collector):
    """An application that plans the runs that Hydra composes, and measures nothing."""

    def __init__(self, resolver: Resolver) -> None:
        super().__init__()
        self.resolver = resolver
        self.planned: list[Any] = []

    def prepare(self, runs: Any) -> None:
        for run in runs:
            self.planned.append((run.config.values, plan_request(run, self.resolver.config_dir)))

    def prepare_jobs(self, runs: Any, plan: Any) -> list[Any]:
        with devices_of_other_machines() if not plan.here else nullcontext():
            return super().prepare_jobs(runs, plan)

    def is_complete(self, index: int) -> bool:
        return False


def plan_runs(words: Any) -> list[Any]:
    """Return the configuration and the plan of every run of `visionbench run WORDS`."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = parse([*words, f"hydra.run.dir={folder}/run", f"hydra.sweep.dir={folder}/sweep"])
        application = PlanOnly(Resolver(arguments.config_dir))
        with suppress(SystemExit):  # Hydra ends the process after it has printed help
            compose_and_run(arguments, application)
    return application.planned
