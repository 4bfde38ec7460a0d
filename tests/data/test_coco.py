"""COCO's captions and instances, and Karpathy's splits, read from a folder with known content."""

import gzip
import json
import pickle
import shutil
import unicodedata

import coco_folder
import numpy as np
import pytest
from PIL import Image

from visionbench.core import ConfigError
from visionbench.data.coco import Coco
from visionbench.data.coco_captions import CocoCaptions
from visionbench.data.coco_instances import CocoInstances
from visionbench.data.karpathy import Karpathy
from visionbench.datafiles.images import check_file, decode
from visionbench.examples import screening
from visionbench.registry import find

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


def change_file(root, name, change):
    """Change the annotations of a data set by a function."""
    path = root / FILES[name]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", PARTS)
def test_each_is_registered_and_building_it_reads_no_file(name):
    assert find("data", name) is PARTS[name]
    assert PARTS[name]("nowhere").root == "nowhere"


@pytest.mark.parametrize("name", PARTS)
def test_images_of_every_format_have_no_problem_and_are_decoded_upright(written, name):
    examples = PARTS[name](str(written)).examples()
    assert len(examples) == 6 and not any(example.problems for example in examples)
    assert len({example.id for example in examples}) == 6
    for index, example in enumerate(examples):
        check_file(example.image)
        decoded, expected = decode(example.image), Image.fromarray(coco_folder.scene(index, SIZE)[0])
        assert decoded.size == expected.size
        # a format may change the colours, but not the positions
        levels = [np.asarray(picture.convert("L"), float).ravel() for picture in (decoded, expected)]
        assert np.corrcoef(levels)[0, 1] > 0.9


@pytest.mark.parametrize("name", ["coco", "coco_captions", "karpathy"])
def test_each_image_has_its_captions(written, name):
    examples = PARTS[name](str(written)).examples()
    assert [example.captions for example in examples] == [coco_folder.captions(index) for index in range(6)]


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
@pytest.mark.parametrize("index", range(6))
def test_masks_in_all_three_forms_are_read_without_crowds(written, name, index):
    example = PARTS[name](str(written)).examples()[index]
    masks = example.masks()
    assert masks.dtype == bool
    assert len(masks) == example.instances
    np.testing.assert_array_equal(masks, coco_folder.scene(index, SIZE)[1])


def test_masks_can_be_read_in_another_process(written):
    example = CocoInstances(str(written)).examples()[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(example)).masks(), example.masks())


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
def test_an_image_with_only_crowds_is_left_out(coco, name):
    def only_crowds(content):
        for row in content["annotations"]:
            row["iscrowd"] = int(row["image_id"] == 1)

    change_file(coco, "coco_instances", only_crowds)
    assert [example.id for example in PARTS[name](str(coco)).examples()] == [
        coco_folder.file_name(n) for n in range(1, 6)
    ]


@pytest.mark.parametrize("name", PARTS)
def test_the_first_images_are_taken_and_counted_in_the_identity(written, name):
    assert len(PARTS[name](str(written), samples=2).examples()) == 2
    identity = PARTS[name](str(written), samples=2).identity()
    assert identity["name"] == name and identity["samples"] == "2" and identity["root"] == str(written.resolve())
    assert len(identity["annotations_sha256"]) == 64
    assert all(isinstance(value, str) for value in identity.values())
    with pytest.raises(ConfigError, match=r"^data\.options\.samples=0: must be at least 1$"):
        PARTS[name]("x", samples=0)


@pytest.mark.parametrize("name", PARTS)
def test_changed_annotations_are_read_again_and_have_another_digest(coco, name):
    before = PARTS[name](str(coco)).identity()
    assert PARTS[name](str(coco)).classes() == ()
    change_file(coco, name, lambda content: content["images"].pop())
    assert PARTS[name](str(coco)).identity()["annotations_sha256"] != before["annotations_sha256"]


@pytest.mark.parametrize("name", ["coco", "coco_captions", "coco_instances"])
def test_images_may_be_in_the_folder_images(coco, name):
    (coco / "images").mkdir()
    (coco / "val2017").rename(coco / "images" / "val2017")
    assert all(example.image.is_file() for example in PARTS[name](str(coco)).examples())


