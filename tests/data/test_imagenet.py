"""ImageNet's validation images in folders of classes or in one folder, and the names and order of the classes."""

import pytest

from visionbench.core import ConfigError
from visionbench.data.imagenet import ImageNet
from visionbench.registry import find

FISH, BIRD, MACHINE = "n01440764", "n02012849", "n03126707"
IMAGES = {"ILSVRC2012_val_00000001": MACHINE, "ILSVRC2012_val_00000002": FISH, "ILSVRC2012_val_00000003": BIRD}
MAPPING = f"{FISH} tench, Tinca tinca\n{BIRD} crane\n{MACHINE} crane\n"
NAMES = ["tench, Tinca tinca", f"crane ({BIRD})", f"crane ({MACHINE})"]


@pytest.fixture(params=["folders", "flat", "kaggle"])
def root(tmp_path, request):
    val = tmp_path / ("ILSVRC/Data/CLS-LOC/val" if request.param == "kaggle" else "val")
    val.mkdir(parents=True)
    for name, number in IMAGES.items():
        path = val / number / f"{name}.JPEG" if request.param == "folders" else val / f"{name}.JPEG"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    if request.param != "folders":
        rows = "".join(f"{name},{number} 1 2 3 4 {number} 5 6 7 8 \n" for name, number in IMAGES.items())
        (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)
    return tmp_path


def test_it_is_registered():
    assert find("data", "imagenet") is ImageNet


def test_without_names_the_classes_are_their_numbers_in_order(root):
    data = ImageNet(str(root))
    assert list(data.classes()) == [FISH, BIRD, MACHINE]
    examples = data.examples()
    assert [example.label for example in examples] == [MACHINE, FISH, BIRD]
    assert all(example.image.is_file() and not example.problems for example in examples)
    assert data.identity()["samples"] == "3"


def test_names_are_from_the_mapping_and_a_shared_name_is_followed_by_its_number(root):
    (root / "LOC_synset_mapping.txt").write_text(MAPPING)
    assert list(ImageNet(str(root)).classes()) == NAMES
    assert [example.label for example in ImageNet(str(root), samples=2).examples()] == [NAMES[2], NAMES[0]]


def test_the_users_names_are_in_the_order_of_the_numbers(root):
    (root / "names.txt").write_text("fish\nbird\nmachine\n")
    assert list(ImageNet(str(root), names=str(root / "names.txt")).classes()) == ["fish", "bird", "machine"]
    (root / "names.txt").write_text("fish\n")
    with pytest.raises(ConfigError, match=r"data\.options\.names=.*: 1 names for 3 classes"):
        ImageNet(str(root), names=str(root / "names.txt")).classes()


def test_a_class_that_is_not_in_the_mapping_is_a_problem(root):
    (root / "LOC_synset_mapping.txt").write_text(f"{FISH} tench\n{BIRD} crane\n")
    assert [bool(example.problems) for example in ImageNet(str(root)).examples()] == [True, False, False]


def test_the_error_for_another_layout_names_the_expected_layout(tmp_path):
    with pytest.raises(ConfigError, match=rf"^data\.root={tmp_path}: .*expected"):
        ImageNet(str(tmp_path)).examples()


def test_a_class_has_its_number_and_its_target_from_the_config(root):
    (root / "LOC_synset_mapping.txt").write_text(MAPPING)
    classes = ImageNet(str(root), class_mapping={NAMES[1]: 134}).described_classes()
    assert [(one.name, one.number, one.target) for one in classes] == [
        (NAMES[0], FISH, None),
        (NAMES[1], BIRD, 134),
        (NAMES[2], MACHINE, None),
    ]


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX"])
def test_folders_that_programs_leave_behind_are_not_classes(tmp_path, name):
    for folder in (FISH, BIRD, name):
        (tmp_path / "val" / folder).mkdir(parents=True)
        (tmp_path / "val" / folder / f"{folder}.JPEG").touch()
    data = ImageNet(str(tmp_path))
    assert (list(data.classes()), len(data.examples())) == ([FISH, BIRD], 2)


def test_a_linked_class_is_an_error_unless_links_are_followed(tmp_path):
    (tmp_path / "val" / FISH).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.JPEG").touch()
    (tmp_path / "val" / BIRD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="the link leads out"):
        ImageNet(str(tmp_path)).examples()
    assert [example.label for example in ImageNet(str(tmp_path), follow_links=True).examples()] == [BIRD]


def flat(tmp_path, table):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.JPEG").touch()
    (tmp_path / "val" / "b.JPEG").touch()
    (tmp_path / "LOC_val_solution.csv").write_bytes(table)
    return ImageNet(str(tmp_path))


def test_an_image_that_is_not_in_kaggles_list_is_a_problem(tmp_path):
    examples = flat(tmp_path, f"\ufeffImageId,PredictionString\r\na,{FISH} 1 2 3 4 \r\n".encode()).examples()
    assert [(example.id, example.problems) for example in examples] == [
        ("a.JPEG", ()),
        ("b.JPEG", ("not listed in LOC_val_solution.csv",)),
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"ImageId,Other\na,n01440764\n", "not Kaggle's list"),
        (b"", "not Kaggle's list"),
        (b"ImageId,PredictionString\na\n", "line 2: it has no ImageId or no PredictionString"),
        (b"ImageId,PredictionString\na,n01440764 1\na,n02012849 1\n", "line 3: a has two classes"),
        (b'ImageId,PredictionString\na,"n01440764\n', "not a table in UTF-8"),
        (b"ImageId,PredictionString\n\xff,n01440764\n", "not a table in UTF-8"),
    ],
)
def test_a_list_of_another_form_is_an_error_with_its_line(tmp_path, table, message):
    with pytest.raises(ConfigError, match=rf"LOC_val_solution\.csv.*{message}"):
        flat(tmp_path, table).examples()


def test_a_number_with_two_names_is_an_error(root):
    (root / "LOC_synset_mapping.txt").write_text(f"{FISH} tench\n{FISH} trout\n")
    with pytest.raises(ConfigError, match=rf"line 2: {FISH} has two names"):
        ImageNet(str(root)).classes()
