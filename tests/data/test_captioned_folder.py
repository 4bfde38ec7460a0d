"""Captions beside pictures: every form of file that is taken, and what is said of the others."""

import pytest

from visionbench.data.captioned_folder import CaptionedFolder
from visionbench.registry import ConfigError, find

TWO = {"a.jpg": ("one", "two, or so"), "b.jpg": ("three",)}
FORMS = {
    "captions.csv": 'image,caption\na.jpg,one\na.jpg,"two, or so"\nb.jpg,three\n',
    "captions.jsonl": '{"image": "a.jpg", "captions": ["one", "two, or so"]}\n\n{"image": "b.jpg", "caption": "three"}',
    "metadata.jsonl": '{"file_name": "a.jpg", "text": ["one", "two, or so"]}\n{"file_name": "b.jpg", "text": "three"}',
    "captions.txt": "a.jpg,one\na.jpg,two, or so\nb.jpg,three\n",
    "results_20130124.token": "a.jpg#0\tone\na.jpg#1\ttwo, or so\nb.jpg#0\tthree\n",
}


@pytest.fixture
def folder(tmp_path):
    """A function that writes a file of captions and returns its folder."""

    def write(name, text):
        (tmp_path / name).write_text(text, "utf-8")
        return str(tmp_path)

    return write


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same(folder, name):
    data = CaptionedFolder(folder(name, FORMS[name]))
    assert {example.id: example.captions for example in data.examples()} == TWO
    assert not any(example.faults for example in data.examples())
    identity = data.identity()
    assert (identity["captions"], identity["samples"], len(identity["annotations_sha256"])) == (name, "2", 64)


def test_it_is_found_by_name_and_another_file_can_be_chosen(folder):
    assert find("data", "captioned_folder") is CaptionedFolder
    root = folder("flickr30k_test_karpathy.txt", "image,caption\nc.jpg,four\n")
    (one,) = CaptionedFolder(root, captions="flickr30k_test_karpathy.txt").examples()
    assert (one.id, one.captions) == ("c.jpg", ("four",))


def test_an_empty_caption_is_a_fault(folder):
    found = CaptionedFolder(folder("captions.csv", "image,caption\na.jpg, \nb.jpg,x\n")).examples()
    assert [example.faults for example in found] == [("an empty caption",), ()]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", "x,y\n1,2\n"),
        ("captions.csv", ""),
        ("captions.jsonl", "{"),
        ("captions.jsonl", "5"),
        ("captions.jsonl", '{"image": "a.jpg"}'),
        ("results_20130124.token", "a.jpg one"),
    ],
)
def test_another_form_is_told_in_one_line(folder, name, text):
    with pytest.raises(ConfigError, match=name) as caught:
        CaptionedFolder(folder(name, text)).examples()
    assert "\n" not in str(caught.value)


def test_a_folder_without_captions_says_what_is_expected(tmp_path):
    with pytest.raises(ConfigError, match=rf"^data\.root={tmp_path}: .*captions\.jsonl"):
        CaptionedFolder(str(tmp_path)).examples()
