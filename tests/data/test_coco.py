"""COCO's captions and instances and Karpathy's splits, read from a folder whose contents are known."""

import json
import pickle
import shutil

import coco_folder
import numpy as np
import pytest
from PIL import Image

from visionbench.data.coco import Coco
from visionbench.data.coco_captions import CocoCaptions
from visionbench.data.coco_instances import CocoInstances
from visionbench.data.karpathy import Karpathy
from visionbench.pictures import check, decode
from visionbench.registry import ConfigError, find

SIZE = (40, 56)
PARTS = {"coco": Coco, "coco_captions": CocoCaptions, "coco_instances": CocoInstances, "karpathy": Karpathy}
FILES = {
    "coco": "annotations/instances_val2017.json",
    "coco_captions": "annotations/captions_val2017.json",
    "coco_instances": "annotations/instances_val2017.json",
    "karpathy": "dataset_coco.json",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    coco_folder.write(root, SIZE)
    return root


@pytest.fixture
def coco(written, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(written, tmp_path / "coco")


def changed(root, name, change):
    """The annotations of a data set, changed by a function."""
    path = root / FILES[name]
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("name", PARTS)
def test_they_are_found_by_name_and_building_them_reads_nothing(name):
    assert find("data", name) is PARTS[name]
    assert PARTS[name]("nowhere").root == "nowhere"


@pytest.mark.parametrize("name", PARTS)
def test_every_kind_of_picture_is_there_without_a_fault_and_decodes_upright(written, name):
    examples = PARTS[name](str(written)).examples()
    assert len(examples) == 6 and not any(example.faults for example in examples)
    assert len({example.id for example in examples}) == 6
    for at, example in enumerate(examples):
        check(example.image)
        found, meant = decode(example.image), Image.fromarray(coco_folder.scene(at, SIZE)[0])
        assert found.size == meant.size
        # colours may be lost on disk, places may not
        levels = [np.asarray(picture.convert("L"), float).ravel() for picture in (found, meant)]
        assert np.corrcoef(levels)[0, 1] > 0.9


@pytest.mark.parametrize("name", ["coco", "coco_captions", "karpathy"])
def test_captions_come_with_their_pictures(written, name):
    found = PARTS[name](str(written)).examples()
    assert [example.captions for example in found] == [coco_folder.captions(at) for at in range(6)]


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
@pytest.mark.parametrize("at", range(6))
def test_masks_are_those_that_were_written_in_all_three_forms_without_the_crowd(written, name, at):
    example = PARTS[name](str(written)).examples()[at]
    masks = example.masks()
    assert masks.dtype == bool
    assert len(masks) == example.instances
    np.testing.assert_array_equal(masks, coco_folder.scene(at, SIZE)[1])


def test_masks_are_read_only_when_asked_for_and_in_another_process_too(written):
    example = CocoInstances(str(written)).examples()[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(example)).masks(), example.masks())


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
def test_a_picture_with_nothing_but_a_crowd_is_left_out(coco, name):
    def only_crowds(found):
        for row in found["annotations"]:
            row["iscrowd"] = int(row["image_id"] == 1)

    changed(coco, "coco_instances", only_crowds)
    assert [example.id for example in PARTS[name](str(coco)).examples()] == [
        coco_folder.file_name(n) for n in range(1, 6)
    ]


@pytest.mark.parametrize("name", PARTS)
def test_the_first_so_many_are_taken_and_told(written, name):
    assert len(PARTS[name](str(written), samples=2).examples()) == 2
    identity = PARTS[name](str(written), samples=2).identity()
    assert identity["name"] == name and identity["samples"] == "2" and identity["root"] == str(written.resolve())
    assert len(identity["annotations_sha256"]) == 64
    assert all(isinstance(value, str) for value in identity.values())
    with pytest.raises(ConfigError, match=r"^data\.options\.samples=0: must be at least 1$"):
        PARTS[name]("x", samples=0)


@pytest.mark.parametrize("name", PARTS)
def test_other_annotations_are_read_again_and_have_another_digest(coco, name):
    before = PARTS[name](str(coco)).identity()
    assert PARTS[name](str(coco)).classes() == ()
    changed(coco, name, lambda found: found["images"].pop())
    assert PARTS[name](str(coco)).identity()["annotations_sha256"] != before["annotations_sha256"]


@pytest.mark.parametrize("name", ["coco", "coco_captions", "coco_instances"])
def test_pictures_may_lie_below_images(coco, name):
    (coco / "images").mkdir()
    (coco / "val2017").rename(coco / "images" / "val2017")
    assert all(example.image.is_file() for example in PARTS[name](str(coco)).examples())


def test_cocos_digest_tells_a_change_in_either_file(coco):
    digests = [Coco(str(coco)).identity()["annotations_sha256"]]
    for name in ("coco_captions", "coco_instances"):
        changed(coco, name, lambda found: found.update(info={"changed": True}))
        digests.append(Coco(str(coco)).identity()["annotations_sha256"])
    assert len(set(digests)) == 3


# ---------------------------------------------------------------------------------------------------------- karpathy
def test_a_split_and_the_first_captions_of_each_picture_are_taken(coco):
    def two_for_training(found):
        found["images"][0]["split"], found["images"][1]["split"] = "train", "restval"

    changed(coco, "karpathy", two_for_training)
    assert len(Karpathy(str(coco)).examples()) == 4
    (one,) = Karpathy(str(coco), split="train", captions_per_image=2).examples()
    assert one.captions == coco_folder.captions(0)[:2]
    with pytest.raises(ConfigError, match="split=val"):
        Karpathy(str(coco), split="val").examples()
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        Karpathy(str(coco), split="tset")


@pytest.mark.parametrize("folder", [".", "flickr30k-images"])
def test_flickr30k_has_no_folder_in_its_file(coco, folder):
    changed(coco, "karpathy", lambda found: [row.pop("filepath") for row in found["images"]])
    (coco / folder).mkdir(exist_ok=True)
    for path in (coco / "val2017").iterdir():
        path.rename(coco / folder / path.name)
    assert all(example.image.is_file() for example in Karpathy(str(coco)).examples())


def test_its_file_may_lie_elsewhere(coco, tmp_path):
    elsewhere = tmp_path / "elsewhere.json"
    (coco / "dataset_coco.json").rename(elsewhere)
    assert len(Karpathy(str(coco), annotations=str(elsewhere)).examples()) == 6
    (coco / "karpathy").mkdir()
    elsewhere.rename(coco / "karpathy" / "dataset_coco.json")
    assert len(Karpathy(str(coco), annotations="karpathy/dataset_coco.json").examples()) == 6


# ------------------------------------------------------------------------------------------------------------ faults
def faulty(examples):
    return {example.id: example.faults for example in examples if example.faults}


def test_a_picture_without_a_caption_is_a_fault_where_both_are_asked_for(coco):
    def silent(found):
        found["annotations"] = [row for row in found["annotations"] if row["image_id"] != 2]

    changed(coco, "coco_captions", silent)
    assert faulty(Coco(str(coco)).examples()) == {coco_folder.file_name(1): ("no caption",)}


def test_annotations_of_either_kind_for_a_picture_that_is_not_listed_are_a_fault(coco):
    changed(coco, "coco_instances", lambda found: found["images"].pop())
    assert faulty(Coco(str(coco)).examples()) == {"6": ("annotations for a picture that is not listed",)}


def test_captions_of_a_picture_that_is_not_listed_are_a_fault(coco):
    changed(coco, "coco_captions", lambda found: found["images"].pop())
    assert faulty(CocoCaptions(str(coco)).examples()) == {"6": ("annotations for a picture that is not listed",)}


@pytest.mark.parametrize("caption", ["", " \n", None, 5])
def test_an_empty_caption_is_a_fault(coco, caption):
    changed(coco, "coco_captions", lambda found: found["annotations"][3].update(caption=caption))
    changed(coco, "karpathy", lambda found: found["images"][0]["sentences"][3].update(raw=caption))
    for part in (Coco, CocoCaptions, Karpathy):
        assert list(faulty(part(str(coco)).examples()).values()) == [("an empty caption",)]


@pytest.mark.parametrize(
    ("region", "fault"),
    [
        ([[1, 1, 5, 5]], "fewer than three points"),
        ([[1, 1, 5, 5, 7]], "fewer than three points"),
        ([[1, 1, 70, 5, 7, 7]], "outside"),
        ([[1, 1, 5, 42, 7, 7]], "outside"),
        ([[-2, 1, 5, 5, 7, 7]], "outside"),
        ([], "neither polygons nor run lengths"),
        ("x", "neither polygons nor run lengths"),
        ({"size": [56, 40], "counts": [2240]}, "40 × 56"),
        ({"size": [40, 56], "counts": [5, 5]}, "do not fill"),
        ({"size": [40, 56], "counts": [2250, -10]}, "do not fill"),
        ({"size": [40, 56], "counts": "no run lengths"}, "cannot be read"),
        ({"size": [40, 56], "counts": "00"}, "do not fill"),
        ({"size": [40, 56], "counts": None}, "cannot be read"),
        ([[1, 1, float("nan"), 5, 7, 7]], "not numbers"),
        ([[1, 1, "5", 5, 7, 7]], "not numbers"),
    ],
)
def test_a_mask_that_cannot_be_is_a_fault(coco, region, fault):
    changed(coco, "coco_instances", lambda found: found["annotations"][2].update(segmentation=region))
    for part in (Coco, CocoInstances):
        ((name, faults),) = faulty(part(str(coco)).examples()).items()
        assert name == coco_folder.file_name(1) and len(faults) == 1 and fault in faults[0]


def test_a_polygon_may_touch_the_border(coco):
    border = [[0, 0, SIZE[1], 0, SIZE[1], SIZE[0], 0, SIZE[0]]]
    changed(coco, "coco_instances", lambda found: found["annotations"][0].update(segmentation=border))
    example = CocoInstances(str(coco)).examples()[0]
    assert not example.faults and example.masks()[0].all()


@pytest.mark.parametrize("name", PARTS)
def test_a_name_that_is_listed_twice_is_a_fault(coco, name):
    changed(
        coco,
        name,
        lambda found: found["images"][1].update(found["images"][0], **({"id": 2} if name != "karpathy" else {})),
    )
    examples = PARTS[name](str(coco)).examples()
    assert len({example.id for example in examples}) == len(examples)
    assert len(faulty(examples)) >= 1


# --------------------------------------------------------------------------------------------------- broken structure
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2",
        "[]",
        "{}",
        '{"images": 5}',
        '{"images": [{}], "annotations": [{}]}',
        '{"images": [5], "annotations": [5]}',
        "\udcff",
    ],
)
def test_annotations_of_another_form_are_told_in_one_line(coco, name, content):
    (coco / FILES[name]).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=FILES[name]) as caught:
        PARTS[name](str(coco)).examples()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PARTS)
def test_what_is_not_there_is_told_with_the_layout_that_is_expected(tmp_path, name):
    with pytest.raises(ConfigError, match=r"^data\.root=nowhere: there is no such folder"):
        PARTS[name]("nowhere").examples()
    with pytest.raises(ConfigError, match=rf"^data\.root={tmp_path}: .*{FILES[name]} .*expected"):
        PARTS[name](str(tmp_path)).examples()
