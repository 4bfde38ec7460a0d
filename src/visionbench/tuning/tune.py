"""The sequence of `visionbench tune`: the space, the search, the finals, and the result in the folder of the search."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from visionbench import session
from visionbench.config import ComposedRun, ExperimentConfig
from visionbench.core import ConfigError
from visionbench.engines.cores import physical_cores
from visionbench.machine import usable_cores
from visionbench.parts import find_device
from visionbench.records import clock
from visionbench.records.tuning import FINISHED, QUALITY, SEARCH, SEARCHING, TrialRun, Tried, TuneRecord
from visionbench.registry import find
from visionbench.resolve import Resolver
from visionbench.resume.conditions import PresentConditions
from visionbench.resume.earlier import EarlierRun
from visionbench.tuning import best, finals
from visionbench.tuning.objectives import Limits, Objective
from visionbench.tuning.proposals import FILE as STUDY
from visionbench.tuning.proposals import Proposals
from visionbench.tuning.request import Request
from visionbench.tuning.search import Search
from visionbench.tuning.space import BASELINE, BASELINE_BATCH, DEFAULTS, Combination, Space, build, thread_counts
from visionbench.tuning.trials import TIMED, Trials, attention_choices, layout_choices

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""The batch sizes of a search for throughput."""
ATTENTION = ("auto", "sdpa", "eager", "flash_attention_2")
SHARE = 3
"""By default, a search measures at most the space divided by this number."""
FEWEST = 3
"""The trials for each precision and runtime that a search may measure although they are more than this share."""
LOCK = ".tune.lock"


@dataclass(frozen=True)
class Composed:
    """The configurations of a command as Hydra composed them."""

    base: ComposedRun
    """The run under the protocol of the finals, with the default precision and runtime."""
    precisions: Mapping[str, ComposedRun]
    """A run for each precision, that of the baseline included, under the protocol of the search."""
    runtimes: Mapping[str, ComposedRun]
    """A run for each runtime, that of the baseline included."""
    chosen: Mapping[str, tuple[str, ...]]
    """The values that the user gives to a part of the configurations, such as `precision` or `threads`."""
    config_dir: Path | None = None


