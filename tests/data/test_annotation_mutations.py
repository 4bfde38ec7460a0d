"""Damaged annotation files give the clean examples or a named problem, never another error or a silent difference."""

import codecs
import copy
import gzip
import json
import math
from collections import Counter
from itertools import count
from pathlib import Path

import coco_folder
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from visionbench.core import ConfigError
from visionbench.data.coco import Coco
from visionbench.data.coco_captions import CocoCaptions
from visionbench.data.coco_instances import CocoInstances
from visionbench.data.karpathy import Karpathy
from visionbench.examples import screening

CAPTIONS, INSTANCES, SPLITS = (
    "annotations/captions_val2017.json",
    "annotations/instances_val2017.json",
    "dataset_coco.json",
)
READ = [
    (Coco, INSTANCES),
    (Coco, CAPTIONS),
    (CocoCaptions, CAPTIONS),
    (CocoInstances, INSTANCES),
    (Karpathy, SPLITS),
]
"""Each data set with a file that it reads."""
IMAGES = 5
SIZE = (40, 56)
JUNK = [
    None,
    True,
    False,
    0,
    -1,
    3.5,
    7.0,
    math.nan,
    -math.inf,
    10**40,
    2**53 + 1.0,
    "",
    " ",
    "0",
    "nothing",
    "../../outside.jpg",
    "/etc/hostname",
    "C:\\pictures\\1.jpg",
    "http://example.com/1.jpg",
    "a\nb",
    "caf\u00e9 \u2028 \U0001f600",
    "\ud800",
    "\0",
    [],
    [[]],
    [None],
    ["a", "b"],
    {},
    {"id": None},
    {"size": [40, 56], "counts": "0"},
    [[1, 1, 5, 1, "5", 5]],
]
MUTATIONS = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A folder without problems, whose images have no EXIF orientation."""
    root = tmp_path_factory.mktemp("clean")
    coco_folder.write(root, SIZE, images=IMAGES)
    for index in range(IMAGES):
        Image.fromarray(coco_folder.scene(index, SIZE)[0]).save(root / "val2017" / coco_folder.file_name(index))
    return root


@pytest.fixture
def damaged(clean, tmp_path):
    """A function that makes a folder with the clean images and another content of one annotation file."""
    numbers = count()

    def write(file, content):
        root = tmp_path / str(next(numbers))
        (root / "annotations").mkdir(parents=True)
        (root / "val2017").symlink_to(clean / "val2017")
        for name in (CAPTIONS, INSTANCES, SPLITS):
            (root / name).write_bytes(content if name == file else (clean / name).read_bytes())
        return root

    return write


def contents(part, root):
    """The usable content of a data set by the image's id, and the problems of the other images."""
    examples = part(str(root)).examples()
    problems = screening.find_problems(examples, decoded=0)
    return {
        example.id: (example.captions, None if example.masks is None else example.masks().tobytes(), example.instances)
        for example in screening.usable_examples(examples, problems)
    }, problems


def check_message(error, file):
    """Check that an error is one readable line that names the file."""
    line = str(error)
    assert Path(file).name in line and "\n" not in line and line.isprintable() and len(line) < 800


# ----------------------------------------------------------------------------------------------- values, keys, entries
def nodes(value, path=()):
    """The paths of all values below a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inside:
        yield (*path, key)
        yield from nodes(below, (*path, key))


def get(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def names_of(tree, path):
    """The ids of the images that a value belongs to, or of all images if it belongs to no entry."""
    if path[0] not in ("images", "annotations") or len(path) < 2:
        return {coco_folder.file_name(n) for n in range(IMAGES)} | {
            f"val2017/{coco_folder.file_name(n)}" for n in range(IMAGES)
        }
    entry = get(tree, path[:2])
    if "filename" in entry:
        return {f"{entry['filepath']}/{entry['filename']}"}
    by_id = {image["id"]: image["file_name"] for image in tree["images"]}
    return {by_id[entry["image_id" if path[0] == "annotations" else "id"]]}


def plausible(tree, path, value):
    """Whether the file with this value is valid, so that the change cannot be detected."""
    key, old = path[-1], get(tree, path)
    if key in ("caption", "raw"):
        return isinstance(value, str) and bool(value.strip()) and "\ud800" not in value
    if key == "split":
        return value in ("train", "restval", "val", "test")
    if key == "image_id":
        return str(value) in [str(n) for n in range(1, IMAGES + 1)]
    if key == "id" and path[0] == "annotations":  # an annotation's id only determines the order
        return type(value) in (int, float, str) and value == value and bool(str(value).strip())
    if key == "iscrowd":
        return value in (0, 1, "0", "1")
    if "segmentation" in path and isinstance(old, int | float):
        return type(value) in (int, float) and -1 <= value <= max(SIZE) + 1
    return False


def drop_key(draw, tree):
    """Remove a key from an object, or an image from COCO's list. Without `iscrowd` a region is not a crowd."""
    paths = [
        path
        for path in nodes(tree)
        if (isinstance(path[-1], str) and not (path[-1] == "iscrowd" and get(tree, path))) or is_coco_image(tree, path)
    ]
    path = draw(st.sampled_from(paths))
    touched = names_of(tree, path)
    del get(tree, path[:-1])[path[-1]]
    return touched


def is_coco_image(tree, path):
    return path[0] == "images" and len(path) == 2 and "annotations" in tree


