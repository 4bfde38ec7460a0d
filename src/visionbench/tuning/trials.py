"""The trials of a search: each configuration is an ordinary run, in a fresh process, in the folder of the search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from visionbench import session, weights, worker
from visionbench.config import ComposedRun, ExperimentConfig, MeasureConfig, Place, RuntimeConfig
from visionbench.core import (
    FAILED,
    INTERRUPTED,
    LOST,
    NOT_RUN,
    OK,
    PENDING,
    Case,
    CaseResult,
    ConfigError,
    Validity,
)
from visionbench.parts import find_adapter
from visionbench.records.folder import RunFolder
from visionbench.records.tuning import BASELINE, FINAL, HELD, QUALITY, SEARCH, Figure, Measurement, Quality, TrialRun
from visionbench.resolve import Resolver
from visionbench.results import paired
from visionbench.results.advice.candidates import Bounds, Estimate, gather, headline
from visionbench.results.archive import Run
from visionbench.session import Outcome, PreparedSweep, Role
from visionbench.tuning.objectives import Limits
from visionbench.tuning.search import Stop
from visionbench.tuning.space import BASELINE as BASELINE_OF_TUTORIAL
from visionbench.tuning.space import DEFAULTS, Combination
from visionbench.variation import Naming

KEYS = {
    "precision": "precision",
    "runtime": "runtime",
    "attention": "model.attention",
    "threads": "device.threads",
    "channels_last": "model.channels_last",
}
"""The key or the group of each part of a configuration."""
TIMED = ("latency", "throughput", "memory")
"""The metric groups that the search needs."""
PERCENTILE_CALLS = 100
"""The calls of a case at the bound of p95 for which the window of the search has time."""
UNMEASURED = (INTERRUPTED, NOT_RUN, LOST, PENDING)
"""The statuses of a batch size that an interrupted search has not measured."""
NO_IMAGE_DIFFERS = "no image has another result"
LEAST_CALLS = 72
"""The calls that an interval of p95 needs."""


@dataclass
class Trials:
    """Measures configurations as runs of one sweep."""

    folder: Path
    resolver: Resolver
    precisions: Mapping[str, ComposedRun]
    """A composed run for each precision, under the protocol of the search."""
    runtimes: Mapping[str, ComposedRun]
    """A composed run for each runtime."""
    final_measure: Mapping[str, Any]
    """The section `measure` of the finals."""
    quality_metrics: tuple[str, ...]
    """The quality metrics of the model and the data."""
    limits: Limits
    add_run: Callable[[TrialRun], None]
    """Receives each run before it is measured."""
    baseline: Combination = BASELINE_OF_TUTORIAL
    """The configuration whose quality is the reference."""
    runs: list[TrialRun] = field(default_factory=list)
    """The runs so far, those of earlier commands included."""
    outcome: Outcome = field(default_factory=Outcome)
    prepared: PreparedSweep | None = None

    # --------------------------------------------------------------------------------------------------- for the search
    def known(self, combination: Combination) -> list[Measurement]:
        """Return the sizes that runs of the search have measured, without those that were interrupted."""
        measured: dict[int, Measurement] = {}
        for trial in self.runs:
            if trial.purpose == SEARCH and trial.combination == combination.values:
                for one in self.read(trial):
                    if one.status not in UNMEASURED:
                        measured[one.batch_size] = one
        return list(measured.values())

    def measure(self, combination: Combination, sizes: Sequence[int], stop: Stop) -> None:
        """Measure these sizes in this order in one process, until `stop` returns a reason.

        A configuration that is refused before it is measured has failed. Raises ConfigError if it is the first one.
        """
        request = self.request(combination, sizes, TIMED, typed_changes=self._search_changes())
        trial = self._start(SEARCH, combination)

        def is_last(row: CaseResult) -> bool:
            return bool(stop(self.measurement(trial, row)))

        try:
            self._measure([request], [trial], is_last, sizes)
        except ConfigError as error:
            if self.prepared is None:
                raise
            stop(Measurement(sizes[0], FAILED, reason=str(error), run=trial.folder))

    def quality(self, combination: Combination) -> Quality:
        """Measure the quality of a configuration beside that of eager fp32, once for each precision and runtime."""
        return self.compare_quality(self._quality_run(combination), self._quality_run(self.baseline))

    def _quality_run(self, combination: Combination) -> Run:
        """Return a run with the quality of this precision and runtime, measured now if there is none."""
        for trial in self.runs:
            same = (trial.combination["precision"], trial.combination["runtime"]) == combination.pair
            run = self.run(trial) if trial.purpose == QUALITY and same else None
            if run is not None and run.quality is not None and run.quality.status == OK:
                return run
        request = self.request(combination, [1], self.quality_metrics)
        trial = self._start(QUALITY, combination)
        self._measure([request], [trial])
        return Run.read(RunFolder(self.folder / trial.folder))

    def compare_quality(self, run: Run, reference: Run) -> Quality:
        """Return the quality of a run as a ratio to that of the reference, with the interval over the same images."""
        shown, base = headline(run), headline(reference)
        if shown is None or base is None or shown[0].name != base[0].name or not base[1]:
            row = run.quality if shown is None else reference.quality
            reason = row.reason if row is not None and row.reason else "the quality was not measured"
            return self._judged(Quality("", None, None, reason=reason), True)
        name = shown[0].heading("en")
        compared = paired.differences([reference], [run], [shown[0].name])
        difference = compared.by_metric.get(shown[0].name)
        ratio = Figure(shown[1] / base[1])
        if difference is not None and not difference.differing:
            return self._judged(Quality(name, shown[1], ratio, reason=NO_IMAGE_DIFFERS), False)
        if difference is not None and difference.interval is not None:
            low, high = difference.interval
            ratio = Figure(ratio.value, (base[1] + low) / base[1], (base[1] + high) / base[1])
        return self._judged(Quality(name, shown[1], ratio), True)

    def _judged(self, quality: Quality, images_differ: bool) -> Quality:
        bound, reason = self.limits.judge_quality(quality, images_differ)
        return replace(quality, bound=bound, reason=reason or quality.reason)

    # --------------------------------------------------------------------------------------------------- for the finals
    def measure_finals(self, entries: Sequence[tuple[Combination, int]], repeats: int, seed: int) -> list[Run]:
        """Measure configurations with one batch size each in several processes in turns. The first is the baseline."""
        requests = [self.final_request(combination, size, repeats, seed) for combination, size in entries]
        trials = [
            self._start(FINAL if index else BASELINE, combination) for index, (combination, _) in enumerate(entries)
        ]
        self._measure(requests, trials)
        return [Run.read(RunFolder(self.folder / trial.folder)) for trial in trials]

    def final_request(self, combination: Combination, size: int, repeats: int, seed: int) -> ComposedRun:
        """Return the composed run of a configuration in the finals."""
        section = {**self.final_measure, "repeats": repeats, "order_seed": seed}
        changes = leaves("measure", section, MeasureConfig())
        return self.request(combination, [size], (*TIMED, "load", *self.quality_metrics), changes)

    # --------------------------------------------------------------------------------------------------------- requests
    def request(
        self,
        combination: Combination,
        sizes: Sequence[int],
        metrics: Sequence[str],
        changes: Mapping[str, Any] | None = None,
        typed_changes: Mapping[str, Any] | None = None,
    ) -> ComposedRun:
        """Return the composed run of a configuration with these batch sizes and metric groups.

        `typed_changes` are changes that the name of the protocol shows.
        """
        base = self.precisions[combination.precision]
        runtime = self.runtimes[combination.runtime]
        options = base.config.values.metrics
        section: Any = runtime.config.unresolved()["runtime"]
        values = {
            **leaves("runtime", section, RuntimeConfig()),
            "batch.sizes": sorted(sizes),
            "batch.auto": False,
            "metrics": {name: options.get(name) or {} for name in metrics},
            "model.attention": combination.attention if combination.attention != "null" else None,
            "device.threads": None if combination.threads == "null" else int(combination.threads),
            "model.channels_last": combination.channels_last == "true",
            **(changes or {}),
            **(typed_changes or {}),
        }
        typed = [text for text in base.overrides if text.partition("=")[0] not in (*KEYS.values(), "batch.sizes")]
        added = [f"{KEYS[name]}={value}" for name, value in combination.values.items()]
        texts = [f"{key}={value}" for key, value in (typed_changes or {}).items()]
        return replace(
            base,
            config=base.config.with_changes(values),
            overrides=(*typed, *added, f"batch.sizes=[{','.join(map(str, sorted(sizes)))}]", *texts),
        )

    def _search_changes(self) -> dict[str, Any]:
        """Return the changes of the search's protocol for a bound of p95: enough calls for an interval."""
        bound = self.limits.latency_p95_ms
        if bound is None:
            return {}
        measure = next(iter(self.precisions.values())).config.values.measure
        if measure.latency.calls is not None:
            return {}
        seconds = max(measure.latency.max_seconds, math.ceil(PERCENTILE_CALLS * bound / 1e3))
        return {
            "measure.latency.percentile": 0.95,
            "measure.latency.min_calls": max(LEAST_CALLS, measure.latency.min_calls),
            "measure.latency.max_seconds": seconds,
        }

    # -------------------------------------------------------------------------------------------------------- measuring
    def _start(self, purpose: str, combination: Combination) -> TrialRun:
        """Return the next run of the search."""
        name = f"{len(self.runs):03}_{combination.precision}_{combination.runtime}"
        trial = TrialRun(name if purpose == SEARCH else f"{name}_{purpose}", purpose, combination.values)
        self.runs.append(trial)
        self.add_run(trial)
        return trial

    def _measure(
        self,
        requests: Sequence[ComposedRun],
        trials: Sequence[TrialRun],
        is_last: Callable[[CaseResult], bool] = lambda row: False,
        order: Sequence[int] = (),
    ) -> None:
        """Prepare and measure runs. Raises ConfigError if they are refused, and OSError if they cannot be written.

        `order` is the order of the batch sizes.
        """
        sweep = self.folder.name
        placed = [
            replace(request, place=Place(self.folder / trial.folder, self.folder, sweep))
            for request, trial in zip(requests, trials, strict=True)
        ]
        if self.prepared is not None:
            self.prepared.progress.close()
        role = Role(namings=tuple(_naming(trial) for trial in trials))
        prepared = session.prepare(placed, self.resolver, self.prepared, role=role)
        ordered = [replace(run, plan=replace(run.plan, cases=_ordered(run.plan.cases, order))) for run in prepared.runs]
        self.prepared = replace(prepared, runs=tuple(ordered))
        self.outcome.planned += len(requests)
        for index, trial in enumerate(trials):
            session.measure(self.prepared, index, self.folder / trial.folder, sweep, self.outcome, is_last)
        if self.prepared.repeated:
            session.measure_repeats(self.prepared, self.outcome)
        if self.outcome.not_written:
            raise NotWritten

    # ---------------------------------------------------------------------------------------------------------- results
    def run(self, trial: TrialRun) -> Run | None:
        """Return the results of a run, or None if there are none."""
        path = self.folder / trial.folder
        if not (path / "results.jsonl").exists():
            return None
        with suppress(ConfigError):
            return Run.read(RunFolder(path))
        return None

    def read(self, trial: TrialRun) -> list[Measurement]:
        """Return the measurements of a run."""
        run = self.run(trial)
        return [] if run is None else [measurement(run, row, trial.folder) for row in run.timed]

    def measurement(self, trial: TrialRun, row: CaseResult) -> Measurement:
        """Return the measurement of a row that was just written."""
        run = self.run(trial)
        assert run is not None
        return measurement(run, row, trial.folder)


