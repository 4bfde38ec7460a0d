"""The bundled data set: its bytes, splits, captions, masks and cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image
from worker_jobs import digest_of_shapes

from visionbench.core import ConfigError
from visionbench.data import shapes
from visionbench.data.shapes import Composition, ShapeObject, Shapes, compositions
from visionbench.datafiles.images import decode
from visionbench.examples.content_digest import digest_examples
from visionbench.registry import find


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def make_shapes(tmp_path: Path, **options: Any) -> Shapes:
    data = Shapes(**{"samples": 12, "cache_dir": str(tmp_path), **options})
    data.examples()
    return data


def test_it_is_registered() -> None:
    assert find("data", "shapes") is Shapes


def test_building_it_writes_no_file(tmp_path: Path) -> None:
    Shapes(cache_dir=str(tmp_path / "cache"))
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------- determinism
def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = make_shapes(tmp_path / "one"), make_shapes(tmp_path / "two")
    files = every_file(one.folder)
    assert len(files) == 12 + 12 + 1
    assert files == every_file(two.folder)
    assert one.identity() == two.identity()


def test_another_process_with_another_hash_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    make_shapes(tmp_path / "here")
    there = tmp_path / "there"
    code = f"from visionbench.data.shapes import Shapes; Shapes(samples=12, cache_dir={str(there)!r}).examples()"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "12345"})
    assert every_file(tmp_path / "here") == every_file(there)


def test_a_seed_changes_the_images_but_not_their_content(tmp_path: Path) -> None:
    one, two = make_shapes(tmp_path, seed=0).examples(), make_shapes(tmp_path, seed=1).examples()
    for a, b in zip(one, two, strict=True):
        assert (a.captions, a.label) == (b.captions, b.label)
        assert a.image.read_bytes() != b.image.read_bytes()


def test_fewer_samples_are_the_first_of_more_samples(tmp_path: Path) -> None:
    few, many = make_shapes(tmp_path, samples=5).examples(), make_shapes(tmp_path, samples=9).examples()
    assert [e.image.read_bytes() for e in few] == [e.image.read_bytes() for e in many[:5]]


@pytest.mark.parametrize("other", [{"split": "train"}, {"samples": 11}, {"seed": 1}, {"size": 48}])
def test_every_option_changes_folder_and_identity(tmp_path: Path, other: dict[str, Any]) -> None:
    one, two = make_shapes(tmp_path), make_shapes(tmp_path, **other)
    assert one.folder.parent != two.folder.parent
    assert one.identity() != two.identity()
    assert all(isinstance(value, str) for value in two.identity().values())


def test_the_generator_version_changes_folder_and_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_shapes(tmp_path)
    folder, identity = data.folder, data.identity()
    monkeypatch.setattr(shapes, "VERSION", "next")
    assert data.folder != folder
    assert data.identity() != identity


def test_the_identity_has_the_digest_of_the_annotations(tmp_path: Path) -> None:
    data = make_shapes(tmp_path)
    before = data.identity()
    annotations = data.folder / "annotations.jsonl"
    annotations.write_text(annotations.read_text("utf-8").replace("ring", "hoop"), "utf-8")
    assert data.identity() != before


# ------------------------------------------------------------------------------------------------------- compositions
def test_the_splits_are_disjoint_and_complete() -> None:
    sizes = {split: len(compositions(split)) for split in shapes.SPLITS}
    assert sizes == {"train": 10_640, "validation": 1_000, "test": 1_000}
    every = [part for split in shapes.SPLITS for part in compositions(split)]
    assert len(set(every)) == len(every) == 80 * 79 * 2
    assert all(part.first != part.second for part in every)


def test_the_files_of_two_splits_share_no_composition(tmp_path: Path) -> None:
    def shown(split: str) -> set[str]:
        rows = (
            (make_shapes(tmp_path, split=split, samples=300).folder / "annotations.jsonl")
            .read_text("utf-8")
            .splitlines()
        )
        return {" ".join(json.loads(row)["composition"]) for row in rows}

    train, validation, test = (shown(split) for split in shapes.SPLITS)
    assert len(train) == len(validation) == len(test) == 300
    assert not (train & validation or train & test or validation & test)


def test_the_first_compositions_of_the_test_split_do_not_change() -> None:
    """The bundled checkpoints were trained on the other compositions: a new order would leak test data."""
    assert [str(part) for part in compositions("test")[:2]] == [
        "small purple square left of small white square",
        "small purple ring above large orange square",
    ]


def test_no_caption_describes_two_compositions() -> None:
    times = Counter(caption for split in shapes.SPLITS for part in compositions(split) for caption in part.captions)
    assert len(times) == 12_640 * 5
    assert max(times.values()) == 1


def test_captions_describe_their_composition() -> None:
    red, blue = ShapeObject("small", "red", "ring"), ShapeObject("large", "blue", "star")
    assert Composition(red, blue, "left of").captions == (
        "a small red ring to the left of a large blue star",
        "a large blue star to the right of a small red ring",
        "the small red ring is on the left and the large blue star is on the right",
        "there is a big blue star right of a tiny red ring",
        "on the left a tiny red ring, on the right a big blue star",
    )
    assert Composition(red, blue, "above").captions == (
        "a small red ring above a large blue star",
        "a large blue star below a small red ring",
        "the small red ring is at the top and the large blue star is at the bottom",
        "there is a big blue star underneath a tiny red ring",
        "at the top a tiny red ring, at the bottom a big blue star",
    )


def test_labels_do_not_depend_on_the_order_of_the_objects() -> None:
    labels = {part.label for part in compositions("train")}
    assert len(labels) == 15
    star, ring = ShapeObject("small", "red", "star"), ShapeObject("small", "red", "ring")
    assert Composition(star, ring, "above").label == Composition(ring, star, "above").label == "ring and star"


# ----------------------------------------------------------------------------------------------------- images and masks
@pytest.mark.parametrize("size", [32, 64, 100])
def test_files_are_jpeg_images_with_masks_of_the_same_size(tmp_path: Path, size: int) -> None:
    for example in make_shapes(tmp_path, size=size).examples():
        with Image.open(example.image) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (size, size))
        masks = example.masks()
        assert (masks.shape, masks.dtype) == ((2, size, size), bool)
        assert example.instances == 2
        assert masks.any(axis=(1, 2)).all()
        assert not masks.all(axis=0).any()
        assert len(example.captions) == 5


@pytest.mark.parametrize("seed", [0, 7])
def test_the_masks_have_the_position_size_and_colour_of_the_composition(seed: int) -> None:
    """Check centre and extent of the masked pixels, and their colour in the image."""
    for part in compositions("validation")[:150]:
        image, mask = shapes.render(part, seed, 64)
        (y1, x1), (y2, x2) = (np.argwhere(mask == number).mean(0) for number in (1, 2))
        along, across = (x2 - x1, y2 - y1) if part.relation == "left of" else (y2 - y1, x2 - x1)
        assert along > 20 and abs(across) < 14
        for number, one in enumerate((part.first, part.second), start=1):
            ys, xs = np.nonzero(mask == number)
            width = int(np.ptp(xs)) + 1
            assert (width <= 15) if one.size == "small" else (width >= 17)
            assert xs.min() > 0 and xs.max() < 63 and ys.min() > 0 and ys.max() < 63
            median_colour = np.median(image[ys, xs].astype(float), axis=0)
            distances = {name: np.abs(median_colour - colour).sum() for name, colour in shapes.COLOURS.items()}
            assert min(distances, key=lambda name: distances[name]) == one.colour
        assert image[mask == 0].mean() < 95


def test_a_class_map_has_the_shapes_of_the_composition_where_the_mask_has_its_objects(tmp_path: Path) -> None:
    data = make_shapes(tmp_path)
    names = [one.name for one in data.map_classes()]
    assert names == ["background", *shapes.SHAPES]
    for example, composition in zip(data.examples(), compositions("test"), strict=False):
        assert example.masks is not None and example.class_map is not None
        masks, class_map = example.masks(), example.class_map()
        assert class_map.shape == masks.shape[1:]
        for mask, one in zip(masks, (composition.first, composition.second), strict=True):
            assert {names[index] for index in np.unique(class_map[mask])} == {one.shape}
        assert not class_map[~masks.any(axis=0)].any()


def test_images_with_depth_are_others_and_their_depth_is_visible(tmp_path: Path) -> None:
    plain, deep = make_shapes(tmp_path), make_shapes(tmp_path, depth=True)
    assert plain.folder != deep.folder
    assert "depth" not in plain.identity() and deep.identity()["depth"] == "true"
    assert set(plain.absent_annotations()) == {"depth"} and not deep.absent_annotations()
    nearest, farthest = [], []
    for example, other in zip(deep.examples(), plain.examples(), strict=True):
        assert example.depth_map is not None and example.masks is not None and other.depth_map is None
        assert (example.captions, example.label) == (other.captions, other.label)
        depth, masks = example.depth_map(), example.masks()
        assert depth.shape == masks.shape[1:] and depth.min() >= 1 and depth.max() <= 12
        assert depth[masks.any(axis=0)].max() < depth[~masks.any(axis=0)].min()
        pixels = np.asarray(decode(example.image), np.float64)
        distance = np.abs(pixels - np.asarray(shapes.FOG)).sum(axis=-1)
        nearest.append(distance[depth <= np.quantile(depth, 0.05)].mean())
        farthest.append(distance[depth >= np.quantile(depth, 0.95)].mean())
    assert np.mean(farthest) < 0.6 * np.mean(nearest)


def test_any_two_shapes_differ() -> None:
    """At the same position and size, any two shapes differ in many of their pixels."""
    masks = {name: shapes._draw_coverage(name, (0.5, 0.5), shapes.RADII["small"], 64) > 127 for name in shapes.SHAPES}
    for a in shapes.SHAPES:
        for b in shapes.SHAPES[: shapes.SHAPES.index(a)]:
            union, both = (masks[a] | masks[b]).sum(), (masks[a] & masks[b]).sum()
            assert both / union < 0.75, (a, b)


# -------------------------------------------------------------------------------------------------------------- cache
def test_a_second_call_reads_the_rendered_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_shapes(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in data.folder.rglob("*")}

    def never(*_: object) -> Any:
        raise AssertionError("rendered again")

    monkeypatch.setattr(shapes, "render", never)
    first = Shapes(samples=12, cache_dir=str(tmp_path)).examples()
    assert first == data.examples()
    assert before == {file: file.stat().st_mtime_ns for file in data.folder.rglob("*")}


def test_an_interrupted_rendering_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render, calls = shapes.render, []

    def fails_at_the_fifth(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return render(*arguments)

    monkeypatch.setattr(shapes, "render", fails_at_the_fifth)
    data = Shapes(samples=12, cache_dir=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        data.examples()
    assert not data.folder.exists()
    assert every_file(tmp_path) == {}
    assert len(data.examples()) == 12


def test_two_threads_that_render_at_once_give_one_complete_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both threads find no cache and render. A barrier makes each wait at its first image for the other."""
    render, barrier, first_composition = shapes.render, Barrier(2, timeout=30), compositions("test")[0]

    def together(composition: Composition, seed: int, size: int) -> Any:
        if composition == first_composition:
            barrier.wait()
        return render(composition, seed, size)

    monkeypatch.setattr(shapes, "render", together)
    data = Shapes(samples=12, cache_dir=str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: data.examples(), range(2))
    assert first == second and len(first) == 12
    assert [entry.name for entry in data.folder.parent.iterdir()] == ["test"]
    assert len(every_file(data.folder)) == 25