def test_cocos_digest_depends_on_both_files(coco):
    digests = [Coco(str(coco)).identity()["annotations_sha256"]]
    for name in ("coco_captions", "coco_instances"):
        change_file(coco, name, lambda content: content.update(info={"changed": True}))
        digests.append(Coco(str(coco)).identity()["annotations_sha256"])
    assert len(set(digests)) == 3


# ---------------------------------------------------------------------------------------------------------- karpathy
def test_the_split_and_the_number_of_captions_can_be_chosen(coco):
    def two_for_training(content):
        content["images"][0]["split"], content["images"][1]["split"] = "train", "restval"

    change_file(coco, "karpathy", two_for_training)
    assert len(Karpathy(str(coco)).examples()) == 4
    (one,) = Karpathy(str(coco), split="train", captions_per_image=2).examples()
    assert one.captions == coco_folder.captions(0)[:2]
    with pytest.raises(ConfigError, match="split=val"):
        Karpathy(str(coco), split="val").examples()
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        Karpathy(str(coco), split="tset")


@pytest.mark.parametrize("folder", [".", "flickr30k-images"])
def test_flickr30ks_file_without_folders_is_read(coco, folder):
    change_file(coco, "karpathy", lambda content: [row.pop("filepath") for row in content["images"]])
    (coco / folder).mkdir(exist_ok=True)
    for path in (coco / "val2017").iterdir():
        path.rename(coco / folder / path.name)
    assert all(example.image.is_file() for example in Karpathy(str(coco)).examples())


def test_karpathys_file_may_be_in_another_folder(coco, tmp_path):
    elsewhere = tmp_path / "elsewhere.json"
    (coco / "dataset_coco.json").rename(elsewhere)
    assert len(Karpathy(str(coco), annotations=str(elsewhere)).examples()) == 6
    (coco / "karpathy").mkdir()
    elsewhere.rename(coco / "karpathy" / "dataset_coco.json")
    assert len(Karpathy(str(coco), annotations="karpathy/dataset_coco.json").examples()) == 6


# ---------------------------------------------------------------------------------------------------------- problems
def problems_of(examples):
    return {example.id: example.problems for example in examples if example.problems}


def test_an_image_without_a_caption_is_a_problem_of_the_combined_data_set(coco):
    def without_captions(content):
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 2]

    change_file(coco, "coco_captions", without_captions)
    assert problems_of(Coco(str(coco)).examples()) == {coco_folder.file_name(1): ("no caption",)}


def test_annotations_for_an_unlisted_image_are_a_problem(coco):
    change_file(coco, "coco_instances", lambda content: content["images"].pop())
    assert problems_of(Coco(str(coco)).examples()) == {"6": ("annotations for an image that is not listed",)}


def test_captions_of_an_unlisted_image_are_a_problem(coco):
    change_file(coco, "coco_captions", lambda content: content["images"].pop())
    assert problems_of(CocoCaptions(str(coco)).examples()) == {"6": ("annotations for an image that is not listed",)}


def test_annotations_with_file_names_as_image_ids_are_a_problem(coco):
    def by_file(content):
        for row in content["annotations"]:
            row["image_id"] = coco_folder.file_name(row["image_id"] - 1)

    change_file(coco, "coco_captions", by_file)
    problems = problems_of(CocoCaptions(str(coco)).examples())
    name = coco_folder.file_name(0)
    assert problems[name] == ("no caption",)
    assert problems[f'image_id "{name}"'] == ("annotations for an image that is not listed",)


@pytest.mark.parametrize("caption", ["", " \n", None, 5])
def test_an_empty_caption_is_a_problem(coco, caption):
    change_file(coco, "coco_captions", lambda content: content["annotations"][3].update(caption=caption))
    change_file(coco, "karpathy", lambda content: content["images"][0]["sentences"][3].update(raw=caption))
    for part in (Coco, CocoCaptions, Karpathy):
        assert list(problems_of(part(str(coco)).examples()).values()) == [("an empty caption",)]


