"""The options of the commands. Heavy imports are inside functions, so that `--help` does not import torch or mlflow."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from visionbench import __version__, deadline, signals
from visionbench.core import ConfigError, shortened, visible
from visionbench.credentials import public
from visionbench.terminal import streams

UNWRITABLE = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS)
UNUSABLE = (errno.EILSEQ, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
REMEDY = "free space, or give a folder that can be written to: output_dir=… for a run, --output-dir for other commands"


class FiniteRange(click.FloatRange):
    """A range of numbers that contains neither NaN nor an infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. Fails if it is not finite or not in the range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


COMMANDS_OF_HYDRA = ("-sc", "--shell-completion")
OUTPUT_DIR = click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("outputs"),
    show_default=True,
    help="The folder of results.",
)
CONFIG_DIR = click.option(
    "--config-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with your own configuration files, such as models.",
)
READ_CONFIG_DIR = ("run", "models", "serve", "tune")
"""The commands that read `--config-dir`. It can be given before or after the name of the command."""
URI = click.option("--uri", help="A tracking store other than that of the output folder.")
TIMEOUT = click.option(
    "--timeout-seconds",
    type=FiniteRange(0, 3600, min_open=True),
    default=30.0,
    show_default=True,
    help="The longest time for one exchange with the store.",
)
EXPERIMENT = click.option("--experiment", default="visionbench", show_default=True, help="The experiment in MLflow.")
WHERE = click.option(
    "--where", default="", metavar="FACT=VALUE,…", help="Only runs with these facts, as in model=clip_tiny,device=cpu."
)


LATENCY_BOUND = click.option(
    "--within-ms",
    "--p95-ms",
    "within_ms",
    type=FiniteRange(min=0, min_open=True),
    help="Largest accepted p95 latency of a call; without it, the knee of the fastest run is recommended.",
)
MEMORY_BOUND = click.option("--max-mib", type=FiniteRange(min=0, min_open=True), help="Largest accepted peak memory.")
QUALITY_BOUND = click.option(
    "--quality-loss",
    "--within",
    "quality_loss",
    type=FiniteRange(0, 1),
    default=0.01,
    show_default=True,
    help="Accepted loss, as a fraction of the best quality of the task.",
)


class Commands(click.Group):
    """A group of commands that raises every error unchanged. Click would replace Ctrl-C and EOFError by its Abort."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Raises Interruption for a signal that ends it, and RuntimeError for EOFError."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interruption(error) from error
        except EOFError as error:
            raise RuntimeError(f"EOFError: {error}") from error


class Interruption(BaseException):
    """A command that was ended by a signal, which is its argument."""


def main() -> None:
    """Run the `visionbench` command, and end the process although a call of a tracker may never return."""
    try:
        _main()
    except SystemExit as end:
        if deadline.is_any_busy():
            deadline.exit_now(end.code)
        raise


def _main() -> None:
    """Run the command.

    The exit code is 0, 1 if something that was measured failed, 2 for bad input, 129 for SIGHUP, 130 for Ctrl-C and 143
    for SIGTERM.
    """
    streams.protect()
    signals.raise_from_now_on()
    try:
        code = _run()
    except BaseException as error:  # after a signal, an import may raise any error
        ended = signals.Received.signal
        if ended is None and not isinstance(error, KeyboardInterrupt | Interruption | click.Abort):
            raise
        ended = ended or signals.Ended(signal.SIGINT)
        if not ended.reported:
            sys.stderr.write(signals.line(str(ended)))
        code = 128 + ended.number
    sys.exit(code)


def _run() -> int:
    """Run the command, and return its exit code. Errors that are not expected are raised."""
    try:
        _route_completion()
        code: int = cli(prog_name="visionbench", standalone_mode=False) or 0
        if reason := streams.lost_output():
            code = code or _fail(f"standard output: {reason}; free space, or write the output to another place")
        return code
    except click.exceptions.NoArgsIsHelpError as error:  # `visionbench` or `visionbench data` alone
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _fail(_describe(error))
    except ConfigError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno not in (*UNWRITABLE, *UNUSABLE):
            raise
        remedy = REMEDY if error.errno in UNWRITABLE else "give another path"
        return _fail(f"{error.filename or 'writing results'}: {error.strerror}; {remedy}")


def _describe(error: click.ClickException) -> str:
    """Return the message of click in one line, with the command whose help describes the arguments."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path.split()[1:] if context else []
    return f"{message}; see {' '.join(['visionbench', *path])} --help"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="visionbench")