def test_many_processes_at_once_are_safe(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        digests = list(pool.map(digest_of_shapes, [str(tmp_path)] * 6))
    assert len(set(digests)) == 1 and digests[0][0] == 40
    (only,) = tmp_path.iterdir()
    assert [entry.name for entry in only.iterdir()] == ["test"]


# ------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"split": "everything"}, "there are: test, train, validation"),
        ({"samples": 0}, "samples: 0"),
        ({"samples": -3}, "samples: -3"),
        ({"samples": 1001}, "the test split has 1000 images"),
        ({"split": "train", "samples": 10_641}, "the train split has 10640 images"),
        ({"samples": 2.5}, "samples: 2.5 is not a whole number"),
        ({"samples": True}, "samples: True is not a whole number"),
        ({"seed": -1}, "seed: -1"),
        ({"size": 8}, "size: 8 is not a whole number from 32"),
    ],
)
def test_invalid_options_are_an_error_of_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Shapes(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"data.options.{list(options)[-1]}" in str(caught.value)


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="data.options.cache_dir: cannot write to '.*file'"):
        Shapes(samples=3, cache_dir=str(tmp_path / "file")).examples()


def test_a_cache_without_annotations_is_an_error(tmp_path: Path) -> None:
    data = make_shapes(tmp_path)
    (data.folder / "annotations.jsonl").unlink()
    with pytest.raises(ConfigError, match="delete .* to render it again"):
        data.examples()


