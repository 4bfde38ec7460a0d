"""A folder of images and index masks: pairs of files, the numbers of the masks, and the problems that are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionbench.core import IGNORED, ConfigError
from visionbench.data.semantic_folder import SemanticFolder
from visionbench.datafiles.images import PictureError
from visionbench.examples import screening
from visionbench.registry import find

NUMBERS = np.array([[0, 1, 2, 255], [2, 2, 1, 0], [0, 0, 0, 1]], np.uint8)
EXPECTED = np.where(NUMBERS == 255, IGNORED, NUMBERS.astype(int))


@pytest.fixture
def root(tmp_path):
    """Two images of 4 × 3 pixels, `a.jpg` and `street/b.png`, with masks, and three classes."""
    for name in ("images/street", "masks/street"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a.jpg", "street/b.png"):
        Image.new("RGB", (4, 3), "red").save(tmp_path / "images" / name)
        Image.fromarray(NUMBERS).save((tmp_path / "masks" / name).with_suffix(".png"))
    (tmp_path / "classes.txt").write_text("road\ncar\ntree\n")
    return tmp_path


def data(root: Path, **options) -> SemanticFolder:
    return SemanticFolder(str(root), **options)


def problems(root: Path, **options) -> dict[str, str]:
    examples = screening.with_mask_frame(data(root, **options).examples(), None)
    return screening.find_problems(examples, len(examples))


def test_it_is_registered():
    assert find("data", "semantic_folder") is SemanticFolder


def test_each_image_has_the_mask_of_its_name(root):
    first, second = data(root).examples()
    assert (first.id, second.id) == ("a.jpg", "street/b.png")
    assert first.size == (3, 4)
    assert np.array_equal(first.class_map(), EXPECTED)
    assert np.array_equal(second.class_map(), EXPECTED)
    assert [one.name for one in data(root).map_classes()] == ["road", "car", "tree"]
    assert problems(root) == {}


def test_a_palette_gives_the_numbers_and_not_the_colours(root):
    picture = Image.fromarray(NUMBERS)
    picture = picture.convert("P")
    picture.putpalette([200, 10, 10] * 256)
    picture.putdata(NUMBERS.ravel().tolist())
    picture.save(root / "masks" / "a.png")
    assert np.array_equal(data(root).examples()[0].class_map(), EXPECTED)


def test_sixteen_bits_are_read_completely(root):
    Image.fromarray(NUMBERS.astype(np.uint16) * 300).save(root / "masks" / "a.png")
    assert "7 pixels with a number that is no class, such as 300" in problems(root, ignore_index=300 * 255)["a.jpg"]


def test_reduce_zero_label_shifts_the_classes_and_ignores_zero(root):
    stored = np.where(NUMBERS == 255, 0, NUMBERS + 1).astype(np.uint8)
    stored[0, 0] = 255
    Image.fromarray(stored).save(root / "masks" / "a.png")
    expected = EXPECTED.copy()
    expected[0, 0] = IGNORED
    assert np.array_equal(data(root, reduce_zero_label=True).examples()[0].class_map(), expected)


def test_another_number_can_be_ignored(root):
    Image.fromarray(np.where(NUMBERS == 255, 0, NUMBERS)).save(root / "masks" / "a.png")
    class_map = data(root, ignore_index=0).examples()[0].class_map()
    assert (class_map == IGNORED).sum() == 6
    assert set(np.unique(class_map)) == {IGNORED, 1, 2}


def save_mask(root, numbers, mode=None):
    picture = Image.fromarray(numbers)
    (picture.convert(mode) if mode else picture).save(root / "masks" / "a.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "masks" / "a.png").unlink(), "its class map masks/a.png is missing"),
        (lambda root: save_mask(root, NUMBERS, "RGB"), "masks/a.png has the mode RGB: it must have one channel"),
        (lambda root: save_mask(root, NUMBERS, "LA"), "masks/a.png has the mode LA"),
        (lambda root: save_mask(root, NUMBERS[:2]), "its annotations are for 4 × 2 pixels, the image has 4 × 3"),
        (
            lambda root: save_mask(root, NUMBERS + 1),
            "a number that is no class, such as 3; the 3 classes are numbered 0",
        ),
        (lambda root: save_mask(root, np.full((3, 4), 255, np.uint8)), "has no pixel that counts: all are ignored"),
        (lambda root: (root / "masks" / "a.png").write_bytes(b"no image"), "masks/a.png: cannot be decoded"),
        (lambda root: (root / "images" / "a.jpg").write_bytes(b""), "zero bytes"),
    ],
)
def test_a_problem_of_a_mask_names_its_image_and_the_file(root, change, message):
    change(root)
    found = problems(root)
    assert list(found) == ["a.jpg"]
    assert message in found["a.jpg"]


def test_a_truncated_mask_is_a_problem_when_it_is_read(root):
    path = root / "masks" / "a.png"
    noise = np.random.default_rng(0).integers(0, 3, (300, 400), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(PictureError, match=r"its class map masks/a\.png"):
        data(root).examples()[0].class_map()


def test_a_mask_without_an_image_is_a_problem(root):
    (root / "images" / "a.jpg").unlink()
    assert problems(root) == {"masks/a.png": "there is no image of this name"}


def test_two_images_for_one_mask_are_a_problem_of_both(root):
    Image.new("RGB", (4, 3)).save(root / "images" / "a.bmp")
    assert problems(root) == dict.fromkeys(("a.bmp", "a.jpg"), "2 images belong to masks/a.png")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda root: (root / "classes.txt").unlink(), {}, "classes.txt does not exist; write the names"),
        (lambda root: (root / "classes.txt").write_text("\n"), {}, "has no names"),
        (lambda root: (root / "classes.txt").write_text("a\n\nb\n"), {}, "line 2: it is empty"),
        (lambda root: (root / "classes.txt").write_text("a\nb\na\n"), {}, "'a' is listed twice"),
        (lambda root: None, {"names": "missing.txt"}, "data.options.names=missing.txt: missing.txt does not exist"),
        (lambda root: None, {"images": "pictures"}, "pictures/ is not in it; give another folder"),
        (lambda root: None, {"masks": "labels"}, "labels/ is not in it; give another folder with data.options.masks"),
        (lambda root: (root / "empty").mkdir(), {"images": "empty"}, "empty/ contains no image"),
        (lambda root: None, {"samples": 0}, "data.options.samples=0: must be at least 1"),
        (lambda root: None, {"class_mapping": {"bus": "car"}}, "there is no class 'bus' among the data's 3"),
    ],
)
def test_a_fault_of_the_folder_or_of_an_option_is_one_line(root, change, options, message):
    change(root)
    with pytest.raises(ConfigError, match=message) as error:
        folder = data(root, **options)
        folder.map_classes()
        folder.examples()
    assert "\n" not in str(error.value)


def test_the_mapping_gives_the_models_class(root):
    classes = data(root, class_mapping={"car": "automobile", "tree": 4}).map_classes()
    assert [one.target for one in classes] == [None, "automobile", 4]


def test_the_identity_changes_with_a_mask_and_with_a_class(root):
    before = data(root).identity()
    save_mask(root, np.zeros((3, 4), np.uint8))
    changed = data(root).identity()
    (root / "classes.txt").write_text("road\ncar\nbush\n")
    digests = {one["annotations_sha256"] for one in (before, changed, data(root).identity())}
    assert len(digests) == 3
    assert (before["samples"], before["ignore_index"], before["reduce_zero_label"]) == ("2", "255", "false")


def test_samples_takes_the_first_images(root):
    assert [example.id for example in data(root, samples=1).examples()] == ["a.jpg"]


def test_masks_need_the_exif_frame(root):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (4, 3)).save(root / "images" / "a.jpg", exif=exif)
    assert "set data.exif=stored or data.exif=turned" in problems(root)["a.jpg"]
