"""ImageNet's validation pictures by folder and flat, and the names and order of their classes."""

import pytest

from visionbench.data.imagenet import ImageNet
from visionbench.registry import ConfigError, find

FISH, BIRD, MACHINE = "n01440764", "n02012849", "n03126707"
PICTURES = {"ILSVRC2012_val_00000001": MACHINE, "ILSVRC2012_val_00000002": FISH, "ILSVRC2012_val_00000003": BIRD}
MAPPING = f"{FISH} tench, Tinca tinca\n{BIRD} crane\n{MACHINE} crane\n"
NAMES = ["tench, Tinca tinca", f"crane ({BIRD})", f"crane ({MACHINE})"]


@pytest.fixture(params=["folders", "flat", "kaggle"])
def root(tmp_path, request):
    val = tmp_path / ("ILSVRC/Data/CLS-LOC/val" if request.param == "kaggle" else "val")
    val.mkdir(parents=True)
    for name, number in PICTURES.items():
        path = val / number / f"{name}.JPEG" if request.param == "folders" else val / f"{name}.JPEG"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    if request.param != "folders":
        rows = "".join(f"{name},{number} 1 2 3 4 {number} 5 6 7 8 \n" for name, number in PICTURES.items())
        (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)
    return tmp_path


def test_it_is_found_by_name():
    assert find("data", "imagenet") is ImageNet


def test_without_names_the_classes_are_their_numbers_in_order(root):
    data = ImageNet(str(root))
    assert list(data.classes()) == [FISH, BIRD, MACHINE]
    found = data.examples()
    assert [example.label for example in found] == [MACHINE, FISH, BIRD]
    assert all(example.image.is_file() and not example.faults for example in found)
    assert data.identity()["samples"] == "3"


def test_names_come_from_the_mapping_and_a_shared_one_has_its_number(root):
    (root / "LOC_synset_mapping.txt").write_text(MAPPING)
    assert list(ImageNet(str(root)).classes()) == NAMES
    assert [example.label for example in ImageNet(str(root), samples=2).examples()] == [NAMES[2], NAMES[0]]


def test_ones_own_names_are_in_the_order_of_the_numbers(root):
    (root / "names.txt").write_text("fish\nbird\nmachine\n")
    assert list(ImageNet(str(root), names=str(root / "names.txt")).classes()) == ["fish", "bird", "machine"]
    (root / "names.txt").write_text("fish\n")
    with pytest.raises(ConfigError, match=r"data\.options\.names=.*: 1 names for 3 classes"):
        ImageNet(str(root), names=str(root / "names.txt")).classes()


def test_a_class_that_the_mapping_does_not_know_is_a_fault(root):
    (root / "LOC_synset_mapping.txt").write_text(f"{FISH} tench\n{BIRD} crane\n")
    assert [bool(example.faults) for example in ImageNet(str(root)).examples()] == [True, False, False]


def test_a_folder_of_another_form_says_what_is_expected(tmp_path):
    with pytest.raises(ConfigError, match=rf"^data\.root={tmp_path}: .*expected"):
        ImageNet(str(tmp_path)).examples()
