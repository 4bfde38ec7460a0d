"""`visionbench serve`: an OpenAI-compatible HTTP server over a local model, by default for this machine only."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from visionbench import measuring, session
from visionbench.composition import compose_runs
from visionbench.config import ExperimentConfig
from visionbench.core import ConfigError, VisionbenchError, first_line
from visionbench.machine import usable_cores
from visionbench.measuring import LoadedRun
from visionbench.model_check import build_shapes
from visionbench.parts import find_adapter, find_device, is_remote
from visionbench.resolve import Resolver
from visionbench.server.app import Service, build_app
from visionbench.server.engine import MOST_PIXELS, SERVED, Engine, build_engine
from visionbench.server.gate import Limits
from visionbench.server.listening import bind, is_loopback, listen, make_server, url
from visionbench.server.reading import ChatRequest
from visionbench.server.timings import Timings
from visionbench.serving.batching import Batcher, BatchRule
from visionbench.session import PreparedRun
from visionbench.terminal.console import screen

SECTIONS = ("model", "precision", "device", "runtime", "data", "serving")
"""The sections of the configuration that a server uses."""
SERVING_KEYS = ("serving.max_batch", "serving.max_wait_ms")
MOST_WORKERS = 4
SWITCH_SECONDS = 0.0005
"""The time after which a thread that waits for the interpreter gets it: Python's 5 ms delay the tokens of a stream."""


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    host: str = "127.0.0.1"
    port: int = 8000
    key_env: str | None = None
    allow_hosts: tuple[str, ...] = ()
    max_body_mib: float = 20.0
    max_requests: int = 64
    timeout_seconds: float = 60.0


def run(overrides: Sequence[str], config_dir: Path | None, options: Options) -> int:
    """Serve until a signal ends the command. Raises ConfigError for bad input."""
    check_overrides(overrides)
    key = read_key(options.key_env)
    composed = compose_runs(overrides, config_dir)
    if len(composed) != 1:
        raise ConfigError(f"serve: the command has {len(composed)} runs", "give one value of each key")
    check_family(composed[0].config.values)
    prepared = session.resolve(composed[0], Resolver(config_dir))
    with bind(options.host, options.port) as bound:
        console = screen(highlight=False)
        console.print(f"loading {prepared.config.model.name} …", style="dim")
        service = build_service(prepared, limits(options, bound, key))
        try:
            server = make_server(build_app(service), options.timeout_seconds)
            listen(bound)
            sys.setswitchinterval(SWITCH_SECONDS)
            for line in describe(service, prepared.config, bound, options):
                console.print(line, soft_wrap=True, highlight=False, markup=False)
            sys.stdout.flush()
            server.run(sockets=[bound])  # after Ctrl-C or SIGTERM, it raises the signal again
        finally:
            service.close()
    return 0


# --------------------------------------------------------------------------------------------------------------- checks
def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError for keys that only a measurement uses."""
    for text in overrides:
        key = text.lstrip("+~").partition("=")[0]
        section = key.partition(".")[0].partition("@")[0]
        if "=" in text and section not in SECTIONS:
            raise ConfigError(
                f"{text}: visionbench serve measures nothing, and does not use {section}",
                f"remove it; the keys begin with {', '.join(SECTIONS)}",
            )
        if section == "serving" and key not in SERVING_KEYS:
            raise ConfigError(f"{text}: visionbench serve does not use {key}", f"use {' or '.join(SERVING_KEYS)}")


def check_family(config: ExperimentConfig) -> None:
    """Raise ConfigError for a model whose answers are neither texts nor classes, before anything is fetched."""
    if is_remote(config.model):
        raise ConfigError(
            f"serve: model {config.model.name} is at an endpoint already",
            "choose a model of this machine, or measure it",
        )
    adapter = find_adapter(config.model)
    if not SERVED & adapter.predicts:
        raise ConfigError(
            f"serve: model {config.model.name} is for {adapter.task}, and its output is neither a text nor a class",
            "choose a captioner, a vision-language model, a classifier or a dual encoder",
        )


def read_key(name: str | None) -> bytes | None:
    """Return the key in an environment variable. Raises ConfigError if it is empty or not set."""
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"--key-env {name}: this environment variable is empty or not set", f"export {name}=…")
    return key.encode()


def limits(options: Options, bound: socket.socket, key: bytes | None) -> Limits:
    """Return what the server accepts."""
    loopback = is_loopback(bound.getsockname()[0])
    hosts = {name.lower() for name in options.allow_hosts}
    return Limits(
        body_bytes=int(options.max_body_mib * 2**20),
        requests=options.max_requests,
        seconds=options.timeout_seconds,
        key=key,
        hosts=frozenset(hosts if loopback else {*hosts, options.host.lower()}),
        any_address=not loopback,
    )


# -------------------------------------------------------------------------------------------------------------- loading
def build_service(prepared: PreparedRun, limits: Limits) -> Service:
    """Load the model as a run does, call it once with each size that needs it, and return the service."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("visionbench.server").addHandler(logging.StreamHandler())
    config = prepared.config
    loaded = load(prepared)
    timings = Timings()
    engine = build_engine(loaded, timings)
    rule = BatchRule(config.serving.max_batch, config.serving.max_wait_ms / 1000)
    workers = min(usable_cores(), MOST_WORKERS)
    service = Service(
        config.model.name,
        {**facts(config, prepared), "max_batch": rule.max_batch, "max_wait_ms": config.serving.max_wait_ms},
        engine,
        Batcher(engine.call, rule),
        ThreadPoolExecutor(workers, "read"),
        limits,
    )
    try:
        warm_up(
            service, range(1, rule.max_batch + 1) if loaded.parts.runtime.compiles_each_size else (1, rule.max_batch)
        )
    except BaseException:
        service.close()
        raise
    timings.reset()
    return service


