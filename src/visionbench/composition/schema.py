"""Register the schema of the configuration with Hydra."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from visionbench.config import ExperimentConfig

SCHEMA = "visionbench_schema"
"""The name of the schema, which is the first default of `conf/config.yaml`."""


def register_schema() -> None:
    """Register the schema, so that Hydra refuses unknown keys and wrong types."""
    ConfigStore.instance().store(name=SCHEMA, node=ExperimentConfig)