@pytest.mark.parametrize(
    ("region", "problem"),
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
def test_an_impossible_mask_is_a_problem(coco, region, problem):
    change_file(coco, "coco_instances", lambda content: content["annotations"][2].update(segmentation=region))
    for part in (Coco, CocoInstances):
        ((name, problems),) = problems_of(part(str(coco)).examples()).items()
        assert name == coco_folder.file_name(1) and len(problems) == 1 and problem in problems[0]


def test_polygons_in_fractions_of_the_sides_are_a_problem(coco):
    def fractions(content):
        for row in content["annotations"]:
            if row["image_id"] == 3:
                row["segmentation"] = [[0.1, 0.1, 0.5, 0.1, 0.5, 0.9]]

    change_file(coco, "coco_instances", fractions)
    for part in (Coco, CocoInstances):
        ((name, (problem,)),) = problems_of(part(str(coco)).examples()).items()
        assert name == coco_folder.file_name(2) and problem.startswith("polygons that are all within one pixel")


def test_a_polygon_may_touch_the_border(coco):
    border = [[0, 0, SIZE[1], 0, SIZE[1], SIZE[0], 0, SIZE[0]]]
    change_file(coco, "coco_instances", lambda content: content["annotations"][0].update(segmentation=border))
    example = CocoInstances(str(coco)).examples()[0]
    assert not example.problems and example.masks()[0].all()


@pytest.mark.parametrize("name", PARTS)
def test_a_name_that_is_listed_twice_is_a_problem(coco, name):
    change_file(
        coco,
        name,
        lambda content: content["images"][1].update(content["images"][0], **({"id": 2} if name != "karpathy" else {})),
    )
    examples = PARTS[name](str(coco)).examples()
    assert len({example.id for example in examples}) == len(examples)
    assert len(problems_of(examples)) >= 1


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
def test_annotations_of_another_form_are_an_error_of_one_line(coco, name, content):
    (coco / FILES[name]).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=FILES[name]) as caught:
        PARTS[name](str(coco)).examples()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PARTS)
def test_the_error_for_missing_files_names_the_expected_layout(tmp_path, name):
    with pytest.raises(ConfigError, match=r"^data\.root=nowhere: there is no such folder"):
        PARTS[name]("nowhere").examples()
    with pytest.raises(ConfigError, match=rf"^data\.root={tmp_path}: .*{FILES[name]} .*expected"):
        PARTS[name](str(tmp_path)).examples()


# ------------------------------------------------------------------------------------------- ids, and references to ids
COCO_PARTS = ["coco", "coco_captions", "coco_instances"]


def contents(name, root):
    return [
        (example.id, example.captions, example.instances, None if example.masks is None else example.masks().tolist())
        for example in PARTS[name](str(root)).examples()
    ]


@pytest.mark.parametrize("name", COCO_PARTS)
@pytest.mark.parametrize("spell", [str, float], ids=["as text", "with a point"])
@pytest.mark.parametrize("key", ["id", "image_id", "iscrowd"])
def test_a_number_may_be_written_as_text_or_with_a_point(coco, name, spell, key):
    before = contents(name, coco)

    def respell(content):
        for row in content["annotations"]:
            if key in row:
                row[key] = spell(row[key]) if spell is float else str(row[key])
        for row in content["images"]:
            row["id"] = row["id"] if key == "image_id" else spell(row["id"])

    for file in ("coco_captions", "coco_instances"):
        change_file(coco, file, respell)
    assert contents(name, coco) == before


@pytest.mark.parametrize("name", COCO_PARTS)
def test_images_with_the_same_id_are_an_error_that_names_and_counts_them(coco, name):
    def pairs(content):
        for index, row in enumerate(content["images"]):
            row["id"] = index // 2
        for row in content["annotations"]:
            row["image_id"] = (row["image_id"] - 1) // 2

    for file in ("coco_captions", "coco_instances"):
        change_file(coco, file, pairs)
    with pytest.raises(ConfigError) as caught:
        PARTS[name](str(coco)).examples()
    line = str(caught.value)
    assert "_val2017.json: 3 ids are listed more than once in 'images'" in line
    assert coco_folder.file_name(0) in line and coco_folder.file_name(1) in line and "\n" not in line