@CONFIG_DIR
@click.pass_context
def cli(context: click.Context, config_dir: Path | None) -> None:
    """Benchmark vision models: speed, memory and quality, with the validity of each number.

    `visionbench docs` lists the documents.
    """
    context.obj = config_dir
    if config_dir is not None and context.invoked_subcommand not in READ_CONFIG_DIR:
        raise ConfigError(
            f"--config-dir {config_dir}: {context.invoked_subcommand} does not read it",
            f"remove it; it belongs to {' and '.join(READ_CONFIG_DIR)}",
        )


@cli.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(config_dir: Path | None, overrides: tuple[str, ...]) -> int:
    """Measure models; `visionbench run --help` lists the groups."""
    from visionbench.commands import run as command

    words = overrides if config_dir is None else ("--config-dir", str(config_dir), *overrides)
    try:
        code = command.run(words)
    except SystemExit as end:
        if end.code:
            raise
        return 0  # Hydra ends the process after its help
    if command.measures(words) and (reason := streams.lost_output()):  # the exit code is that of the measurement
        _fail(f"standard output: {reason}; the results are in their folder: visionbench results latest")
        sys.exit(code)
    return code


@cli.command()
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="KEY=VALUE…")
@CONFIG_DIR
@click.pass_obj
def tune(outer_config_dir: Path | None, config_dir: Path | None, words: tuple[str, ...]) -> int:
    """Search the best configuration of a model on this machine: precision, runtime, batch size, threads, attention.

    KEY is one of the keys below, or a group or a key of `visionbench run`, such as model or device. A key that is
    searched, such as precision, is fixed by one value and restricted by several: precision=fp32,bf16.

    \b
    objective=throughput     or latency_p50, latency_p95
    max_latency_p95_ms=50    bounds; each is optional
    min_quality=0.99         share of the quality of eager fp32
    max_memory_mib=2000
    trials=60                most batch sizes to measure; by default a third of the space
    finalists=3              measured again beside eager fp32 at batch size 4
    final_repeats=3          processes of each finalist
    search_measure=quick     protocol of the search
    final_measure=standard   protocol of the finals
    seed=0

    The same command continues an interrupted search. `visionbench docs tuning` describes the search.
    """
    from visionbench.commands import tune as command

    return command.run(words, config_dir or outer_config_dir)


@cli.command()
@OUTPUT_DIR
@URI
@EXPERIMENT
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="The port of a local server."
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@TIMEOUT
def ui(output_dir: Path, uri: str | None, experiment: str, port: int, no_browser: bool, timeout_seconds: float) -> int:
    """Open the MLflow UI with the results of an output folder."""
    from visionbench.commands import ui as command

    return command.serve(output_dir, uri, experiment, port, not no_browser, timeout_seconds)


@cli.command()
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="KEY=VALUE…")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 is any free port."
)
@click.option("--key-env", metavar="NAME", help="The environment variable with a key that requests must have.")
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="A name of this machine that a Host header may have; can be repeated.",
)
@click.option(
    "--max-body-mib",
    type=FiniteRange(0.001, 1024),
    default=20.0,
    show_default=True,
    help="The largest body of a request.",
)
@click.option(
    "--max-requests",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="The most requests at once; further ones are refused with 429.",
)
@click.option(
    "--timeout-seconds",
    type=FiniteRange(0, 3600, min_open=True),
    default=60.0,
    show_default=True,
    help="The longest time of a request.",
)
@CONFIG_DIR
@click.pass_obj
def serve(
    outer_config_dir: Path | None,
    words: tuple[str, ...],
    host: str,
    port: int,
    key_env: str | None,
    allow_hosts: tuple[str, ...],
    max_body_mib: float,
    max_requests: int,
    timeout_seconds: float,
    config_dir: Path | None,
) -> int:
    """Serve a model over HTTP, with the interface of OpenAI, on this machine only unless --host is given.

    KEY is model, precision, runtime, device or data, or a key below one of them, as for `visionbench run`, or
    serving.max_batch (8) or serving.max_wait_ms (2). `visionbench docs serving` describes the interface.
    """
    from visionbench.commands import serve as command

    options = command.Options(host, port, key_env, allow_hosts, max_body_mib, max_requests, timeout_seconds)
    return command.run(words, config_dir or outer_config_dir, options)


@cli.group(invoke_without_command=True)
@CONFIG_DIR
@click.pass_context
def models(context: click.Context, config_dir: Path | None) -> int:
    """List the models, and whether each is on this machine."""
    from visionbench.commands import models as command

    context.obj = config_dir or context.obj
    return 0 if context.invoked_subcommand else command.show(context.obj)


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@CONFIG_DIR
@click.pass_obj
def fetch(outer_config_dir: Path | None, config_dir: Path | None, names: tuple[str, ...]) -> int:
    """Download checkpoints at their pinned revisions; they then load without a network."""
    from visionbench.commands import models as command

    return command.fetch(names, config_dir or outer_config_dir)


