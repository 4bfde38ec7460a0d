"""ImageNet's list of solutions and its names, damaged at random: the clean labels, or a named fault."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionbench.data.imagenet import SOLUTION, SYNSETS, ImageNet
from visionbench.examples.screening import find_problems
from visionbench.registry import ConfigError

NUMBERS = ("n01440764", "n01443537", "n01484850")
NAMES = ("tench, Tinca tinca", "goldfish", "great white shark")
PICTURES = [f"ILSVRC2012_val_{at:08d}" for at in range(1, 7)]
SOLUTIONS = "ImageId,PredictionString\n" + "".join(
    f"{name},{NUMBERS[at % 3]} {at} 10 90 80\n" for at, name in enumerate(PICTURES)
)
MAPPING = "".join(f"{number} {name}\n" for number, name in zip(NUMBERS, NAMES, strict=True))
PICTURE = b"P6 1 1 255 abc"
CLEAN = {f"{name}.JPEG": NAMES[at % 3] for at, name in enumerate(PICTURES)}


def read(root):
    """Each picture's label, or None where it has a fault."""
    return {one.id: None if one.faults else one.label for one in ImageNet(str(root)).examples()}


def written(root, solutions, mapping):
    (root / "val").mkdir()
    for name in PICTURES:
        (root / "val" / f"{name}.JPEG").write_bytes(PICTURE)
    (root / SOLUTION).write_bytes(solutions)
    (root / SYNSETS).write_bytes(mapping)


def damaged(text):
    """The text as bytes with one line dropped, cut or repeated, or with other bytes at a place."""
    lines = text.encode().splitlines(keepends=True)
    at = st.integers(0, len(lines) - 1)
    return st.one_of(
        at.map(lambda n: b"".join(lines[:n] + lines[n + 1 :])),
        at.map(lambda n: b"".join(lines[: n + 1] + lines[n:])),
        st.tuples(at, st.integers(0, 12)).map(lambda cut: b"".join([*lines[: cut[0]], lines[cut[0]][: cut[1]]])),
        st.tuples(st.integers(0, len(text)), st.sampled_from([b'"', b"\xff", b"\x00", b"\r", b",", b" ", b"\n"])).map(
            lambda put: text.encode()[: put[0]] + put[1] + text.encode()[put[0] :]
        ),
    )


@pytest.mark.parametrize("which", ["solutions", "mapping"])
def test_a_damaged_list_gives_the_clean_labels_or_a_named_fault(which):
    seen = {"clean": 0, "fault": 0, "refused": 0}

    @settings(max_examples=150, derandomize=True, deadline=None, database=None)
    @given(damaged(SOLUTIONS if which == "solutions" else MAPPING))
    def check(content):
        with TemporaryDirectory() as folder:
            root = Path(folder)
            written(root, *((content, MAPPING.encode()) if which == "solutions" else (SOLUTIONS.encode(), content)))
            try:
                labels = read(root)
            except ConfigError as error:
                assert len(str(error).splitlines()) == 1
                seen["refused"] += 1
                return
            other = {CLEAN[name] for name, label in labels.items() if label not in (None, CLEAN.get(name, label))}
            # a damaged name of a class is a name all the same, and of that class alone; one of a picture has no file
            assert len(other) <= (1 if which == "mapping" else 0), labels
            assert set(find_problems(ImageNet(str(root)).examples(), decoded=0)) >= set(labels) - set(CLEAN)
            seen["clean" if labels == CLEAN else "fault"] += 1

    check()
    assert seen["clean"] and seen["refused"] + seen["fault"]
