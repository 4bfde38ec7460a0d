"""Checkpoints: where one lies, how it gets here, and how a model is built from it or from random numbers.

Three sources: a repository on the Hugging Face Hub at a pinned revision, a local folder, and `bundled:NAME`. Code from a
checkpoint runs only where `model.trust_remote_code` says so; pickled weights are read by torch's restricted unpickler.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from visionbench.config import ModelConfig, root
from visionbench.registry import ConfigError, nearest

if TYPE_CHECKING:
    import torch

BUNDLED = "bundled:"
WEIGHT_FILES = ("model*.safetensors", "pytorch_model*.bin")
SIDE_FILES = ("*.json", "*.txt", "*.model", "*.jinja")


# ------------------------------------------------------------------------------------------------------- where it lies
def folder(model: ModelConfig) -> Path | None:
    """The local or bundled folder that the checkpoint names; None where it names a Hub repository."""
    name = model.checkpoint or ""
    if name.startswith(BUNDLED):
        return root("data") / name.removeprefix(BUNDLED)
    path = Path(name).expanduser()
    return path if path.is_absolute() or name.startswith((".", "~")) or path.is_dir() else None


def present(model: ModelConfig) -> Path | None:
    """The folder that holds the whole checkpoint on this machine, or None. Asks no network."""
    if (path := folder(model)) is not None:
        return path if _has_weights(path) else None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(model.checkpoint or "", revision=model.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return path if _has_weights(path) else None


def ensure(model: ModelConfig) -> None:
    """Have the checkpoint on this machine before anything loads, fetching it if need be. Raises ConfigError."""
    if model.weights == "random":
        return
    if (path := folder(model)) is not None:
        if not path.is_dir():
            raise ConfigError(f"model.checkpoint={model.checkpoint}: there is no folder {path}")
        if not _has_weights(path):
            raise ConfigError(f"model.checkpoint={model.checkpoint}: no model.safetensors or pytorch_model.bin in it")
    elif present(model) is None:
        fetch(model)


def fetch(model: ModelConfig) -> Path:
    """Download the checkpoint at its pinned revision into the Hub's cache; a broken download resumes.

    Only one format of weights is fetched, safetensors where the repository has them. Raises ConfigError.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, revision = model.checkpoint or "", model.revision
    what = f"model.checkpoint={repo}"
    otherwise = "or measure speed and memory alone with model.weights=random"
    try:
        files = [item.rfilename for item in HfApi().model_info(repo, revision=revision, timeout=10).siblings or []]
        weights = next((kind for kind in WEIGHT_FILES if any(Path(file).match(kind) for file in files)), None)
        if weights is None:
            raise ConfigError(f"{what}: the repository has neither safetensors nor pytorch_model.bin")
        return Path(snapshot_download(repo, revision=revision, allow_patterns=[*SIDE_FILES, weights]))
    except GatedRepoError:
        raise ConfigError(f"{what}: access must be asked for on its page, then set HF_TOKEN; {otherwise}") from None
    except RepositoryNotFoundError:
        raise ConfigError(f"{what}: the Hub knows no such repository (or it is private: set HF_TOKEN)") from None
    except RevisionNotFoundError:
        raise ConfigError(f"model.revision={revision}: {repo} has no such revision") from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{what}: not on this machine, and the Hub could not be read ({reason}); "
            f"run 'visionbench models fetch {model.name}' where there is a network, {otherwise}"
        ) from None


def _has_weights(path: Path) -> bool:
    return (path / "config.json").is_file() and any(next(path.glob(kind), None) for kind in WEIGHT_FILES)


# ----------------------------------------------------------------------------------------------------- how it is built
@dataclass(frozen=True)
class Built:
    """A model on its device in evaluation mode, and what it is."""

    module: Any
    source: Path | None
    """The checkpoint's folder, for processors and tokenizers; None with random weights."""
    identity: Mapping[str, Any]