@dataclass
class Tuning:
    """A search in its folder."""

    composed: Composed
    request: Request
    folder: Path
    record: TuneRecord
    trials: Trials
    search: Search
    resumed: bool = False
    show_line: Callable[[str], None] = print
    files: list[Path] = field(default_factory=list)

    def run(self) -> None:
        """Search, measure the finalists, and write the result."""
        self.search.run()
        self.store_tried()
        self._measure_finals()

    def _measure_finals(self) -> None:
        chosen = self.search.finalists(self.request.finalists)
        if not chosen:
            self._write(replace(self.record, state=FINISHED))
            return
        size = BASELINE_BATCH if self.search.objective.is_throughput else self.search.space.sizes[0]
        entries = [(self.search.space.baseline, size)]
        entries += [
            (combination, one.batch_size) for combination, one in chosen if (combination, one.batch_size) != entries[0]
        ]
        self.show_line(
            f"finals: the baseline and {len(entries) - 1} others, {self.request.final_repeats} processes each, in turns"
        )
        runs = self.trials.measure_finals(entries, self.request.final_repeats, self.request.seed)
        judged = []
        for (combination, _), run in zip(entries, runs, strict=True):
            assert run.folder is not None
            gathered, processes = finals.read(run, run.folder.path.name)
            quality = self.trials.compare_quality(run, runs[0]) if self.trials.quality_metrics else None
            searched = combination in self.search.space.combinations
            entry = finals.Entry(combination, gathered, processes, quality, run is runs[0], searched)
            judged.append(entry)
        finalists, winner, notes = finals.decide(judged, self.search.objective, self.search.limits)
        command = ""
        if winner is not None:
            command = self._write_best(*entries[winner])
        self._write(
            replace(
                self.record,
                state=FINISHED,
                finalists=tuple(finalists),
                best=winner,
                notes=tuple(notes),
                command=command,
            )
        )

    def _write_best(self, combination: Combination, size: int) -> str:
        """Write best.yaml, and return the command that uses it."""
        base = self.composed.base
        run = self.trials.final_request(combination, size, self.request.final_repeats, self.request.seed)
        values = run.config.unresolved()
        choices = {**base.choices, "precision": combination.precision, "runtime": combination.runtime}
        choices["metrics"] = tuple(values["metrics"])
        for section, key in (("model", "checkpoint"), ("data", "root"), ("data", "clusters")):
            text = values[section].get(key)
            if isinstance(text, str) and "${" not in text and Path(text).expanduser().exists():
                values[section][key] = str(Path(text).expanduser().absolute())
        comments = [
            f"The best configuration of the search {self.folder.name} for objective={self.request.objective}",
            f"measured on {platform.node()}",
        ]
        defaults = self.defaults(choices)
        self.files.append(best.write(self.folder, choices, values, defaults, comments, self.composed.config_dir))
        return best.command(self.folder)

    defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda choices: {}
    """Returns the configuration that the options of groups alone give."""

    # ----------------------------------------------------------------------------------------------------------- record
    def add_tried(self, combination: Combination, tried: Tried) -> None:
        """Store the outcome of a configuration, and print it."""
        self.store_tried()
        if line := describe_tried(combination, tried, self.search):
            self.show_line(line)

    def add_run(self, trial: TrialRun) -> None:
        """Store a run before it is measured."""
        self._write(replace(self.record, runs=tuple(self.trials.runs)))

    def store_tried(self) -> None:
        """Store the outcomes of all configurations."""
        qualities = self.search.qualities
        tried = tuple(
            replace(one, quality=one.quality or qualities.get(combination.pair))
            for combination, one in self.search.tried.items()
        )
        self._write(replace(self.record, tried=tried))

    def _write(self, record: TuneRecord) -> None:
        self.record = record
        record.write(self.folder)


def describe_tried(combination: Combination, tried: Tried, search: Search) -> str:
    """Return a line about a configuration that was measured, or nothing if it was not."""
    if not tried.measured:
        return ""
    best_one = search.best_of(tried.measured)
    count = f"{search.budget - search.left} of at most {search.budget} trials"
    if best_one is None:
        reason = "; ".join(filter(None, (tried.reason, tried.measured[0].reason)))
        return f"  {combination}: no valid result ({reason}) · {count}"
    figure = search.objective.text(search.objective.figure(best_one))
    mark = " ?" if best_one.questionable else ""
    return (
        f"  {combination}: {figure}{mark} at batch size {best_one.batch_size} · {tried.reason or 'all sizes'} · {count}"
    )


# ------------------------------------------------------------------------------------------------------------ the space
def prepare(composed: Composed, request: Request, resolver: Resolver, show_line: Callable[[str], None]) -> Tuning:
    """Return the search of a command: an unfinished one of the same request, or a new one. Raises ConfigError."""
    base = composed.base.config
    config = base.with_changes(resolver.resolve(base.values).changes).values
    limits, objective = Limits.of(request.bounds), Objective(request.objective)
    sizes = batch_sizes(request, config)
    quality = quality_metrics(composed, request, resolver)
    session.start_fork_server([config])
    trials = Trials(
        Path(),
        resolver,
        composed.precisions,
        composed.runtimes,
        base.unresolved()["measure"],
        quality,
        limits,
        lambda run: None,
    )
    space = build_space(composed, config, trials, sizes)
    content = {**request.content(), "space": str(hash_of(space))}
    output_dir = Path(config.output_dir)
    folder, record = find_unfinished(output_dir, content, trials, show_line)
    resumed = record is not None
    if record is None:
        folder = new_folder(output_dir)
        record = TuneRecord(
            folder.name,
            clock.now(),
            content,
            config.model.name,
            request.objective,
            request.bounds,
            space.searched,
            len(space),
            0,
            {
                "search": composed.precisions[BASELINE.precision].config.values.measure.name,
                "finals": config.measure.name,
            },
            space.left_out,
        )
    assert folder is not None
    record = replace(record, limit=request.trials or default_trials(space))
    trials.folder, trials.runs, trials.baseline = folder, list(record.runs), space.baseline
    folder.mkdir(parents=True, exist_ok=True)
    search = Search(space, objective, limits, record.limit, trials, Proposals.open(folder, space, request.seed))
    tuning = Tuning(composed, request, folder, record, trials, search, resumed, show_line)
    trials.add_run, search.show = tuning.add_run, tuning.add_tried
    for tried in record.tried:
        search.restore(Combination(**tried.combination), tried)
    return tuning


