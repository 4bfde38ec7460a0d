"""`visionbench run`: Hydra composes, every job is planned before the first one loads, and then they run in turn.

With `config.py` the only file that knows Hydra.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from visionbench.config import (
    ExperimentConfig,
    explain,
    from_hydra,
    option_fields,
    project_folder,
    register_schema,
    schema_keys,
    to_safe_yaml,
    unknown_key,
    with_changes,
)
from visionbench.core import Example, RunPlan, Tracker, TrackingError, first_line
from visionbench.registry import ConfigError, find, names, nearest
from visionbench.resolve import Resolver, check

CONF = str(project_folder("conf"))


def run(arguments: Sequence[str]) -> int:
    """Run with Hydra's own arguments; returns the exit code. Raises ConfigError for bad input."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing a traceback and exiting
    args = parse(arguments)
    flags = list(arguments)
    for override in args.overrides:
        flags.remove(override)
    sys.argv = [sys.argv[0], *flags, *args.overrides]  # Hydra refuses flags between overrides
    register_schema()
    session = Session(Resolver(Path(args.config_dir) if args.config_dir else None))

    @hydra.main(version_base="1.3", config_path=CONF, config_name="config")
    def job(cfg: DictConfig) -> None:
        session.job(cfg)

    with one_line_errors():
        if planned := plan_all(args):
            session.begin(planned)
        try:
            with composed_once():
                job()
            session.repeat()
        finally:
            session.end()
    return session.exit_code


@dataclass(frozen=True)
class Job:
    """A run that is about to be measured."""

    config: ExperimentConfig
    plan: RunPlan
    folder: Any
    sweep: str


