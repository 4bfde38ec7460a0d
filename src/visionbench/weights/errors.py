"""Errors of transformers and huggingface_hub as a ConfigError of one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from visionbench.config import ModelConfig
from visionbench.core import ConfigError, first_line

OUT_OF_MEMORY = "not enough memory|can't allocate memory|out of memory"


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error's message, without its full stop."""
    return first_line(error).split(". ")[0].rstrip(".")


@contextmanager
def one_line_errors(model: ModelConfig, setting: str) -> Iterator[None]:
    """Convert errors of transformers while it reads a checkpoint to ConfigError, except for a lack of memory.

    `setting` is the start of the message: the key and the value of the config that name the files.
    """
    import torch

    try:
        yield
    except (ConfigError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if re.search(OUT_OF_MEMORY, str(error), re.IGNORECASE):
            raise
        raise explain_error(model, setting, error) from error


def explain_error(model: ModelConfig, setting: str, error: Exception) -> ConfigError:
    """Return an error of transformers as a ConfigError, with the key that would change it."""
    remedies = {
        "attn_implementation|flash": "use model.attention=auto",
        "configuration class": f"model.family={model.family} does not fit it",
        "deserializ|corrupt|unexpected EOF|PytorchStreamReader": (
            "a file of weights is incomplete or damaged; fetch it again"
        ),
        "timm_model.*multiple values": (
            "remove it from model_args in config.json, where newer versions of timm write it"
        ),
        "custom code": "model.trust_remote_code=true would run it",
    }
    remedy = next((text for pattern, text in remedies.items() if re.search(pattern, str(error), re.IGNORECASE)), "")
    kind = "" if isinstance(error, (ImportError, ValueError, OSError)) else f"{type(error).__name__}: "
    return ConfigError(f"{setting}: {kind}{first_sentence(error)}", remedy)
