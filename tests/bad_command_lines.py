"""Generated command lines that are mostly wrong, and what the command does with them.

Each line begins as a valid one and gets one to three mutations of its keys, groups, values, types or flags. The command
runs in this process up to the plan, so that nothing is measured. A larger batch by hand:

    python tests/bad_command_lines.py 5000 7        # 5000 lines of the seed 7
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from saved_runs import row, save

from visionbench import cli, weights
from visionbench.commands import run as run_command
from visionbench.config import ExperimentConfig, ModelConfig, list_options
from visionbench.core import ConfigError
from visionbench.session import plan_request

KEPT = ("my_conf", "kept")
"""Folders that exist before a command: configuration files, and results."""
GROUPS = ("batch", "data", "device", "experiment", "measure", "metrics", "model", "precision", "tracking")
FLAGS = (
    *("-m", "--multirun", "--cfg=job", "--cfg", "-c", "--info", "--resolve", "--config-dir=my_conf", "--config-dir"),
    *("--config-name=config", "--config-path=conf", "--package=model", "--run", "-sc", "--experimental-rerun=x"),
    *("--model", "--batch-size=8", "--output-dir=x", "--gpu", "-x", "--", "-", "--no-tracking", "-cn", "-cd=nowhere"),
)
VALUES = (
    *("", "null", "true", "abc", "8", "16", "-1", "0", "1.5", "nan", "inf", "-inf", "1e400", "1" * 30, "0x10", "1_000"),
    *("[1,2]", "[]", "[1", "1]", "{a:1}", "{}", "{a", "(", "'", '"', "a,b", "a,", ",a", "range(1,3)", "range(3,1)"),
    *("range(0,3,0)", "glob(*)", "glob(zz*)", "choice(1,2)", "choice(", "interval(0,1)", "sort(2,1)", "int(a)", "${x}"),
    *("${model.name}", "${oc.env:NOT_SET}", "${nosuch:1}", "${", "$x", "~/x", "~", "../x", "/dev/null/x", "a/b", "a=b"),
    *("a b", "é", "画像", "\\", "a\\,b", "%", "#", "@", ":", "*", "|", "???", "\t", "x" * 300, "[[1]]", "[null]"),
)
CHARACTERS = "=+~@:.,/[](){}\"'\\$%#!?*&|<>;^` \tAaZ09é-_"
FILES = (
    *(
        "",
        "5\n",
        "text\n",
        "- a\n",
        "null\n",
        "name: [\n",
        "name: x\n\tseed: 1\n",
        "name: a\nname: b\n",
        "a: &x [*x]\n",
    ),
    *("name: x\nzzz: 1\n", "name: x\nseed: abc\n", "sizes: 8\n", "defaults: 5\n", "defaults: [nosuch]\n", "null: 1\n"),
    *(
        "name: ${x}\n",
        "name: ${name}\n",
        "name: ${oc.env:NOT_SET}\n",
        "name: !!python/name:os.system\n",
        "? [a]\n: b\n",
    ),
    *("# @package _global_\nmodle: {name: x}\n", "# @package _global_\nmodel: clip_tiny\n", "---\na: 1\n---\nb: 2\n"),
    *(
        "# @package _global_\noutput_dir: ''\n",
        "# @package _global_\ndefaults:\n- override /batch: 8\n",
        "name: x: y\n",
    ),
    *("defaults: [mine]\n", "# @package _global_\nhydra: 5\n", "# @package _global_\nhydra: {sweeper: {params: 5}}\n"),
    *("\ufeffname: x\n", "hydra: {mode: X}\n", "options: 5\n", "options: [1]\n", "samples: {}\nname:\n"),
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it printed, and the files that it left."""

    words: tuple[str, ...]
    code: Any
    out: str
    err: str
    left: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether the line was valid, although it was mutated."""
        return self.code == 0 or (self.words[0] != "run" and self.code in (1, 3) and bool(self.out))

    @property
    def lines(self) -> int:
        """The number of lines on standard error."""
        return len(self.err.splitlines())

    @property
    def faults(self) -> list[str]:
        """What is wrong with the answer to a bad line."""
        if self.accepted:
            return []
        faults = {
            f"exit code {self.code}": self.code != 2,
            f"{self.lines} lines": not 1 <= self.lines <= 2,
            "standard output": bool(self.out),
            "a traceback": "Traceback" in self.err,
            f"left {', '.join(self.left)}": bool(self.left),
        }
        return [fault for fault, present in faults.items() if present]

    def __str__(self) -> str:
        return f"visionbench {shlex.join(self.words)}\n  {'; '.join(self.faults)}\n  {self.err[-600:]}"


# ---------------------------------------------------------------------------------------------------------- generation
def keys(section: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of the schema with its default value."""
    for item in fields(section or ExperimentConfig()):
        value = getattr(section or ExperimentConfig(), item.name)
        if is_dataclass(value):
            yield from keys(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


KEYS = [
    *((key, value) for key, value in keys() if key not in ("output_dir", "check")),
    *(("data.options.samples", 8), ("data.options.seed", 0), ("data.options.size", 64), ("data.options.split", "test")),
    *(("model.options.part", "both"), ("model.options.text_tokens", 8), ("model.options.image_size", 32)),
    *(("metrics.recall.ks", "[1,5]"), ("metrics.recall.block_mib", 64), ("metrics.recall.tie_tolerance", 0.1)),
    *(("output_dir", "results"), ("hydra.run.dir", "one"), ("hydra.sweep.dir", "many"), ("hydra.job.name", "x")),
]
OPTIONS = {group: list(list_options(group)) for group in GROUPS}


def shown(value: Any) -> str:
    """The value as a command line has it."""
    text = {None: "null", True: "true", False: "false"}.get(value) if not isinstance(value, list | dict) else None
    return text or str(value).replace("'", "").replace(" ", "")


def valid_words(rng: random.Random) -> list[str]:
    """Words of a valid command line, or nearly: some values do not fit together."""
    words = []
    for group in rng.sample(GROUPS, rng.randint(0, 2)):
        option = rng.choice(OPTIONS[group])
        words.append(f"{group}=[{option}]" if group == "metrics" else f"{group}={option}")
    words += [f"{key}={shown(value)}" for key, value in rng.sample(KEYS, rng.randint(0, 2))]
    return words or [f"{group}={rng.choice(OPTIONS[group])}" for group in rng.sample(GROUPS[:3], 1)]


def misspelt(rng: random.Random, text: str) -> str:
    """The text with one letter dropped, doubled, swapped, replaced or in the other case."""
    if not text:
        return rng.choice(CHARACTERS)
    place = rng.randrange(len(text))
    before, letter, after = text[:place], text[place], text[place + 1 :]
    return rng.choice(
        [
            before + after,
            before + 2 * letter + after,
            before + after[:1] + letter + after[1:],
            before + rng.choice(CHARACTERS) + after,
            before + letter.swapcase() + after,
            before + letter + rng.choice(CHARACTERS) + after,
        ]
    )


def mutate_key(rng: random.Random, words: list[str]) -> None:
    """Misspell, shorten, lengthen or move a key."""
    at = rng.randrange(len(words))
    key, equals, value = words[at].partition("=")
    last = key.rpartition(".")[2]
    key = rng.choice(
        [misspelt(rng, key), last, f"{key}.{last}", f"zzz.{key}", key.replace(".", ".."), f".{key}", f"{key}.", ""]
        + [key.replace(".", "_"), key.upper(), f"{key}@x", f"{key}:", f"{rng.choice(GROUPS)}.{last}", f"{key}[0]"]
    )
    words[at] = key + equals + value


def mutate_value(rng: random.Random, words: list[str]) -> None:
    """Misspell a value, or replace it by one of another type."""
    at = rng.randrange(len(words))
    key, equals, value = words[at].partition("=")
    words[at] = key + equals + rng.choice([misspelt(rng, value), rng.choice(VALUES), rng.choice(VALUES)])


def mutate_form(rng: random.Random, words: list[str]) -> None:
    """Change the equals sign or the prefix of an override, or exchange its sides."""
    at = rng.randrange(len(words))
    word = words[at]
    key, _, value = word.partition("=")
    words[at] = rng.choice(
        [key, value, f"{key}==", f"={value}", f"{value}={key}", f"{key}:{value}", f"{key} = {value}", f"--{word}"]
        + [f"+{word}", f"++{word}", f"~{word}", f"~{key}", f"-{word}", f"{word},{value}x", f"{key}={key}={value}"]
    )


def mutate_characters(rng: random.Random, words: list[str]) -> None:
    """Insert one to three characters anywhere."""
    at = rng.randrange(len(words))
    for _ in range(rng.randint(1, 3)):
        place = rng.randint(0, len(words[at]))
        words[at] = words[at][:place] + rng.choice(CHARACTERS) + words[at][place:]


def mutate_flags(rng: random.Random, words: list[str]) -> None:
    """Add a flag that is unknown, misspelt, without its value, or in conflict with another."""
    flag = rng.choice(FLAGS)
    words.insert(rng.randint(0, len(words)), rng.choice([flag, flag, misspelt(rng, flag)]))


def mutate_group(rng: random.Random, words: list[str]) -> None:
    """Choose an option that does not exist, or of another group."""
    group, other = rng.sample(GROUPS, 2)
    words.append(f"{group}={rng.choice([misspelt(rng, rng.choice(OPTIONS[group])), *OPTIONS[other], *VALUES])}")


def mutate_words(rng: random.Random, words: list[str]) -> None:
    """Add a word without an equals sign, an empty word or a sweep."""
    words.insert(
        rng.randint(0, len(words)),
        rng.choice(
            [
                "",
                " ",
                "run",
                "help",
                "clip_tiny",
                "model",
                "doctor",
                "a" * 5000,
                "\n",
                "é=1",
                "x=1",
                "+x.y=1",
                "hydra=1",
            ]
            + ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra/sweeper=x", "hydra.sweeper.params.model=1"]
            + ["model=clip_tiny,vit_b16", "batch.sizes=1,2", "model.seed=range(0,99999999)", "hydra.mode=X", "[" * 500]
        ),
    )


MUTATIONS: Sequence[Callable[[random.Random, list[str]], None]] = (
    *(mutate_key, mutate_key, mutate_value, mutate_value, mutate_value, mutate_form, mutate_characters, mutate_flags),
    *(mutate_group, mutate_group, mutate_words),
)


def bad_words(rng: random.Random) -> list[str]:
    """Words after `visionbench run`, with one to three mutations."""
    words = valid_words(rng)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        rng.choice(MUTATIONS)(rng, words)
    words = [word for word in words if not re.search(r"dir\W*=\W*/(?!dev/null)", word)]  # nothing is written elsewhere
    return words if rng.random() < 0.8 else ["-m", *words]


def with_bad_file(rng: random.Random) -> list[str]:
    """Words after `visionbench run` that select a faulty file of the user's folder, which is written."""
    group = rng.choice([*GROUPS, ""])
    path = Path("my_conf") / group / ("mine.yaml" if group else "config.yaml")
    path.parent.mkdir(parents=True)
    text = rng.choice(FILES)
    for _ in range(rng.choice([0, 1, 2])):
        text = misspelt(rng, text)
    path.write_bytes(text.encode() if rng.random() < 0.95 else rng.randbytes(40))
    chosen = {"": [], "metrics": ["+metrics=mine"]}.get(group, [f"{group}=mine"])
    return ["--config-dir", "my_conf", *chosen]


def commands() -> Iterator[tuple[list[str], click.Command]]:
    """Yield the words and the definition of each command, except `run`."""

    def below(words: list[str], command: click.Command) -> Iterator[tuple[list[str], click.Command]]:
        for name, child in getattr(command, "commands", {}).items():
            yield [*words, name], child
            yield from below([*words, name], child)

    yield from ((words, command) for words, command in below([], cli.cli) if words != ["run"])


ARGUMENTS = (
    "latest",
    "kept",
    "2026-01-02_03-04-05",
    "nowhere",
    "git:nothing",
    "git:",
    "mlflow:",
    ":",
    "clip_tiny",
    "..",
)
OPTION_VALUES = (
    *(
        "model=clip_tiny",
        "model",
        "=x",
        "modle=x",
        "model=",
        "precision=fp16,model=clip_tiny",
        "zh",
        "fr",
        "json",
        "xml",
    ),
    *(
        "kept",
        "nowhere",
        "/dev/null/x",
        "/dev/null",
        "5%",
        "-5%",
        "1e-9",
        "latency_p50_ms",
        "latency_p50",
        "sqlite://",
        "ok",
    ),
)


def other_words(rng: random.Random) -> list[str]:
    """Words of a command other than `run`, with random arguments and options."""
    path, command = rng.choice(list(commands()))
    most = sum(2 if item.nargs == -1 else 1 for item in command.params if isinstance(item, click.Argument))
    count = rng.choice([most, most, most, rng.randint(0, 3)])
    words = [rng.choice([rng.choice(ARGUMENTS), rng.choice(ARGUMENTS), rng.choice(VALUES)]) for _ in range(count)]
    flags = [flag for item in command.params if isinstance(item, click.Option) for flag in item.opts]
    for _ in range(rng.choice([0, 1, 1, 2])):
        flag = rng.choice(
            [*flags, *flags, *flags, *flags, misspelt(rng, rng.choice(flags or ["--x"])), rng.choice(FLAGS)]
        )
        value = rng.choice([rng.choice(OPTION_VALUES), rng.choice(VALUES)])
        words += rng.choice([[flag], [flag, value], [f"{flag}={value}"]])
    if rng.random() < 0.1:
        path = [*path[:-1], misspelt(rng, path[-1])]
    if rng.random() < 0.05:
        path = ["--config-dir", rng.choice(["kept", "nowhere"]), *path]
    return [*path, *words, *(["--output-dir", "kept"] if "--output-dir" in flags and rng.random() < 0.7 else [])]


# ----------------------------------------------------------------------------------------------------------- execution
def planned_only(patch: pytest.MonkeyPatch) -> None:
    """Make `visionbench run` plan its runs and measure nothing."""

    def prepare(sweep: Any, runs: Any) -> None:
        for run in runs:
            plan_request(run, sweep.resolver.config_dir)

    patch.setattr(run_command.Sweep, "prepare", prepare)
    patch.setattr(run_command.Sweep, "measure", lambda *_: None)
    patch.setattr(run_command.Sweep, "complete", lambda _: None)
    patch.setenv("HYDRA_FULL_ERROR", "")  # the command sets it


def without_effects(patch: pytest.MonkeyPatch) -> None:
    """Replace what commands other than `run` do after they have checked their arguments."""

    def nothing(*_: Any, **__: Any) -> int:
        return 0

    def local(model: ModelConfig, *_: Any) -> Path:
        if (folder := weights.find_checkpoint(model)) is None:
            raise ConfigError(f"model.checkpoint={model.checkpoint}: nothing is fetched here")
        return folder

    from visionbench.commands import data, doctor, report, selftest, sync, ui

    patch.setattr(data, "prepare", nothing)
    patch.setattr(doctor, "show", nothing)
    patch.setattr(selftest, "show", nothing)
    patch.setattr(ui, "_is_free", lambda port: False)
    patch.setattr(ui, "_has_browser", lambda: False)
    patch.setattr(sync, "archive", SimpleNamespace(read=lambda *_: [], RECORD=sync.archive.RECORD))
    patch.setattr(report, "write_report", lambda *_: [])
    patch.setattr(weights, "obtain_checkpoint", local)


def end(words: Sequence[str]) -> Ended:
    """Run the command in this process, in a folder that has only the folders of KEPT; remove what it leaves."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["visionbench", *words])
        try:
            cli.main()
            code: Any = None
        except SystemExit as stop:
            code = stop.code
        except Exception as error:  # a fault that the user would see as a traceback
            code = f"{type(error).__name__}: {error}"
    left = [path for path in Path().iterdir() if path.name not in KEPT]
    for path in [*left, Path("my_conf")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return Ended(tuple(words), code, out.getvalue(), err.getvalue(), tuple(path.name for path in left))


def run_lines(count: int, seed: int, show: Callable[[Ended], None] = lambda _: None) -> list[Ended]:
    """Run this many generated lines of `visionbench run` in an empty folder. Every eighth has a faulty file."""
    rng = random.Random(seed)
    ended = []
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "work", "here")  # two levels down, because a mutated folder may begin with ../
        work.mkdir(parents=True)
        patch.chdir(work)
        planned_only(patch)
        for number in range(count):
            words = with_bad_file(rng) if number % 8 == 0 else bad_words(rng)
            ended.append(end(["run", *words]))
            show(ended[-1])
    return ended


def run_other_lines(count: int, seed: int, show: Callable[[Ended], None] = lambda _: None) -> list[Ended]:
    """Run this many generated lines of the other commands, in a folder that has results in `kept`."""
    rng = random.Random(seed)
    ended = []
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "work", "here")  # two levels down, so that .. has no other results
        work.mkdir(parents=True)
        patch.chdir(work)
        without_effects(patch)
        speed = row(throughput_images_per_s=100.0, latency_p50_ms=5.0, latency_p95_ms=6.0, memory_process_peak_mib=90.0)
        save(Path("kept") / "2026-01-02_03-04-05", speed)
        for _ in range(count):
            ended.append(end(other_words(rng)))
            show(ended[-1])
    return ended


def summary(ended: Sequence[Ended]) -> str:
    """The numbers of lines that were run, accepted, and answered with more than two lines."""
    refused = [one for one in ended if not one.accepted]
    longer = sum(one.lines > 2 for one in refused)
    faulty = sum(bool(one.faults) for one in refused)
    return (
        f"{len(ended)} generated command lines: {len(refused)} refused, {len(ended) - len(refused)} valid; "
        f"{longer} with more than two lines, {faulty} with any fault"
    )


if __name__ == "__main__":
    numbers = SimpleNamespace(count=int(sys.argv[1]), seed=int(sys.argv[2]))
    os.environ["HF_HUB_OFFLINE"] = "1"
    for run_some in (run_other_lines, run_lines):
        ended = run_some(numbers.count, numbers.seed, lambda one: print(one, flush=True) if one.faults else None)
        print(summary(ended), flush=True)