@dataclass
class Session:
    """The runs of one command: what they share, and what came of them."""

    settlement: Resolver
    exit_code: int = 0
    runs: list[Any] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    seen: str = ""
    """Where the tracker shows the runs or how to see them there, once it has one."""
    looked_at: dict[str, tuple[Sequence[Example], dict[str, str]]] = field(default_factory=dict)
    """For each data config, in YAML, its examples, and the ids of those that cannot be used, with the reason."""
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each config, in YAML, the ids of examples that are left out, with the reason."""
    lacking: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each data config, in YAML, what the data lack, with the reason."""
    unsent: list[Path] = field(default_factory=list)
    """Folders of runs that the tracker has not got yet. It gets them while the next run's process prepares its inputs,
    which is timed by nobody, or in the end."""
    put_off: list[Job] = field(default_factory=list)
    """Runs that wait for all others to be known, since repeats take turns over the whole sweep."""
    repeats: bool = False
    language: str | None = None
    """Of the report that is made in the end; None makes none."""

    def begin(self, planned: Sequence[tuple[ExperimentConfig, RunPlan]]) -> None:
        """Have checkpoints and data here, start the fork server, and meanwhile make the tracking store ready."""
        from visionbench import registry, weights, worker
        from visionbench.commands import doctor
        from visionbench.results import repeats
        from visionbench.terminal.console import screen
        from visionbench.terminal.progress import SweepProgress

        self.console = screen()
        if any(config.check for config, _ in planned):
            doctor.tell(self.console)
        planned = [self._settled(OmegaConf.structured(config))[1:] for config, _ in planned]
        for note in dict.fromkeys(note for _, plan in planned for note in plan.warnings):
            self.console.print(f"! {note}", style="yellow", soft_wrap=True, highlight=False, markup=False)
        for config, _ in planned:
            weights.ensure_checkpoint(config.model)
        planned = [self._settled(OmegaConf.structured(config))[1:] for config, _ in planned]
        for config, plan in planned:
            self._faults(config, plan)
        modules = dict.fromkeys(
            module for config, _ in planned for module in weights.transformers_modules(config.model)
        )
        worker.preheat(["torch", "transformers", *modules, *registry.modules("models", "devices", "data", "metrics")])
        steps = [(plan, config.measure) for config, plan in planned]
        if any(measure.repeats > 1 for _, measure in steps):
            self.repeats = True
            turns = repeats.order([measure.repeats for _, measure in steps], steps[0][1].order_seed)
            steps = [(repeats.planned(steps[at][0], repeat), steps[at][1]) for repeat, at in turns]
        self.progress = SweepProgress(steps, self.console)
        wanted = planned[0][0].report
        self.language = wanted.language if wanted.make or (wanted.make is None and len(planned) > 1) else None
        self.tracker = self._open_tracker(planned[0][0])

    def job(self, cfg: DictConfig) -> None:
        """One run, from config to tracker. What only the measuring process finds wrong costs this run alone."""
        from visionbench.records.folder import RunFolder

        hydra_config = HydraConfig.get()
        path = Path(hydra_config.runtime.output_dir)
        cfg, config, planned = self._settled(cfg, hydra_config.overrides.task)
        folder = RunFolder.create(path, to_safe_yaml(cfg))
        alone = OmegaConf.is_missing(hydra_config.job, "num")
        sweep = path.name if alone else Path(hydra_config.sweep.dir).name
        self.folders.append(path)
        run = Job(config, planned, folder, sweep)
        if self.repeats:
            self.put_off.append(run)
        else:
            try:
                self._measure(run, folder)
            finally:
                self._keep(folder)

    def repeat(self) -> None:
        """Measure the runs that were put off, each as often as it asks for, and gather what their processes found."""
        from visionbench.results import repeats

        seed = self.put_off[0].config.measure.order_seed if self.put_off else 0
        turns = repeats.order([run.config.measure.repeats for run in self.put_off], seed)
        try:
            for repeat, at in turns:
                run = self.put_off[at]
                plan = repeats.planned(run.plan, repeat)
                if plan.cases:
                    self._measure(replace(run, plan=plan), run.folder.repeat(repeat))
                else:
                    self.progress.next_run()
        finally:
            for run in self.put_off:
                if repeats.folders(run.folder):
                    repeats.write(run.folder, seed, run.config.measure.repeats)
                    self._keep(run.folder)

    def _settled(self, cfg: DictConfig, overrides: Sequence[str] = ()) -> tuple[DictConfig, ExperimentConfig, RunPlan]:
        """What was composed, with all settled that it leaves open, and its plan, which tells what was settled and why.

        Raises ConfigError.
        """
        from visionbench.plan import plan

        config = from_hydra(cfg)
        answer = self.settlement.of(config)
        if answer.changes:
            cfg = with_changes(cfg, answer.changes)
            config = from_hydra(cfg)
        try:
            planned = plan(config, overrides, self._lacking(config))
        except ConfigError as error:
            raise ConfigError("; ".join([str(error), *answer.notes])) from None
        return cfg, config, replace(planned, warnings=(*answer.notes, *planned.warnings))

    def _lacking(self, config: ExperimentConfig) -> dict[str, str]:
        """What these data do not give to this model although data sets of their kind do, looked for once."""
        from visionbench.examples.labelling import find_label_mismatch
        from visionbench.parts import build_parts

        run = build_parts(config)
        wanted = any("labels" in getattr(metric, "needs", ()) for metric in run.metrics.values())
        if not wanted or "labels" not in run.data.provides:
            return {}
        key = OmegaConf.to_yaml(OmegaConf.structured(config.data))
        if key not in self.lacking:
            why = "it has no labels, since no folder of a class lies in data.root"
            self.lacking[key] = {} if run.data.classes() else {"labels": why}
        none = find_label_mismatch(config, run)
        return self.lacking[key] or ({"labels": none} if none else {})

    def _measure(self, run: Job, folder: Any) -> None:
        """One process's measuring, into a folder."""
        from visionbench import runner

        self.progress.next_run()

        def show(now: Any) -> None:
            self.progress.show(now.stage, now.case, now.done)
            if now.ahead:
                self._send()

        try:
            runner.run(run.config, run.plan, folder, run.sweep, show, self._faults(run.config, run.plan))
        except ConfigError as error:
            self.trouble.append(str(error))
            self.exit_code = 2

    def _keep(self, folder: Any) -> None:
        """What a run found goes into the table, and to the tracker as soon as it disturbs nobody."""
        from visionbench.records.record import UNSUCCESSFUL
        from visionbench.results.archive import Run

        record = folder.record()
        self.runs.append(Run(record, folder.results(), folder))
        if record.status == UNSUCCESSFUL and not self.exit_code:
            self.exit_code = 1
        self.unsent.append(folder.path)

    def end(self) -> None:
        """Print what was measured, however the command ends."""
        if not hasattr(self, "progress"):
            return
        from visionbench.terminal import table

        self.progress.close()
        if self.runs:
            table.show(self.runs, self.console)
            self.console.print()
        self._send()
        report = self._report()
        for line in dict.fromkeys(self.trouble):
            print(f"visionbench: {line}", file=sys.stderr)
        if self.folders:
            shared = self.folders[0] if len(self.folders) == 1 else self.folders[0].parent
            self.console.print(f"results  {_relative(shared)}", soft_wrap=True, highlight=False)
            if report is not None:
                self.console.print(f"report   {_relative(report)}", soft_wrap=True, highlight=False)
            if self.tracker is not None and self.seen:
                self.console.print(f"look     {self.seen}", soft_wrap=True, highlight=False, markup=False)

    def _report(self) -> Path | None:
        """The page of what was measured, beside the runs' folders and with the first run in the tracker."""
        if self.language is None or not self.runs:
            return None
        from visionbench.commands import report

        of_first = self.runs[0].folder.path
        try:
            files = report.write(self.runs, self.language, of_first if len(self.folders) == 1 else of_first.parent)
        except Exception as error:  # whatever it is, results are on disk and are shown
            self.trouble.append(f"report: {type(error).__name__}: {first_line(error)}; try visionbench report")
            return None
        if self.tracker is not None and self.seen:
            try:
                self.tracker.attach(of_first, files)
            except TrackingError as error:
                self.trouble.append(str(error))
        return files[0]

    def _faults(self, config: ExperimentConfig, plan: RunPlan) -> dict[str, str]:
        """What of the data cannot be used, looked for once; each fault found is told. Raises ConfigError to refuse.

        For metrics of labels it is also what has no label that the model knows. A run's first plan decides for all its
        processes, of which the later ones measure no quality.
        """
        from visionbench.examples import screening
        from visionbench.examples.labelling import resolve_labelling
        from visionbench.parts import build_parts

        run = build_parts(config)
        key = OmegaConf.to_yaml(OmegaConf.structured(config.data))
        if key not in self.looked_at:
            examples: Sequence[Example] = screening.with_mask_frame(run.data.examples(), config.data.exif)
            found = screening.find_problems(examples, config.measure.inputs.distinct_samples)
            screening.raise_on_problems(
                config.data.name, found, len({one.id for one in examples}), config.data.on_error
            )
            self.looked_at[key] = examples, found
        whole = OmegaConf.to_yaml(OmegaConf.structured(config))
        if whole not in self.left_out:
            examples, found = self.looked_at[key]
            found = {**resolve_labelling(config, run, plan.cases).find_problems(examples), **found}
            screening.raise_on_problems(
                config.data.name, found, len({one.id for one in examples}), config.data.on_error
            )
            self.left_out[whole] = {example.id: found[example.id] for example in examples if example.id in found}
        return self.left_out[whole]

    def _open_tracker(self, config: ExperimentConfig) -> Tracker | None:
        tracker: Tracker = find("trackers", config.tracking.name)(config.tracking, Path(config.output_dir))
        try:
            tracker.open()
        except TrackingError as error:
            self.trouble.append(str(error))
            return None
        return tracker

    def _send(self) -> None:
        """Give the tracker what it has not got yet."""
        while self.unsent:
            if self.tracker is not None:
                try:
                    self.seen = self.tracker.log(self.unsent[0]) or self.seen
                except TrackingError as error:
                    self.trouble.append(str(error))
            del self.unsent[0]


