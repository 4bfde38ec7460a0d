"""Boxes of COCO's annotation files: their classes, crowd regions, images without instances, and problems."""

import json

import coco_folder
import numpy as np
import pytest

from visionbench.core import Box, ConfigError
from visionbench.data.coco_instances import CocoInstances
from visionbench.examples.screening import find_problems, with_mask_frame
from visionbench.registry import find

BOXES = frozenset({"boxes"})


@pytest.fixture
def folder(tmp_path):
    coco_folder.write(tmp_path)
    return tmp_path


def edit(folder, change):
    """Change the content of the annotation file."""
    path = folder / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def read(folder, **options):
    return CocoInstances(str(folder), **options).for_predictions(BOXES)


def test_boxes_are_those_of_the_file_with_crowd_regions(folder):
    first, second = read(folder).examples()[:2]
    _, masks = coco_folder.scene(0)
    assert [box.crowd for box in first.boxes] == [False, False, True]
    for box, mask in zip(first.boxes, masks, strict=False):
        ys, xs = np.nonzero(mask)
        assert (box.x, box.y, box.x + box.width, box.y + box.height) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert (box.name, box.area) == ("object", mask.sum())
    assert (len(second.boxes), second.instances, second.masks) == (2, 2, None)


def test_images_without_instances_are_used_only_by_models_that_predict_boxes(folder):
    def drop(content):
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 2]

    edit(folder, drop)
    masks, boxes = CocoInstances(str(folder)), read(folder)
    assert (len(masks.examples()), len(boxes.examples())) == (5, 6)
    assert masks.for_predictions(frozenset({"point_masks"})) is masks
    empty = boxes.examples()[1]
    assert (empty.boxes, empty.instances, empty.problems, empty.size) == ((), 0, (), (64, 64))
    assert (masks.identity()["samples"], boxes.identity()["samples"]) == ("5", "6")


def test_an_image_with_only_a_crowd_region_is_used(folder):
    def crowd(content):
        content["annotations"] = [{**row, "iscrowd": 1} for row in content["annotations"]]

    edit(folder, crowd)
    assert not CocoInstances(str(folder)).examples()
    assert all(box.crowd for example in read(folder).examples() for box in example.boxes)


def test_a_missing_area_is_that_of_the_box_and_a_missing_region_is_no_problem(folder):
    def remove(content):
        for row in content["annotations"]:
            del row["area"], row["segmentation"]

    edit(folder, remove)
    box = read(folder).examples()[0].boxes[0]
    assert box.area == box.width * box.height


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"bbox": None}, "bbox of annotation 1 is null, not four numbers"),
        ({"bbox": [1, 2, 3]}, "bbox of annotation 1 is [1, 2, 3], not four numbers"),
        ({"bbox": [1, 2, "3", 4]}, 'bbox of annotation 1 is [1, 2, "3", 4], not four numbers'),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox of annotation 1 is [1, 2, NaN, 4], not four numbers"),
        ({"bbox": [1, 2, -3, 4]}, "bbox of annotation 1 has a negative width or height"),
        ({"bbox": [10, 10, 60, 20]}, "bbox of annotation 1 is [10, 10, 60, 20], outside its image of 64 × 64"),
        ({"bbox": [-5, 0, 10, 10]}, "outside its image of 64 × 64"),
        ({"area": "large"}, 'area of annotation 1 is "large", not a number of at least 0'),
        ({"category_id": 7}, "category_id of annotation 1 is 7, which is not in 'categories'"),
        ({"iscrowd": 2}, "iscrowd of annotation 1 is 2, neither 0 nor 1"),
        ({"id": 2}, "2 annotations have the id 2"),
    ],
)
def test_a_problem_of_a_box_belongs_to_its_image(folder, values, problem):
    def change(content):
        next(row for row in content["annotations"] if row["id"] == 1).update(values)

    edit(folder, change)
    problems = find_problems(with_mask_frame(read(folder).examples(), "turned"), 0)
    assert list(problems) == [coco_folder.file_name(0)]
    assert problem in problems[coco_folder.file_name(0)]


def test_boxes_as_fractions_are_refused(folder):
    def scale(content):
        for row in content["annotations"]:
            row["bbox"] = [side / 64 for side in row["bbox"]]

    edit(folder, scale)
    assert "boxes that are all within one pixel" in read(folder).examples()[0].problems[0]


def test_an_image_with_an_exif_orientation_needs_the_frame_of_its_boxes(folder):
    examples = read(folder).examples()
    problems = find_problems(with_mask_frame(examples, None), 0)
    rotated = coco_folder.file_name(coco_folder.KINDS.index("rotated"))
    assert problems == {
        rotated: "its EXIF orientation is 6: set data.exif=stored or data.exif=turned, as its boxes were drawn"
    }
    assert not find_problems(with_mask_frame(examples, "turned"), 0)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (None, "it has no list 'categories'"),
        ([], "its list 'categories' is empty"),
        ([{"id": 1}], "1 of 1 entries of 'categories' have no id or no name"),
        ([{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}], "1 ids are listed more than once in 'categories'"),
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}], "1 names are listed more than once in 'categories'"),
    ],
)
def test_categories_that_do_not_name_each_class_once_are_refused(folder, categories, message):
    def change(content):
        content["categories"] = categories
        if categories is None:
            del content["categories"]

    edit(folder, change)
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        read(folder).box_classes()
    assert CocoInstances(str(folder)).examples()  # masks need no categories


def test_classes_are_the_categories_by_rising_id_with_their_targets(folder):
    def change(content):
        content["categories"] = [{"id": 20, "name": "tv"}, {"id": 3, "name": "couch"}, {"id": 1, "name": "object"}]

    edit(folder, change)
    classes = read(folder, class_mapping={"tv": "tvmonitor"}).box_classes()
    assert [(one.name, one.target) for one in classes] == [("object", None), ("couch", None), ("tv", "tvmonitor")]
    with pytest.raises(ConfigError, match="there is no class 'sofa'"):
        read(folder, class_mapping={"sofa": 3}).box_classes()


def test_the_boxes_of_shapes_are_those_of_their_masks(tmp_path):
    shapes = find("data", "shapes")(samples=20, cache_dir=str(tmp_path))
    assert [one.name for one in shapes.box_classes()] == ["ring", "square", "triangle", "cross", "star"]
    for example in shapes.examples():
        masks = example.masks()
        assert {box.name for box in example.boxes} == set(example.label.split(" and "))
        for box, mask in zip(example.boxes, masks, strict=True):
            x, y, width, height = (int(side) for side in (box.x, box.y, box.width, box.height))
            inside = np.zeros_like(mask)
            inside[y : y + height, x : x + width] = True
            assert not (mask & ~inside).any()
            assert mask[y].any() and mask[y + height - 1].any() and mask[:, x].any() and mask[:, x + width - 1].any()
            assert box == Box(box.name, x, y, width, height, mask.sum())


def test_the_shape_of_a_box_is_that_of_its_object(tmp_path):
    shapes = find("data", "shapes")(samples=20, cache_dir=str(tmp_path))
    for example in shapes.examples():
        words = example.captions[0].split()  # a small red ring to the left of a large blue star
        named = [word for word in words if word in {one.name for one in shapes.box_classes()}]
        assert [box.name for box in example.boxes] == named
