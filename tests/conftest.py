"""Fixtures that several folders of tests share."""

from __future__ import annotations

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from visionbench.config import from_hydra, register_schema, root


@pytest.fixture(scope="session")
def compose():
    """Overrides to what Hydra composes of conf/, `hydra` included."""
    register_schema()

    def compose(*overrides):
        with initialize_config_dir(str(root("conf")), version_base="1.3"):
            return hydra_compose("config", list(overrides), return_hydra_config=True)

    return compose


@pytest.fixture(scope="session")
def config(compose):
    """Overrides to an ExperimentConfig of its own, with the shipped defaults."""
    return lambda *overrides: from_hydra(compose(*overrides))
