"""The registered parts of one run, built from the names and options in its config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from visionbench.config import DataConfig, DeviceConfig, ExperimentConfig, build_part
from visionbench.core import Adapter, DataSet, Device, Metric
from visionbench.registry import ConfigError, find

ACCELERATORS = ("cuda",)
"""Device kinds that `auto` prefers to the CPU, best first."""


@dataclass(frozen=True)
class Parts:
    """The registered parts of one run, built from their options and holding nothing yet."""

    adapter: Adapter
    device: Device
    data: DataSet
    metrics: Mapping[str, Metric]


def build_parts(config: ExperimentConfig) -> Parts:
    """Names to parts; an unknown name or option raises ConfigError with the nearest."""
    return Parts(
        adapter=build_part("models", config.model.family, config.model.options, "model.options"),
        device=find_device(config.device),
        data=find_data(config.data),
        metrics={
            name: build_part("metrics", name, options or {}, f"metrics.{name}")
            for name, options in config.metrics.items()
        },
    )


def find_data(config: DataConfig) -> DataSet:
    """The data set with its options; those that are read from a folder take `data.root` as one more."""
    from_folder = "root" in find("data", config.name).__dataclass_fields__
    if config.root is not None and not from_folder:
        raise ConfigError(f"data.root={config.root}: data={config.name} is read from no folder", "leave it out")
    if config.root is None and from_folder:
        raise ConfigError("'data.root' has no value", "give it one, as in data.root=…")
    root = {"root": config.root} if from_folder else {}
    data: DataSet = build_part("data", config.name, {**config.options, **root}, "data.options")
    return data


def find_device(config: DeviceConfig) -> Device:
    """The device that the config means: `auto` is the first accelerator present, else the CPU.

    Raises ConfigError where the device is not on this machine.
    """
    if config.name == "auto":
        kinds: list[Device] = [find("devices", kind)(index=config.index) for kind in (*ACCELERATORS, "cpu")]
        return next(device for device in kinds if device.why_absent() is None)
    device: Device = find("devices", config.name)(index=config.index)
    if why := device.why_absent():
        raise ConfigError(f"device={config.name}, device.index={config.index}: {why}", "use device=auto or device=cpu")
    return device
