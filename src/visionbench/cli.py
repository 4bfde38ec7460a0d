"""The command line. Heavy imports stand inside functions: `--help` must not wait for torch or mlflow."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import click

from visionbench import __version__
from visionbench.registry import ConfigError

UNWRITABLE = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS)
WAY_OUT = "make room, or give a folder that can be written: output_dir=… of a run, --output-dir of other commands"
COMMANDS_OF_HYDRA = ("-sc", "--shell-completion")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which `kill`, containers and batch systems send: a command ends as by Ctrl-C, keeping what there is."""


def main() -> None:
    """The `visionbench` command.

    Exit code 0, 1 where something measured failed, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM.
    """
    _replace_unprintable()
    _route_completion()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(cli(standalone_mode=False) or 0)
    except click.ClickException as error:
        sys.exit(_fail(f"{error.format_message()} (see visionbench --help)"))
    except ConfigError as error:
        sys.exit(_fail(str(error)))
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        sys.exit(_fail(f"{error.filename or 'writing results'}: {error.strerror}; {WAY_OUT}"))
    except (KeyboardInterrupt, click.Abort) as error:
        terminated = isinstance(error.__cause__ or error, Terminated)  # click raises Abort of it
        sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))


def _replace_unprintable() -> None:
    """Print `?` for a character that the terminal's encoding lacks: no result is lost to a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _terminate(*_: object) -> NoReturn:
    raise Terminated("ended by SIGTERM")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="visionbench")
def cli() -> None:
    """Measure vision models, and say what each number is worth."""


@cli.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def run(overrides: tuple[str, ...]) -> int:
    """Measure; `visionbench run --help` lists the groups."""
    from visionbench.commands import run as command

    return command.run(overrides)


@cli.command()
@click.option("--output-dir", type=click.Path(path_type=Path), default=Path("outputs"), show_default=True)
@click.option("--uri", help="A tracking store other than the one in the output folder.")
@click.option("--experiment", default="visionbench", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--no-browser", is_flag=True, help="Print the address and leave opening it to you.")
def ui(output_dir: Path, uri: str | None, experiment: str, port: int, no_browser: bool) -> int:
    """Open the MLflow UI over an output folder's results."""
    from visionbench.commands import ui as command

    return command.serve(output_dir, uri, experiment, port, browser=not no_browser)


@cli.group(invoke_without_command=True)
@click.option(
    "--config-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Your own models too."
)
@click.pass_context
def models(context: click.Context, config_dir: Path | None) -> int:
    """List the models, and which are on this machine."""
    from visionbench.commands import models as command

    context.obj = config_dir
    return 0 if context.invoked_subcommand else command.show(config_dir)


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.pass_obj
def fetch(config_dir: Path | None, names: tuple[str, ...]) -> int:
    """Download checkpoints at their pinned revisions; afterwards they load without a network."""
    from visionbench.commands import models as command

    return command.fetch(names, config_dir)


@cli.group()
def data() -> None:
    """Bring data sets here."""


@data.group()
def prepare() -> None:
    """Make a folder that visionbench reads."""


@prepare.command()
@click.option("--samples", type=click.IntRange(min=1), default=100, show_default=True, help="How many pictures.")
@click.option("--split", default="val2017", show_default=True)
@click.option("--root", type=click.Path(path_type=Path), default=Path("data/coco"), show_default=True)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with COCO in its official layout; nothing is then fetched.",
)
def coco(samples: int, split: str, root: Path, source: Path | None) -> int:
    """So many pictures of COCO 2017 with captions and instances, in COCO's own layout."""
    from visionbench.commands import data as command

    return command.prepare(samples, split, root, source)


@cli.command()
def doctor() -> int:
    """Tell what this machine is and what would go wrong."""
    from visionbench.commands import doctor as command

    return command.show()


@cli.command()
def selftest() -> int:
    """Measure what is known, and say whether this machine can be trusted."""
    from visionbench.commands import selftest as command

    return command.show()


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
def summarize(folder: Path) -> int:
    """Compute a run's metrics again from raw samples."""
    from visionbench.commands import summarize as command

    return command.show(folder)


