"""The digest of a data set: independent of its folder, dependent on its content, and cached for unchanged files."""

import json
import os
from dataclasses import replace

import pytest

from visionbench.core import Example
from visionbench.examples import content_digest
from visionbench.examples.content_digest import digest_examples


@pytest.fixture
def make(tmp_path):
    """A function that returns the examples of a folder, and writes their images if they are missing."""

    def make(name="a", count=3):
        (tmp_path / name).mkdir(exist_ok=True)
        for index in range(count):
            path = tmp_path / name / f"{index}.jpg"
            if not path.exists():
                path.write_bytes(f"image {index}".encode())
        images = [tmp_path / name / f"{index}.jpg" for index in range(count)]
        return [Example(f"{index}", image, captions=("one",), label="x") for index, image in enumerate(images)]

    return make


@pytest.fixture
def digest(tmp_path):
    return lambda examples: digest_examples(examples, tmp_path / "cache")


def test_moved_images_have_the_same_digest(make, digest):
    assert digest(make("a")) == digest(make("b"))


def test_the_digest_does_not_depend_on_the_order_of_examples(make, digest):
    assert digest(make()) == digest(make()[::-1])


@pytest.mark.parametrize(
    "change", [{"id": "9"}, {"label": "y"}, {"label": None}, {"captions": ("two",)}, {"exif": "stored"}]
)
def test_another_name_label_caption_or_mask_frame_changes_the_digest(make, digest, change):
    first, *unchanged = make()
    assert digest([first, *unchanged]) != digest([replace(first, **change), *unchanged])


def test_other_contents_under_the_same_path_change_the_digest(make, digest):
    before = digest(make())
    make()[1].image.write_bytes(b"another image")
    assert digest(make()) != before


def test_a_replaced_file_of_the_same_size_and_time_is_read_again(make, digest):
    path = make()[1].image
    before, times = digest(make()), path.stat()
    path.write_bytes(b"image X")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size and path.stat().st_mtime_ns == times.st_mtime_ns
    assert digest(make()) != before


def test_unchanged_files_are_not_read_again(make, digest, monkeypatch):
    before = digest(make())
    read = []
    monkeypatch.setattr(content_digest, "_digest_file", lambda path: read.append(path) or "0" * 64)
    assert digest(make()) == before
    assert not read
    digest(make(count=4))
    assert [path.name for path in read] == ["3.jpg"]


def test_a_missing_image_changes_the_digest(make, digest):
    examples = make()
    before = digest(examples)
    examples[0].image.unlink()
    assert digest(examples) != before


@pytest.mark.parametrize("damaged", ["", "[]", '{"a": 1}', '{"a": [1]}', "\udcff"])
def test_a_damaged_cache_is_written_again(make, digest, tmp_path, damaged):
    before = digest(make())
    (cache_file,) = (tmp_path / "cache").iterdir()
    cache_file.write_bytes(damaged.encode("utf-8", "surrogateescape"))
    assert digest(make()) == before
    assert len(json.loads(cache_file.read_text())) >= 3


def test_a_cache_that_cannot_be_written_does_not_change_the_digest(make, tmp_path):
    (tmp_path / "file").touch()
    assert digest_examples(make(), tmp_path / "file" / "cache") == digest_examples(make(), tmp_path / "cache")


def test_an_empty_data_set_has_a_digest(digest):
    assert len(digest([])) == 64