@pytest.mark.parametrize("name", COCO_PARTS)
@pytest.mark.parametrize("id", [None, True, 1.5, [], {}, "", 2.0**60])
def test_an_invalid_id_is_an_error_that_names_its_place(coco, name, id):
    change_file(coco, name, lambda content: content["images"][4].update(id=id))
    with pytest.raises(ConfigError, match=r"1 of 6 entries of 'images' have no id .*: images\[4\] \(id "):
        PARTS[name](str(coco)).examples()
    change_file(
        coco, name, lambda content: (content["images"][4].update(id=5), content["annotations"][2].update(image_id=id))
    )
    with pytest.raises(ConfigError, match=r"entries of 'annotations' name no image: annotations\[2\] \(image_id "):
        PARTS[name](str(coco)).examples()


def test_the_first_three_invalid_entries_are_named_and_the_others_counted(coco):
    change_file(coco, "coco_captions", lambda content: [row.pop("id") for row in content["images"]])
    with pytest.raises(ConfigError) as caught:
        CocoCaptions(str(coco)).examples()
    assert str(caught.value).endswith(
        "6 of 6 entries of 'images' have no id that is a number or text: images[0] (id missing), "
        "images[1] (id missing), images[2] (id missing), and 3 more; correct them"
    )


@pytest.mark.parametrize("name", COCO_PARTS)
def test_annotations_with_the_same_id_are_a_problem_of_their_images_only(coco, name):
    def share_id(content):
        rows = [next(row for row in content["annotations"] if row["image_id"] == id) for id in (2, 4)]
        rows[0]["id"] = rows[1]["id"]
        content["same"] = rows[1]["id"]

    change_file(coco, name, share_id)
    problems = problems_of(PARTS[name](str(coco)).examples())
    assert list(problems) == [coco_folder.file_name(1), coco_folder.file_name(3)]
    assert all(any("2 annotations have the id" in problem for problem in texts) for texts in problems.values())


def test_images_without_an_instance_are_counted_in_a_warning(coco):
    def without_the_second(content):
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 2]

    assert Coco(str(coco)).warnings() == {}
    change_file(coco, "coco_instances", without_the_second)
    flag = "1 of 6 images have no instance and are left out; data=coco_captions uses all"
    assert Coco(str(coco)).warnings() == {"pictures_without_instances": flag}


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
@pytest.mark.parametrize("crowd", [None, 2, -1, 0.5, "no", "", [], {"crowd": 1}])
def test_a_crowd_that_is_neither_0_nor_1_is_a_problem_of_its_image(coco, name, crowd):
    change_file(coco, name, lambda content: content["annotations"][2].update(iscrowd=crowd))
    ((image, problems),) = problems_of(PARTS[name](str(coco)).examples()).items()
    assert image == coco_folder.file_name(1) and "iscrowd of annotation 3 is" in problems[0]


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
@pytest.mark.parametrize("crowd", [True, "1", 1.0])
def test_iscrowd_may_be_written_as_true_or_text(coco, name, crowd):
    before = contents(name, coco)
    change_file(coco, name, lambda content: content["annotations"][-1].update(iscrowd=crowd))
    assert contents(name, coco) == before


@pytest.mark.parametrize(("key", "part"), [("caption", CocoCaptions), ("segmentation", CocoInstances)])
def test_an_annotation_without_its_key_is_a_problem_of_its_image_only(coco, key, part):
    file = {"caption": "coco_captions", "segmentation": "coco_instances"}[key]
    first = {"caption": 0, "segmentation": 1}[key]
    change_file(coco, file, lambda content: content["annotations"][0].pop(key))
    for data in (part, Coco):
        ((image, problems),) = problems_of(data(str(coco)).examples()).items()
        assert image == coco_folder.file_name(0) and problems == (f"annotation {first} has no '{key}'",)


