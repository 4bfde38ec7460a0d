"""The arguments of `visionbench run`: flags and overrides in any order."""

import sys

import pytest

from visionbench.composition.arguments import command_line, parse
from visionbench.core import ConfigError


def test_flags_and_overrides_are_separated_in_any_order(tmp_path):
    parsed = parse(["a=1", "-m", "b=2", "--config-dir", str(tmp_path), "c=3"])
    assert parsed.flags == (f"--config-dir={tmp_path}", "--multirun")
    assert parsed.overrides == ("a=1", "b=2", "c=3")
    assert parsed.config_dir == tmp_path


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["-h"], ("--help",)),
        (["--hydra-help"], ("--hydra-help",)),
        (["-c", "job", "--resolve", "-p", "model"], ("--resolve", "--package=model", "--cfg=job")),
        (["-i"], ("--info=all",)),
        (["--info", "searchpath"], ("--info=searchpath",)),
        (["-sc", "query=bash"], ("--shell-completion",)),
        (["-cn", "mine", "-cp", "there"], ("--config-path=there", "--config-name=mine")),
    ],
)
def test_each_documented_flag_reaches_hydra(words, flags):
    assert parse(words).flags == flags


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nonsense"], "--nonsense: there is no such flag; see visionbench run --help"),
        (["--multirum"], "--multirum: there is no such flag; did you mean '--multirun'?"),
        (["--model", "clip_tiny"], "--model: there is no such flag; did you mean model=…?"),
        (["--batch-size=8"], "--batch-size=8: there is no such flag; did you mean batch.sizes=[8]?"),
        (["--config-dir"], "--config-dir/-cd: a value is missing; see visionbench run --help"),
        (["--config-dir="], "--config-dir : there is no such folder"),
        (["--experimental-rerun", "nowhere"], "--experimental-rerun nowhere: there is no such file"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder"),
        (["-m", "--cfg", "job"], "--cfg/-c and --multirun/-m cannot be used together; remove one of them"),
        (["--cfg", "none"], "argument --cfg/-c: invalid choice: 'none'"),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line(words, message):
    with pytest.raises(ConfigError) as caught:
        parse(words)
    assert str(caught.value).startswith(message)


def test_the_command_line_is_restored(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["visionbench", "run", "a=1"])
    with command_line(parse(["a=1", "-m"])):
        assert sys.argv == ["visionbench", "--multirun", "a=1"]
    assert sys.argv == ["visionbench", "run", "a=1"]


@pytest.mark.parametrize(
    ("words", "resume", "retry", "on_change"),
    [
        (["resume=latest"], "latest", (), None),
        (["resume=outputs/a=b"], "outputs/a=b", (), None),
        (["+resume=x", "on_change=measure"], "x", (), "measure"),
        (["resume=x", "retry=invalid,failed"], "x", ("invalid", "failed"), None),
        (["retry=[invalid, failed]"], "latest", ("invalid", "failed"), None),
        (["resume=null", "a=1"], None, (), None),
        (["a=1"], None, (), None),
    ],
)
def test_the_keys_of_resuming_do_not_reach_hydra(words, resume, retry, on_change):
    parsed = parse([*words, "-m", "--dry-run"])
    assert (parsed.resume, parsed.retry, parsed.on_change) == (resume, retry, on_change)
    assert parsed.overrides == tuple(word for word in words if word == "a=1")
    assert parsed.flags == ("--multirun",) and parsed.multirun and parsed.dry_run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resume="], "resume is empty; give latest, or the id or the folder of a sweep, as in resume=latest"),
        (["resume=x", "retry="], "retry is empty; name results, as in retry=invalid,failed"),
        (["on_change=keep"], "on_change=keep: nothing is resumed; add resume=latest, or the id of a sweep"),
        (["resume=a", "resume=b"], "resume is given twice: a and b; give it once"),
    ],
)
def test_wrong_keys_of_resuming_are_refused(words, message):
    with pytest.raises(ConfigError) as caught:
        parse(words)
    assert str(caught.value) == message
