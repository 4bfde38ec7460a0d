"""Fixtures that several folders of tests share."""

from __future__ import annotations

from functools import cache

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from visionbench.config import from_hydra, register_schema, root


@pytest.fixture(scope="session")
def compose():
    """Overrides to what Hydra composes of conf/."""
    register_schema()

    def compose(*overrides):
        with initialize_config_dir(str(root("conf")), version_base="1.3"):
            return hydra_compose("config", list(overrides))

    return compose


@pytest.fixture(scope="session")
def config(compose):
    """Overrides to an ExperimentConfig of its own. Hydra composes each choice of groups once; keys are merged in."""
    of_groups = cache(compose)

    def config(*overrides):
        groups = [override for override in overrides if "." not in override.partition("=")[0]]
        keys = OmegaConf.from_dotlist([override for override in overrides if override not in groups])
        return from_hydra(OmegaConf.unsafe_merge(OmegaConf.create(OmegaConf.to_container(of_groups(*groups))), keys))

    return config
