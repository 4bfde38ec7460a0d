"""Folders of classes from the command line: matches of classes, errors before anything is measured, and the data that a
row describes."""

import json
import shutil

import pytest
from command_line import here

from visionbench.config import project_folder as project
from visionbench.core import Reason
from visionbench.data.shapes import LABELS, Shapes
from visionbench.records.folder import RunFolder

NO_SWEEP = ["tracking=none", "device.threads=1"]
OF_EACH = 2


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder for each class of shapes, with two images in each."""
    base = tmp_path_factory.mktemp("labelled")
    for example in Shapes(samples=200, cache_dir=str(base / "cache")).examples():
        place = base / "pictures" / str(example.label)
        place.mkdir(parents=True, exist_ok=True)
        if len(list(place.iterdir())) < OF_EACH:
            shutil.copy(example.image, place)
    assert sum(1 for _ in (base / "pictures").rglob("*.jpg")) == OF_EACH * len(LABELS)
    return base / "pictures"


@pytest.fixture
def copy(labelled, tmp_path):
    """A function that copies the folder, which a test may change, with the folders renamed by a function."""

    def copy(name=str):
        for folder in labelled.iterdir():
            shutil.copytree(folder, tmp_path / "pictures" / name(folder.name))
        return tmp_path / "pictures"

    return copy


def measured(folder, root, *words, model="classifier_tiny", metrics="metrics=[classification]"):
    """Run the command and return its output, and the run's folder if it has one."""
    data = ("data=image_folder", f"data.root={root}", *(["model.options.part=image"] if model == "clip_tiny" else []))
    done = here(folder, "run", f"model={model}", *data, metrics, *words, *NO_SWEEP)
    runs = [RunFolder.open(path.parent) for path in sorted((folder / "outputs").rglob("results.jsonl"))]
    return done, runs[-1] if runs else None


def quality(run):
    (row,) = [row for row in run.results() if row.case.id == "quality"]
    return row


@pytest.fixture(scope="module")
def clean(labelled, tmp_path_factory):
    """The quality row of the unchanged folder."""
    done, run = measured(tmp_path_factory.mktemp("clean"), labelled)
    assert done.returncode == 0, done.stderr
    return quality(run)


def test_a_clean_folder_is_valid_and_its_row_counts_the_used_data(clean):
    assert clean.validity.verdict == "valid"
    values = clean.metrics.values
    assert values["classification_top_1_fraction"] > 0.9
    assert values["pictures_used_count"] == values["pictures_found_count"] == OF_EACH * len(LABELS)
    assert (values["classes_count"], values["classes_without_pictures_count"]) == (len(LABELS), 0)


def test_underscores_hidden_folders_and_jfif_change_no_figure(copy, tmp_path, clean):
    root = copy(lambda name: name.replace(" ", "_"))
    shutil.copytree(root / "ring_and_star", root / ".ipynb_checkpoints")
    shutil.copytree(root / "ring_and_star", root / "__MACOSX" / "ring_and_star")
    for path in sorted(root.glob("*/*.jpg"))[::2]:
        path.rename(path.with_suffix(".jfif"))
    done, run = measured(tmp_path, root)
    assert done.returncode == 0, done.stderr
    assert quality(run).validity.verdict == "valid"
    assert quality(run).metrics.values == clean.metrics.values


def test_folders_named_by_the_index_of_the_class_give_the_same_figures_and_a_flag(copy, tmp_path, clean):
    done, run = measured(tmp_path, copy(lambda name: str(LABELS.index(name))))
    assert done.returncode == 0, done.stderr
    row = quality(run)
    assert row.metrics.values["classification_top_1_fraction"] == clean.metrics.values["classification_top_1_fraction"]
    assert row.validity.verdict == "warned"
    assert str(row.validity.reasons[0]).startswith("classes_by_index: the data's classes 0 to 14 are taken as indices")


def test_a_mapping_determines_the_class_of_a_folder(copy, tmp_path, clean):
    root = copy(lambda name: "Stern" if name == "star and star" else name)
    done, _ = measured(tmp_path, root, "data.options.classes={Stren: star and star}")
    assert done.returncode == 2
    assert "data.options.classes: there is no class 'Stren' among the data's 15; the nearest are 'Stern'" in done.stderr
    done, run = measured(tmp_path, root, "data.options.classes={Stern: star and star}")
    assert done.returncode == 0, done.stderr
    assert quality(run).validity.verdict == "valid"
    assert quality(run).metrics.values == clean.metrics.values


