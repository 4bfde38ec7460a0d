"""`visionbench run --dry-run`: print the runs, their cases and the expected time, and measure nothing.

Nothing is fetched, and no file is written. Values that only a fetch can resolve stay open, with a note.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from visionbench import data_check, model_check, registry, variation, weights, worker
from visionbench.config import ComposedConfig, ComposedRun, from_yaml
from visionbench.core import Connects
from visionbench.data_check import is_archive
from visionbench.parts import find_adapter, find_data
from visionbench.plan import plan as make_plan
from visionbench.records.identity import Identity
from visionbench.resolve import Resolver
from visionbench.results.durations import Durations
from visionbench.session import PreparedRun, Resumption, assign, describe_assignments, plan_request
from visionbench.terminal import plan_view
from visionbench.terminal.console import screen
from visionbench.terminal.plan_view import PlannedCase, ShownRun
from visionbench.terminal.progress import steps


def show(requests: Sequence[ComposedRun], resolver: Resolver, resumption: Resumption | None = None) -> None:
    """Print the plan of a command. Raises ConfigError as the command itself would before it fetches anything."""
    notes: dict[str, None] = {}
    runs = [_plan(request, resolver, notes) for request in requests]
    plans = variation.named([run.plan for run in runs], [asdict(run.config) for run in runs])
    prepared = tuple(replace(run, plan=plan) for run, plan in zip(runs, plans, strict=True))
    lines: list[str] = []
    if resumption is not None:
        worker.start_fork_server(["torch", *registry.modules("models", "devices", "data", "decoders", "metrics")])
        prepared = assign(prepared, resumption)
        lines = describe_assignments(prepared, resumption)
    output_dir = Path(prepared[0].config.output_dir)
    durations = Durations.read(output_dir, platform.node())
    lines += [note for run in prepared if (note := _expense(run))]
    plan_view.show([_shown(run, durations) for run in prepared], [*notes, *lines], screen())


def _plan(request: ComposedRun, resolver: Resolver, notes: dict[str, None]) -> PreparedRun:
    """Plan a run with the values that are known without a fetch."""
    plan = plan_request(request, resolver.config_dir)
    config = _resolved(request.config, resolver, notes)
    values = config.values
    if values.model.weights != "random" and weights.local_folder(values.model) is not None:
        weights.ensure_checkpoint(values.model)
    model_check.check_families([values])
    data_is_present = values.data.root is None or Path(values.data.root).expanduser().is_dir()
    unavailable = data_check.unavailable_annotations([values], may_write=False)[0] if data_is_present else {}
    if config is not request.config or unavailable:
        plan = make_plan(values, request.overrides, unavailable)
    plan = replace(plan, warnings=(*request.notes, *plan.warnings), experiment=request.experiment)
    left_out: dict[str, str] = {}
    if data_is_present and is_archive(find_data(values.data)):
        notes[f"data={values.data.name}: its images are extracted and checked when the command runs"] = None
    elif values.data.root is not None and (data_is_present or values.data.prepare is None):
        left_out = data_check.unusable_examples([(values, plan)])[0]
    warnings = (*plan.warnings, *model_check.connection_warnings(values))
    notes.update(dict.fromkeys(f"! {warning}" for warning in warnings))
    return PreparedRun(values, config.to_yaml(), plan, left_out, request)


def _expense(run: PreparedRun) -> str:
    """Return the number of requests of a run to an endpoint, and their cost at most; empty for other runs."""
    from visionbench.remote_measuring import planned_requests

    config, adapter = run.config, find_adapter(run.config.model)
    if not isinstance(adapter, Connects):
        return ""
    repeats = config.measure.repeats
    images = _count_images(run)
    plans = [run.session_plan(number) for number in range(1, repeats + 1)]
    count = sum(planned_requests(config, plan, images or 0) for plan in plans)
    passes = sum(case.is_quality for plan in plans for case in plan.cases)
    further = f" and one for each image and each of {passes} passes" if images is None and passes else ""
    limit = config.remote.max_requests
    text = f"{run.plan.name}: {count:,} requests{further}, without those that are sent again"
    if limit is not None and count > limit:
        text += f"; remote.max_requests={limit:,} ends the run before"
    prices, most_tokens = adapter.request_limits(config.model)
    if prices is not None and most_tokens is not None and not further:
        most = count * prices.cost(prices.most_input_tokens, most_tokens)
        text += (
            f"; at most {most:,.2f} {prices.currency}, if a request has {prices.most_input_tokens:,} tokens and an "
            f"answer {most_tokens:,}"
        )
        if config.remote.max_cost is not None and most > config.remote.max_cost:
            text += f"; remote.max_cost={config.remote.max_cost:g} may end the run before"
    elif prices is None:
        text += "; the cost is not known without model.options.prices"
    return text


def _count_images(run: PreparedRun) -> int | None:
    """Return the number of images of a data set, or None if it is only known after files are written."""
    data = find_data(run.config.data)
    samples = getattr(data, "samples", None)
    if run.config.data.root is None:
        return samples if isinstance(samples, int) else None
    if is_archive(data) or not Path(run.config.data.root).expanduser().is_dir():
        return None
    return len(data.examples()) - len(run.left_out)


def _resolved(config: ComposedConfig, resolver: Resolver, notes: dict[str, None]) -> ComposedConfig:
    """Return the configuration with the values that can be resolved without a fetch, and note the others."""
    model, data = config.values.model, config.values.data
    if model.weights != "random" and weights.has_files(model) and weights.find_checkpoint(model) is None:
        if model.weights == "auto":
            notes["model.weights=auto: decided when the command runs, because it may download the checkpoint"] = None
            return config
        if weights.local_folder(model) is None:
            notes[f"{model.checkpoint} is downloaded first"] = None
    if data.prepare is not None and data.root is not None and not Path(data.root).expanduser().is_dir():
        notes[f"data={data.name}: {data.prepare} images are downloaded first"] = None
        return config
    resolution = resolver.resolve(config.values)
    notes.update(dict.fromkeys(f"! {note}" for note in resolution.notes))
    return config.with_changes(resolution.changes)


def _shown(run: PreparedRun, durations: Durations) -> ShownRun:
    """Return a run with the expected time of each of its cases."""
    known = Identity.of_config(from_yaml(run.yaml), run.plan)
    least = _least_seconds(run)
    assignment = run.assignment
    cases: list[PlannedCase] = []
    start, start_known = 0.0, True
    for number in range(1, run.config.measure.repeats + 1):
        session = run.session_plan(number)
        if session.cases:
            measured = durations.of_start(known)
            start += least[""] if measured is None else measured
            start_known &= measured is not None
        for case in session.cases:
            earlier = durations.of_case(known, case)
            seconds = least[case.id] if earlier is None else earlier
            reason = assignment.needed[number, case.id] if assignment else ""
            cases.append(PlannedCase(case.id, number, seconds, earlier is not None, reason))
    skipped = {**(assignment.kept if assignment else {}), **run.plan.refused}
    return ShownRun(run.plan.name, tuple(cases), skipped, start, start_known, run.config.measure.repeats)


def _least_seconds(run: PreparedRun) -> dict[str, float]:
    """Return the least seconds of each case by the protocol, and of the time before the first case."""
    seconds: dict[str, float] = {"": 0.0, **{case.id: 0.0 for case in run.plan.cases}}
    for _, case, expected in steps(run.plan, run.config.measure):
        seconds[case] += expected
    return seconds
