"""Image folders of the datasets library: metadata files, folders of classes, splits, and rows that cannot be used."""

import json
import os
import shutil

import photographs
import pytest

from visionbench.core import ConfigError
from visionbench.data.hf_folder import HfFolder
from visionbench.examples import screening
from visionbench.registry import find

CSV = 'file_name,caption,label\nchina.jpg,a temple,0\nflower.jpg,"a flower, red",1\ngrace_hopper.jpg,a woman,2\n'


@pytest.fixture
def root(tmp_path):
    """A folder with three photographs."""
    for photo in photographs.ALL:
        shutil.copy(photo, tmp_path)
    return tmp_path


def write(folder, text, name="metadata.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(root, **options):
    return [(example.id, example.captions, example.label) for example in HfFolder(str(root), **options).examples()]


def test_it_is_registered():
    assert find("data", "hf_folder") is HfFolder


def test_building_it_reads_no_file():
    assert HfFolder("nowhere").root == "nowhere"


def test_a_table_gives_captions_and_labels(root):
    write(root, CSV)
    assert rows_of(root) == [
        ("china.jpg", ("a temple",), "0"),
        ("flower.jpg", ("a flower, red",), "1"),
        ("grace_hopper.jpg", ("a woman",), "2"),
    ]
    data = HfFolder(str(root))
    assert data.classes() == ("0", "1", "2")
    assert data.absent_annotations() == {} and data.warnings() == {}
    assert screening.find_problems(data.examples(), decoded=3) == {}


def test_lines_of_json_may_have_several_captions_and_names_of_classes(root):
    rows = [
        {"file_name": photo.name, "text": photographs.CAPTIONS[photo], "label": photographs.LABELS[photo]}
        for photo in photographs.ALL
    ]
    write(root, lines(*rows), "metadata.jsonl")
    assert rows_of(root) == [
        (photo.name, tuple(photographs.CAPTIONS[photo]), photographs.LABELS[photo]) for photo in photographs.ALL
    ]


def test_names_give_the_classes_of_numbers(root, tmp_path):
    write(root, CSV)
    (tmp_path / "names.txt").write_text("temple\nflower\nportrait\ncat\n")
    data = HfFolder(str(root), names=str(tmp_path / "names.txt"))
    assert [example.label for example in data.examples()] == ["temple", "flower", "portrait"]
    assert data.classes() == ("temple", "flower", "portrait", "cat")


def test_columns_are_chosen_by_options(root):
    write(root, "path,title,kind\nchina.jpg,a temple,building\n")
    assert rows_of(root, image="path", caption="title", label="kind") == [("china.jpg", ("a temple",), "building")]
    with pytest.raises(ConfigError, match=r"^data\.options\.caption=tilte: .*has no such column; did you mean 'title'"):
        rows_of(root, image="path", caption="tilte")
    with pytest.raises(ConfigError, match=r"^data\.options\.image=file_name: .* has no such column"):
        rows_of(root)


def test_two_possible_columns_are_an_error(root):
    write(root, "file_name,caption,text\nchina.jpg,a,b\n")
    with pytest.raises(ConfigError, match=r"caption and text may both be the caption; choose with .*caption=caption"):
        rows_of(root)


def test_metadata_files_of_subfolders_name_the_images_beside_them(root):
    for name in ("china.jpg", "flower.jpg"):
        (root / "a").mkdir(exist_ok=True)
        shutil.move(root / name, root / "a" / name)
    write(root / "a", "file_name,caption\nchina.jpg,a temple\nflower.jpg,a flower\n")
    write(root, "file_name,caption\ngrace_hopper.jpg,a woman\n")
    assert sorted(row[0] for row in rows_of(root)) == ["a/china.jpg", "a/flower.jpg", "grace_hopper.jpg"]


def test_rows_of_one_image_are_merged_if_their_label_is_the_same(root):
    write(root, "file_name,caption,label\nchina.jpg,one,0\n./china.jpg,two,0\nflower.jpg,a,1\nflower.jpg,b,2\n")
    china, flower = HfFolder(str(root)).examples()
    assert (china.captions, china.label, china.problems) == (("one", "two"), "0", ())
    assert flower.problems == ("two labels",)


def test_images_that_no_row_names_are_a_warning(root):
    write(root, "file_name,caption\nchina.jpg,a temple\n")
    assert HfFolder(str(root)).warnings() == {
        "images_without_metadata": "2 images are in no metadata file, such as flower.jpg"
    }


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../china.jpg", "a file name that leads out of the data set's folder"),
        ("/etc/passwd", "a file name that is an absolute path"),
        ("https://host/a.jpg", "a file name that is a URL"),
        ("", "no name of an image in file_name"),
    ],
)
def test_a_row_with_another_name_than_that_of_a_file_below_the_folder_has_a_problem(root, name, problem):
    write(root, lines({"file_name": name, "text": "x"}, {"file_name": "china.jpg", "text": "y"}), "metadata.jsonl")
    (first, second) = HfFolder(str(root)).examples()
    assert first.problems[0].startswith(problem) and second.problems == ()


