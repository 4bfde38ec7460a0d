"""COCO's captions and instances and Karpathy's splits, read from a folder whose contents are known."""

import gzip
import json
import pickle
import shutil
import unicodedata

import coco_folder
import numpy as np
import pytest
from PIL import Image

from visionbench.data.coco import Coco
from visionbench.data.coco_captions import CocoCaptions
from visionbench.data.coco_instances import CocoInstances
from visionbench.data.karpathy import Karpathy
from visionbench.datafiles.images import check, decode
from visionbench.examples import screening
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


def test_annotations_that_name_pictures_by_file_are_told_beside_the_pictures_that_lack_them(coco):
    def by_file(found):
        for row in found["annotations"]:
            row["image_id"] = coco_folder.file_name(row["image_id"] - 1)

    changed(coco, "coco_captions", by_file)
    found = faulty(CocoCaptions(str(coco)).examples())
    name = coco_folder.file_name(0)
    assert found[name] == ("no caption",)
    assert found[f'image_id "{name}"'] == ("annotations for a picture that is not listed",)


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
        ([[1, 1, True, 5, 7, 7]], "not numbers"),
        ([[1, 1, 10**400, 5, 7, 7]], "not numbers"),
        (None, "neither polygons nor run lengths: null"),
        ([4, 4, 30, 4, 30, 30], "fewer than three points"),
        ({"size": [], "counts": [2240]}, r"a mask whose size is []"),
        ({"size": None, "counts": [2240]}, "a mask whose size is null"),
        ({"size": "56", "counts": [2240]}, "a mask whose size is"),
        ({"size": [40, True], "counts": [2240]}, "a mask whose size is"),
        ({"size": {"h": 40}, "counts": [2240]}, "a mask whose size is"),
        ({"size": [40, 56], "counts": [2240.0]}, "do not fill"),
        ({"size": [40, 56], "counts": [True] * 2240}, "do not fill"),
        ({"size": [40, 56], "counts": {"0": 2240}}, "cannot be read"),
        ({"size": [40, 56], "counts": "b'Wfj8'"}, "cannot be read"),
        ({"size": [40, 56], "counts": "o" * 5000 + "0"}, "cannot be read"),
    ],
)
def test_a_mask_that_cannot_be_is_a_fault(coco, region, fault):
    changed(coco, "coco_instances", lambda found: found["annotations"][2].update(segmentation=region))
    for part in (Coco, CocoInstances):
        ((name, faults),) = faulty(part(str(coco)).examples()).items()
        assert name == coco_folder.file_name(1) and len(faults) == 1 and fault in faults[0]


def test_polygons_in_shares_of_the_sides_are_a_fault(coco):
    def shares(found):
        for row in found["annotations"]:
            if row["image_id"] == 3:
                row["segmentation"] = [[0.1, 0.1, 0.5, 0.1, 0.5, 0.9]]

    changed(coco, "coco_instances", shares)
    for part in (Coco, CocoInstances):
        ((name, (fault,)),) = faulty(part(str(coco)).examples()).items()
        assert name == coco_folder.file_name(2) and fault.startswith("polygons that all lie within one pixel")


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


# ----------------------------------------------------------------------------------------- ids, and what refers to them
COCO_PARTS = ["coco", "coco_captions", "coco_instances"]


def contents(name, root):
    return [
        (example.id, example.captions, example.instances, None if example.masks is None else example.masks().tolist())
        for example in PARTS[name](str(root)).examples()
    ]


@pytest.mark.parametrize("name", COCO_PARTS)
@pytest.mark.parametrize("spell", [str, float], ids=["as text", "with a point"])
@pytest.mark.parametrize("key", ["id", "image_id", "iscrowd"])
def test_a_number_means_the_same_as_text_or_with_a_point(coco, name, spell, key):
    before = contents(name, coco)

    def respelt(found):
        for row in found["annotations"]:
            if key in row:
                row[key] = spell(row[key]) if spell is float else str(row[key])
        for row in found["images"]:
            row["id"] = row["id"] if key == "image_id" else spell(row["id"])

    for file in ("coco_captions", "coco_instances"):
        changed(coco, file, respelt)
    assert contents(name, coco) == before


@pytest.mark.parametrize("name", COCO_PARTS)
def test_two_pictures_with_one_id_are_refused_with_their_names_and_a_count(coco, name):
    def pairs(found):
        for at, row in enumerate(found["images"]):
            row["id"] = at // 2
        for row in found["annotations"]:
            row["image_id"] = (row["image_id"] - 1) // 2

    for file in ("coco_captions", "coco_instances"):
        changed(coco, file, pairs)
    with pytest.raises(ConfigError) as caught:
        PARTS[name](str(coco)).examples()
    line = str(caught.value)
    assert "_val2017.json: 3 ids stand more than once in 'images'" in line
    assert coco_folder.file_name(0) in line and coco_folder.file_name(1) in line and "\n" not in line


