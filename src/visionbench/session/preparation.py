"""Prepare all runs of a sweep: refuse, fetch, resolve, plan and check, before the first run is measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench import registry, variation, worker
from visionbench.config import ComposedRun, ExperimentConfig, MeasureConfig, from_yaml
from visionbench.core import ConfigError, RunPlan
from visionbench.parts import measured_elsewhere
from visionbench.plan import RANDOM_WEIGHTS
from visionbench.plan import plan as make_plan
from visionbench.report import translations
from visionbench.resolve import Resolver, check
from visionbench.session import sweep_file
from visionbench.session.continuation import assign, describe_assignments
from visionbench.session.tracker_queue import TrackerQueue, is_server
from visionbench.session.values import ALL, PreparedRun, PreparedSweep, Resumption, Role
from visionbench.terminal.console import screen
from visionbench.terminal.progress import SweepProgress

if TYPE_CHECKING:
    from rich.console import Console


def prepare(
    requests: Sequence[ComposedRun],
    resolver: Resolver,
    earlier: PreparedSweep | None = None,
    resumption: Resumption | None = None,
    role: Role = ALL,
) -> PreparedSweep:
    """Prepare all runs. Raises ConfigError if any run is wrong, before the first run is measured.

    The fork server imports torch while the tracker's store is opened. `earlier` is the previous batch of runs of this
    sweep, whose tracker is used again. `resumption` is the sweep that the command continues.
    """
    plans = [plan_request(request, resolver.config_dir) for request in requests]
    console = screen()
    if any(request.config.values.check for request in requests):
        _show_diagnosis(console)
    shown = {warning for run in (earlier.previous if earlier else ()) for warning in run.plan.warnings}
    runs = _named(_resolve_and_plan(requests, plans, resolver, console, shown), earlier, role)
    if role.measures:
        start_fork_server([run.config for run in runs])
    if resumption is not None:
        runs = assign(runs, resumption, earlier)
        for line in describe_assignments(runs, resumption):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    if earlier:
        queue = earlier.queue
    elif role.gathers or is_server(runs[0].config.tracking.uri):
        queue = TrackerQueue.open(runs[0].config)
    else:  # a single process writes to a file
        queue = TrackerQueue(None)
    runs = _add_model_warnings(runs, console, shown)
    sweep_file.write(runs, resumption)
    progress = SweepProgress(_steps(runs), console, bar=role.measures)
    previous = (*(earlier.previous if earlier else ()), *runs)
    return PreparedSweep(runs, console, progress, queue, previous, resumption, measured_elsewhere())


def resolve(request: ComposedRun, resolver: Resolver) -> PreparedRun:
    """Return a run that is resolved, planned and checked like those of a sweep, for a command that measures nothing.

    Raises ConfigError if the run is wrong.
    """
    plans = [plan_request(request, resolver.config_dir)]
    return _resolve_and_plan([request], plans, resolver, screen(), set())[0]


def start_fork_server(configs: Sequence[ExperimentConfig]) -> None:
    """Start the fork server with the modules that runs of these configurations import."""
    from visionbench import weights

    modules = dict.fromkeys(module for config in configs for module in weights.transformers_modules(config.model))
    worker.start_fork_server(
        ["torch", "transformers", *modules, *registry.modules("models", "devices", "data", "decoders", "metrics")]
    )


def _add_model_warnings(
    runs: Sequence[PreparedRun], console: Console, shown: Collection[str]
) -> tuple[PreparedRun, ...]:
    """Check the models of all runs, and return the runs with the warnings about them. Raises ConfigError.

    Warnings in `shown` are not printed again.
    """
    from visionbench import model_check

    warnings = model_check.check_models([run.config for run in runs])
    _warn(console, [warning for lines in warnings for warning in lines if warning not in shown])
    return tuple(
        replace(run, plan=replace(run.plan, warnings=(*run.plan.warnings, *lines)))
        for run, lines in zip(runs, warnings, strict=True)
    )


def plan_request(request: ComposedRun, config_dir: Path | None) -> RunPlan:
    """Plan a configuration that may leave values open. Raises ConfigError before anything is fetched."""
    config = request.config.values
    _refuse_keys_of_resuming(config)
    translations.check(config.report.language, "report.language")
    check(config, config_dir)
    return make_plan(config, request.overrides)


def _refuse_keys_of_resuming(config: ExperimentConfig) -> None:
    """Refuse keys in a configuration file that only the command line can set."""
    defaults = ExperimentConfig()
    for key in ("resume", "retry", "on_change"):
        value = getattr(config, key)
        if value != getattr(defaults, key):
            raise ConfigError(f"{key}={value}: set in a configuration file", "give it on the command line")


def _show_diagnosis(console: Console) -> None:
    from visionbench.diagnosis import examine
    from visionbench.terminal.diagnosis_view import show_summary

    show_summary(examine(), console)


def _resolve_and_plan(
    requests: Sequence[ComposedRun],
    plans: Sequence[RunPlan],
    resolver: Resolver,
    console: Console,
    shown: Collection[str],
) -> tuple[PreparedRun, ...]:
    """Fetch data and checkpoints, replace open values, and check the data. Raises ConfigError.

    A run is planned again only if a value was open, or if the data lack annotations that their class declares.
    Warnings in `shown` are not printed again.
    """
    from visionbench import data_check, model_check, weights

    resolutions = [resolver.resolve(request.config.values) for request in requests]
    configs = [
        request.config.with_changes(resolution.changes)
        for request, resolution in zip(requests, resolutions, strict=True)
    ]
    notes = [(*request.notes, *resolution.notes) for request, resolution in zip(requests, resolutions, strict=True)]
    _warn(console, [note for lines in notes for note in lines if note not in shown])
    for config in configs:
        weights.ensure_checkpoint(config.values.model)
    model_check.check_families([config.values for config in configs])
    unavailable = data_check.unavailable_annotations([config.values for config in configs])
    final = []
    for index, config in enumerate(configs):
        plan = plans[index]
        if resolutions[index].changes or unavailable[index]:
            try:
                plan = make_plan(config.values, requests[index].overrides, unavailable[index])
            except ConfigError as error:
                raise ConfigError("; ".join([str(error), *resolutions[index].notes])) from None
        _warn(console, _dropped_metrics(plans[index], plan))
        warnings = (*notes[index], *plan.warnings)
        final.append(replace(plan, warnings=warnings, experiment=requests[index].experiment))
    shown = {*shown, *(note for lines in notes for note in lines)}
    _warn(console, [warning for plan in final for warning in plan.warnings if warning not in shown])
    left_out = data_check.unusable_examples([(c.values, plan) for c, plan in zip(configs, final, strict=True)])
    return tuple(
        PreparedRun(config.values, config.to_yaml(), plan, ids, request)
        for config, plan, ids, request in zip(configs, final, left_out, requests, strict=True)
    )


def _named(runs: tuple[PreparedRun, ...], earlier: PreparedSweep | None, role: Role) -> tuple[PreparedRun, ...]:
    """Return the runs with names that show what differs between the runs of the sweep so far."""
    namings = role.namings if role.naming is None else (role.naming,) * len(runs)
    if namings:
        named = [naming.apply(run.plan) for naming, run in zip(namings, runs, strict=True)]
        plans = [replace(plan, beside=role.beside) for plan in named]
        return tuple(replace(run, plan=plan) for run, plan in zip(runs, plans, strict=True))
    known = [*(earlier.previous if earlier else ()), *runs]
    plans = variation.named([run.plan for run in known], [_values_to_name(run) for run in known])
    return tuple(replace(run, plan=plan) for run, plan in zip(runs, plans[-len(runs) :], strict=True))


def _values_to_name(run: PreparedRun) -> Any:
    """Return the configuration of a run, with references to the environment as they are saved, without their values."""

    def hide(value: Any, saved: Any) -> Any:
        if isinstance(value, dict) and isinstance(saved, dict):
            return {key: hide(inner, saved.get(key)) for key, inner in value.items()}
        return saved if isinstance(saved, str) and "${" in saved else value

    return hide(asdict(run.config), from_yaml(run.yaml))


def _dropped_metrics(first: RunPlan, final: RunPlan) -> list[str]:
    """Return a warning for each metric group that the data or the checkpoint prevents, except for random weights."""
    return [
        f"{final.model}: no {name}, because {reason}"
        for name, reason in final.refused.items()
        if name not in first.refused and reason != RANDOM_WEIGHTS
    ]


def _warn(console: Console, notes: Sequence[str]) -> None:
    for note in dict.fromkeys(notes):
        console.print(f"! {note}", style="yellow", soft_wrap=True, highlight=False, markup=False)


def _steps(runs: Sequence[PreparedRun]) -> list[tuple[RunPlan, MeasureConfig]]:
    """Return the plans in the order of measuring: every run, or every repeat of every run in turns."""
    from visionbench.results import repeats

    counts = [run.config.measure.repeats for run in runs]
    turns = [(1, index) for index in range(len(runs))]
    if max(counts) > 1:
        turns = repeats.order(counts, runs[0].config.measure.order_seed)
    steps = [(runs[index].session_plan(repeat), runs[index].config.measure) for repeat, index in turns]
    return [(plan, measure) for plan, measure in steps if plan.cases]