def change_value(draw, tree):
    """Replace a value by another one, mostly of another type."""
    path, value = draw(st.sampled_from(list(nodes(tree)))), draw(st.sampled_from(JUNK))
    if plausible(tree, path, value):
        value = None
    touched = names_of(tree, path)
    get(tree, path[:-1])[path[-1]] = copy.deepcopy(value)
    return touched


def respell(draw, tree):
    """Write a number as text or with a point, or put a value into a list."""
    path = draw(st.sampled_from(list(nodes(tree))))
    old, touched = get(tree, path), names_of(tree, path)
    forms = [str(old), float(old)] if type(old) is int else [[old], {"value": old}]
    if type(old) is int and path[-1] != "id":
        forms += [f"{old}.0", f" {old}"]
    get(tree, path[:-1])[path[-1]] = copy.deepcopy(draw(st.sampled_from(forms)))
    return touched


def repeat_entry(draw, tree):
    """Repeat an image, an annotation or a sentence in its list."""
    lists = [path for path in nodes(tree) if path[-1] in ("images", "annotations", "sentences")]
    path = draw(st.sampled_from(lists))
    entries = get(tree, path)
    which = draw(st.integers(0, len(entries) - 1))
    touched = names_of(tree, (*path, which))
    entries.insert(draw(st.integers(0, len(entries))), copy.deepcopy(entries[which]))
    return touched


def copy_id(draw, tree):
    """Give an entry the id or the name of another entry."""
    name = draw(st.sampled_from([name for name in ("images", "annotations") if name in tree]))
    one, other = (draw(st.integers(0, len(tree[name]) - 1)) for _ in range(2))
    key = draw(st.sampled_from([key for key in ("id", "file_name", "filename") if key in tree[name][0]]))
    touched = names_of(tree, (name, one)) | names_of(tree, (name, other))
    tree[name][one][key] = tree[name][other][key]
    return touched


CHANGES = (drop_key, change_value, respell, repeat_entry, copy_id)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_damaged_entry_gives_the_clean_examples_or_a_named_problem(clean, damaged, change, record_property):
    outcomes = Counter()
    expected = {part: contents(part, clean)[0] for part, _ in READ}
    assert all(len(examples) == IMAGES for examples in expected.values())
    trees = {file: json.loads((clean / file).read_text()) for _, file in READ}

    @settings(MUTATIONS, max_examples=60)
    @given(st.sampled_from(READ), st.data())
    def mutate(read, data):
        (part, file), tree = read, copy.deepcopy(trees[read[1]])
        touched = change(data.draw, tree)
        root = damaged(file, json.dumps(tree).encode())
        try:
            usable, problems = contents(part, root)
        except ConfigError as error:
            check_message(error, file)
            outcomes["the file is an error"] += 1
            return
        assert set(usable) <= set(expected[part])
        for name in set(expected[part]) - touched:
            assert usable[name] == expected[part][name]
        assert problems or usable == expected[part]
        with pytest.raises(ConfigError) if problems else memoryview(b""):
            screening.raise_on_problems("coco", problems, len(usable) + len(problems), "fail")
        outcomes["images are named" if problems else "the clean examples"] += 1

    mutate()
    print(change.__name__, dict(outcomes))
    record_property("outcomes", dict(outcomes))
    assert sum(outcomes.values()) >= 50 and len(outcomes) >= 2


# -------------------------------------------------------------------------------------------------------------- bytes
def cut(draw, content):
    return content[: draw(st.integers(0, len(content) - 1))]


def insert_byte(draw, content):
    place, byte = draw(st.integers(0, len(content))), draw(st.sampled_from([b"\0", b"\xff", b"\xc3", b"\x1b"]))
    return content[:place] + byte + content[place:]


def change_form(draw, content):
    text = content.decode()
    return draw(
        st.sampled_from(
            [
                codecs.BOM_UTF8 + content,
                text.encode("utf-16"),
                text.encode("utf-16-le"),
                text.encode("utf-32"),
                b"\n \t" + content + b"\r\n",
                content + content,
                b"[" + content + b"]",
                b"[" * 100_000 + content,
                gzip.compress(content),
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
                b"<!DOCTYPE html>",
                b"",
                b"null",
                b'"text"',
                b"7" * 5000,
            ]
        )
    )


def repeat_key(draw, content):
    names = [b'"images":', b'"id":', b'"filename":', b'"caption":', b'"raw":']
    name = draw(st.sampled_from([name for name in names if name in content]))
    places = [place for place in range(len(content)) if content.startswith(name, place)]
    place = draw(st.sampled_from(places))
    return content[:place] + name + b" null, " + content[place:]


BYTES = (cut, insert_byte, change_form, repeat_key)


@pytest.mark.parametrize("change", BYTES, ids=lambda change: change.__name__)
def test_a_damaged_file_gives_the_clean_examples_or_an_error_of_one_line(clean, damaged, change, record_property):
    outcomes = Counter()
    expected = {part: contents(part, clean) for part, _ in READ}

    @settings(MUTATIONS, max_examples=25)
    @given(st.sampled_from(READ), st.data())
    def mutate(read, data):
        part, file = read
        root = damaged(file, change(data.draw, (clean / file).read_bytes()))
        try:
            examples = contents(part, root)
        except ConfigError as error:
            check_message(error, file)
            outcomes["the file is an error"] += 1
        else:
            assert examples == expected[part]
            outcomes["the clean examples"] += 1

    mutate()
    print(change.__name__, dict(outcomes))
    record_property("outcomes", dict(outcomes))
    assert outcomes["the file is an error"] >= 10
