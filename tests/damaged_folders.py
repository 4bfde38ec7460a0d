"""Damaged copies of a sweep's folder, and every command that reads results on them.

`python tests/damaged_folders.py SEED COUNT` damages a folder COUNT times at random, and prints each damage after which
a command fails with a traceback, does not show another run, or does not name the damaged folder.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from visionbench.cli import cli
from visionbench.core import ConfigError
from visionbench.records.folder import RunFolder
from visionbench.records.sweep import PlannedRun, SweepRecord

OLD = Path(__file__).parent / "records" / "schema_1"
SWEEP = "2026-01-02_03-04-05"
DAMAGED = "plain"
"""The run whose files are damaged."""
FILES = ("run.json", "results.jsonl", "samples/batch-1.parquet", "samples/quality.parquet", "predictions.parquet")
ROWS = ("run.json", "results.jsonl")
"""The files that every command reads."""
VALUES = (
    None,
    "x",
    "",
    0,
    -1,
    7,
    1.5,
    1e300,
    10**40,
    True,
    [],
    {},
    [None],
    {"a": 1},
    "2026-13-45T99:00:00",
    "\x1b[31m",
)
"""Values of other types, and values out of range."""
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "[" * 5000)
"""Texts that are no values of JSON."""
COMMANDS: dict[str, Sequence[str]] = {
    "results": ("results",),
    "results of the sweep": ("results", SWEEP),
    "results --verbose": ("results", SWEEP, "--verbose"),
    "results --json": ("results", SWEEP, "--json"),
    "export csv": ("export", SWEEP),
    "export json": ("export", SWEEP, "--format", "json"),
    "export parquet": ("export", SWEEP, "--format", "parquet", "--output", "cases.parquet"),
    "results --where": ("results", SWEEP, "--where", "model=clip_tiny,measure.name=quick"),
    "advise": ("advise", SWEEP),
    "compare": ("compare", "good", f"outputs/{SWEEP}"),
    "compare --strict": ("compare", f"outputs/{SWEEP}", "good", "--strict"),
    "summarize": ("summarize", SWEEP),
    "report": ("report", SWEEP),
}
SLOW = ("summarize", "report")
READ_BY = {
    "samples/batch-1.parquet": SLOW,
    "samples/quality.parquet": ("summarize",),
    "predictions.parquet": ("summarize",),
}
"""The commands that read a file of every run, unless all commands read it."""


@dataclass(frozen=True)
class Damage:
    """A change of one file."""

    file: str
    description: str
    apply: Callable[[Path], None]
    certain: bool = False
    """Whether the file is unreadable, so that its folder has to be named."""

    def __str__(self) -> str:
        return f"{self.file}: {self.description}"


def good(folder: Path) -> Path:
    """Write a sweep of several runs to `outputs`, and a copy with other ids to `good`. Return the sweep's folder."""
    sweep = folder / "outputs" / SWEEP
    shutil.copytree(OLD / SWEEP, sweep)
    paths = sorted(path.parent for path in sweep.glob("*/run.json"))
    records = [RunFolder(path).record() for path in paths]
    runs = [
        PlannedRun(path.name, record.plan, (), (path / "config.yaml").read_text())
        for path, record in zip(paths, records, strict=True)
    ]
    SweepRecord.start(SWEEP, runs).ended(sweep).write(sweep)
    shutil.copytree(OLD / SWEEP, folder / "good")
    for path in (folder / "good").rglob("run.json"):
        path.write_text(path.read_text().replace('"uid": "', '"uid": "copy'))
    return sweep


