"""Parquet files with embedded images: columns, names of classes, splits, and files that cannot be read."""

import json

import photographs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from visionbench.core import ConfigError
from visionbench.data.parquet import Parquet
from visionbench.datafiles import extraction
from visionbench.examples import screening
from visionbench.registry import find

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ["temple", "flower", "portrait"]
FEATURES = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}}}


def table(photos=photographs.ALL, features=FEATURES, **columns):
    """A table as the datasets library writes it: images, captions, labels, and the types of the columns as metadata."""
    images = [{"bytes": photo.read_bytes(), "path": photo.name} for photo in photos]
    values = {
        "text": [photographs.CAPTIONS[photo] for photo in photos],
        "label": pa.array([NAMES.index(photographs.LABELS[photo]) for photo in photos], pa.int64()),
        **columns,
    }
    built = pa.table({"image": pa.array(images, IMAGE), **values})
    return built.replace_schema_metadata({"huggingface": json.dumps(features)} if features else None)


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content if content is not None else table(), path)
    return path


@pytest.fixture
def data(tmp_path):
    """A function that builds the data set of a folder, with a cache of its own."""
    return lambda **options: Parquet(
        **{"root": str(tmp_path / "data"), "cache_dir": str(tmp_path / "cache"), **options}
    )


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "test-00000-of-00001.parquet"


def test_it_is_registered():
    assert find("data", "parquet") is Parquet


def test_building_it_reads_no_file():
    assert Parquet("nowhere").root == "nowhere"


def test_rows_have_the_bytes_the_captions_and_the_named_label(file, data):
    write(file)
    examples = data().examples()
    assert [example.id for example in examples] == [f"{file.name}/{number}" for number in range(3)]
    for example, photo in zip(examples, photographs.ALL, strict=True):
        assert example.image.read_bytes() == photo.read_bytes() and example.image.suffix == ".jpg"
        assert (list(example.captions), example.label) == (photographs.CAPTIONS[photo], photographs.LABELS[photo])
    assert data().classes() == tuple(NAMES)
    assert screening.find_problems(examples, decoded=3) == {}


def test_a_file_is_extracted_once(file, data, monkeypatch):
    write(file)
    before = data().examples()
    monkeypatch.setattr(extraction, "_extract", None)
    assert data().examples() == before


def test_other_columns_are_chosen_by_options(file, data):
    content = table(features=None, title=["a", "b", "c"], kind=["x", "y", "x"])
    write(file, content.rename_columns(["picture", "text", "label", "title", "kind"]))
    examples = data(image="picture", caption="title", label="kind").examples()
    assert [(example.captions, example.label) for example in examples] == [(("a",), "x"), (("b",), "y"), (("c",), "x")]
    assert data(caption="title", label="kind").classes() == ("x", "y")
    with pytest.raises(ConfigError, match=r"^data\.options\.label=knid: .*has no such column; did you mean 'kind'"):
        data(label="knid").examples()


def test_plain_bytes_are_images(file, data):
    write(file, pa.table({"image": [photographs.FLOWER.read_bytes()], "caption": ["a flower"]}))
    (example,) = data().examples()
    assert (example.image.read_bytes(), example.captions) == (photographs.FLOWER.read_bytes(), ("a flower",))
    assert list(data().absent_annotations()) == ["labels"]


def test_an_image_may_be_the_path_of_a_file_below_the_folder(file, data, tmp_path):
    rows = [{"bytes": None, "path": path} for path in ("images/flower.jpg", "../flower.jpg", None)]
    write(file, pa.table({"image": pa.array(rows, IMAGE), "label": [1, 2, 3]}))
    (tmp_path / "data" / "images").mkdir()
    (tmp_path / "data" / "images" / "flower.jpg").write_bytes(photographs.FLOWER.read_bytes())
    first, second, third = data().examples()
    assert first.image == tmp_path / "data" / "images" / "flower.jpg" and first.problems == ()
    assert second.problems == ("a file name that leads out of the data set's folder",)
    assert third.problems == ("no image",)


def test_a_missing_label_and_a_label_out_of_range_concern_only_their_row(file, data):
    write(file, table(label=pa.array([None, 7, 2], pa.int64())))
    examples = data().examples()
    assert [example.label for example in examples] == [None, None, "portrait"]
    assert [example.problems for example in examples] == [
        (),
        ("the label 7, but the classes are numbered 0 to 2",),
        (),
    ]


@pytest.mark.parametrize(
    "names", [["test-00000-of-00002", "test-00001-of-00002"], ["default/test/0000", "default/test/0001"]]
)
def test_the_files_of_a_split_are_read_in_their_order(tmp_path, data, names):
    for name, photo in zip(names, photographs.ALL, strict=False):
        write(tmp_path / "data" / f"{name}.parquet", table([photo]))
    write(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert [example.label for example in data(split="test").examples()] == ["temple", "flower"]
    with pytest.raises(ConfigError, match=r"it has several splits \(.*\); choose one with data\.options\.split="):
        data().examples()
    with pytest.raises(ConfigError, match=r"^data\.options\.split=dev: .* has no such split; its splits are"):
        data(split="dev").examples()


def test_a_missing_file_of_a_split_is_an_error(tmp_path, data):
    write(tmp_path / "data" / "test-00001-of-00002.parquet")
    with pytest.raises(ConfigError, match=r"it has 1 of 2 files of the split \(test-00001-of-00002\.parquet\)"):
        data().examples()


def test_files_with_other_names_of_classes_are_an_error(tmp_path, data):
    write(tmp_path / "data" / "test-00000-of-00002.parquet")
    other = {"info": {"features": {"label": {"names": NAMES[::-1], "_type": "ClassLabel"}}}}
    write(tmp_path / "data" / "test-00001-of-00002.parquet", table(features=other))
    with pytest.raises(ConfigError, match=r"the names of its classes differ from those of test-00000-of-00002"):
        data().examples()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_no_parquet_file_is_refused(file, data, content):
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        data().examples()
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_file_is_refused_and_leaves_nothing(file, data, damage, tmp_path):
    write(file)
    content = file.read_bytes()
    file.write_bytes(content[:-100] if damage == "cut" else content[:10] + b"?" * 5000 + content[5010:])
    with pytest.raises(ConfigError, match=r"test-00000-of-00001\.parquet.*: not a Parquet file that can be read"):
        data().examples()
    extracted = tmp_path / "cache" / "extracted"
    assert not extracted.exists() or list(extracted.iterdir()) == []


def test_a_file_without_images_is_refused(file, data):
    write(file, pa.table({"text": ["a"]}))
    with pytest.raises(ConfigError, match=r"no column has images \(bytes, or a struct of bytes and path\)"):
        data().examples()


def test_a_decompression_bomb_is_refused(file, data, monkeypatch, tmp_path):
    monkeypatch.setattr(extraction, "ALLOWANCE", 2**20)
    write(file, pa.table({"image": [bytes(4 * 2**20)] * 3}))
    with pytest.raises(ConfigError, match=r"it expands to more than \d+ MiB, .*a decompression bomb\?"):
        data().examples()
    assert list((tmp_path / "cache" / "extracted").iterdir()) == []


def test_metadata_of_another_form_have_no_names(file, data):
    write(file, table(features={"info": [1]}))
    assert data().classes() == ("0", "1", "2")
