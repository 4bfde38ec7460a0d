"""The limits of YAML files: what aliases expand to, depth, size and kind are checked without loading the file."""

import os

import pytest

from visionbench.core import ConfigError
from visionbench.yaml_limits import MOST_BYTES, MOST_LEVELS, MOST_VALUES, check_limits


def bomb(levels, first="[x]"):
    """Return YAML whose last level repeats the first value 9 ** levels times."""
    lines = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels + 1)]
    return "\n".join([f"a0: &a0 {first}", *lines, ""])


@pytest.fixture
def refused(tmp_path):
    """A function from the content of a file to the message without the folder, or None if the file passes."""

    def refused(content):
        path = tmp_path / "mine.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            check_limits(path)
        except ConfigError as error:
            return str(error).removeprefix(f"{tmp_path}/")
        return None

    return refused


def test_the_values_that_aliases_expand_to_are_counted(refused):
    # level n has 1 + 9 * (values of level n - 1) values, and level 0 has 2; each level also has a key
    values = [2]
    for _ in range(9):
        values.append(1 + 9 * values[-1])
    count = 1 + sum(values) + len(values)
    assert refused(bomb(9)) == f"mine.yaml: its aliases expand to {count:,} values; write at most {MOST_VALUES:,}"


@pytest.mark.parametrize("loader_of_libyaml", [True, False])
def test_a_bomb_is_refused_with_either_loader(refused, loader_of_libyaml):
    directive = "" if loader_of_libyaml else "%YAML 1.9\n---\n"  # libyaml refuses 1.9; the loader in Python accepts it
    assert "its aliases expand to" in refused(directive + bomb(9))


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"a{i}: &a{i} {{k: *a{i - 1}, l: *a{i - 1}}}\n" if i else "a0: &a0 x\n" for i in range(40)),
        "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" if i else "a0: &a0 {b: 1}\n" for i in range(40)),
        bomb(3000),
    ],
    ids=["mappings", "merge keys", "more values than can be counted"],
)
def test_aliases_in_mappings_merge_keys_and_long_chains_are_counted(refused, text):
    assert "its aliases expand to" in refused(text)


def test_a_long_text_that_aliases_repeat_is_refused(refused):
    assert refused(f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]\n") == (
        "mine.yaml: its aliases expand to 100,100,002 characters; write at most 10,000,000"
    )


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "&a {b: *a}\n", "a: &a {b: [{c: *a}]}\n", "a: &a {<<: *a}\n"])
def test_only_a_cycle_is_called_an_anchor_that_contains_itself(refused, text):
    assert refused(text) == "mine.yaml: an anchor contains itself; remove the anchor"


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000 + "]" * 3000,
        "a: " + "[" * MOST_LEVELS + "]" * MOST_LEVELS,
        "{a: " * 2000 + "1" + "}" * 2000,
        "".join(" " * level + "a:\n" for level in range(700)),
        "".join(f"a{i}: &a{i} [*a{i - 1}]\n" if i else "a0: &a0 [x]\n" for i in range(130)),
    ],
    ids=["lists", "one level too many", "mappings", "indentation", "aliases"],
)
def test_deep_nesting_is_not_called_a_cycle(refused, text):
    assert refused(text) == f"mine.yaml: nested more than {MOST_LEVELS} levels deep; write fewer levels"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "a: &x {b: 1}\nc: *x\nd: *x\n",
        "a: &x [1]\nb: &x [2]\nc: *x\n",
        "a: " + "[" * (MOST_LEVELS - 1) + "]" * (MOST_LEVELS - 1),
        f"a: [{', '.join(['1'] * (MOST_VALUES - 3))}]\n",
        "name: [\n",
        "a: *undefined\n",
        b"\xff\xfea\x00",
    ],
    ids=["empty", "comment", "aliases", "redefined anchor", "deep", "long", "not YAML", "no anchor", "UTF-16"],
)
def test_a_file_within_the_limits_passes_and_the_loader_describes_wrong_yaml(refused, text):
    assert refused(text) is None


def test_a_file_with_too_many_values_or_bytes_is_refused(refused):
    values = f"a: [{', '.join(['1'] * (MOST_VALUES - 2))}]\n"
    assert refused(values) == f"mine.yaml: contains more than {MOST_VALUES:,} values; write fewer values"
    assert refused("#" * (MOST_BYTES + 1)).startswith(f"mine.yaml: larger than {MOST_BYTES:,} bytes; ")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to("nowhere"), "a link to nothing"),
        (lambda path: path.symlink_to(path), "a link to nothing"),
    ],
    ids=["folder", "pipe", "device", "link", "loop"],
)
def test_an_entry_that_is_not_a_file_is_named_and_not_opened(tmp_path, make, kind):
    make(path := tmp_path / "mine.yaml")
    with pytest.raises(ConfigError, match=f"mine.yaml: {kind}, not a file; write a YAML file of this name"):
        check_limits(path)
