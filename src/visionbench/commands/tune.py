"""`visionbench tune`: search the best configuration of a model on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionbench import session, signals
from visionbench.composition import compose_runs
from visionbench.composition.overrides import choices, list_groups
from visionbench.config import ComposedRun
from visionbench.core import ConfigError
from visionbench.parts import is_remote
from visionbench.records.tuning import FINISHED
from visionbench.report import tuning as words
from visionbench.resolve import Resolver
from visionbench.terminal import tuning_view
from visionbench.terminal.console import screen
from visionbench.tuning import request as requests
from visionbench.tuning import tune
from visionbench.tuning.proposals import require_optuna
from visionbench.tuning.request import Request
from visionbench.tuning.space import BASELINE
from visionbench.tuning.trials import KEYS, NotWritten
from visionbench.tuning.tune import Composed, Tuning

NOT_FOUND = 3
"""The exit code if no configuration is valid and holds all bounds."""
DIMENSIONS = {"precision": ("precision",), "runtime": ("runtime",)} | {
    name: (KEYS[name],) for name in ("attention", "threads", "channels_last")
}
"""The key or the group of each part that is searched unless the user gives it."""


def run(arguments: Sequence[str], config_dir: Path | None) -> int:
    """Search, and return the exit code. Raises ConfigError for bad input."""
    request = requests.parse(arguments)
    require_optuna()
    console = screen(highlight=False)

    def show_line(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    resolver = Resolver(config_dir)
    composed = compose(request, config_dir)
    tuning = tune.prepare(composed, request, resolver, show_line)
    tuning.defaults = lambda groups: compose_options(groups, config_dir)
    with tune.lock(tuning.folder):
        console.print(tuning_view.plan(words.plan(tuning.record, tuning.resumed)))
        code = 1
        try:
            tuning.run()
            code = 0 if tuning.record.best is not None else NOT_FOUND
        except NotWritten:
            pass
        except (ConfigError, signals.Ended) as error:
            if isinstance(error, signals.Ended):
                error.reported = tuning.trials.prepared is not None
            if tuning.trials.prepared is None and not tuning.resumed:
                tune.remove(tuning.folder)
            raise
        finally:
            finish(tuning, show_line)
        return code


def finish(tuning: Tuning, show_line: Any) -> None:
    """Print the result, send the runs to the tracker, and write the report; also after an error or an interrupt."""
    console, record, trials = screen(highlight=False), tuning.record, tuning.trials
    if trials.prepared is None and not tuning.resumed:
        return  # nothing was measured
    if trials.prepared is not None:
        trials.prepared.progress.close()
    if record.tried:
        console.print(tuning_view.result(words.result(record)))
    report = None
    if trials.prepared is not None:
        report = session.publish(trials.prepared, trials.outcome, [tuning.folder / "tune.json", *tuning.files])
    lines = {"results": tune.shown(tuning.folder)}
    if report is not None:
        lines["report"] = tune.shown(report)
    if record.state != FINISHED:
        lines["continue"] = "the same command continues this search"
    if record.command:
        lines["best"] = record.command
    if trials.prepared is not None and trials.prepared.queue.view_hint:
        lines["view"] = trials.prepared.queue.view_hint
    for name, value in lines.items():
        show_line(f"{name:<10}{value}")


# ------------------------------------------------------------------------------------------------------------ composing
def compose(request: Request, config_dir: Path | None) -> Composed:
    """Compose the configuration of the command with each precision and with each runtime."""
    groups = list_groups(config_dir)
    given: dict[str, tuple[str, ...]] = {}
    fixed: list[str] = []
    for text in request.overrides:
        key, _ = requests.split(text)
        values = choices(text, groups)
        part = next((name for name, keys in DIMENSIONS.items() if key in keys), None)
        if part is not None:
            given[part] = values
        elif key.startswith("precision."):
            raise ConfigError(f"{text}: tune searches the options of the group precision", "select one: precision=…")
        elif len(values) > 1:
            raise ConfigError(f"{text}: tune searches one model on one data set", f"give one value of {key}")
        else:
            fixed.append(text)
    precisions = given.setdefault("precision", tuple(groups["precision"]))
    runtimes = given.setdefault("runtime", tuple(groups["runtime"]))
    search, finals = (
        ([], [])
        if request.given("measure") is not None
        else (
            [f"measure={request.search_measure}"],
            [f"measure={request.final_measure}"],
        )
    )
    default = [f"precision={BASELINE.precision}", f"runtime={BASELINE.runtime}"]
    others = [text for text in fixed if not requests.split(text)[0].startswith("runtime.")]

    def each(group: str, options: Sequence[str], texts: Sequence[str], rest: str) -> dict[str, ComposedRun]:
        runs = compose_runs([*texts, *search, rest, f"{group}={','.join(options)}"], config_dir, len(options) > 1)
        if len(runs) != len(options):
            raise ConfigError(f"tune: the command has {len(runs)} runs", "remove the experiment that measures several")
        return dict(zip(options, runs, strict=True))

    base = compose_runs([*others, *finals, *default], config_dir)
    if len(base) != 1:
        raise ConfigError(f"tune: the command has {len(base)} runs", "remove the experiment that measures several")
    if is_remote(model := base[0].config.values.model):
        raise ConfigError(
            f"tune: model {model.name} is at an endpoint, so this machine has no settings to search",
            "measure it with visionbench run",
        )
    all_precisions = list(dict.fromkeys((BASELINE.precision, *precisions)))
    composed_runtimes = each("runtime", [BASELINE.runtime], others, default[0])
    if more := [name for name in runtimes if name != BASELINE.runtime]:
        composed_runtimes |= each("runtime", more, fixed, default[0])
    return Composed(
        base[0], each("precision", all_precisions, others, default[1]), composed_runtimes, given, config_dir
    )


def compose_options(options: Mapping[str, Any], config_dir: Path | None) -> Mapping[str, Any]:
    """Return the configuration that the options of groups alone give."""
    texts = [
        f"{group}={option if isinstance(option, str) else '[' + ','.join(option) + ']'}"
        for group, option in options.items()
    ]
    values: Mapping[str, Any] = compose_runs(texts, config_dir)[0].config.unresolved()
    return values