# --------------------------------------------------------------------------------------------------- before the first
def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags, and the overrides wherever they stand. Raises ConfigError for a flag that Hydra does not know."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; see visionbench run --help")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_intermixed_args(list(arguments))


def plan_all(args: argparse.Namespace) -> list[tuple[ExperimentConfig, RunPlan]]:
    """Config and plan of every job that these arguments will run, so that a wrong one is told before any starts.

    Empty where Hydra is asked for something else than to run (`--help`, `--cfg`), or sweeps with a sweeper of its own.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    from visionbench.plan import plan
    from visionbench.report import translations

    if args.help or args.hydra_help or args.cfg or args.info or args.shell_completion or args.experimental_rerun:
        return []
    parser = OverridesParser.create()
    given = parser.parse_overrides(args.overrides)
    lists = [override for override in given if override.key_or_group == "metrics" and not override.is_delete()]
    if len({override.is_add() for override in lists}) == 2:  # Hydra would drop the latter
        said = " ".join(str(override.input_line) for override in lists)
        raise ConfigError(f"{said}: give either the whole list or what is added to the default; here metrics=[…,…]")
    with composer(args) as compose:
        base = compose([override.input_line for override in given if not override.is_sweep_override()])
        jobs = [args.overrides]
        if args.multirun or str(base.hydra.mode).endswith("MULTIRUN"):
            if not base.hydra.sweeper._target_.endswith("BasicSweeper"):
                return [(config := from_hydra(base), plan(config))]
            own = parser.parse_overrides([f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()])
            jobs = BasicSweeper.split_arguments([*own, *given], None)[0]
        configs = [from_hydra(compose(job)) for job in jobs]
    for config in configs:
        translations.check(config.report.language, "report.language")
        check(config, Path(args.config_dir) if args.config_dir else None)
    return [(config, plan(config)) for config in configs]


@contextmanager
def composer(args: Any) -> Iterator[Any]:
    """A function from overrides to the composed config, with the search path that Hydra itself will use."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    search_path = create_config_search_path(args.config_path or CONF)
    if args.config_dir:
        folder = Path(args.config_dir).absolute()
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {args.config_dir}: there is no such folder")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    loader = Hydra.create_main_hydra2("visionbench", search_path).config_loader
    try:
        yield lambda overrides: loader.load_configuration(args.config_name or "config", list(overrides), RunMode.RUN)
    finally:
        GlobalHydra.instance().clear()


