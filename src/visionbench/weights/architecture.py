"""Build a model of the YAML's `architecture:` with random weights."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench import architectures
from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.registry import nearest
from visionbench.weights.attention import explain_unsupported, requested_attention
from visionbench.weights.errors import explain_error, one_line_errors
from visionbench.weights.identification import check_family, prepare_architecture
from visionbench.weights.image_size import set_config_size

if TYPE_CHECKING:
    import torch

BLOCK, OFFSETS = 4_194_304, 65_536
"""Random weights are copied from a block of this many normal numbers, which begins at one of this many offsets."""

CONSTANT_BUFFERS = {"weight": 1.0, "bias": 0.0}
"""Values of buffers that transformers copies from parameters, which have no values yet at this time."""


def build_random(
    model: ModelConfig, auto_class: str, device: torch.device, dtype: torch.dtype, image_size: int | None = None
) -> Any:
    """Return the model with random weights: standard deviation 1/√fan-in, so that signals keep their magnitude, scales
    of 1 and biases of 0.

    All weights are copied from one block of normal numbers. The initialisers of torch and transformers would draw each
    number, which takes minutes for billions of parameters.
    """
    import torch

    module = _build_empty(model, auto_class, device, dtype, image_size)
    if device.type == "meta":  # only shapes, without values
        return module
    numbers = torch.Generator(device).manual_seed(model.seed)
    block = torch.randn(BLOCK + OFFSETS, generator=numbers, device=device).to(dtype)
    offsets = random.Random(model.seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            fan_in = parameter[0].numel() if len(parameter) > 1 else parameter.shape[-1]
            for piece in parameter.view(-1).split(BLOCK):
                start = offsets.randrange(OFFSETS)
                torch.mul(block[start : start + len(piece)], fan_in**-0.5, out=piece)
        for name, buffer in module.named_buffers():  # of a frozen batch normalisation
            if (constant := CONSTANT_BUFFERS.get(name.rpartition(".")[2])) is not None:
                buffer.fill_(constant)
    return module


def count_parameters(model: ModelConfig, auto_class: str) -> int:
    """Return the number of parameters of the YAML's `architecture:`, without allocating them. Tied ones count once."""
    import torch

    module = _build_empty(replace(model, attention=None), auto_class, torch.device("meta"), torch.float32)
    return sum(parameter.numel() for parameter in module.parameters())


def count_checkpoint_parameters(model: ModelConfig, auto_class: str, folder: Path) -> int:
    """Return the number of parameters of a checkpoint on this machine, from its config.json. Raises ConfigError."""
    import torch
    import transformers
    from transformers.initialization import no_init_weights

    check_family(model, folder)
    prepare_architecture(f"model.checkpoint={model.checkpoint}", folder)
    trusted = {"trust_remote_code": model.trust_remote_code}
    with one_line_errors(model, f"model.checkpoint={model.checkpoint}"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, **trusted)
        with torch.device("meta"), no_init_weights():
            module = getattr(transformers, auto_class).from_config(config, **trusted)
        module.tie_weights()
    return sum(parameter.numel() for parameter in module.parameters())


def transformers_modules(model: ModelConfig) -> list[str]:
    """Return the modules with this architecture, for a fork server to import in advance."""
    kind = str(model.architecture.get("model_type", "")).replace("-", "_")
    if kind in architectures.names():
        return [f"{architectures.__name__}.{kind}"]
    package = f"transformers.models.{kind}"
    return [f"{package}.modeling_{kind}", f"{package}.processing_{kind}"] if kind else []


def build_config(model: ModelConfig) -> Any:
    """Return the transformers config of the YAML's `architecture:`. Raises ConfigError for an unknown key."""
    if "model_type" not in model.architecture:
        raise ConfigError(f"model {model.name}: random weights need an 'architecture:' with its model_type", "add it")
    config = _build_config(model.architecture, None, "model.architecture")
    config.architectures = config.architectures or []  # with None, transformers cannot choose between two classes
    return config


def _build_config(values: Mapping[str, Any], default: Any, path: str) -> Any:
    """Return a config with the values of the YAML, nested configs first. Other values are those of `default`."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    options = dict(values)
    default_kind = getattr(default, "model_type", None)
    kind = str(options.pop("model_type", default_kind))
    architectures.register(kind)
    if kind != default_kind:
        if kind not in CONFIG_MAPPING:
            raise ConfigError(f"{path}.model_type={kind}: not in transformers{nearest(kind, CONFIG_MAPPING.keys())}")
        default = CONFIG_MAPPING[kind]()
    for key, value in options.items():
        if not hasattr(default, key) or callable(getattr(default, key)):
            known = [name for name in vars(default) if not name.startswith("_")]
            raise ConfigError(f"there is no key '{path}.{key}'{nearest(key, known)}")
        if isinstance(value, Mapping) and hasattr(getattr(default, key), "to_dict"):
            options[key] = _build_config(value, getattr(default, key), f"{path}.{key}")
    try:
        return type(default)(**options)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[-1].strip().partition('. Errors:')[0]}") from None


def _build_empty(
    model: ModelConfig, auto_class: str, device: torch.device, dtype: torch.dtype, image_size: int | None = None
) -> Any:
    """Return the architecture on the device in the dtype, with allocated parameters that have no values yet.

    As in a loaded checkpoint, tied weights are shared, and transformers' `_keep_in_fp32_modules` are in fp32.
    """
    import torch
    import transformers
    from transformers.initialization import no_init_weights

    config = build_config(model)
    if image_size is not None:
        set_config_size(config, image_size)
    attention = requested_attention(model)
    forked = [device] if device.type == "cuda" else []
    with torch.device(device), torch.random.fork_rng(forked), no_init_weights():
        torch.manual_seed(model.seed)  # some constructors draw the values of their buffers
        try:
            module = getattr(transformers, auto_class).from_config(config, dtype=dtype, attn_implementation=attention)
        except (ImportError, ValueError) as error:
            if attention is not None and (unsupported := explain_unsupported(model, auto_class, config)):
                raise unsupported from error
            raise explain_error(model, f"model.architecture of {model.name}", error) from error
    module = module.to(device)  # some constructors make tensors on the CPU, such as Mask2Former's level embedding
    module.tie_weights()
    module = module.to(device)  # some constructors create a tensor on the CPU
    plan = module._get_dtype_plan(dtype)
    for name, tensor in module.state_dict(keep_vars=True).items():
        planned = next((kind for pattern, kind in plan.items() if re.search(pattern, name)), tensor.dtype)
        if tensor.is_floating_point() and planned != tensor.dtype:
            tensor.data = tensor.data.to(planned)
    return module
