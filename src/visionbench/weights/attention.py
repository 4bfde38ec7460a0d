"""The implementation of attention: the best that a model supports, or the one that the configuration names."""

from __future__ import annotations

import importlib.util
from typing import Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError

AUTO = "auto"
FLASH = "flash_attention_2"
ATTENTION = (AUTO, "sdpa", "eager", FLASH)


def requested_attention(model: ModelConfig) -> str | None:
    """Return the implementation for transformers' `attn_implementation`. With None, transformers uses torch's scaled
    dot-product attention in each part of the model that supports it, and plain attention in the others.

    Raises ConfigError for `flash_attention_2` without its package, because transformers would then use a network.
    """
    if model.attention == FLASH and importlib.util.find_spec("flash_attn") is None:
        raise ConfigError(
            f"model.attention={FLASH}: the package flash-attn is not installed", f"install it, or use {AUTO}"
        )
    return None if model.attention in (None, AUTO) else model.attention


def used_attention(module: Any) -> str | None:
    """Return the implementation that a model uses, such as `sdpa`, or `eager and sdpa` if its parts differ.

    None if the model has no attention layers.
    """
    if not _has_attention(module):
        return None
    names = {
        part.config._attn_implementation
        for part in module.modules()
        if hasattr(getattr(part, "config", None), "_attn_implementation") and hasattr(part, "_supports_sdpa")
        if _has_attention(part)
    }
    return " and ".join(sorted(str(name) for name in names if name)) or None


def explain_unsupported(model: ModelConfig, auto_class: str, config: Any) -> ConfigError | None:
    """Return the error for an implementation that a model does not support, or None if it supports it."""
    if model.attention in (None, AUTO) or _supports(model, auto_class, config, model.attention):
        return None
    supported = [choice for choice in ATTENTION[1:] if _supports(model, auto_class, config, choice)]
    if not supported:
        return None
    return ConfigError(
        f"model.attention={model.attention}: {_class_name(auto_class, config)} supports only {' and '.join(supported)}",
        f"use model.attention={AUTO}",
    )


def _supports(model: ModelConfig, auto_class: str, config: Any, attention: str | None) -> bool:
    """Return whether the model can be built with this implementation. Only shapes are built."""
    from copy import deepcopy

    import torch
    import transformers

    if attention == FLASH and importlib.util.find_spec("flash_attn") is None:
        return False
    try:
        with torch.device("meta"):
            getattr(transformers, auto_class).from_config(
                deepcopy(config), attn_implementation=attention, trust_remote_code=model.trust_remote_code
            )
    except (ImportError, ValueError):
        return False
    return True


def _class_name(auto_class: str, config: Any) -> str:
    """Return the class that reads this configuration, or its model type if the class is not known."""
    import transformers

    classes = getattr(transformers, auto_class)._model_mapping
    names = classes.get(type(config), None)
    first = names[0] if isinstance(names, (tuple, list)) else names
    return getattr(first, "__name__", None) or f"a model of the type {config.model_type}"


def _has_attention(module: Any) -> bool:
    return any("attention" in type(part).__name__.lower() for part in module.modules())
