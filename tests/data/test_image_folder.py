"""A folder of images: which files are used, in which order, and the errors for other folders."""

import os
from pathlib import Path

import pytest

from visionbench.config import build_part
from visionbench.core import ConfigError
from visionbench.data.image_folder import ImageFolder
from visionbench.examples.content_digest import digest_examples
from visionbench.registry import find


@pytest.fixture
def folder(tmp_path):
    """A function that creates empty files below a folder, and returns the folder."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def ids(root, **options):
    return [example.id for example in ImageFolder(str(root), **options).examples()]


def test_it_is_registered():
    assert find("data", "image_folder") is ImageFolder


def test_images_are_in_the_order_of_their_paths(folder):
    assert ids(folder("b.png", "a.jpg", "c/a.webp", "b/z.gif")) == ["a.jpg", "b/z.gif", "b.png", "c/a.webp"]


def test_other_files_are_ignored_and_suffixes_may_be_in_upper_case(folder):
    assert ids(folder("a.JPG", "a.txt", "README", "b.Jpeg", "labels.csv")) == ["a.JPG", "b.Jpeg"]


def test_a_folder_with_the_suffix_of_an_image_is_not_an_image(folder):
    assert ids(folder("a.png", "folder.png/b.png")) == ["a.png", "folder.png/b.png"]


def test_an_image_in_a_subfolder_is_labelled_with_its_outermost_folder(folder):
    examples = ImageFolder(str(folder("a.png", "cat/b.png", "dog/small/c.png"))).examples()
    assert [example.label for example in examples] == [None, "cat", "dog"]


def test_an_example_has_the_path_of_its_file(folder):
    root = folder("cat/b.png")
    (example,) = ImageFolder(str(root)).examples()
    assert example.image == root / "cat" / "b.png"
    assert example.captions == ()


def test_samples_takes_the_first_images(folder):
    root = folder("a.png", "b.png", "c.png")
    assert ids(root, samples=2) == ["a.png", "b.png"]
    assert ids(root, samples=9) == ["a.png", "b.png", "c.png"]


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    root = folder("pictures/a.png")
    monkeypatch.setenv("HOME", str(root))
    assert ids("~/pictures") == ["a.png"]


def test_the_identity_is_the_full_path_and_the_number_of_images(folder, monkeypatch):
    root = folder("a.png", "b.png")
    monkeypatch.chdir(root.parent)
    identity = ImageFolder(root.name, samples=1).identity()
    assert identity == {"name": "image_folder", "root": str(root.resolve()), "samples": "1"}


def test_building_it_reads_no_file():
    assert ImageFolder("nowhere").root == "nowhere"


@pytest.mark.parametrize("samples", [0, -1])
def test_fewer_than_one_sample_is_an_error(samples):
    with pytest.raises(ConfigError, match=rf"^data\.options\.samples={samples}: must be at least 1$"):
        ImageFolder("x", samples)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.root=nowhere: there is no such folder; "):
        ImageFolder("nowhere").examples()


def test_a_file_instead_of_a_folder_is_an_error(folder):
    with pytest.raises(ConfigError, match="there is no such folder"):
        ImageFolder(str(Path(folder("a.png")) / "a.png")).examples()


def test_the_error_for_a_folder_without_images_names_the_suffixes(folder):
    with pytest.raises(ConfigError, match=r"it contains no image \(\.bmp, \.gif, \.jpeg, \.jpg, \.png"):
        ImageFolder(str(folder("a.txt"))).examples()


# ------------------------------------------------------------------------------------------------------------- classes
def test_classes_are_all_visible_folders_independent_of_the_sample(folder):
    root = folder("b/0.jpg", "b/1.jpg", "a/0.jpg", ".git/0.jpg")
    (root / "empty").mkdir()
    assert ImageFolder(str(root)).classes() == ["a", "b", "empty"]
    assert ImageFolder(str(root), samples=1).classes() == ["a", "b", "empty"]


def test_a_sample_is_even_over_classes(folder):
    root = folder(*(f"{name}/{k}.jpg" for name in "abc" for k in range(4)))
    assert ids(root, samples=6) == ["a/0.jpg", "a/2.jpg", "b/0.jpg", "b/2.jpg", "c/0.jpg", "c/2.jpg"]


def test_other_files_in_folders_of_classes_are_a_warning_unless_they_are_texts(folder):
    root = folder("cat/0.jpg", "cat/1.heic", "cat/notes.txt", "README")
    assert ImageFolder(str(root)).warnings() == {
        "other_endings": "1 file with other suffixes (.heic 1) were not read as images"
    }
    assert ImageFolder(str(folder("dog/labels.csv")), samples=1).warnings().keys() == {"other_endings"}


def test_the_error_for_a_folder_with_only_other_files_counts_them(folder):
    with pytest.raises(ConfigError, match=r"but 2 files with other suffixes \(\.heic 2\)"):
        ImageFolder(str(folder("cat/0.heic", "cat/1.heic"))).examples()


def test_a_broken_link_is_an_image_with_a_problem(folder):
    root = folder("cat/0.jpg")
    (root / "cat" / "1.jpg").symlink_to("nowhere.jpg")
    problems = {example.id: example.problems for example in ImageFolder(str(root)).examples()}
    assert problems == {"cat/0.jpg": (), "cat/1.jpg": ("a broken link",)}


@pytest.mark.parametrize("names", [["train", "val"], ["Test"], ["training", "validation", "test"]])
def test_folders_of_splits_are_not_classes(folder, names):
    root = folder(*(f"{name}/cat/0.jpg" for name in names))
    with pytest.raises(ConfigError, match=r"its folders are splits and not classes .*; choose one, as in data\.root="):
        ImageFolder(str(root)).classes()


def test_folders_of_splits_beside_other_folders_are_not_classes(folder):
    root = folder("train/cat/0.jpg", "val/cat/0.jpg", "labels/0.jpg")
    with pytest.raises(ConfigError, match=r"its folders are splits and not classes \('train', 'val'\)"):
        ImageFolder(str(root)).classes()


def test_a_class_may_have_the_name_of_a_split_if_it_contains_images_directly(folder):
    root = folder("train/0.jpg", "test/0.jpg", "cat/day/0.jpg")
    assert ImageFolder(str(root)).classes() == ["cat", "test", "train"]


def test_classes_with_several_folders_of_images_are_a_warning(folder):
    assert ImageFolder(str(folder("cat/images/0.jpg", "dog/images/0.jpg", "dog/1.jpg"))).warnings() == {}
    assert ImageFolder(str(folder("art/cup/0.jpg", "art/pen/0.jpg"))).warnings() == {
        "folders_in_classes": "1 of 3 folders of classes contain several folders with images, such as 'art'; the "
        "class of each image is its outermost folder"
    }


def test_the_error_for_a_root_one_level_too_high_names_the_folder(folder):
    root = folder("images/cat/0.jpg", "images/dog/0.jpg")
    with pytest.raises(ConfigError, match=rf"its only folder 'images' .* give data\.root={root}/images"):
        ImageFolder(str(root)).classes()


@pytest.mark.parametrize(("mapping", "target"), [({"red fox": "fox"}, "fox"), ({"Red-Fox": 3}, 3)])
def test_a_mapping_applies_to_any_spelling_of_the_class(folder, mapping, target):
    (one, other) = ImageFolder(str(folder("red_fox/0.jpg", "cat/0.jpg")), class_mapping=mapping).described_classes()
    assert (one.name, one.target, other.name, other.target) == ("cat", None, "red_fox", target)


def test_the_option_for_the_mapping_is_called_classes(folder):
    options = {"root": str(folder("7/0.jpg")), "classes": {7: "seven"}}
    (one,) = build_part("data", "image_folder", options, "data.options").described_classes()
    assert one.target == "seven"
    with pytest.raises(ConfigError, match=r"data\.options\.clases.*did you mean 'data.options.classes'"):
        build_part("data", "image_folder", {"root": "x", "clases": {}}, "data.options")


@pytest.mark.parametrize("mapping", [["cat"], "cat", 3, {"cat": None}, {"cat": True}, {"cat": 1.5}, {"cat": ""}])
def test_a_mapping_of_another_form_is_an_error(mapping):
    with pytest.raises(ConfigError, match=r"^data\.options\.classes"):
        ImageFolder("x", class_mapping=mapping)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"cta": "cat"}, "there is no class 'cta' among the data's 2; the nearest are 'cat'"),
        ({"cat": 1, "Cat": 2}, "'cat' is mapped twice"),
    ],
)
def test_a_mapping_of_an_unknown_or_repeated_class_is_an_error(folder, mapping, message):
    with pytest.raises(ConfigError, match=message):
        ImageFolder(str(folder("cat/0.jpg", "dog/0.jpg")), class_mapping=mapping).described_classes()


def test_a_name_that_is_not_utf_8_or_contains_a_line_end_is_escaped(tmp_path):
    for name in (b"caf\xe9/0.jpg", b"two\nlines/1.jpg", b"no\xc2\xa0break/2.jpg"):
        path = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(name)
    data = ImageFolder(str(tmp_path))
    assert data.classes() == ["caf\\udce9", "no\u00a0break", "two\\nlines"]
    for example in data.examples():
        assert example.image.is_file() and example.label in data.classes()
        example.id.encode()
    assert len(digest_examples(data.examples(), tmp_path / "cache")) == 64
