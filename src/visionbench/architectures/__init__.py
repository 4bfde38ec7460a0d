"""Architectures that transformers does not have, written as models of transformers.

One module per architecture, with the name of its model type. Each module registers its classes with the Auto classes of
transformers when it is imported, and is imported only if a model needs it.
"""

from __future__ import annotations

import importlib
import pkgutil


def names() -> frozenset[str]:
    """Return the model types of the architectures."""
    return frozenset(module.name for module in pkgutil.iter_modules(__path__))


def register(model_type: object) -> None:
    """Register the architecture of a model type with transformers, if it is one of this package."""
    if model_type in names():
        importlib.import_module(f"{__name__}.{model_type}")