# ------------------------------------------------------------------------------------------------------------- damages
def damages_of_files(file: str) -> Iterator[Damage]:
    """Yield the damages of a file as a whole."""

    def cut(share: float) -> Callable[[Path], None]:
        return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    def fill(path: Path) -> None:
        path.write_bytes(random.Random(7).randbytes(path.stat().st_size))

    def huge(path: Path) -> None:
        with path.open("r+b") as opened:
            opened.truncate(2**40)

    yield from (Damage(file, f"cut to {share:.0%}", cut(share), certain=True) for share in (0.1, 0.5, 0.97))
    yield Damage(file, "empty", lambda path: path.write_bytes(b""), certain=True)
    yield Damage(file, "random bytes", fill, certain=True)
    yield Damage(file, "zeros", lambda path: path.write_bytes(bytes(path.stat().st_size)), certain=True)
    yield Damage(file, "1 TiB large", huge, certain=True)
    yield Damage(file, "a folder", replaced(Path.mkdir), certain=True)
    yield Damage(file, "a pipe", replaced(os.mkfifo), certain=True)
    yield Damage(file, "a link to itself", replaced(lambda path: path.symlink_to(path)), certain=True)
    yield Damage(file, "a link to nothing", replaced(lambda path: path.symlink_to("none")), certain=True)
    yield Damage(file, "missing", lambda path: path.unlink(), certain=file in ROWS)