@pytest.mark.parametrize("caption", [["a", "b"], {"text": "a"}])
def test_a_caption_that_is_a_list_or_an_object_is_a_problem(coco, caption):
    change_file(coco, "coco_captions", lambda content: content["annotations"][3].update(caption=caption))
    for part in (Coco, CocoCaptions):
        assert list(problems_of(part(str(coco)).examples()).values()) == [
            ("a caption that is a list or an object, not text",)
        ]


@pytest.mark.parametrize("name", ["coco", "coco_instances"])
@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize("pixels", [0, -56, 56.5, None, "56", True, float("nan"), [56], 10**40])
def test_a_side_that_is_not_a_whole_number_of_pixels_is_a_problem_if_masks_are_read(coco, name, side, pixels):
    change_file(coco, name, lambda content: content["images"][2].update({side: pixels}))
    if pixels == 10**40:  # a number that is only detected by the image's header
        example = next(e for e in PARTS[name](str(coco)).examples() if e.id == coco_folder.file_name(2))
        assert example.problems or screening.find_problems([example], decoded=0)
        return
    ((image, problems),) = problems_of(PARTS[name](str(coco)).examples()).items()
    assert image == coco_folder.file_name(2)
    assert problems[0].startswith(f"its {side} is ") and problems[0].endswith(", not a whole number of at least 1")


def test_sizes_may_be_written_with_a_point(coco):
    before = contents("coco_instances", coco)

    def as_floats(content):
        for row in content["images"]:
            row.update(height=float(row["height"]), width=float(row["width"]))
        for row in content["annotations"]:
            if isinstance(row["segmentation"], dict):
                row["segmentation"]["size"] = [float(side) for side in row["segmentation"]["size"]]

    change_file(coco, "coco_instances", as_floats)
    assert contents("coco_instances", coco) == before


def test_ids_that_name_different_images_in_the_two_files_are_a_problem(coco):
    def swap_ids(content):
        content["images"][0]["id"], content["images"][3]["id"] = 4, 1

    change_file(coco, "coco_captions", swap_ids)
    problems = problems_of(Coco(str(coco)).examples())
    assert list(problems) == [coco_folder.file_name(0), coco_folder.file_name(3)]
    assert problems[coco_folder.file_name(0)] == (f"its id 1 is {coco_folder.file_name(3)} in captions_val2017.json",)