# ---------------------------------------------------------------------------------------------------------- questions
def test_questions_have_the_answers_of_the_composition() -> None:
    """A second implementation reads the words of the question."""
    for composition in compositions("test")[:200]:
        names = {"left of": ("left", "right"), "above": ("top", "bottom")}[composition.relation]
        objects = dict(zip(names, (composition.first, composition.second), strict=True))
        colour, shape, position, size = composition.questions
        for question, attribute in ((colour, "colour"), (shape, "shape"), (size, "size")):
            place = next(name for name in names if name in question.text)
            assert set(question.answers) == {getattr(objects[place], attribute)}
        (place,) = set(position.answers)
        assert f"Where is the {objects[place]}:" in position.text


def test_each_question_has_ten_equal_answers_and_its_own_text() -> None:
    for composition in compositions("validation")[:50]:
        assert len({question.text for question in composition.questions}) == 4
        for question in composition.questions:
            assert len(question.answers) == 10
            assert len(set(question.answers)) == 1


def test_answers_are_balanced() -> None:
    counts = [
        Counter(question.answers[0] for question in questions)
        for questions in zip(*(composition.questions for composition in compositions("test")), strict=True)
    ]
    for kind, choices in zip(counts, (8, 5, 4, 2), strict=True):
        assert len(kind) == choices
        expected = 1000 / choices
        assert all(abs(count - expected) < 5 * expected**0.5 for count in kind.values())


def test_questions_change_neither_the_files_nor_the_identity_of_the_data(tmp_path: Path) -> None:
    data = make_shapes(tmp_path)
    example = data.examples()[0]
    assert example.questions == compositions("test")[0].questions
    assert "questions" not in json.loads((data.folder / "annotations.jsonl").read_text().splitlines()[0])
    without = [replace(one, questions=()) for one in data.examples()]
    assert digest_examples(data.examples(), tmp_path / "a") == digest_examples(without, tmp_path / "b")