def replaced(create: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return a function that removes a file and creates something else at its place."""

    def apply(path: Path) -> None:
        path.unlink()
        create(path)

    return apply


def damages_of_json(file: str, content: Any, values: Sequence[Any] = VALUES) -> Iterator[Damage]:
    """Yield a damage for each key of a JSON file and each wrong value, and for its absence."""
    for path in paths(content):
        name = ".".join(map(str, path))
        yield Damage(file, f"without {name}", changed(file, path, remove))
        for value in values:
            yield Damage(file, f"{name} = {value!r}", changed(file, path, setting(value)))


def paths(content: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each key and of the first two entries of each list."""
    entries = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    for key, value in entries:
        yield (*prefix, key)
        yield from paths(value, (*prefix, key))


def remove(parent: Any, key: Any) -> None:
    """Remove an entry."""
    del parent[key]


def setting(value: Any) -> Callable[[Any, Any], None]:
    """Return a function that replaces an entry."""

    def replace(parent: Any, key: Any) -> None:
        parent[key] = copy.deepcopy(value)

    return replace


def changed(file: str, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Callable[[Path], None]:
    """Return a function that changes one entry of a JSON file, or of the rows of results.jsonl."""

    def apply(target: Path) -> None:
        content = load(target)
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        change(parent, path[-1])
        store(target, content)

    return apply


def load(target: Path) -> Any:
    """Return the content of run.json or sweep.json, or the list of the rows of results.jsonl."""
    text = target.read_text()
    return [json.loads(line) for line in text.splitlines()] if target.suffix == ".jsonl" else json.loads(text)


def store(target: Path, content: Any) -> None:
    """Write what `load` returned."""
    rows = target.suffix == ".jsonl"
    target.write_text("".join(json.dumps(row) + "\n" for row in content) if rows else json.dumps(content))


def random_damage(rng: random.Random, content: dict[str, Any]) -> Damage:
    """Return a random damage of a random file. `content` has the contents of the JSON files."""
    file = rng.choice([*FILES, "run.json", "results.jsonl", "results.jsonl"])
    kind = rng.choice(["bytes", "bytes", "cut", "json", "json", "json", "raw"])
    if file not in content or kind in ("bytes", "cut"):
        seed = rng.random()
        return Damage(file, f"{kind} {seed}", _bytes(seed, kind))
    path = rng.choice(list(paths(content[file])))
    name = ".".join(map(str, path))
    if kind == "raw":
        raw = rng.choice(RAW)
        return Damage(file, f"{name} = {raw[:9]}", _raw(file, path, raw))
    value = rng.choice([*VALUES, rng.choice(list(_leaves(content[file])))])
    change = remove if rng.random() < 0.2 else setting(value)
    return Damage(file, f"{name} = {value!r} ({change.__name__})", changed(file, path, change))


def _bytes(seed: float, kind: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        rng, content = random.Random(seed), bytearray(path.read_bytes())
        if kind == "cut":
            path.write_bytes(content[: rng.randrange(len(content))])
            return
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)

    return apply


def _raw(file: str, path: tuple[Any, ...], raw: str) -> Callable[[Path], None]:
    def apply(target: Path) -> None:
        changed(file, path, setting("@raw@"))(target)
        target.write_text(target.read_text().replace('"@raw@"', raw))

    return apply


def _leaves(content: Any) -> Iterator[Any]:
    for path in paths(content):
        value = content
        for key in path:
            value = value[key]
        yield value


# ------------------------------------------------------------------------------------------------------------- reading
@dataclass(frozen=True)
class Done:
    """What a command printed, its exit code, and the traceback if it has one."""

    code: int
    out: str
    err: str
    traceback: str = ""


def call(words: Sequence[str]) -> Done:
    """Run a command in this process."""
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    error = result.exception
    if isinstance(error, ConfigError):
        return Done(2, result.stdout, f"{result.stderr}visionbench: {error}\n")
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    return Done(result.return_value or 0, result.stdout, result.stderr, trace)


def faults(damage: Damage, sweep: Path, commands: Sequence[str] = tuple(COMMANDS)) -> Iterator[str]:
    """Yield a line for each command that treats a damaged folder wrongly. The current folder holds `outputs`."""
    damage.apply(sweep / DAMAGED / damage.file)
    others = {path.name for path in sweep.iterdir() if (path / "config.yaml").is_file()} - {DAMAGED}
    for command in commands:
        done = call(COMMANDS[command])
        if done.traceback:
            yield f"{command}: {done.traceback}"
        elif done.code == 2:
            yield f"{command}: exit code 2, {done.err}"
        named = f"{SWEEP}/{DAMAGED}" in done.err + done.out * (command == "summarize")
        reads = command in READ_BY.get(damage.file, (command,))
        if damage.certain and reads and not (named and done.code == 1):
            yield f"{command}: exit code {done.code}, and the folder is {'' if named else 'not '}named"
        if command == "results --json" and not done.traceback and done.code != 2:
            shown = {Path(run["folder"]).name for run in json.loads(done.out)["runs"]}
            if others - shown:
                yield f"{command}: {', '.join(sorted(others - shown))} not shown"
    for path in (sweep / "report.html", sweep / "report.md"):
        if path.exists():
            path.unlink()


def without_images(patch: pytest.MonkeyPatch) -> None:
    """Compose figures, but do not render them, because that takes most of the time of a report."""
    from visionbench.report import drawing, svg

    patch.setattr(drawing, "write_png", lambda figure, path: None)
    patch.setattr(drawing, "svg", lambda figure: b"")
    patch.setattr(svg, "inline", lambda *_: "")


def main(seed: int, count: int) -> int:
    """Try random damages, and print those that a command treats wrongly. Return the number of such damages."""
    wrong = 0
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        without_images(patch)
        patch.chdir(name)
        patch.setenv("COLUMNS", "200")
        original = good(Path(name))
        content = {file: load(original / DAMAGED / file) for file in ROWS}
        kept = Path(name) / "kept"
        shutil.copytree(original / DAMAGED, kept)
        quick = [command for command in COMMANDS if command not in SLOW]
        for index in range(count):
            rng = random.Random(f"{seed}/{index}")
            damage = random_damage(rng, content)
            slow = [rng.choice(SLOW)] if rng.random() < 0.3 else []
            for line in faults(damage, original, ["results --json", *rng.sample(quick, 3), *slow]):
                wrong += 1
                print(f"{seed}/{index}: {damage}\n  {line}", flush=True)
            shutil.rmtree(original / DAMAGED)
            shutil.copytree(kept, original / DAMAGED)
    print(f"{wrong} faults after {count} damages with the seed {seed}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) > 0)