def test_rows_that_cannot_be_read_are_named_by_their_line(root):
    write(root, "file_name,caption\nchina.jpg,a temple\nflower.jpg,a,b\nmissing.jpg,c\n")
    problems = screening.find_problems(HfFolder(str(root)).examples(), decoded=0)
    assert problems == {
        "metadata.csv, line 3": "3 cells, but the heading has 2",
        "missing.jpg": "missing",
    }
    (root / "metadata.csv").unlink()
    write(
        root, '{"file_name": "china.jpg", "text": "a"}\n{"file_name"\n{"text": 1, "text": 2}\n[1]\n', "metadata.jsonl"
    )
    problems = screening.find_problems(HfFolder(str(root)).examples(), decoded=0)
    assert list(problems) == [f"metadata.jsonl, line {line}" for line in (2, 3, 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "metadata.csv: it has no row"),
        ("file_name,caption\n", "metadata.csv: it has no row"),
        ("file_name,file_name\na,b\n", "the column 'file_name' is listed twice"),
        ('file_name,caption\nchina.jpg,"open\n', "line 2: not a table with commas"),
        ("file_name,caption\na\nb\n", "line 2: 1 cells, but the heading has 2; none of its 2 rows can be read"),
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error_of_one_line(root, text, message):
    write(root, text)
    with pytest.raises(ConfigError) as caught:
        rows_of(root)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_two_metadata_files_in_one_folder_are_an_error(root):
    write(root, CSV)
    write(root, lines({"file_name": "china.jpg", "text": "a"}), "metadata.jsonl")
    with pytest.raises(ConfigError, match=r"it has metadata\.csv and metadata\.jsonl; keep one"):
        rows_of(root)


# ------------------------------------------------------------------------------------------------------------- layouts
@pytest.fixture
def by_class(tmp_path):
    """Two splits with a folder for each class."""
    for split in ("train", "test"):
        for photo in photographs.ALL:
            folder = tmp_path / "data" / split / photographs.LABELS[photo]
            folder.mkdir(parents=True)
            shutil.copy(photo, folder)
    return tmp_path / "data"


def test_without_metadata_the_label_is_the_folder_of_the_image(by_class):
    assert rows_of(by_class, split="test") == [
        ("flower/flower.jpg", (), "flower"),
        ("portrait/grace_hopper.jpg", (), "portrait"),
        ("temple/china.jpg", (), "temple"),
    ]
    data = HfFolder(str(by_class / "test"))
    assert data.classes() == ("flower", "portrait", "temple")
    assert data.absent_annotations() == {
        "captions": "it has no captions: no image has a value in a column caption or captions or text or comment of "
        "metadata.csv or metadata.jsonl"
    }


def test_several_splits_are_an_error_until_one_is_chosen(by_class):
    with pytest.raises(ConfigError, match=r"it has several splits \('test', 'train'\); choose one with .*split=train"):
        rows_of(by_class)
    with pytest.raises(ConfigError, match=r"^data\.options\.split=dev: .* has no such folder; its folders are 'test'"):
        rows_of(by_class, split="dev")
    shutil.rmtree(by_class / "train")
    assert len(rows_of(by_class)) == 3


def test_a_column_without_a_metadata_file_is_an_error(by_class):
    with pytest.raises(ConfigError, match=r"^data\.options\.label=kind: .* has no metadata\.csv or metadata\.jsonl"):
        rows_of(by_class / "test", label="kind")


def test_links_out_of_the_folder_are_followed_only_if_allowed(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("blobs")
    shutil.move(root / "china.jpg", elsewhere / "0")
    os.symlink(elsewhere / "0", root / "china.jpg")
    with pytest.raises(ConfigError, match=r"leads out of data\.root, .*data\.options\.follow_links=true"):
        rows_of(root)
    assert len(rows_of(root, follow_links=True)) == 3


def test_the_identity_has_the_digest_of_the_metadata(root):
    write(root, CSV)
    identity = HfFolder(str(root), samples=2).identity()
    assert (identity["name"], identity["root"], identity["samples"]) == ("hf_folder", str(root), "2")
    write(root, CSV.replace("temple", "palace"))
    assert HfFolder(str(root), samples=2).identity()["annotations_sha256"] != identity["annotations_sha256"]
