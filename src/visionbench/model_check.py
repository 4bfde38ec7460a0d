"""Check the models of all runs of a sweep before the first run is measured.

A process builds each model with shapes only, by the same code that loads it for a measurement. So a checkpoint of
another kind of model, missing weights, an attention implementation that the model does not support, and an image size
that it cannot have are errors within seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from visionbench import weights, worker
from visionbench.config import ExperimentConfig, to_yaml
from visionbench.core import ConfigError, Connects, LoadedModel, first_line
from visionbench.parts import find_adapter, find_device, is_remote, measured_elsewhere

FLASH = "flash_attention_2"
IMAGE_INPUTS = {"pixel_values", "pixel_mask"}
"""The inputs of models that only read images."""
SIDE = 64
"""The side in pixels of an image that checks a call. The model's processor resizes it."""


@dataclass(frozen=True)
class CheckedModel:
    """A model that can be built, with the warnings about it."""

    warnings: tuple[str, ...] = ()


def check_families(configs: Sequence[ExperimentConfig]) -> None:
    """Raise ConfigError if a family does not read the kind of model in its checkpoint. Only config files are read."""
    for config in configs:
        model = config.model
        if is_remote(model):
            _check_connection(config)
            continue
        if model.weights != "random" and (folder := weights.find_checkpoint(model)) is not None:
            weights.check_family(model, folder)
        if model.attention == FLASH:
            _check_flash(config)


def check_models(configs: Sequence[ExperimentConfig]) -> list[tuple[str, ...]]:
    """Return the warnings about the model of each run. Raises ConfigError if a model cannot be built.

    Other errors are left to the measuring process, whose log has the traceback.
    """
    distinct = {_key(config): config for config in configs if not is_remote(config.model)}
    checked = [CheckedModel()] * len(distinct)
    with suppress(worker.WorkerDied, worker.WorkerFailed):
        if distinct:
            checked = list(worker.stream(build_shapes, list(distinct.values()), log=Path(os.devnull)))
    warnings = dict(zip(distinct, [model.warnings for model in checked], strict=True))
    return [connection_warnings(config) if is_remote(config.model) else warnings[_key(config)] for config in configs]


def build_shapes(configs: Sequence[ExperimentConfig]) -> Iterator[CheckedModel]:
    """Build the model of each run with shapes only. Raises ConfigError if that is not possible."""
    import torch

    for config in configs:
        adapter = find_adapter(config.model)
        warnings: list[str] = []
        if hasattr(adapter, "auto_class"):
            try:
                loaded = adapter.load(config.model, torch.device("meta"), getattr(torch, config.precision.dtype))
                size = config.model.options.get("image_size")
                if size is not None or not weights.known_models(config.model.family):
                    _check_call(loaded, size)
                if size is not None:
                    border = weights.describe_border(loaded.module.config, size)
                    warnings += [border] if border else []
            except ConfigError:
                raise
            except Exception:  # the measuring process reports it with its traceback
                pass
        yield CheckedModel(tuple(warnings))


def _check_connection(config: ExperimentConfig) -> None:
    """Raise ConfigError if no request can be sent to the endpoint of a model: a package, the address or the key."""
    adapter = find_adapter(config.model)
    assert isinstance(adapter, Connects)
    if not measured_elsewhere() and (reason := adapter.why_unavailable(config.model, config.remote)):
        raise ConfigError(f"model {config.model.name}: {reason}")


def connection_warnings(config: ExperimentConfig) -> tuple[str, ...]:
    """Return the warnings about the connection to the endpoint of a model; nothing for another model."""
    adapter = find_adapter(config.model)
    if not isinstance(adapter, Connects):
        return ()
    return () if measured_elsewhere() else tuple(adapter.connection_warnings(config.model, config.remote))


def call_with_shapes(loaded: LoadedModel, side: int = SIDE) -> None:
    """Call a model on the meta device with a square image, if images are its only input. Raises the model's error.

    An operation that needs values, and so cannot run on the meta device, is no error.
    """
    import torch
    from PIL import Image

    inputs = loaded.preprocess([Image.new("RGB", (side, side))], [""])
    if not IMAGE_INPUTS.issuperset(inputs):
        return
    on_meta = {
        name: tensor.to("meta", loaded.dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in inputs.items()
    }
    try:
        with torch.inference_mode():
            loaded.probe_outputs(on_meta)
    except (RuntimeError, ValueError) as error:
        if "meta" not in str(error):
            raise


def _check_call(loaded: LoadedModel, size: int | None) -> None:
    """Raise ConfigError if the model cannot process images of this size. None is the model's own size.

    An error at the model's own size is left to the measuring process, unless an option is its reason.
    """
    try:
        call_with_shapes(loaded, size or SIDE)
    except (RuntimeError, ValueError) as error:
        if size is not None:
            raise ConfigError(
                f"model.options.image_size={size}: {type(loaded.module).__name__} cannot process images of this size "
                f"({first_line(error)})",
                "give another size",
            ) from None


def _key(config: ExperimentConfig) -> str:
    """Return what the shapes of a model depend on. The seed of random weights changes values only."""
    return f"{to_yaml(replace(config.model, seed=0))}{config.precision.dtype}"


def _check_flash(config: ExperimentConfig) -> None:
    """Raise ConfigError if FlashAttention 2 cannot be used on the device or in the precision."""
    device = find_device(config.device)
    if device.kind == "cpu" or config.precision.dtype == "float32":
        reason = (
            "needs a GPU" if device.kind == "cpu" else f"needs half precision, not precision={config.precision.name}"
        )
        raise ConfigError(
            f"model.attention={FLASH}: it {reason}", "use model.attention=auto, or precision=bf16 on a GPU"
        )