@pytest.mark.parametrize("name", COCO_PARTS)
@pytest.mark.parametrize("id", [None, True, 1.5, [], {}, "", 2.0**60])
def test_an_id_that_is_none_is_refused_with_its_place(coco, name, id):
    changed(coco, name, lambda found: found["images"][4].update(id=id))
    with pytest.raises(ConfigError, match=r"1 of 6 entries of 'images' have no id .*: images\[4\] \(id "):
        PARTS[name](str(coco)).examples()
    changed(coco, name, lambda found: (found["images"][4].update(id=5), found["annotations"][2].update(image_id=id)))
    with pytest.raises(ConfigError, match=r"entries of 'annotations' name no picture: annotations\[2\] \(image_id "):
        PARTS[name](str(coco)).examples()


def test_of_many_offenders_three_are_named_and_the_others_counted(coco):
    changed(coco, "coco_captions", lambda found: [row.pop("id") for row in found["images"]])
    with pytest.raises(ConfigError) as caught:
        CocoCaptions(str(coco)).examples()
    assert str(caught.value).endswith(
        "6 of 6 entries of 'images' have no id that is a number or text: images[0] (id missing), "
        "images[1] (id missing), images[2] (id missing), and 3 more"
    )


@pytest.mark.parametrize("name", COCO_PARTS)
def test_two_annotations_with_one_id_are_a_fault_of_their_pictures_alone(coco, name):
    def shared(found):
        rows = [next(row for row in found["annotations"] if row["image_id"] == id) for id in (2, 4)]
        rows[0]["id"] = rows[1]["id"]
        found["same"] = rows[1]["id"]

    changed(coco, name, shared)
    found = faulty(PARTS[name](str(coco)).examples())
    assert list(found) == [coco_folder.file_name(1), coco_folder.file_name(3)]
    assert all(any("2 annotations have the id" in fault for fault in faults) for faults in found.values())


def test_pictures_without_an_instance_are_counted_where_captions_are_read_too(coco):
    def nothing_of_the_second(found):
        found["annotations"] = [row for row in found["annotations"] if row["image_id"] != 2]

    assert Coco(str(coco)).doubts() == {}
    changed(coco, "coco_instances", nothing_of_the_second)
    seen = "1 of 6 pictures have no instance and are left out; data=coco_captions takes all"
    assert Coco(str(coco)).doubts() == {"pictures_without_instances": seen}


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
@pytest.mark.parametrize("crowd", [None, 2, -1, 0.5, "no", "", [], {"crowd": 1}])
def test_a_crowd_that_is_neither_0_nor_1_is_a_fault_of_its_picture(coco, name, crowd):
    changed(coco, name, lambda found: found["annotations"][2].update(iscrowd=crowd))
    ((picture, faults),) = faulty(PARTS[name](str(coco)).examples()).items()
    assert picture == coco_folder.file_name(1) and "iscrowd of annotation 3 is" in faults[0]


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
@pytest.mark.parametrize("crowd", [True, "1", 1.0])
def test_a_crowd_is_one_however_it_is_written(coco, name, crowd):
    before = contents(name, coco)
    changed(coco, name, lambda found: found["annotations"][-1].update(iscrowd=crowd))
    assert contents(name, coco) == before


@pytest.mark.parametrize(("key", "part"), [("caption", CocoCaptions), ("segmentation", CocoInstances)])
def test_an_annotation_without_its_key_is_a_fault_of_its_picture_alone(coco, key, part):
    file = {"caption": "coco_captions", "segmentation": "coco_instances"}[key]
    first = {"caption": 0, "segmentation": 1}[key]
    changed(coco, file, lambda found: found["annotations"][0].pop(key))
    for data in (part, Coco):
        ((picture, faults),) = faulty(data(str(coco)).examples()).items()
        assert picture == coco_folder.file_name(0) and faults == (f"annotation {first} has no '{key}'",)


