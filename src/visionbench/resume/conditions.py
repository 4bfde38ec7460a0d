"""The identity of a planned run under the present conditions, before anything is measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionbench import machine, measuring, runner, worker
from visionbench.config import ExperimentConfig, from_yaml, to_yaml
from visionbench.core import RunPlan
from visionbench.parts import build_parts
from visionbench.records import identity
from visionbench.records.identity import Identity


@dataclass
class PresentConditions:
    """The conditions of this machine now. A process reads the identities of each device and data set once."""

    _read: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=dict)

    def identify(self, config: ExperimentConfig, config_yaml: str, plan: RunPlan) -> Identity:
        """Return the identity of a planned run. The fork server must have been started. Raises ConfigError."""
        device, data = self._device_and_data(config)
        conditions = identity.of_machine(machine.fingerprint(), device, data, runner.describe(config))
        if commit := runner.git_commit():
            conditions["git commit"] = commit
        return Identity.of_config(from_yaml(config_yaml), plan, conditions)

    def _device_and_data(self, config: ExperimentConfig) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        data_class = type(build_parts(config).data).__name__  # a data set may depend on the predictions of the model
        key = "".join([*map(to_yaml, (config.device, config.precision, config.data)), data_class])
        if key not in self._read:
            try:
                self._read[key] = next(iter(worker.stream(measuring.read_conditions, config, log=Path(os.devnull))))
            except (worker.WorkerDied, worker.WorkerFailed):
                self._read[key] = {}, {}  # the measuring process reports the error in its rows
        return self._read[key]
