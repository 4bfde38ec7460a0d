"""The listing of a data set's folder: images, ignored files, other files, and links."""

from pathlib import PurePath

import pytest

from visionbench.core import ConfigError
from visionbench.datafiles.folder_listing import describe_others, is_image, list_folder


@pytest.fixture
def root(tmp_path):
    """A folder with two classes, and another folder outside it."""
    for name in ("in/cat/0.jpg", "in/dog/0.png", "out/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "in"


def images(root, **options):
    return [str(place) for place, _ in list_folder(root, **options).images]


@pytest.mark.parametrize(
    "name",
    ["a.jfif", "a.JPE", "a.jp2", "a.tif", "a.TIFF", "a.webp", "a.avif", "a.gif", "a.bmp", "a.ppm", "a.tga", "a.mpo"],
)
def test_every_suffix_that_pillow_decodes_is_an_image(name):
    assert is_image(PurePath(name))


@pytest.mark.parametrize("name", ["a", "a.heic", "a.jpg_large", "a.pdf", "a.eps", "a.mpg", "a.h5", "jpg", "a.jpg.txt"])
def test_other_suffixes_are_not_images(name):
    assert not is_image(PurePath(name))


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "$RECYCLE.BIN", "lost+found", "__pycache__", ".thumbs"]
)
def test_folders_that_programs_leave_behind_are_not_classes(root, name):
    for place in (root / name, root / "cat" / name):
        (place / "deep").mkdir(parents=True)
        (place / "0.jpg").touch()
        (place / "deep" / "1.jpg").touch()
    assert list_folder(root).folders == ["cat", "dog"]
    assert images(root) == ["cat/0.jpg", "dog/0.png"]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._0.jpg", "desktop.ini", "ehthumbs.DB"])
def test_files_that_programs_leave_behind_are_not_counted(root, name):
    (root / "cat" / name).touch()
    assert images(root) == ["cat/0.jpg", "dog/0.png"]
    assert not list_folder(root).others


def test_the_root_may_be_a_hidden_folder(tmp_path):
    (tmp_path / ".data" / "cat").mkdir(parents=True)
    (tmp_path / ".data" / "cat" / "0.jpg").touch()
    assert images(tmp_path / ".data") == ["cat/0.jpg"]


def test_other_files_in_subfolders_are_counted_by_suffix(root):
    for name in ("README", "cat/a.heic", "cat/b.HEIC", "dog/c.raw", "dog/d"):
        (root / name).touch()
    listing = list_folder(root)
    assert describe_others(listing.others) == "4 files with other suffixes (.heic 2, .raw 1, none 1)"
    assert describe_others(list_folder(root / "cat").others) == ""


def test_the_first_of_many_suffixes_are_named_and_the_others_counted(root):
    for number in range(30):
        (root / "cat" / f"a.x{number:02d}").touch()
    text = describe_others(list_folder(root).others)
    assert text.startswith("30 files with other suffixes (.x00 1, .x01 1,") and text.endswith("and 25 more suffixes)")


def test_an_empty_folder_is_a_class(root):
    (root / "ant").mkdir()
    assert list_folder(root).folders == ["ant", "cat", "dog"]


def test_a_link_within_the_folder_is_followed(root):
    (root / ".store" / "fox").mkdir(parents=True)
    (root / ".store" / "fox" / "0.jpg").touch()
    (root / "fox").symlink_to(root / ".store" / "fox")
    (root / "cat" / "1.jpg").symlink_to("../.store/fox/0.jpg")
    with pytest.raises(ConfigError, match=r"cat/1\.jpg and fox/0\.jpg are the same image"):
        list_folder(root)
    (root / "cat" / "1.jpg").unlink()
    assert images(root) == ["cat/0.jpg", "dog/0.png", "fox/0.jpg"]


def test_a_link_out_of_the_folder_is_an_error_unless_links_are_followed(root):
    (root / "fox").symlink_to(root.parent / "out")
    with pytest.raises(
        ConfigError, match=r"/fox: the link leads out of data\.root, .*data\.options\.follow_links=true"
    ):
        list_folder(root)
    listing = list_folder(root, follow_links=True)
    assert listing.folders == ["cat", "dog", "fox"]
    assert [str(place) for place, _ in listing.images][-1] == "fox/0.jpg"


def test_an_image_that_is_a_link_out_of_the_folder_is_an_error_unless_links_are_followed(root):
    (root / "cat" / "1.jpg").symlink_to(root.parent / "out" / "0.jpg")
    with pytest.raises(ConfigError, match=r"cat/1\.jpg: the link leads out"):
        list_folder(root)
    assert images(root, follow_links=True) == ["cat/0.jpg", "cat/1.jpg", "dog/0.png"]


def test_the_root_may_be_a_link(root):
    (root.parent / "link").symlink_to(root)
    assert images(root.parent / "link") == ["cat/0.jpg", "dog/0.png"]


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("target", [".", "..", "cat"])
def test_a_link_to_a_parent_folder_is_an_error(root, follow_links, target):
    (root / "cat" / "back").symlink_to(root / target)
    with pytest.raises(ConfigError, match=r"cat/back: the link leads back to a folder that contains it"):
        list_folder(root, follow_links)


def test_two_classes_in_one_folder_are_an_error(root):
    (root / "kitten").symlink_to("cat")
    with pytest.raises(ConfigError, match="cat and kitten are the same folder"):
        list_folder(root)


def test_broken_links_are_listed(root):
    (root / "cat" / "1.jpg").symlink_to("nowhere.jpg")
    (root / "fox").symlink_to("nowhere")
    (root / "self").symlink_to("self")
    assert sorted(map(str, list_folder(root).dead_links)) == ["cat/1.jpg", "fox", "self"]