def test_unknown_classes_are_an_error_before_anything_is_measured(copy, tmp_path):
    done, run = measured(
        tmp_path, copy(lambda name: f"class {LABELS.index(name)}"), metrics="metrics=[latency,classification]"
    )
    assert (done.returncode, run) == (2, None)
    assert "the model does not have 15 of the data's 15 classes, such as 'class 0'" in done.stderr
    assert "data.options.classes=" in done.stderr and done.stderr.count("\n") == 1


def test_with_skip_the_images_of_an_unknown_class_are_left_out_and_named(copy, tmp_path):
    root = copy(lambda name: "unsorted" if name == "ring and ring" else name)
    assert measured(tmp_path, root)[0].returncode == 2
    done, run = measured(tmp_path, root, "data.on_error=skip")
    assert done.returncode == 0, done.stderr
    row = quality(run)
    assert row.validity.verdict == "warned"
    assert "2 of 30" in row.validity.reasons[0].detail and "'unsorted'" in row.validity.reasons[0].detail
    assert row.metrics.values["pictures_used_count"] == 28 and row.metrics.values["pictures_found_count"] == 30


def test_an_image_beside_the_folders_is_an_error_or_left_out(copy, tmp_path):
    root = copy()
    shutil.copy(next(root.glob("*/*.jpg")), root / "cover.jpg")
    done, run = measured(tmp_path, root, model="clip_tiny")
    assert (done.returncode, run) == (2, None)
    assert "1 of 31 images cannot be used: cover.jpg (no class: it is not in the folder of a class)" in done.stderr
    done, run = measured(tmp_path, root, "data.on_error=skip")
    assert done.returncode == 0, done.stderr
    assert quality(run).validity.reasons == (
        Reason("pictures_left_out", "1 of 31: cover.jpg (no class: it is not in the folder of a class)"),
    )


def test_a_folder_without_classes_refuses_metrics_of_labels_and_measures_the_others(copy, tmp_path):
    root = copy()
    plain = tmp_path / "plain"
    plain.mkdir()
    for path in root.glob("*/*.jpg"):
        shutil.copy(path, plain)
    words = ["batch=single", "measure.warmup.calls=1", "measure.latency.calls=6"]
    done, run = measured(tmp_path, plain, *words, metrics="metrics=[latency,classification]")
    assert done.returncode == 0, done.stderr
    assert [row.case.id for row in run.results()] == ["batch-1"]
    why = "data=image_folder: it has no labels, because data.root has no folder of a class"
    assert run.record().plan.refused == {"classification": why}
    assert why in " ".join(done.stdout.split())


def test_a_sample_has_all_classes_and_is_flagged(labelled, tmp_path):
    done, run = measured(tmp_path, labelled, "data.options.samples=15", model="clip_tiny")
    assert done.returncode == 0, done.stderr
    row = quality(run)
    assert row.metrics.values["classification_classes_count"] == len(LABELS)
    assert row.metrics.values["classes_without_pictures_count"] == 0
    assert row.validity.reasons == (Reason("sample", "15 of 30 images were taken (data.options.samples)"),)
    assert "quality over a sample of 15 of 30 images of image_folder" in done.stdout