def batch_sizes(request: Request, config: ExperimentConfig) -> list[int]:
    """Return the batch sizes of the search. Raises ConfigError for several sizes with an objective of latency."""
    given = request.given("batch", "batch.sizes") is not None
    if Objective(request.objective).is_throughput:
        return list(config.batch.sizes) if given else list(SIZES)
    sizes = list(config.batch.sizes) if given else [1]
    if len(sizes) > 1:
        raise ConfigError(
            f"objective={request.objective}: the latencies of {len(sizes)} batch sizes cannot be compared",
            "give one, as in batch.sizes=[1]",
        )
    return sizes


def quality_metrics(composed: Composed, request: Request, resolver: Resolver) -> tuple[str, ...]:
    """Return the quality metrics that the model and the data have. Raises ConfigError if a bound needs one."""
    base = composed.base
    changed = replace(base, config=base.config.with_changes(resolver.resolve(base.config.values).changes))
    plan = session.plan_request(changed, composed.config_dir)
    names = tuple(name for case in plan.cases if case.is_quality for name in case.metrics if name != "evaluation")
    if names or "min_quality" not in request.bounds:
        return names
    reasons = list(dict.fromkeys(plan.refused.values())) or ["metrics has no quality metric"]
    raise ConfigError(
        f"min_quality={request.bounds['min_quality']:g}: no quality can be measured ({'; '.join(reasons[:2])})",
        "remove it, or use pretrained weights and data with labels",
    )


def build_space(composed: Composed, config: ExperimentConfig, trials: Trials, sizes: list[int]) -> Space:
    """Return the configurations that can be planned. Raises ConfigError if there is none."""
    attention, threads = list(composed.chosen.get("attention", ())), list(composed.chosen.get("threads", ()))
    layouts = [text.lower() for text in composed.chosen.get("channels_last", ())]
    if unknown := next((text for text in layouts if text not in ("true", "false")), None):
        raise ConfigError(f"model.channels_last={unknown}: not true or false")
    given = {"attention": attention, "threads": threads, "channels_last": layouts}
    first = {name: (values or [DEFAULTS[name]])[0] for name, values in given.items()}
    pairs, left_out = possible_pairs(composed, trials, sizes, first)
    if not pairs:
        raise ConfigError(f"tune: no configuration can be measured ({next(iter(left_out.values()))})")
    if not threads:
        threads, reasons = thread_choices(config)
        left_out |= reasons
    if not attention:

        def with_attention(name: str) -> ExperimentConfig:
            return replace(config, model=replace(config.model, attention=name))

        attention, reasons = attention_choices(config, with_attention, ATTENTION, Path(os.devnull))
        left_out |= reasons
    own_layout = {runtime for _, runtime in pairs if not find("runtimes", runtime).keeps_layout}
    if not layouts:
        layouts, reasons = layout_choices(config, Path(os.devnull))
        left_out |= reasons
    space = build(pairs, attention, threads, sizes, left_out, layouts, own_layout)
    session.plan_request(trials.request(space.baseline, sizes, TIMED), composed.config_dir)
    return space


