"""What data are: the same wherever they lie, others under the same path; and what is read again."""

import json
import os
from dataclasses import replace

import pytest

from visionbench.core import Example
from visionbench.examples import contents
from visionbench.examples.contents import sha256


@pytest.fixture
def make(tmp_path):
    """A function from a folder's name to examples in it, and the digest of these with a cache of this test's own."""

    def make(name="a", count=3):
        (tmp_path / name).mkdir(exist_ok=True)
        for at in range(count):
            path = tmp_path / name / f"{at}.jpg"
            if not path.exists():
                path.write_bytes(f"picture {at}".encode())
        images = [tmp_path / name / f"{at}.jpg" for at in range(count)]
        return [Example(f"{at}", image, captions=("one",), label="x") for at, image in enumerate(images)]

    return make


@pytest.fixture
def digest(tmp_path):
    return lambda examples: sha256(examples, tmp_path / "cache")


def test_moved_pictures_are_the_same_data(make, digest):
    assert digest(make("a")) == digest(make("b"))


def test_the_order_of_a_listing_makes_no_difference(make, digest):
    assert digest(make()) == digest(make()[::-1])


@pytest.mark.parametrize(
    "change", [{"id": "9"}, {"label": "y"}, {"label": None}, {"captions": ("two",)}, {"exif": "stored"}]
)
def test_another_name_label_caption_or_frame_makes_other_data(make, digest, change):
    first, *others = make()
    assert digest([first, *others]) != digest([replace(first, **change), *others])


def test_other_contents_under_the_same_path_make_other_data(make, digest):
    before = digest(make())
    make()[1].image.write_bytes(b"another picture")
    assert digest(make()) != before


def test_contents_of_the_same_size_and_time_are_read_again_where_the_file_was_replaced(make, digest):
    path = make()[1].image
    before, times = digest(make()), path.stat()
    path.write_bytes(b"picture X")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size and path.stat().st_mtime_ns == times.st_mtime_ns
    assert digest(make()) != before


def test_files_that_stayed_as_they_were_are_not_read_again(make, digest, monkeypatch):
    before = digest(make())
    read = []
    monkeypatch.setattr(contents, "_digest", lambda path: read.append(path) or "0" * 64)
    assert digest(make()) == before
    assert not read
    digest(make(count=4))
    assert [path.name for path in read] == ["3.jpg"]


def test_a_picture_that_is_missing_is_part_of_what_the_data_are(make, digest):
    examples = make()
    before = digest(examples)
    examples[0].image.unlink()
    assert digest(examples) != before


@pytest.mark.parametrize("spoilt", ["", "[]", '{"a": 1}', '{"a": [1]}', "\udcff"])
def test_a_cache_that_cannot_be_read_is_made_anew(make, digest, tmp_path, spoilt):
    before = digest(make())
    (place,) = (tmp_path / "cache").iterdir()
    place.write_bytes(spoilt.encode("utf-8", "surrogateescape"))
    assert digest(make()) == before
    assert len(json.loads(place.read_text())) >= 3


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(make, tmp_path):
    (tmp_path / "file").touch()
    assert sha256(make(), tmp_path / "file" / "cache") == sha256(make(), tmp_path / "cache")


def test_no_picture_at_all_has_a_digest(digest):
    assert len(digest([])) == 64