@pytest.mark.parametrize("caption", [["a", "b"], {"text": "a"}])
def test_a_caption_that_is_a_list_or_an_object_is_a_fault(coco, caption):
    changed(coco, "coco_captions", lambda found: found["annotations"][3].update(caption=caption))
    for part in (Coco, CocoCaptions):
        assert list(faulty(part(str(coco)).examples()).values()) == [
            ("a caption that is a list or an object, not text",)
        ]


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize("pixels", [0, -56, 56.5, None, "56", True, float("nan"), [56], 10**40])
def test_a_side_that_is_no_whole_number_of_pixels_is_a_fault_where_masks_are_read(coco, name, side, pixels):
    changed(coco, name, lambda found: found["images"][2].update({side: pixels}))
    if pixels == 10**40:  # a number that only the picture's header can tell from the right one
        example = next(e for e in PARTS[name](str(coco)).examples() if e.id == coco_folder.file_name(2))
        assert example.faults or screening.find_problems([example], decoded=0)
        return
    ((picture, faults),) = faulty(PARTS[name](str(coco)).examples()).items()
    assert picture == coco_folder.file_name(2)
    assert faults[0].startswith(f"its {side} is ") and faults[0].endswith(", not a whole number of at least 1")


def test_sizes_with_a_point_are_whole(coco):
    before = contents("coco_instances", coco)

    def pointed(found):
        for row in found["images"]:
            row.update(height=float(row["height"]), width=float(row["width"]))
        for row in found["annotations"]:
            if isinstance(row["segmentation"], dict):
                row["segmentation"]["size"] = [float(side) for side in row["segmentation"]["size"]]

    changed(coco, "coco_instances", pointed)
    assert contents("coco_instances", coco) == before


def test_ids_of_the_two_files_that_mean_different_pictures_are_a_fault_of_those(coco):
    def swapped(found):
        found["images"][0]["id"], found["images"][3]["id"] = 4, 1

    changed(coco, "coco_captions", swapped)
    found = faulty(Coco(str(coco)).examples())
    assert list(found) == [coco_folder.file_name(0), coco_folder.file_name(3)]
    assert found[coco_folder.file_name(0)] == (f"its id 1 is {coco_folder.file_name(3)} in captions_val2017.json",)


# ------------------------------------------------------------------------------------------------------- names of files
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(
    ("file_name", "fault"),
    [
        ("/etc/hostname", "absolute path"),
        ("C:\\pictures\\a.jpg", "absolute path"),
        ("\\\\server\\a.jpg", "absolute path"),
        ("../../a.jpg", "leads out"),
        ("x/../../../a.jpg", "leads out"),
        ("http://images.cocodataset.org/val2017/a.jpg", "a URL"),
        ("a\nb.jpg", "cannot be printed"),
        ("a\0.jpg", "cannot be printed"),
        ("a\u2028b.jpg", "cannot be printed"),
        ("\ud800.jpg", "cannot be printed"),
    ],
)
def test_a_file_name_that_leads_elsewhere_or_cannot_be_printed_is_a_fault(coco, name, file_name, fault):
    key = "filename" if name == "karpathy" else "file_name"
    changed(coco, name, lambda found: found["images"][1].update({key: file_name, "filepath": ""}))
    found = faulty(PARTS[name](str(coco)).examples())
    (told,) = [id for id, faults in found.items() if fault in " ".join(faults)]
    assert told.isprintable() and told.encode()


@pytest.mark.parametrize("name", COCO_PARTS)
@pytest.mark.parametrize(
    "respelt",
    ["./{}", "val2017/{}", "val2017/../val2017/{}", "val2017\\{}", ".\\{}", "x/../{}"],
)
def test_a_picture_is_known_by_its_path_below_the_folder_however_it_is_written(coco, name, respelt):
    before = contents(name, coco)
    for file in ("coco_captions", "coco_instances"):
        changed(
            coco,
            file,
            lambda found: [row.update(file_name=respelt.format(row["file_name"])) for row in found["images"]],
        )
    assert contents(name, coco) == before


@pytest.mark.parametrize("name", COCO_PARTS)
@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_another_unicode_form_is_the_same_name(coco, name, listed, stored):
    old, new = coco / "val2017" / coco_folder.file_name(0), unicodedata.normalize(stored, "café.jpg")
    old.rename(coco / "val2017" / new)
    for file in ("coco_captions", "coco_instances"):
        changed(
            coco, file, lambda found: found["images"][0].update(file_name=unicodedata.normalize(listed, "café.jpg"))
        )
    example = PARTS[name](str(coco)).examples()[0]
    assert example.image.name == new and example.image.is_file() and not example.faults


@pytest.mark.parametrize("name", COCO_PARTS)
def test_pictures_of_one_name_in_two_folders_are_two_pictures(coco, name):
    for at, folder in ((0, "a"), (1, "b")):
        (coco / "val2017" / folder).mkdir()
        (coco / "val2017" / coco_folder.file_name(at)).rename(coco / "val2017" / folder / "same.jpg")

    def moved(found):
        for row, folder in zip(found["images"], "ab", strict=False):
            row["file_name"] = f"{folder}/same.jpg"

    for file in ("coco_captions", "coco_instances"):
        changed(coco, file, moved)
    examples = PARTS[name](str(coco)).examples()
    assert [example.id for example in examples[:2]] == ["a/same.jpg", "b/same.jpg"] and not faulty(examples)