@models.command()
@click.argument("checkpoint")
@click.option("--revision", help="The commit of a Hub repository; by default its latest.")
@click.option(
    "--write",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, FOLDER/model/NAME.yaml; by default the YAML is printed.",
)
def inspect(checkpoint: str, revision: str | None, file: Path | None) -> int:
    """Print the YAML that measures the model of a folder or of a Hub repository.

    The family is the one that reads the model, or generic. Only small files are fetched.
    """
    from visionbench.commands import models as command

    return command.inspect(checkpoint, revision, file)


@cli.group()
def data() -> None:
    """Prepare data sets."""


@data.group()
def prepare() -> None:
    """Download a data set into a folder that visionbench reads."""


@prepare.command()
@click.option("--samples", type=click.IntRange(min=1), default=100, show_default=True, help="The number of images.")
@click.option("--split", default="val2017", show_default=True, help="The split of COCO.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("data/coco"),
    show_default=True,
    help="The folder that receives the subset.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with COCO in its official layout, instead of a download.",
)
def coco(samples: int, split: str, root: Path, source: Path | None) -> int:
    """Make a subset of COCO 2017 with captions and instances, in COCO's own layout."""
    from visionbench.commands import data as command

    return command.prepare(samples, split, root, source)


@cli.command()
def doctor() -> int:
    """Show facts about this machine, and problems that would affect a measurement."""
    from visionbench.commands import doctor as command

    return command.show()


@cli.command()
def selftest() -> int:
    """Measure known quantities, and report whether this machine measures them correctly."""
    from visionbench.commands import selftest as command

    return command.show()


@cli.command()
@click.argument("run", metavar="RUN")
@OUTPUT_DIR
def summarize(run: str, output_dir: Path) -> int:
    """Compute metrics again from the raw samples, and compare them with the results.

    RUN is the folder of a run, or a sweep: an id, a folder or `latest`.
    """
    from visionbench.commands import summarize as command

    return command.show(run, output_dir)


@cli.command()
@click.argument("name", required=False, metavar="[NAME]")
def docs(name: str | None) -> int:
    """List the documents, or show one of them.

    NAME is a document of the list, as in `visionbench docs running`.
    """
    from visionbench.commands import docs as command

    return command.show(name)


@cli.command()
@click.argument("sweeps", nargs=-1, metavar="[SWEEP]…")
@click.option("--baseline", default="", help="Add ratios to these runs, as in model=clip_vit_b32,precision=fp32.")
@WHERE
@click.option("--language", default="en", show_default=True, help="en or zh.")
@LATENCY_BOUND
@MEMORY_BOUND
@QUALITY_BOUND
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to write to; by default the sweep's.",
)
@click.option(
    "--wait",
    is_flag=True,
    help="Wait until all planned runs have ended; exit with 1 if one is lost or has not ended.",
)
@click.option(
    "--timeout", type=FiniteRange(min=0), metavar="SECONDS", help="With --wait: the longest time to wait, in seconds."
)
@OUTPUT_DIR
def report(
    sweeps: tuple[str, ...],
    baseline: str,
    where: str,
    language: str,
    within_ms: float | None,
    max_mib: float | None,
    quality_loss: float,
    to: Path | None,
    wait: bool,
    timeout: float | None,
    output_dir: Path,
) -> int:
    """Write the report of sweeps, as one page and as Markdown.

    SWEEP is a sweep's id or a folder; by default the latest sweep.
    """
    from visionbench.commands import report as command
    from visionbench.results.advice.candidates import Bounds

    bounds = Bounds(within_ms, max_mib, quality_loss)
    if timeout is not None and not wait:
        raise ConfigError(f"--timeout {timeout:g}: it has no effect without --wait", "add --wait")
    waiting = command.Waiting(timeout) if wait else None
    return command.make(sweeps, output_dir, to, baseline, where, language, bounds, waiting)


@cli.command()
@click.argument("sweeps", nargs=-1, metavar="[SWEEP]…")
@LATENCY_BOUND
@MEMORY_BOUND
@QUALITY_BOUND
@WHERE
@click.option("--language", default="en", show_default=True, help="en or zh.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with full precision.")
@OUTPUT_DIR
def advise(
    sweeps: tuple[str, ...],
    within_ms: float | None,
    max_mib: float | None,
    quality_loss: float,
    where: str,
    language: str,
    as_json: bool,
    output_dir: Path,
) -> int:
    """Recommend a model, precision and batch size, with the rule and the reasons; exit with 3 if nothing can be.

    SWEEP is a sweep's id or a folder; by default the latest sweep.
    """
    from visionbench.commands import advise as command
    from visionbench.results.advice.candidates import Bounds

    bounds = Bounds(within_ms, max_mib, quality_loss)
    return command.show(sweeps, output_dir, where, bounds, language, as_json)