def test_a_model_with_two_classes_of_one_name_is_measured(copy, tmp_path, clean):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(project("data") / "classifier_tiny", checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    config["id2label"] |= {"13": "crane", "14": "crane"}
    (checkpoint / "config.json").write_text(json.dumps(config))
    root = copy(lambda name: "crane" if name == "star and star" else name)
    shutil.rmtree(root / "cross and star")
    done, _ = measured(tmp_path, root, f"model.checkpoint={checkpoint}")
    assert done.returncode == 2
    assert "'crane' may be the model's class 13 'crane' or 14 'crane'" in done.stderr
    done, run = measured(tmp_path, root, f"model.checkpoint={checkpoint}", "data.options.classes={crane: 14}")
    assert done.returncode == 0, done.stderr
    assert quality(run).metrics.values["classification_top_1_fraction"] > 0.9
    assert list(run.predictions().classes)[13:] == ["crane (13)", "crane (14)"]


def test_folders_that_are_splits_are_an_error(labelled, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(labelled, tmp_path / "splits" / split)
    done, _ = measured(tmp_path, tmp_path / "splits", model="clip_tiny")
    assert done.returncode == 2
    assert "its folders are splits and not classes ('train', 'val'); choose one" in done.stderr


def test_class_numbers_are_an_error_for_zero_shot_classification(copy, tmp_path):
    done, _ = measured(tmp_path, copy(lambda name: f"n{LABELS.index(name):08d}"), model="clip_tiny")
    assert done.returncode == 2
    assert "15 of the data's 15 classes are numbers, such as 'n00000000'" in done.stderr


def test_moved_images_are_the_same_data_and_changed_images_are_not(copy, labelled, tmp_path, clean):
    root = copy()
    _, here_ = measured(tmp_path, labelled)
    _, moved = measured(tmp_path, root)
    same, other = sorted((root / "ring and star").iterdir())
    shutil.copy(same, other)
    _, changed = measured(tmp_path, root)
    digests = [run.record().data.contents_sha256 for run in (here_, moved, changed)]
    assert digests[0] == digests[1] != digests[2]
    done = here(tmp_path, "compare", str(here_.path), str(changed.path))
    output = " ".join(done.stdout.split())
    assert "the images differ, or their names, labels or captions" in output
    assert "undecided: 2 not comparable" in output and done.returncode != 1


def test_shapes_measure_only_the_speed_of_a_model_with_other_classes(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(project("data") / "classifier_tiny", checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    config["id2label"] = {str(index): f"object {index}" for index in range(len(LABELS))}
    (checkpoint / "config.json").write_text(json.dumps(config))
    words = ["metrics=[latency,classification]", "batch=single", "data.options.samples=20", "measure.warmup.calls=1"]
    model = ["model=classifier_tiny", f"model.checkpoint={checkpoint}", "measure.latency.calls=6"]
    done = here(tmp_path, "run", *model, *words, *NO_SWEEP)
    assert done.returncode == 0, done.stderr
    why = "data=shapes: its labels are not the model's: the model does not have 15 of its 15 classes, such as 'ring"
    first = done.stdout.splitlines()[0]
    assert first.startswith(f"! classifier_tiny: no classification, because {why}")
    assert first.endswith("choose data with the model's classes, data=image_folder data.root=…")
    alone = here(tmp_path, "run", *model, *words, "metrics=[classification]", *NO_SWEEP)
    assert alone.returncode == 2 and "nothing is left to measure" in alone.stderr and why in alone.stderr


def test_the_warning_for_classes_without_names_says_where_to_write_them(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(project("data") / "classifier_tiny", checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    config["id2label"] = {str(index): f"LABEL_{index}" for index in range(len(LABELS))}
    (checkpoint / "config.json").write_text(json.dumps(config))
    words = ["model=classifier_tiny", f"model.checkpoint={checkpoint}", "metrics=[classification]"]
    done = here(tmp_path, "run", *words, "data.options.samples=20", *NO_SWEEP)
    assert done.returncode == 2
    assert "has no names for its classes, only 'LABEL_0' and so on; write the names into id2label" in done.stderr


def test_with_skip_the_classes_that_the_model_has_are_measured_on_shapes(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(project("data") / "classifier_tiny", checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    own = {str(index): f"object {index}" for index in range(5)}
    config["id2label"] = {**config["id2label"], **own}
    config["label2id"] = {name: int(index) for index, name in config["id2label"].items()}
    (checkpoint / "config.json").write_text(json.dumps(config))
    words = ["model=classifier_tiny", f"model.checkpoint={checkpoint}", "metrics=[classification]"]
    done = here(tmp_path, "run", *words, "data.options.samples=60", "data.on_error=skip", *NO_SWEEP)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "outputs").rglob("results.jsonl")
    assert 0 < quality(RunFolder.open(path.parent)).metrics.values["pictures_used_count"] < 60


def test_a_damaged_config_is_an_error_that_names_it(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(project("data") / "classifier_tiny", checkpoint)
    (checkpoint / "config.json").write_text('{"id2label": {"0": "a"')
    words = ["metrics=[classification]", "data.options.samples=20", f"model.checkpoint={checkpoint}"]
    done = here(tmp_path, "run", "model=classifier_tiny", *words, *NO_SWEEP)
    assert done.returncode == 2
    assert done.stderr.startswith(f"visionbench: {checkpoint}/config.json: not JSON") and done.stderr.count("\n") == 1
