"""Shards of a webdataset: samples with captions and labels, their extraction, and shards that are refused."""

import gzip
import io
import json
import shutil
import tarfile

import numpy as np
import photographs
import pytest
from PIL import Image

from visionbench.core import ConfigError
from visionbench.data.webdataset import WebDataset
from visionbench.datafiles import extraction
from visionbench.datafiles.images import decode, decode_example
from visionbench.examples import screening
from visionbench.registry import find

NAMES = ("temple", "flower", "portrait")


def add(archive, name, content=b"", **values):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in values.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def write_shard(path, *members):
    """Write a tar file with these pairs of a name and a content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            add(archive, name, content if isinstance(content, bytes) else content.encode())
    return path


def sample(number, path, **texts):
    """The members of a sample, as CLIP_benchmark writes them."""
    key = f"s{number:07d}"
    return [(f"{key}{path.suffix}", path.read_bytes()), *((f"{key}.{name}", text) for name, text in texts.items())]


@pytest.fixture
def data(tmp_path):
    """A function that builds the data set of a folder, with a cache of its own."""
    return lambda **options: WebDataset(
        **{"root": str(tmp_path / "wds"), "cache_dir": str(tmp_path / "cache"), **options}
    )


@pytest.fixture
def benchmark(tmp_path):
    """The folder that CLIP_benchmark writes: two shards below test/, their number, and the names of the classes."""
    root = tmp_path / "wds"
    photos = photographs.ALL
    captions = {photo: "\n".join(photographs.CAPTIONS[photo]) for photo in photos}
    for shard, numbers in enumerate(((0, 1), (2,))):
        members = [
            member
            for number in numbers
            for member in sample(number, photos[number], cls=str(number), txt=captions[photos[number]])
        ]
        write_shard(root / "test" / f"{shard}.tar", *members)
    (root / "test" / "nshards.txt").write_text("2\n")
    (root / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    return root


def test_it_is_registered():
    assert find("data", "webdataset") is WebDataset


def test_building_it_reads_no_file():
    assert WebDataset("nowhere").root == "nowhere"


def test_samples_have_the_pixels_the_captions_and_the_label_of_their_members(benchmark, data):
    examples = data().examples()
    assert [example.id for example in examples] == ["0.tar/s0000000", "0.tar/s0000001", "1.tar/s0000002"]
    for example, photo in zip(examples, photographs.ALL, strict=True):
        assert example.image.read_bytes() == photo.read_bytes()
        assert decode_example(example).tobytes() == decode(photo).tobytes()
        assert list(example.captions) == photographs.CAPTIONS[photo]
        assert example.problems == ()
    assert [example.label for example in examples] == list(NAMES)
    assert data().classes() == NAMES
    assert data().absent_annotations() == {}
    assert screening.find_problems(examples, decoded=3) == {}


def test_shards_are_in_the_order_of_their_numbers(tmp_path, data):
    for number in (10, 9, 100):
        write_shard(tmp_path / "wds" / f"shard-{number}.tar", *sample(number, photographs.FLOWER, cls="0"))
    assert [example.id.partition("/")[0] for example in data().examples()] == [
        "shard-9.tar",
        "shard-10.tar",
        "shard-100.tar",
    ]


def test_a_shard_is_extracted_once_and_again_if_its_content_changes(benchmark, data, monkeypatch):
    before = data().examples()
    monkeypatch.setattr(extraction, "_extract", None)
    assert data().examples() == before
    (benchmark / "test" / "0.tar").rename(benchmark / "test" / "7.tar")
    (benchmark / "test" / "0.tar").write_bytes((benchmark / "test" / "1.tar").read_bytes())
    (benchmark / "test" / "nshards.txt").unlink()
    moved = {example.image for example in data().examples()}
    assert moved == {example.image for example in before}
    monkeypatch.undo()
    write_shard(benchmark / "test" / "0.tar", *sample(0, photographs.PORTRAIT, cls="1", txt="another"))
    changed = data().examples()[0]
    assert (changed.captions, changed.label) == (("another",), "flower")
    assert changed.image not in moved


def test_an_interrupted_extraction_leaves_no_folder(benchmark, data, monkeypatch, tmp_path):
    original = extraction.ImageWriter.add

    def interrupt(self, content, name):
        if self.count:
            raise KeyboardInterrupt
        return original(self, content, name)

    monkeypatch.setattr(extraction.ImageWriter, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        data().examples()
    assert list((tmp_path / "cache" / "extracted").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_option(benchmark, data, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ConfigError, match=r"^data\.options\.cache_dir: 0\.tar cannot be extracted to .*; free disk"):
        data().examples()


def test_a_shard_compressed_by_gzip_gives_the_same_samples(benchmark, data):
    before = [(example.id, example.image.read_bytes(), example.captions) for example in data().examples()]
    shard = benchmark / "test" / "0.tar"
    content = gzip.compress(shard.read_bytes())
    shard.with_suffix(".tar.gz").write_bytes(content)
    shard.unlink()
    after = [(example.id, example.image.read_bytes(), example.captions) for example in data().examples()]
    assert [(id.replace(".gz", ""), *rest) for id, *rest in after] == before


# ---------------------------------------------------------------------------------------------------------- annotations
def test_without_names_the_classes_are_the_numbers_in_their_order(tmp_path, data):
    members = [member for number in (10, 9, 2) for member in sample(number, photographs.FLOWER, cls=str(number))]
    write_shard(tmp_path / "wds" / "0.tar", *members)
    assert data().classes() == ("2", "9", "10")


def test_labels_may_be_names(tmp_path, data):
    write_shard(tmp_path / "wds" / "0.tar", *sample(0, photographs.CHINA, cls="temple\n"))
    assert [example.label for example in data().examples()] == ["temple"]


def test_a_file_of_names_replaces_classnames(benchmark, data, tmp_path):
    (tmp_path / "own.txt").write_text("a\nb\nc")
    assert data(names=str(tmp_path / "own.txt")).classes() == ("a", "b", "c")


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("3", "the label 3, but the classes are numbered 0 to 2"),
        ("-1", "the label -1, but"),
        ("cat", "the label 'cat'"),
    ],
)
def test_a_label_that_is_no_class_is_a_problem_of_its_sample(benchmark, data, label, problem):
    write_shard(benchmark / "test" / "1.tar", *sample(2, photographs.FLOWER, cls=label, txt="a flower"))
    *_, last = data().examples()
    assert last.label is None and len(last.problems) == 1 and last.problems[0].startswith(problem)


def test_captions_and_labels_may_be_keys_of_the_json_member(tmp_path, data):
    content = json.dumps({"caption": ["one", "two"], "class": 1, "nested": {"a": [1]}})
    write_shard(tmp_path / "wds" / "0.tar", *sample(0, photographs.CHINA, json=content))
    (example,) = data(caption="json.caption", label="json.class").examples()
    assert (example.captions, example.label) == (("one", "two"), "1")
    assert data().absent_annotations() == {
        "captions": "it has no captions: no image has a member .txt",
        "labels": "it has no labels: no image has a member .cls",
    }
    assert (
        data(label="json.other")
        .absent_annotations()["labels"]
        .endswith("no image has a key 'other' in its member .json")
    )


def test_a_sample_without_a_caption_is_a_problem_only_if_others_have_one(tmp_path, data):
    members = [*sample(0, photographs.CHINA, txt="a temple"), *sample(1, photographs.FLOWER, cls="1")]
    write_shard(tmp_path / "wds" / "0.tar", *members)
    assert [example.problems for example in data().examples()] == [(), ("no caption",)]
    write_shard(tmp_path / "wds" / "0.tar", *sample(1, photographs.FLOWER, cls="1"))
    assert [example.problems for example in data().examples()] == [()]
    assert list(data().absent_annotations()) == ["captions"]


def test_a_sample_with_several_images_needs_the_option_image(tmp_path, data):
    members = [*sample(0, photographs.CHINA), ("s0000000.mask.png", b"png")]
    write_shard(tmp_path / "wds" / "0.tar", *members)
    (example,) = data().examples()
    assert example.problems == ("several images (jpg, mask.png): choose one with data.options.image=jpg",)
    (example,) = data(image="mask.png").examples()
    assert example.image.read_bytes() == b"png" and example.problems == ()
    (example,) = data(image="webp").examples()
    assert example.problems == ("no member .webp",)


def test_members_that_are_damaged_or_missing_are_problems_of_their_sample(tmp_path, data):
    members = [
        ("a.txt", "no image here"),
        *sample(1, photographs.FLOWER, txt=b"\xff\xfe\xfd"),
        *sample(2, photographs.FLOWER, json="[1]", txt="a flower"),
        *sample(3, photographs.FLOWER, txt="a flower"),
        ("s0000003.txt", "twice"),
        ("s0000004.jpg", b"not an image"),
        ("s0000004.txt", "a flower"),
    ]
    write_shard(tmp_path / "wds" / "0.tar", *members)
    examples = data().examples()
    assert {example.id: example.problems for example in examples} == {
        "0.tar/a": ("no image",),
        "0.tar/s0000001": ("its .txt is not UTF-8",),
        "0.tar/s0000002": ("its .json is not a JSON object",),
        "0.tar/s0000003": ("two members .txt",),
        "0.tar/s0000004": (),
    }
    assert "cannot be decoded" in screening.find_problems(examples, decoded=9)["0.tar/s0000004"]


def test_a_key_that_comes_twice_cannot_be_used(tmp_path, data):
    members = [member for _ in range(2) for member in sample(0, photographs.FLOWER)]
    members.insert(1, ("between.txt", "a"))
    write_shard(tmp_path / "wds" / "0.tar", *members)
    problems = screening.find_problems(data().examples(), decoded=0)
    assert problems["0.tar/s0000000"] == "2 images have this name"


def test_files_of_programs_and_other_members_are_ignored(tmp_path, data):
    members = [
        ("__MACOSX/._s0000000.jpg", b"x"),
        ("._s0000000.jpg", b"x"),
        ("README", b"x"),
        *sample(0, photographs.FLOWER, npy=b"\x93NUMPY", cls="1"),
    ]
    write_shard(tmp_path / "wds" / "0.tar", *members)
    (example,) = data().examples()
    assert (example.id, example.label, example.problems) == ("0.tar/s0000000", "1", ())


# --------------------------------------------------------------------------------------------------- shards, one by one
@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("../out.jpg", {}, "leads out of the shard"),
        ("a/../../out.jpg", {}, "leads out of the shard"),
        ("/etc/out.jpg", {}, "has an absolute path"),
        ("C:\\out.jpg", {}, "has an absolute path"),
        ("a\\..\\..\\out.jpg", {}, "leads out of the shard"),
        ("link.jpg", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
        ("link.jpg", {"type": tarfile.LNKTYPE, "linkname": "s0000000.jpg"}, "is a link"),
        ("device.jpg", {"type": tarfile.CHRTYPE}, "is a device, not a file"),
        ("pipe.jpg", {"type": tarfile.FIFOTYPE}, "is a device, not a file"),
    ],
)
def test_an_unsafe_member_is_refused_and_nothing_is_written_outside(tmp_path, data, name, values, problem):
    shard = write_shard(tmp_path / "wds" / "0.tar", *sample(0, photographs.FLOWER))
    with tarfile.open(shard, "a") as archive:
        add(archive, name, b"" if values else b"content", **values)
    with pytest.raises(ConfigError) as caught:
        data().examples()
    assert str(shard) in str(caught.value) and f"its member '{name}'".replace("\\", "\\") in str(caught.value)
    assert problem in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "wds"]
    assert not (tmp_path / "out.jpg").exists()


def damage_end(content):
    return content[: len(content) - tarfile.RECORDSIZE // 2 - 40_000]


def remove_end(content):
    end = content.rstrip(b"\0")
    return content[: -(-len(end) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE]


def damage_header(content):
    second = content.index(b"s0000001.jpg")
    return content[:second] + b"?" * 300 + content[second + 300 :]


@pytest.mark.parametrize(
    ("damage", "member"),
    [(damage_end, "s0000001.jpg"), (remove_end, "s0000001.txt"), (damage_header, "s0000000.txt")],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_shard_is_refused_with_its_last_member(tmp_path, data, damage, member, compressed):
    members = [
        *sample(0, photographs.FLOWER, txt="a flower"),
        *sample(1, photographs.CHINA, txt="a temple"),
    ]
    shard = write_shard(tmp_path / "wds" / "0.tar", *members)
    content = damage(shard.read_bytes())
    if compressed:
        shard.unlink()
        shard = shard.with_suffix(".tar.gz")
    shard.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(ConfigError) as caught:
        data().examples()
    assert f"{shard}: damaged after '{member}'" in str(caught.value) and "\n" not in str(caught.value)


def test_a_gzip_file_that_is_cut_is_refused(tmp_path, data):
    shard = write_shard(tmp_path / "wds" / "0.tar", *sample(0, photographs.FLOWER, txt="a flower"))
    content = gzip.compress(shard.read_bytes())
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"0\.tar: damaged after"):
        data().examples()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged after its start"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"PK\x03\x04 a zip", "a zip archive: unpack it"),
        (b"<html>" + b" " * 2000, "damaged after its start"),
    ],
)
def test_a_file_that_is_no_tar_file_is_refused(tmp_path, data, content, message):
    (tmp_path / "wds").mkdir()
    (tmp_path / "wds" / "0.tar").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        data().examples()
    assert "0.tar" in str(caught.value) and message in str(caught.value)


def test_a_decompression_bomb_is_refused_before_it_is_written(tmp_path, data, monkeypatch):
    monkeypatch.setattr(extraction, "ALLOWANCE", 2**20)
    shard = tmp_path / "wds" / "0.tar.gz"
    shard.parent.mkdir()
    with tarfile.open(shard, "w:gz") as archive:
        for number in range(3):
            add(archive, f"{number}.jpg", bytes(8 * 2**20))
    with pytest.raises(ConfigError, match=r"0\.tar\.gz: it expands to more than \d+ MiB, .*a decompression bomb\?"):
        data().examples()
    assert list((tmp_path / "cache" / "extracted").iterdir()) == []


def test_a_member_that_is_too_large_is_refused_from_its_header(tmp_path, data):
    shard = tmp_path / "wds" / "0.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as archive:
        member = tarfile.TarInfo("0.txt")
        member.size = 10**9
        shard_header = member.tobuf()
        archive.fileobj.write(shard_header)
    with pytest.raises(ConfigError, match=r"its member '0\.txt' has 954 MiB, more than 16 MiB"):
        data().examples()


def test_a_member_of_negative_size_is_refused(tmp_path, data):
    member = tarfile.TarInfo("0.jpg")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(-512, 12, tarfile.GNU_FORMAT)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    shard = tmp_path / "wds" / "0.tar"
    shard.parent.mkdir()
    shard.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ConfigError, match=r"0\.tar: (its member '0\.jpg' has a negative size|damaged after)"):
        data().examples()


# -------------------------------------------------------------------------------------------------------------- folders
def test_a_missing_shard_is_detected_by_the_number_of_shards(benchmark, data):
    (benchmark / "test" / "1.tar").unlink()
    with pytest.raises(ConfigError, match=r"nshards\.txt: it gives 2 shards, but the folder has 1; download"):
        data().examples()


def test_several_splits_are_an_error_until_one_is_chosen(benchmark, data):
    shutil.copytree(benchmark / "test", benchmark / "train")
    with pytest.raises(ConfigError, match=r"its folders 'test', 'train' have shards; choose one with .*split=train"):
        data().examples()
    assert len(data(split="test").examples()) == 3
    assert data(root=str(benchmark / "test")).classes() == NAMES
    with pytest.raises(ConfigError, match=r"^data\.options\.split=tset: .* has no such folder; its folders are 'test'"):
        data(split="tset").examples()


def test_a_folder_without_shards_is_an_error(tmp_path, data):
    (tmp_path / "wds").mkdir()
    with pytest.raises(ConfigError, match=r"has no shard \(\.tar, \.tar\.gz, \.tgz\)"):
        data().examples()


@pytest.mark.parametrize("options", [{"samples": 0}, {"caption": "../txt"}, {"label": ""}, {"class_mapping": [1]}])
def test_an_option_out_of_range_is_refused(options):
    with pytest.raises(ConfigError, match=r"^data\.options\."):
        WebDataset("x", **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\n\nb\n", "line 2: it has no name"), ("a\nb\na\n", "'a' is the name of the classes 0 and 2")],
)
def test_a_file_of_names_that_does_not_name_each_class_once_is_an_error(benchmark, data, text, message):
    (benchmark / "classnames.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        data().examples()


def test_the_identity_depends_on_the_content_of_the_shards_and_not_on_the_folder(benchmark, data, tmp_path):
    identity = data().identity()
    assert (identity["name"], identity["shards"], identity["samples"]) == ("webdataset", "2", "3")
    moved = shutil.copytree(benchmark, tmp_path / "moved")
    assert data(root=str(moved)).identity()["annotations_sha256"] == identity["annotations_sha256"]
    write_shard(moved / "test" / "1.tar", *sample(2, photographs.PORTRAIT, cls="0", txt="a woman"))
    assert data(root=str(moved)).identity()["annotations_sha256"] != identity["annotations_sha256"]


def test_a_sample_is_even_over_the_classes(tmp_path, data):
    pixels = np.zeros((8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    members = [
        member
        for number in range(8)
        for member in ((f"{number}.png", file.getvalue()), (f"{number}.cls", str(number // 6)))
    ]
    write_shard(tmp_path / "wds" / "0.tar", *members)
    assert [example.label for example in data(samples=4).examples()] == ["0", "0", "1", "1"]
