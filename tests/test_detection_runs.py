"""Object detection from the command line: the bundled detector on its images and on a folder in COCO's layout."""

import contextlib
import io
import json

import coco_folder
import pytest
from command_line import here
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionbench.data.shapes import SHAPES, compositions
from visionbench.records.folder import RunFolder

WORDS = ["metrics=[detection,segmentation,evaluation]", "tracking=none", "device.threads=1"]


def quality(folder):
    """Return by model the folder of each run and its quality row."""
    runs = [RunFolder.open(path.parent) for path in sorted((folder / "outputs").rglob("results.jsonl"))]
    return {
        run.record().plan.model: (run, next(row for row in run.results() if row.case.id == "quality")) for run in runs
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    done = here(folder, "run", "model=detector_tiny", "data.options.samples=120", *WORDS)
    assert done.returncode == 0, done.stderr
    return quality(folder)["detector_tiny"]


def test_the_bundled_detector_performs_its_task(measured):
    _, row = measured
    values = row.metrics.values
    assert 0.6 < values["detection_map_fraction"] < values["detection_map_50_fraction"] <= 1
    low, high = values["detection_map_low_fraction"], values["detection_map_high_fraction"]
    assert low < values["detection_map_fraction"] < high < low + 0.2
    assert values["evaluation_images_count"] == 120
    assert (
        values["detection_instances_count"] == values["instances_used_count"] == values["instances_found_count"] == 240
    )
    assert values["detection_classes_count"] == 5
    assert row.case.metrics == ("detection", "evaluation")


def test_the_figures_are_those_of_cocoeval_for_the_stored_predictions(measured):
    run, row = measured
    predictions = run.predictions()
    assert list(predictions.classes) == list(SHAPES)
    annotations, results = [], []
    for image in range(len(predictions.ids)):
        own = {name: column[image] for name, column in predictions.columns.items()}
        assert own["boxes"].shape == (len(own["box_scores"]), 4)
        for box, kind, area in zip(own["truth_boxes"], own["truth_classes"], own["truth_areas"], strict=True):
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": int(kind), "iscrowd": 0}
            annotations.append({**entry, "bbox": box.tolist(), "area": float(area)})
        for box, kind, score in zip(own["boxes"], own["box_classes"], own["box_scores"], strict=True):
            entry = {"image_id": image, "category_id": int(kind), "bbox": box.tolist(), "score": float(score)}
            results.append(entry)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(len(predictions.ids))],
            "categories": [{"id": index} for index in range(len(SHAPES))],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluated = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    values = row.metrics.values
    for name, index in (("map", 0), ("map_50", 1), ("map_75", 2), ("map_small", 3), ("average_recall_100", 8)):
        assert values[f"detection_{name}_fraction"] == pytest.approx(evaluated.stats[index], abs=1e-12)


@pytest.fixture
def coco(tmp_path):
    """A folder in COCO's layout with the shapes as categories, whose second image has no instance."""
    root = tmp_path / "coco"
    coco_folder.write(root)
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": index + 1, "name": shape} for index, shape in enumerate(SHAPES)]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 2]
    seen = {}
    for row in content["annotations"]:
        objects = compositions("test")[row["image_id"] - 1]
        number = seen[row["image_id"]] = seen.get(row["image_id"], -1) + 1
        row["category_id"] = SHAPES.index((objects.first, objects.second, objects.first)[number].shape) + 1
    path.write_text(json.dumps(content))
    return root


def test_a_sweep_measures_images_without_instances_only_for_the_detector(tmp_path, coco):
    words = ["data=coco_instances", f"data.root={coco}", "data.exif=turned", *WORDS]
    done = here(tmp_path, "run", "-m", "model=sam_tiny,detector_tiny", *words)
    assert done.returncode == 0, done.stderr
    rows = {name: row.metrics.values for name, (_, row) in quality(tmp_path).items()}
    assert rows["sam_tiny"]["evaluation_images_count"] == 5
    assert rows["sam_tiny"]["segmentation_box_miou_fraction"] > 0.8
    assert rows["detector_tiny"]["evaluation_images_count"] == 6
    assert rows["detector_tiny"]["detection_instances_count"] == 10
    assert rows["detector_tiny"]["detection_map_50_fraction"] > 0.6
    boxes = quality(tmp_path)["detector_tiny"][0].predictions().columns["truth_boxes"]
    assert [len(one) for one in boxes] == [3, 0, 2, 2, 2, 2]


def test_classes_that_the_detector_does_not_have_are_refused_in_one_line(tmp_path, coco):
    path = coco / "annotations" / "instances_val2017.json"
    shape = compositions("test")[0].first.shape
    path.write_text(path.read_text().replace(f'"{shape}"', '"hexagon"'))
    words = ["data=coco_instances", f"data.root={coco}", "data.exif=turned", "model=detector_tiny", *WORDS]
    done = here(tmp_path, "run", *words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "does not have 1 of the data's 5 classes, such as 'hexagon'" in done.stderr
    done = here(tmp_path, "run", *words, f"data.options.classes={{hexagon: {shape}}}")
    assert done.returncode == 0, done.stderr
    skipped = here(tmp_path, "run", *words, "data.on_error=skip")
    assert skipped.returncode == 0, skipped.stderr
    without = [part for index, part in enumerate(compositions("test")[:6]) if index == 1 or not _has(part, shape)]
    images = quality(tmp_path)["detector_tiny"][1].metrics.values["evaluation_images_count"]
    assert images == len(without) < 6


def _has(part, shape):
    return shape in (part.first.shape, part.second.shape)
