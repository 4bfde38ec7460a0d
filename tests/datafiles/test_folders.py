"""The walk below a data set's folder: what is taken, passed over, counted and refused."""

from pathlib import PurePath

import pytest

from visionbench.datafiles import folders
from visionbench.datafiles.folders import walk
from visionbench.registry import ConfigError


@pytest.fixture
def root(tmp_path):
    """A folder with two classes, and one outside it."""
    for name in ("in/cat/0.jpg", "in/dog/0.png", "out/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "in"


def pictures(root, **options):
    return [str(place) for place, _ in walk(root, **options).pictures]


@pytest.mark.parametrize(
    "name",
    ["a.jfif", "a.JPE", "a.jp2", "a.tif", "a.TIFF", "a.webp", "a.avif", "a.gif", "a.bmp", "a.ppm", "a.tga", "a.mpo"],
)
def test_every_ending_that_pillow_reads_is_a_picture(name):
    assert folders.is_picture(PurePath(name))


@pytest.mark.parametrize("name", ["a", "a.heic", "a.jpg_large", "a.pdf", "a.eps", "a.mpg", "a.h5", "jpg", "a.jpg.txt"])
def test_other_endings_are_none(name):
    assert not folders.is_picture(PurePath(name))


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "$RECYCLE.BIN", "lost+found", "__pycache__", ".thumbs"]
)
def test_folders_that_programs_leave_behind_are_no_classes(root, name):
    for place in (root / name, root / "cat" / name):
        (place / "deep").mkdir(parents=True)
        (place / "0.jpg").touch()
        (place / "deep" / "1.jpg").touch()
    assert walk(root).folders == ["cat", "dog"]
    assert pictures(root) == ["cat/0.jpg", "dog/0.png"]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._0.jpg", "desktop.ini", "ehthumbs.DB"])
def test_files_that_programs_leave_behind_are_not_counted(root, name):
    (root / "cat" / name).touch()
    assert pictures(root) == ["cat/0.jpg", "dog/0.png"]
    assert not walk(root).others


def test_a_hidden_folder_may_itself_be_the_root(tmp_path):
    (tmp_path / ".data" / "cat").mkdir(parents=True)
    (tmp_path / ".data" / "cat" / "0.jpg").touch()
    assert pictures(tmp_path / ".data") == ["cat/0.jpg"]


def test_other_endings_in_subfolders_are_counted_by_ending(root):
    for name in ("README", "cat/a.heic", "cat/b.HEIC", "dog/c.raw", "dog/d"):
        (root / name).touch()
    found = walk(root)
    assert folders.other_endings(found.others) == "4 files with other endings (.heic 2, .raw 1, none 1)"
    assert folders.other_endings(walk(root / "cat").others) == ""


def test_many_endings_are_counted_and_not_all_named(root):
    for at in range(30):
        (root / "cat" / f"a.x{at:02d}").touch()
    said = folders.other_endings(walk(root).others)
    assert said.startswith("30 files with other endings (.x00 1, .x01 1,") and said.endswith("and 25 more endings)")


def test_an_empty_folder_is_a_class_all_the_same(root):
    (root / "ant").mkdir()
    assert walk(root).folders == ["ant", "cat", "dog"]


def test_a_link_within_the_folder_is_followed(root):
    (root / ".store" / "fox").mkdir(parents=True)
    (root / ".store" / "fox" / "0.jpg").touch()
    (root / "fox").symlink_to(root / ".store" / "fox")
    (root / "cat" / "1.jpg").symlink_to("../.store/fox/0.jpg")
    with pytest.raises(ConfigError, match=r"cat/1\.jpg and fox/0\.jpg are the same picture"):
        walk(root)
    (root / "cat" / "1.jpg").unlink()
    assert pictures(root) == ["cat/0.jpg", "dog/0.png", "fox/0.jpg"]


def test_a_link_out_of_the_folder_is_refused_by_name_or_followed_where_that_is_allowed(root):
    (root / "fox").symlink_to(root.parent / "out")
    with pytest.raises(
        ConfigError, match=r"/fox: the link leads out of data\.root, .*data\.options\.follow_links=true"
    ):
        walk(root)
    found = walk(root, follow_links=True)
    assert found.folders == ["cat", "dog", "fox"]
    assert [str(place) for place, _ in found.pictures][-1] == "fox/0.jpg"


def test_a_picture_that_is_a_link_out_of_the_folder_is_refused_likewise(root):
    (root / "cat" / "1.jpg").symlink_to(root.parent / "out" / "0.jpg")
    with pytest.raises(ConfigError, match=r"cat/1\.jpg: the link leads out"):
        walk(root)
    assert pictures(root, follow_links=True) == ["cat/0.jpg", "cat/1.jpg", "dog/0.png"]


def test_the_root_may_be_a_link(root):
    (root.parent / "link").symlink_to(root)
    assert pictures(root.parent / "link") == ["cat/0.jpg", "dog/0.png"]


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("target", [".", "..", "cat"])
def test_a_link_that_leads_back_is_refused(root, follow_links, target):
    (root / "cat" / "back").symlink_to(root / target)
    with pytest.raises(ConfigError, match=r"cat/back: the link leads back to a folder that it lies in"):
        walk(root, follow_links)


def test_two_classes_that_are_one_folder_are_refused(root):
    (root / "kitten").symlink_to("cat")
    with pytest.raises(ConfigError, match="cat and kitten are the same folder"):
        walk(root)


def test_a_link_to_nothing_is_told(root):
    (root / "cat" / "1.jpg").symlink_to("nowhere.jpg")
    (root / "fox").symlink_to("nowhere")
    (root / "self").symlink_to("self")
    assert sorted(map(str, walk(root).dead_links)) == ["cat/1.jpg", "fox", "self"]