def possible_pairs(
    composed: Composed, trials: Trials, sizes: list[int], values: Mapping[str, str]
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the precisions with the runtimes that can be planned, and the reason for each that cannot."""
    pairs: list[tuple[str, str]] = []
    left_out: dict[str, str] = {}
    for precision, runtime in product(composed.chosen["precision"], composed.chosen["runtime"]):
        try:
            request = trials.request(Combination(precision, runtime, **values), sizes, TIMED)
            session.plan_request(request, composed.config_dir)
        except ConfigError as error:
            left_out[f"{precision} · {runtime}"] = str(error)
        else:
            pairs.append((precision, runtime))
    return pairs, left_out


def thread_choices(config: ExperimentConfig) -> tuple[list[str], dict[str, str]]:
    """Return the numbers of threads of a search, and why they are not searched on another device than a CPU."""
    device = find_device(config.device)
    if device.kind != "cpu":
        return [DEFAULTS["threads"]], {"threads": f"the threads of the CPU do not compute the model on {device.id}"}
    return list(thread_counts(usable_cores(), len(physical_cores(os.sched_getaffinity(0))))), {}


def default_trials(space: Space) -> int:
    """Return the number of trials that a search may measure by default: a third, but enough for each pair."""
    pairs = len({one.pair for one in space.combinations})
    return max(-(-len(space) // SHARE), min(len(space), FEWEST * pairs))


def hash_of(space: Space) -> str:
    """Return a digest of the configurations and the batch sizes."""
    text = "|".join([*map(repr, space.combinations), *map(str, space.sizes)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ----------------------------------------------------------------------------------------------------------- the folder
def new_folder(output_dir: Path) -> Path:
    """Return the folder of a new search."""
    base = output_dir / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    candidates = [base, *(base.with_name(f"{base.name}_{number}") for number in range(2, 1000))]
    return next(path for path in candidates if not path.exists()).absolute()


def find_unfinished(
    output_dir: Path, content: Mapping[str, str], trials: Trials, show_line: Callable[[str], None]
) -> tuple[Path | None, TuneRecord | None]:
    """Return the newest unfinished search of the same request, if its conditions have not changed."""
    records = []
    for path in sorted(output_dir.glob("*/tune.json"), reverse=True):
        with suppress(ConfigError):
            record = TuneRecord.read(path.parent)
            if record is not None and record.state == SEARCHING and record.request == content:
                records.append((path.parent.absolute(), record))
    for folder, record in records:
        if not (folder / STUDY).exists():
            continue
        changes = _changes(folder, record, trials)
        if not changes:
            return folder, record
        show_line(
            f"! the search {record.id} is not continued, because the conditions changed: {'; '.join(changes[:3])}"
        )
    return None, None


def _changes(folder: Path, record: TuneRecord, trials: Trials) -> list[str]:
    """Return the conditions that have changed since the first run of a search."""
    for trial in record.runs:
        if trial.purpose not in (SEARCH, QUALITY) or (earlier := EarlierRun.read(folder / trial.folder)) is None:
            continue
        request = trials.request(Combination(**trial.combination), [1], TIMED)
        plan = session.plan_request(request, trials.resolver.config_dir)
        now = PresentConditions().identify(request.config.values, request.config.to_yaml(), plan)
        return [str(change) for change in earlier.identity.changes(now) if not change.is_setting]
    return []


def remove(folder: Path) -> None:
    """Remove the folder of a search in which nothing was measured, and its parent if it is empty."""
    shutil.rmtree(folder)
    with suppress(OSError):  # other results
        folder.parent.rmdir()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a search. Raises ConfigError if another command holds it."""
    held = FileLock(str(folder / LOCK), timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise ConfigError(f"tune: another command continues {folder.name} now", "wait until it has ended") from None
    try:
        yield
    finally:
        held.release()


def shown(path: Path) -> str:
    """Return a path relative to the current folder, if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