@cli.command()
@click.argument("base")
@click.argument("candidate")
@click.option("--where", help="On both sides, only runs with these facts, as in model=clip_tiny,precision=fp32.")
@click.option("--metric", "metrics", multiple=True, help="A metric instead of the headlines; can be repeated.")
@click.option("--threshold", default="5%", show_default=True, help="Relative change of speed and memory.")
@click.option(
    "--quality-threshold",
    default="0.01",
    show_default=True,
    help="Change of fractions; relative for scores.",
)
@click.option("--force", is_flag=True, help="Compare although conditions differ.")
@click.option("--strict", is_flag=True, help="Exit with 1 if any metric is undecided.")
@click.option(
    "--undecided",
    type=click.Choice(["fail", "ok"]),
    default="fail",
    show_default=True,
    help="With `ok`, exit with 0 instead of 3 if the comparison is undecided.",
)
@click.option(
    "--verbose", is_flag=True, help="Show full reasons, digests, and the names of runs that are not compared."
)
@click.option(
    "--format", "output_format", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file to write the comparison to.")
@OUTPUT_DIR
@URI
@EXPERIMENT
def compare(
    base: str,
    candidate: str,
    where: str | None,
    metrics: tuple[str, ...],
    threshold: str,
    quality_threshold: str,
    force: bool,
    strict: bool,
    undecided: str,
    verbose: bool,
    output_format: str,
    output: Path | None,
    output_dir: Path,
    uri: str | None,
    experiment: str,
) -> int:
    """Report what became slower or worse.

    BASE and CANDIDATE are each a sweep's id, latest, a folder, a results.jsonl, git:REVISION or mlflow:FILTER.

    Exit codes: 0 no regression; 1 a regression; 2 bad input; 3 undecided, because no metric of the speed, the memory or
    the quality of a pair of runs could be decided.
    """
    from visionbench.commands import compare as command
    from visionbench.results.comparison import Rules

    limit = command.fraction(threshold, "--threshold", 0.001)
    drop = command.fraction(quality_threshold, "--quality-threshold", 0.0)
    sources = command.Sources(output_dir, uri, experiment, where)
    rules = Rules(limit, drop, force, metrics)
    shown = command.Output(output_format, output, verbose)
    return command.show(base, candidate, sources, rules, shown, strict, accept_undecided=undecided == "ok")


@cli.command()
@OUTPUT_DIR
@URI
@EXPERIMENT
@TIMEOUT
def sync(output_dir: Path, uri: str | None, experiment: str, timeout_seconds: float) -> int:
    """Send runs to MLflow that it has not received."""
    from visionbench.commands import sync as command

    return command.send(output_dir, uri, experiment, timeout_seconds)


@cli.command()
@click.argument("sweep", required=False)
@WHERE
@click.option("--runs", is_flag=True, help="List runs of all sweeps.")
@click.option("--limit", type=click.IntRange(min=1), help="Entries, newest first; by default 20, or all of SWEEP.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with full precision.")
@click.option("--verbose", "-v", is_flag=True, help="Print the table of each run with all doubts and remarks.")
@OUTPUT_DIR
def results(
    sweep: str | None, where: str, runs: bool, limit: int | None, as_json: bool, verbose: bool, output_dir: Path
) -> int:
    """List the sweeps on disk, or the runs of SWEEP: an id, a folder or `latest`."""
    from visionbench.commands import results as command

    return command.show(sweep, output_dir, where, runs, limit, as_json, verbose)


@cli.command()
@click.argument("sweep", required=False)
@click.option(
    "--format", "output_format", type=click.Choice(["csv", "parquet", "json"]), default="csv", show_default=True
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; by default standard output.")
@WHERE
@OUTPUT_DIR
def export(sweep: str | None, output_format: str, output: Path | None, where: str, output_dir: Path) -> int:
    """Write results as one table with a row for each case; SWEEP is an id, a folder or `latest`."""
    from visionbench.commands import export as command

    return command.write(sweep, output_dir, where, output_format, output)


def _fail(message: str) -> int:
    """Print a message in one line, without credentials, with control characters escaped, and return the exit code."""
    text = public(message)
    line = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    print(f"visionbench: {shortened(visible(line))}", file=sys.stderr)
    return 2


def _route_completion() -> None:
    """Pass a call of Hydra's completion script to `run`, and complete the names of commands here.

    Hydra's script calls `visionbench` with a flag and names no command.
    """
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS_OF_HYDRA:
        return
    words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) > 2 and words[1] == "run":
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
        sys.argv.insert(1, "run")
    else:
        beginning = words[1] if len(words) > 1 else ""
        print(" ".join(name for name in sorted(cli.commands) if name.startswith(beginning)))
        sys.exit(0)