# ---------------------------------------------------------------------------------------------------------- file names
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(
    ("file_name", "problem"),
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
def test_a_file_name_outside_the_folder_or_with_unprintable_characters_is_a_problem(coco, name, file_name, problem):
    key = "filename" if name == "karpathy" else "file_name"
    change_file(coco, name, lambda content: content["images"][1].update({key: file_name, "filepath": ""}))
    problems = problems_of(PARTS[name](str(coco)).examples())
    (id,) = [id for id, texts in problems.items() if problem in " ".join(texts)]
    assert id.isprintable() and id.encode()


@pytest.mark.parametrize("name", COCO_PARTS)
@pytest.mark.parametrize(
    "spelling",
    ["./{}", "val2017/{}", "val2017/../val2017/{}", "val2017\\{}", ".\\{}", "x/../{}"],
)
def test_the_id_of_an_image_is_its_path_below_the_folder_in_any_spelling(coco, name, spelling):
    before = contents(name, coco)
    for file in ("coco_captions", "coco_instances"):
        change_file(
            coco,
            file,
            lambda content: [row.update(file_name=spelling.format(row["file_name"])) for row in content["images"]],
        )
    assert contents(name, coco) == before


@pytest.mark.parametrize("name", COCO_PARTS)
@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_in_another_unicode_form(coco, name, listed, stored):
    old, new = coco / "val2017" / coco_folder.file_name(0), unicodedata.normalize(stored, "café.jpg")
    old.rename(coco / "val2017" / new)
    for file in ("coco_captions", "coco_instances"):
        change_file(
            coco, file, lambda content: content["images"][0].update(file_name=unicodedata.normalize(listed, "café.jpg"))
        )
    example = PARTS[name](str(coco)).examples()[0]
    assert example.image.name == new and example.image.is_file() and not example.problems


@pytest.mark.parametrize("name", COCO_PARTS)
def test_images_of_the_same_name_in_two_folders_are_two_images(coco, name):
    for index, folder in ((0, "a"), (1, "b")):
        (coco / "val2017" / folder).mkdir()
        (coco / "val2017" / coco_folder.file_name(index)).rename(coco / "val2017" / folder / "same.jpg")

    def move(content):
        for row, folder in zip(content["images"], "ab", strict=False):
            row["file_name"] = f"{folder}/same.jpg"

    for file in ("coco_captions", "coco_instances"):
        change_file(coco, file, move)
    examples = PARTS[name](str(coco)).examples()
    assert [example.id for example in examples[:2]] == ["a/same.jpg", "b/same.jpg"] and not problems_of(examples)


# ------------------------------------------------------------------------------------------------ karpathy's entries
@pytest.mark.parametrize(
    ("change", "problem"),
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
def test_an_entry_of_another_form_is_a_problem_of_its_image_only(coco, change, problem):
    before = contents("karpathy", coco)
    change_file(coco, "karpathy", lambda content: content["images"][2].update(change))
    examples = Karpathy(str(coco)).examples()
    ((_, problems),) = problems_of(examples).items()
    assert problem in " ".join(problems)
    assert [row for row in contents("karpathy", coco) if not problems_of(examples).get(row[0])] == before[:2] + before[
        3:
    ]


def test_the_error_for_an_empty_split_names_the_splits(coco):
    change_file(
        coco,
        "karpathy",
        lambda content: [row.update(split=f"Test {index}") for index, row in enumerate(content["images"])],
    )
    with pytest.raises(ConfigError, match=r'split=test; its splits are: "Test 0", "Test 1", "Test 2", and 3 more$'):
        Karpathy(str(coco)).examples()


# ---------------------------------------------------------------------------------------------- files of another form
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "an empty file"),
        (lambda content: b" \n", "an empty file"),
        (lambda content: content[:-1], "it ends early"),
        (lambda content: content[:200], "it ends early"),
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
        (lambda content: content.replace(b"0", b"\xff", 1), "not JSON: its bytes are not utf-8"),
    ],
)
def test_the_error_for_a_file_that_is_not_annotations_names_its_kind(coco, name, change, message):
    path = coco / FILES[name]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ConfigError, match=message) as caught:
        PARTS[name](str(coco)).examples()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_file_in_another_unicode_encoding_gives_the_same_examples(coco, name, encoding):
    before, path = contents(name, coco), coco / FILES[name]
    path.write_text(path.read_text("utf-8"), encoding)
    assert contents(name, coco) == before


@pytest.mark.parametrize("name", COCO_PARTS)
def test_a_missing_image_that_is_in_the_folder_itself_is_a_problem_with_a_remedy(coco, name):
    change_file(
        coco, name, lambda content: content["images"][1].update(file_name=f"images\\1/{coco_folder.file_name(1)}")
    )
    if name == "coco":
        change_file(
            coco,
            "coco_captions",
            lambda content: content["images"][1].update(file_name=f"images\\1/{coco_folder.file_name(1)}"),
        )
    ((_, (problem,)),) = problems_of(PARTS[name](str(coco)).examples()).items()
    assert problem == f"missing; {coco_folder.file_name(1)} is in val2017: write its file_name without folders"


@pytest.mark.parametrize("name", PARTS)
def test_a_file_name_outside_a_relative_root_is_a_problem(coco, name, monkeypatch):
    monkeypatch.chdir(coco)
    (coco.parent / "outside.jpg").write_bytes((coco / "val2017" / coco_folder.file_name(0)).read_bytes())
    key = "filename" if name == "karpathy" else "file_name"
    for file in {name, "coco_captions"} if name != "karpathy" else {name}:
        up = "../outside.jpg" if name == "karpathy" else "../../outside.jpg"
        change_file(coco, file, lambda content, up=up: content["images"][1].update({key: up, "filepath": ""}))
    for root in (".", "../coco"):
        ((_, problems),) = problems_of(PARTS[name](root).examples()).items()
        assert problems[0] == "a file name that leads out of the data set's folder"
