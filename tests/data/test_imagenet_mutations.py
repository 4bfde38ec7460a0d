"""ImageNet's list of solutions and its names, damaged at random, give the clean labels or a named problem."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionbench.core import ConfigError
from visionbench.data.imagenet import SOLUTION, SYNSETS, ImageNet
from visionbench.examples.screening import find_problems

NUMBERS = ("n01440764", "n01443537", "n01484850")
NAMES = ("tench, Tinca tinca", "goldfish", "great white shark")
IMAGES = [f"ILSVRC2012_val_{number:08d}" for number in range(1, 7)]
SOLUTIONS = "ImageId,PredictionString\n" + "".join(
    f"{name},{NUMBERS[k % 3]} {k} 10 90 80\n" for k, name in enumerate(IMAGES)
)
MAPPING = "".join(f"{number} {name}\n" for number, name in zip(NUMBERS, NAMES, strict=True))
IMAGE = b"P6 1 1 255 abc"
CLEAN = {f"{name}.JPEG": NAMES[k % 3] for k, name in enumerate(IMAGES)}


def read(root):
    """The label of each image, or None if it has a problem."""
    return {one.id: None if one.problems else one.label for one in ImageNet(str(root)).examples()}


def write(root, solutions, mapping):
    (root / "val").mkdir()
    for name in IMAGES:
        (root / "val" / f"{name}.JPEG").write_bytes(IMAGE)
    (root / SOLUTION).write_bytes(solutions)
    (root / SYNSETS).write_bytes(mapping)


def damaged(text):
    """The text as bytes with one line removed, cut or repeated, or with an additional byte."""
    lines = text.encode().splitlines(keepends=True)
    index = st.integers(0, len(lines) - 1)
    return st.one_of(
        index.map(lambda n: b"".join(lines[:n] + lines[n + 1 :])),
        index.map(lambda n: b"".join(lines[: n + 1] + lines[n:])),
        st.tuples(index, st.integers(0, 12)).map(lambda cut: b"".join([*lines[: cut[0]], lines[cut[0]][: cut[1]]])),
        st.tuples(st.integers(0, len(text)), st.sampled_from([b'"', b"\xff", b"\x00", b"\r", b",", b" ", b"\n"])).map(
            lambda put: text.encode()[: put[0]] + put[1] + text.encode()[put[0] :]
        ),
    )


@pytest.mark.parametrize("which", ["solutions", "mapping"])
def test_a_damaged_list_gives_the_clean_labels_or_a_named_problem(which):
    outcomes = {"clean": 0, "problem": 0, "error": 0}

    @settings(max_examples=150, derandomize=True, deadline=None, database=None)
    @given(damaged(SOLUTIONS if which == "solutions" else MAPPING))
    def check(content):
        with TemporaryDirectory() as folder:
            root = Path(folder)
            write(root, *((content, MAPPING.encode()) if which == "solutions" else (SOLUTIONS.encode(), content)))
            try:
                labels = read(root)
            except ConfigError as error:
                assert len(str(error).splitlines()) == 1
                outcomes["error"] += 1
                return
            other = {CLEAN[name] for name, label in labels.items() if label not in (None, CLEAN.get(name, label))}
            # a damaged class name is still a name of that class only; a damaged image name has no file
            assert len(other) <= (1 if which == "mapping" else 0), labels
            assert set(find_problems(ImageNet(str(root)).examples(), decoded=0)) >= set(labels) - set(CLEAN)
            outcomes["clean" if labels == CLEAN else "problem"] += 1

    check()
    assert outcomes["clean"] and outcomes["error"] + outcomes["problem"]