class NotWritten(Exception):
    """Results could not be written. The outcome of the session has the error."""


def leaves(prefix: str, section: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    """Return the values of a section by their dotted keys, because a section of the schema is set key by key."""
    values: dict[str, Any] = {}
    for key, value in section.items():
        inner = getattr(schema, key, None)
        if is_dataclass(inner) and isinstance(value, Mapping):
            values |= leaves(f"{prefix}.{key}", value, inner)
        else:
            values[f"{prefix}.{key}"] = value
    return values


def _ordered(cases: Sequence[Case], order: Sequence[int]) -> tuple[Case, ...]:
    """Return the cases in the order of these batch sizes, and then the others."""
    places = {size: index for index, size in enumerate(order)}
    return tuple(sorted(cases, key=lambda case: places.get(case.batch_size, len(places))))


def _naming(trial: TrialRun) -> Naming:
    """Return the naming of a run: precision, runtime, and the values that are not the default."""
    parts = {name: value for name, value in trial.combination.items() if DEFAULTS.get(name) != value}
    values = {"runtime.name" if name == "runtime" else KEYS[name]: value for name, value in parts.items()}
    del values["precision"]
    return Naming(values, ("precision",))


def measurement(run: Run, row: CaseResult, folder: str = "") -> Measurement:
    """Return the figures of one batch size with their intervals."""
    if row.status != OK:
        return Measurement(row.case.batch_size, row.status, reason=row.reason or "", run=folder)
    reasons = "; ".join(map(str, row.validity.reasons))
    gathered = gather([replace(run, results=[replace(row, validity=Validity())])], Bounds())  # also of invalid rows
    candidate = next(iter(gathered.candidates), None)
    if candidate is None:
        return Measurement(row.case.batch_size, OK, row.validity.verdict, reasons, run=folder)
    return Measurement(
        row.case.batch_size,
        OK,
        row.validity.verdict,
        reasons,
        figure(candidate.throughput),
        figure(candidate.p50),
        figure(candidate.p95),
        candidate.peak_mib,
        HELD,
        run=folder,
    )


def figure(estimate: Estimate | None) -> Figure | None:
    """Return an estimate as it is stored. An interval without an upper end is no interval."""
    if estimate is None:
        return None
    known = estimate.known and math.isfinite(estimate.ends[1])
    return Figure(estimate.value, *estimate.ends) if known else Figure(estimate.value)


def usable_attention(configs: Sequence[ExperimentConfig]) -> Any:
    """Yield the attention that a model has with each configuration, or the reason why it cannot have it.

    It runs in a process of `worker`, and builds the model with shapes only.
    """
    import torch

    for config in configs:
        try:
            loaded = find_adapter(config.model).load(
                config.model, torch.device("meta"), getattr(torch, config.precision.dtype)
            )
            yield True, str(loaded.identity.get("attention") or "none")
        except Exception as error:
            yield False, str(error)


def convolutions(configs: Sequence[ExperimentConfig]) -> Any:
    """Yield the number of convolutions of each model. It runs in a process of `worker`, as `usable_attention` does."""
    import torch

    for config in configs:
        loaded = find_adapter(config.model).load(config.model, torch.device("meta"), torch.float32)
        yield weights.count_convolutions(loaded.module)


def layout_choices(config: ExperimentConfig, log: Path) -> tuple[list[str], dict[str, str]]:
    """Return the values of model.channels_last that may differ for a model, and why the other one is left out."""
    session.start_fork_server([config])
    counts: list[int] = []
    with suppress(worker.WorkerDied, worker.WorkerFailed):
        counts = list(worker.stream(convolutions, [config], log=log))
    if counts and counts[0] > 1:
        return ["false", "true"], {}
    known = f"the model has {counts[0]} convolution{'s' * (counts[0] != 1)}" if counts else "the model was not built"
    return ["false"], {"channels_last true": known}


def attention_choices(
    config: ExperimentConfig, with_attention: Callable[[str], ExperimentConfig], names: Sequence[str], log: Path
) -> tuple[list[str], dict[str, str]]:
    """Return the values of model.attention that differ for a model, the default first, and why others are left out."""
    session.start_fork_server([config])
    answers: list[tuple[bool, str]] = []
    with suppress(worker.WorkerDied, worker.WorkerFailed):
        answers = list(worker.stream(usable_attention, [with_attention(name) for name in names], log=log))
    chosen: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name, (usable, text) in zip(names, answers, strict=False):
        if not usable:
            left_out[f"attention {name}"] = text
        elif text == "none":
            left_out[f"attention {name}"] = "the model has no attention layers"
        elif text in chosen.values():
            same = next(key for key in chosen if chosen[key] == text)
            left_out[f"attention {name}"] = f"{same} is {text} for this model"
        else:
            chosen[name] = text
    left_out.pop(f"attention {names[0]}", None)
    return list(chosen) or [names[0]], left_out
