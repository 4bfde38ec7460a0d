"""A folder of pictures: which files are taken, in which order, and what is said where there are none."""

from pathlib import Path

import pytest

from visionbench.data.image_folder import ImageFolder
from visionbench.registry import ConfigError, find


@pytest.fixture
def folder(tmp_path):
    """A function that makes empty files below a folder, and returns the folder."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def ids(root, **options):
    return [example.id for example in ImageFolder(str(root), **options).examples()]


def test_it_is_found_by_name():
    assert find("data", "image_folder") is ImageFolder


def test_pictures_come_in_the_order_of_their_paths(folder):
    assert ids(folder("b.png", "a.jpg", "c/a.webp", "b/z.gif")) == ["a.jpg", "b/z.gif", "b.png", "c/a.webp"]


def test_other_files_are_passed_over_and_suffixes_may_be_capitals(folder):
    assert ids(folder("a.JPG", "a.txt", "README", "b.Jpeg", "labels.csv")) == ["a.JPG", "b.Jpeg"]


def test_a_folder_named_like_a_picture_is_not_one(folder):
    assert ids(folder("a.png", "folder.png/b.png")) == ["a.png", "folder.png/b.png"]


def test_a_picture_in_a_subfolder_is_labelled_with_its_first_folder(folder):
    examples = ImageFolder(str(folder("a.png", "cat/b.png", "dog/small/c.png"))).examples()
    assert [example.label for example in examples] == [None, "cat", "dog"]


def test_an_example_leads_to_its_file(folder):
    root = folder("cat/b.png")
    (example,) = ImageFolder(str(root)).examples()
    assert example.image == root / "cat" / "b.png"
    assert example.captions == ()


def test_the_first_so_many_are_taken(folder):
    root = folder("a.png", "b.png", "c.png")
    assert ids(root, samples=2) == ["a.png", "b.png"]
    assert ids(root, samples=9) == ["a.png", "b.png", "c.png"]


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    root = folder("pictures/a.png")
    monkeypatch.setenv("HOME", str(root))
    assert ids("~/pictures") == ["a.png"]


def test_the_identity_is_the_whole_path_and_the_number_taken(folder, monkeypatch):
    root = folder("a.png", "b.png")
    monkeypatch.chdir(root.parent)
    found = ImageFolder(root.name, samples=1).identity()
    assert found == {"name": "image_folder", "root": str(root.resolve()), "samples": "1"}


def test_building_it_reads_nothing():
    assert ImageFolder("nowhere").root == "nowhere"


@pytest.mark.parametrize("samples", [0, -1])
def test_fewer_than_one_sample_is_refused(samples):
    with pytest.raises(ConfigError, match=rf"^data\.options\.samples={samples}: must be at least 1$"):
        ImageFolder("x", samples)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.root=nowhere: there is no such folder; "):
        ImageFolder("nowhere").examples()


def test_a_file_instead_of_a_folder_is_named(folder):
    with pytest.raises(ConfigError, match="there is no such folder"):
        ImageFolder(str(Path(folder("a.png")) / "a.png")).examples()


def test_a_folder_without_pictures_says_what_would_be_one(folder):
    with pytest.raises(ConfigError, match=r"no picture in it \(\.bmp, \.gif, \.jpeg, \.jpg, \.png"):
        ImageFolder(str(folder("a.txt"))).examples()