@contextmanager
def composed_once() -> Iterator[None]:
    """Hydra composes every job of a sweep to check it, and again to run it, each a matter of a tenth of a second or
    more between two runs. Here the second time gives what the first one made."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    compose = ConfigLoaderImpl.load_sweep_config
    kept: dict[tuple[str, ...], bytes] = {}

    def load(loader: ConfigLoaderImpl, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        job = tuple(sweep_overrides)
        if job in kept:
            made: DictConfig = pickle.loads(kept.pop(job))
            return made
        composed = compose(loader, master_config, sweep_overrides)
        kept[job] = pickle.dumps(composed)
        return composed

    ConfigLoaderImpl.load_sweep_config = load  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_sweep_config = compose  # type: ignore[method-assign]


# -------------------------------------------------------------------------------------------------------------- errors
@contextmanager
def one_line_errors() -> Iterator[None]:
    """Hydra's and OmegaConf's errors as ConfigErrors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise translate(error) from error


def translate(error: Exception) -> ConfigError:
    """One line that names the value, where it came from, and the nearest that would do."""
    said = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return ConfigError(f"{group}={option}: no such option{nearest(option, error.options or _options(group))}")
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"'{error.override}': not of the form key=value; a value with special characters wants quotes inside, "
            "as in 'key=\"~/pictures\"'"
        )
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if found := re.search(r"Could not override '([^']+)'", said):
        key = re.sub(r"^\++|@.*$", "", found[1])
        if "is not in struct" in str(cause or said) or "not in '" in str(cause or said) or cause is None:
            return ConfigError(unknown_key(key, known_keys(key)))
    if isinstance(cause, OmegaConfBaseException):
        return explain(cause)
    return ConfigError(" ".join(said.split()))


def known_keys(key: str) -> list[str]:
    """The keys that may have been meant: the schema's, and the options of the registered parts that stand beside it."""
    groups = [path.name for path in Path(CONF).iterdir() if path.is_dir() and path.name != "hydra"]
    kind, *below, _ = key.split(".")
    if below and kind in ("model", "data", "metrics"):
        registered = "models" if kind == "model" else kind
        named = below[:1] if kind == "metrics" else names(registered)
        with suppress(ConfigError):
            return [f"{kind}.{below[0]}.{option}" for part in named for option in option_fields(find(registered, part))]
    return [*schema_keys(), *groups]


def _options(group: str) -> list[str]:
    return [path.stem for path in (Path(CONF) / group).glob("*.yaml")]


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