@cli.command()
@click.argument("sweeps", nargs=-1, metavar="[SWEEP]…")
@click.option("--baseline", default="", help="Ratios to these runs too: model=clip_vit_b32,precision=fp32.")
@click.option("--where", default="", help="Only runs that are so: model=clip_tiny,device=cpu.")
@click.option("--language", default="en", show_default=True, help="en or zh.")
@click.option("--p95-ms", type=click.FloatRange(min=0, min_open=True), default=50.0, show_default=True)
@click.option("--within", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Of the best quality.")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="A folder; by default the sweep's own.")
@click.option("--output-dir", type=click.Path(path_type=Path), default=Path("outputs"), show_default=True)
def report(
    sweeps: tuple[str, ...],
    baseline: str,
    where: str,
    language: str,
    p95_ms: float,
    within: float,
    to: Path | None,
    output_dir: Path,
) -> int:
    """Write what sweeps found as one page and as Markdown.

    SWEEP is a sweep's id or a folder; the latest sweep where none is named.
    """
    from visionbench.commands import report as command

    return command.make(sweeps, output_dir, to, baseline, where, language, p95_ms, within)


@cli.command()
@click.argument("base")
@click.argument("candidate")
@click.option("--where", help="Of both sides only the runs that are so: model=clip_tiny,precision=fp32.")
@click.option("--metric", "metrics", multiple=True, help="Instead of the headlines; may be given again.")
@click.option("--threshold", default="5%", show_default=True, help="Of speed and memory, a factor.")
@click.option(
    "--quality-threshold", default="0.01", show_default=True, help="Of fractions absolute, of scores relative."
)
@click.option("--force", is_flag=True, help="Compare under conditions that differ.")
@click.option("--strict", is_flag=True, help="Exit with 1 also where anything stays undecided.")
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file to write it to as well.")
@click.option("--output-dir", type=click.Path(path_type=Path), default=Path("outputs"), show_default=True)
@click.option("--uri", help="A tracking store other than the one in the output folder.")
@click.option("--experiment", default="visionbench", show_default=True)
def compare(
    base: str,
    candidate: str,
    where: str | None,
    metrics: tuple[str, ...],
    threshold: str,
    quality_threshold: str,
    force: bool,
    strict: bool,
    form: str,
    output: Path | None,
    output_dir: Path,
    uri: str | None,
    experiment: str,
) -> int:
    """Tell what got slower or worse; exit with 1 if anything did.

    BASE and CANDIDATE are each a sweep's id, latest, a folder, a results.jsonl, git:REVISION or mlflow:FILTER.
    """
    from visionbench.commands import compare as command
    from visionbench.results.comparison import Rules

    limit = command.fraction(threshold, "--threshold", 0.001)
    drop = command.fraction(quality_threshold, "--quality-threshold", 0.0)
    sources = command.Sources(output_dir, uri, experiment, where)
    return command.show(base, candidate, sources, Rules(limit, drop, force, metrics), form, output, strict)


@cli.command()
@click.option("--output-dir", type=click.Path(path_type=Path), default=Path("outputs"), show_default=True)
@click.option("--uri", help="A tracking store other than the one in the output folder.")
@click.option("--experiment", default="visionbench", show_default=True)
def sync(output_dir: Path, uri: str | None, experiment: str) -> int:
    """Send to MLflow the runs that it has not got yet."""
    from visionbench.commands import sync as command

    return command.send(output_dir, uri, experiment)


@cli.command()
@click.argument("sweep", required=False)
@click.option("--where", default="", metavar="FACT=VALUE,…", help="Only runs with these facts, model=clip_tiny say.")
@click.option("--runs", is_flag=True, help="Runs over all sweeps.")
@click.option("--limit", type=click.IntRange(min=1), help="So many of the newest; else 20, and of a SWEEP all.")
@click.option("--json", "as_json", is_flag=True, help="For a program, to full precision.")
@click.option("--output-dir", type=click.Path(path_type=Path), default=Path("outputs"), show_default=True)
def results(sweep: str | None, where: str, runs: bool, limit: int | None, as_json: bool, output_dir: Path) -> int:
    """List the sweeps on disk, or the runs of SWEEP: an id, a folder or `latest`."""
    from visionbench.commands import results as command

    return command.show(sweep, output_dir, where, runs, limit, as_json)


@cli.command()
@click.argument("sweep", required=False)
@click.option("--format", "kind", type=click.Choice(["csv", "parquet", "json"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; else standard output.")
@click.option("--where", default="", metavar="FACT=VALUE,…", help="Only runs with these facts, model=clip_tiny say.")
@click.option("--output-dir", type=click.Path(path_type=Path), default=Path("outputs"), show_default=True)
def export(sweep: str | None, kind: str, output: Path | None, where: str, output_dir: Path) -> int:
    """Write results as one table, a row a case; SWEEP is an id, a folder or `latest`."""
    from visionbench.commands import export as command

    return command.write(sweep, output_dir, where, kind, output)


def _fail(message: str) -> int:
    print(f"visionbench: {message}", file=sys.stderr)
    return 2


def _route_completion() -> None:
    """Hydra's completion script calls the bare command with the whole line; lead it to `run`, where Hydra answers."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS_OF_HYDRA:
        return
    words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) > 2 and words[1] == "run":
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
        sys.argv.insert(1, "run")
    else:
        begun = words[1] if len(words) > 1 else ""
        print(" ".join(name for name in _names(cli) if name.startswith(begun)))
        sys.exit(0)


def _names(group: Any) -> Sequence[str]:
    return sorted(group.commands)
