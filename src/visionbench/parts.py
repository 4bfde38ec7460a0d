"""Build the registered parts of a run from the names and options in its config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from visionbench.config import (
    DataConfig,
    DeviceConfig,
    ExperimentConfig,
    ModelConfig,
    RuntimeConfig,
    build_metric,
    build_part,
    option_fields,
)
from visionbench.core import (
    Adapter,
    ConfigError,
    Connects,
    DataSet,
    Decoder,
    DependsOnPredictions,
    Device,
    Metric,
    Precision,
    Quantizes,
    Runtime,
)
from visionbench.registry import find
from visionbench.variation import PILLOW, text
from visionbench.weights import QUANTIZATIONS

ACCELERATORS = ("cuda",)
"""Device kinds that `device=auto` prefers to the CPU, best first."""


_elsewhere: ContextVar[bool] = ContextVar("elsewhere", default=False)


@contextmanager
def devices_of_other_machines() -> Iterator[None]:
    """Assume within the context that every device exists, because other machines measure the runs."""
    token = _elsewhere.set(True)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def measured_elsewhere() -> bool:
    """Return whether this code runs within `devices_of_other_machines`."""
    return _elsewhere.get()


@dataclass(frozen=True)
class Parts:
    """The registered parts of one run, with their options. They have loaded nothing yet."""

    adapter: Adapter
    device: Device
    data: DataSet
    metrics: Mapping[str, Metric]
    runtime: Runtime = field(default_factory=lambda: find_runtime(RuntimeConfig()))
    decoder: Decoder = field(default_factory=lambda: find_decoder(PILLOW))


def build_parts(config: ExperimentConfig) -> Parts:
    """Build the parts by their names. Raises ConfigError with the nearest match if a name or an option is unknown."""
    adapter, data = find_adapter(config.model), find_data(config.data)
    if isinstance(data, DependsOnPredictions):
        data = data.for_predictions(adapter.predicts)
    return Parts(
        adapter=adapter,
        device=device_of(config),
        data=data,
        metrics={name: build_metric(name, options) for name, options in config.metrics.items()},
        runtime=find_runtime(config.runtime),
        decoder=find_decoder(config.data.decoder),
    )


def is_remote(model: ModelConfig) -> bool:
    """Return whether a model is at an endpoint, so that nothing of it is on this machine."""
    return issubclass(find("models", model.family), Connects)


def device_of(config: ExperimentConfig) -> Device:
    """Return the device of a run. For a model at an endpoint, it is the CPU of this machine, which sends the requests.

    Raises ConfigError as `find_device` does.
    """
    if is_remote(config.model):
        client: Device = find("devices", "cpu")(index=0)
        return client
    return find_device(config.device)


def find_runtime(config: RuntimeConfig) -> Runtime:
    """Return the runtime with its options. Raises ConfigError if it has no such option."""
    keys = {name: getattr(config, name) for name in ("mode", "dynamic", "fullgraph")}
    given = {name: value for name, value in keys.items() if value is not None}
    known = option_fields(find("runtimes", config.name))
    if unknown := next((name for name in given if name not in known), None):
        raise ConfigError(
            f"runtime.{unknown}={text(given[unknown])}: runtime={config.name} does not use it", "remove it"
        )
    runtime: Runtime = build_part("runtimes", config.name, {**config.options, **given}, "runtime.options")
    return runtime


def quantizations(runtime: Runtime) -> tuple[str, ...]:
    """Return the methods by which a runtime can be quantised: its own, or else those of torchao."""
    return runtime.quantizations if isinstance(runtime, Quantizes) else tuple(QUANTIZATIONS)


def torchao_method(runtime: Runtime, precision: Precision) -> str | None:
    """Return the method by which torchao quantises the loaded model, or None if torchao does not quantise it."""
    return None if isinstance(runtime, Quantizes) else precision.quantization


def find_decoder(name: str) -> Decoder:
    """Return the decoder with this name."""
    decoder: Decoder = build_part("decoders", name, {}, "data.decoder")
    return decoder


def find_adapter(model: ModelConfig) -> Adapter:
    """Return the model's family with its options. A family of a user need not have the option `image_size`."""
    options = dict(model.options)
    if options.get("image_size", 0) is None and "image_size" not in option_fields(find("models", model.family)):
        del options["image_size"]
    adapter: Adapter = build_part("models", model.family, options, "model.options")
    return adapter


def find_data(config: DataConfig) -> DataSet:
    """Return the data set with its options, and with `data.root` if it is read from a folder."""
    reads_folder = "root" in find("data", config.name).__dataclass_fields__
    if config.root is not None and not reads_folder:
        raise ConfigError(f"data.root={config.root}: data={config.name} does not use data.root", "remove it")
    if config.root is None and reads_folder:
        raise ConfigError("'data.root' has no value", "give it one, as in data.root=…")
    root = {"root": config.root} if reads_folder else {}
    data: DataSet = build_part("data", config.name, {**config.options, **root}, "data.options")
    return data


def find_device(config: DeviceConfig) -> Device:
    """Return the configured device. `auto` is the first accelerator that can be used, or the CPU if there is none.

    Raises ConfigError if this machine does not have the device, except within `devices_of_other_machines`.
    """
    elsewhere = _elsewhere.get()
    if config.name == "auto":
        candidates: list[Device] = [*accelerators(config.index), find("devices", "cpu")(index=config.index)]
        return next(device for device in candidates if elsewhere or device.why_absent() is None)
    device: Device = find("devices", config.name)(index=config.index)
    if not elsewhere and (reason := device.why_absent()):
        raise ConfigError(
            f"device={config.name}, device.index={config.index}: {reason}", "use device=auto or device=cpu"
        )
    return device


def accelerators(index: int) -> list[Device]:
    """Return the device with this index of each accelerator kind, best kind first. It may be absent."""
    return [find("devices", kind)(index=index) for kind in ACCELERATORS]