# ------------------------------------------------------------------------------------------------ karpathy's entries
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"split": None}, "its split is null, none of train, restval, val, test"),
        ({"split": "tset"}, 'its split is "tset"'),
        ({"filename": 7}, "its filename is 7"),
        ({"filepath": ["val2017"]}, "its filepath is"),
        ({"sentences": None}, "its sentences are null, not a list"),
        ({"sentences": []}, "no caption"),
        ({"sentences": ["a text"]}, "a sentence without 'raw'"),
        ({"sentences": [{"raw": "a", "sentid": 3}, {"raw": "a", "sentid": "3"}]}, "have the sentid 3"),
    ],
)
def test_an_entry_of_another_form_is_a_fault_of_its_picture_alone(coco, change, fault):
    before = contents("karpathy", coco)
    changed(coco, "karpathy", lambda found: found["images"][2].update(change))
    examples = Karpathy(str(coco)).examples()
    ((_, faults),) = faulty(examples).items()
    assert fault in " ".join(faults)
    assert [row for row in contents("karpathy", coco) if not faulty(examples).get(row[0])] == before[:2] + before[3:]


def test_where_no_entry_is_of_the_split_the_splits_are_named(coco):
    changed(coco, "karpathy", lambda found: [row.update(split=f"Test {at}") for at, row in enumerate(found["images"])])
    with pytest.raises(ConfigError, match=r'split=test; its splits are: "Test 0", "Test 1", "Test 2", and 3 more$'):
        Karpathy(str(coco)).examples()


# ---------------------------------------------------------------------------------------------- files of another form
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: b"", "an empty file"),
        (lambda content: b" \n", "an empty file"),
        (lambda content: content[:-1], "it ends in the middle"),
        (lambda content: content[:200], "it ends in the middle"),
        (
            lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            "Git LFS pointer.*git lfs pull",
        ),
        (gzip.compress, "gunzip"),
        (lambda content: b"<html>", "a page of HTML"),
        (lambda content: b"[" + content + b"]", "it is a list, not an object"),
        (lambda content: b"[" * 100_000, "nested too deeply"),
        (lambda content: b'{"images": ' + b"9" * 5000 + b"}", "not JSON"),
        (lambda content: content.replace(b'"images"', b'"images": null, "images"', 1), 'a key twice: "images"'),
        (lambda content: content.replace(b'"images": [', b'"images": [3, ', 1), r"images\[0\] is a number"),
        (lambda content: content.replace(b"0", b"\xff", 1), "not JSON: its bytes are no utf-8"),
    ],
)
def test_a_file_that_is_not_annotations_is_refused_with_what_it_is(coco, name, change, told):
    path = coco / FILES[name]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ConfigError, match=told) as caught:
        PARTS[name](str(coco)).examples()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_file_in_another_unicode_encoding_is_the_same(coco, name, encoding):
    before, path = contents(name, coco), coco / FILES[name]
    path.write_text(path.read_text("utf-8"), encoding)
    assert contents(name, coco) == before


@pytest.mark.parametrize("name", COCO_PARTS)
def test_a_missing_picture_that_lies_in_the_folder_itself_is_told(coco, name):
    changed(coco, name, lambda found: found["images"][1].update(file_name=f"images\\1/{coco_folder.file_name(1)}"))
    if name == "coco":
        changed(
            coco,
            "coco_captions",
            lambda found: found["images"][1].update(file_name=f"images\\1/{coco_folder.file_name(1)}"),
        )
    ((_, (fault,)),) = faulty(PARTS[name](str(coco)).examples()).items()
    assert fault == f"missing; {coco_folder.file_name(1)} lies in val2017: write its file_name without folders"


@pytest.mark.parametrize("name", PARTS)
def test_a_name_leads_out_of_a_folder_that_is_given_from_the_working_folder_too(coco, name, monkeypatch):
    monkeypatch.chdir(coco)
    (coco.parent / "outside.jpg").write_bytes((coco / "val2017" / coco_folder.file_name(0)).read_bytes())
    key = "filename" if name == "karpathy" else "file_name"
    for file in {name, "coco_captions"} if name != "karpathy" else {name}:
        up = "../outside.jpg" if name == "karpathy" else "../../outside.jpg"
        changed(coco, file, lambda found, up=up: found["images"][1].update({key: up, "filepath": ""}))
    for root in (".", "../coco"):
        ((_, faults),) = faulty(PARTS[name](root).examples()).items()
        assert faults[0] == "a file name that leads out of the data set's folder"