def build(auto_class: Any, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> Built:
    """Load the checkpoint, or build the architecture with random weights, on the device in the dtype."""
    source = None if model.weights == "random" else present(model)
    if model.weights != "random" and source is None:
        raise ConfigError(f"model.checkpoint={model.checkpoint}: not on this machine")
    module = (
        _random(auto_class, model, device, dtype) if source is None else _saved(auto_class, model, source, device, dtype)
    )
    module.eval().requires_grad_(False)
    return Built(
        module,
        source,
        {
            "weights": model.weights,
            "checkpoint": model.checkpoint if source else None,
            "revision": model.revision if source else None,
            "model_class": type(module).__name__,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "weights_bytes": weights_bytes(module),
            "dtype": str(dtype).removeprefix("torch."),
            "attention": model.attention,
        },
    )


def weights_bytes(module: torch.nn.Module) -> int:
    """Bytes of parameters and buffers, shared storage counted once."""
    tensors = [*module.parameters(), *module.buffers()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def architecture(model: ModelConfig) -> Any:
    """The transformers config of the YAML's `architecture:`; a key that its class does not know is a ConfigError."""
    from transformers import AutoConfig

    wanted = dict(model.architecture)
    kind = wanted.pop("model_type", None)
    if kind is None:
        raise ConfigError(f"model {model.name}: random weights need an 'architecture:' with its model_type")
    try:
        default = AutoConfig.for_model(kind)
    except ValueError:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        ending = nearest(kind, CONFIG_MAPPING_NAMES)
        raise ConfigError(f"model.architecture.model_type={kind}: not in transformers{ending}") from None
    _check_keys(wanted, default, "model.architecture")
    return AutoConfig.for_model(kind, **wanted)


def image_processor(model: ModelConfig, source: Path | None) -> Any:
    """The checkpoint's image processor, or with random weights the one that the YAML's `image_processor:` describes."""
    from transformers import AutoImageProcessor

    def load(path: Path | str) -> Any:
        return AutoImageProcessor.from_pretrained(
            path, local_files_only=True, trust_remote_code=model.trust_remote_code
        )

    if source is not None:
        return load(source)
    if "image_processor_type" not in model.image_processor:
        raise ConfigError(f"model {model.name}: random weights need an 'image_processor:' with image_processor_type")
    with TemporaryDirectory() as described:  # so that transformers picks the class and its backend in both cases
        (Path(described) / "preprocessor_config.json").write_text(json.dumps(model.image_processor))
        return load(described)


def place(inputs: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """A batch on the device, its floating-point tensors in the dtype."""
    return {
        name: tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
        for name, tensor in inputs.items()
    }


def _saved(auto_class: Any, model: ModelConfig, source: Path, device: torch.device, dtype: torch.dtype) -> Any:
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"  # else a thread asks the Hub about pickled checkpoints
    module = auto_class.from_pretrained(
        source,
        dtype=dtype,
        attn_implementation=model.attention,
        trust_remote_code=model.trust_remote_code,
        local_files_only=True,
    )
    return module.to(device)


def _random(auto_class: Any, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> Any:
    """Allocate straight on the device in the dtype, and fill by copying from one block of normal numbers.

    The initialisers of torch and transformers would draw every number of every layer: minutes for billions.
    """
    import torch
    from transformers.initialization import no_init_weights

    config = architecture(model)
    with torch.device(device), no_init_weights():
        module = auto_class.from_config(config, dtype=dtype, attn_implementation=model.attention)
    module.tie_weights()
    if device.type != "meta":
        _fill(module, torch.Generator(device).manual_seed(model.seed), dtype)
    return module


def _fill(module: torch.nn.Module, generator: torch.Generator, dtype: torch.dtype) -> None:
    """Matrices and kernels get standard deviation 1/√fan-in, so that signals neither die out nor blow up; scales get 1
    and biases 0."""
    import torch

    block = torch.randn(1 << 22, generator=generator, device=generator.device, dtype=torch.float32).to(dtype)
    with torch.inference_mode():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            scaled = block * parameter[0].numel() ** -0.5
            for piece in parameter.view(-1).split(len(block)):
                piece.copy_(scaled[: len(piece)])


def _check_keys(wanted: Mapping[str, Any], default: Any, where: str) -> None:
    for key, value in wanted.items():
        if not hasattr(default, key):
            known = [name for name in vars(default) if not name.startswith("_")]
            raise ConfigError(f"there is no key '{where}.{key}'{nearest(key, known)}")
        inner = getattr(default, key)
        if isinstance(value, Mapping) and hasattr(inner, "to_dict"):
            _check_keys(value, inner, f"{where}.{key}")


def modules(model: ModelConfig) -> list[str]:
    """The transformers modules that hold this architecture, for a fork server to import beforehand."""
    kind = str(model.architecture.get("model_type", "")).replace("-", "_")
    package = f"transformers.models.{kind}"
    return [f"{package}.modeling_{kind}", f"{package}.processing_{kind}"] if kind else []