def load(prepared: PreparedRun) -> LoadedRun:
    """Load the model of a run. Raises ConfigError if it cannot be loaded, does not fit, or its outputs are wrong."""
    device = find_device(prepared.config.device)
    next(build_shapes([prepared.config]))
    try:
        return measuring.load_to_serve(prepared.config, prepared.plan, prepared.left_out)
    except VisionbenchError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"serve: model {prepared.config.model.name}: {error.problem}", error.remedy) from error
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        problem = f"serve: model {prepared.config.model.name}: out of memory while loading ({first_line(error)})"
        raise ConfigError(problem, "use a smaller model, or half precision") from error


def warm_up(service: Service, sizes: Sequence[int]) -> None:
    """Call the model once with each of these batch sizes, in the thread that calls it later."""
    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (64, 64), "gray").save(file, "PNG")
    for size in sizes:
        job = service.engine.prepare(ChatRequest(file.getvalue(), "image", ""))
        job.copies = size
        service.batcher.submit(job).result()


def facts(config: ExperimentConfig, prepared: PreparedRun) -> dict[str, object]:
    """Return what the server shows of its model."""
    return {
        "task": prepared.plan.task,
        "weights": config.model.weights,
        "checkpoint": config.model.checkpoint,
        "revision": config.model.revision,
        "device": prepared.plan.device,
        "precision": prepared.plan.precision,
        "runtime": prepared.plan.runtime,
    }


# --------------------------------------------------------------------------------------------------------------- output
def describe(service: Service, config: ExperimentConfig, bound: socket.socket, options: Options) -> list[str]:
    """Return the lines that the command prints when the server is ready."""
    values = service.facts
    wait = f"after at most {config.serving.max_wait_ms:g} ms"
    parts = (values["task"], values["precision"], values["runtime"], values["device"])
    lines = {
        "serving": f"{service.model}: {', '.join(map(str, parts))}",
        "batches": f"at most {values['max_batch']} requests, {wait}",
        "text": text_line(service.engine, config),
        "limits": f"{options.max_body_mib:g} MiB and {MOST_PIXELS:,} pixels per request, {options.max_requests} "
        f"requests at once, {options.timeout_seconds:g} s",
        "address": url(bound, options.host),
    }
    notes = []
    if not is_loopback(bound.getsockname()[0]):
        key = "" if service.limits.key else ", without a key; --key-env NAME requires one"
        notes.append(f"! --host {options.host}: other machines can use this server{key}")
    if config.model.weights == "random":
        notes.append("! random weights: the answers are no descriptions of the images")
    return [*notes, *(f"{name:<10}{value}" for name, value in lines.items()), "Ctrl-C ends it"]


def text_line(engine: Engine, config: ExperimentConfig) -> str:
    """Return what the server does with the text of a request."""
    if engine.reads_prompts:
        return "the text of a request is the prompt"
    if "caption" in find_adapter(config.model).predicts:
        return "not read: a captioner has no prompt of a user; the answer is a caption"
    return "not read: the answer is the name of the best class"
