"""Images of a calibration: none of them is an image of the run, by name or by content."""

import shutil
from dataclasses import dataclass

import pytest
from PIL import Image

from visionbench.core import ConfigError
from visionbench.data.image_folder import ImageFolder
from visionbench.data.karpathy import Karpathy
from visionbench.data.shapes import Shapes
from visionbench.examples.calibration import REST, choose_images


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(tmp_path):
    """A folder of two classes with ten different images each."""
    root = tmp_path / "images"
    for number in range(20):
        file = root / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 9, 0, 0)).save(file)
    return root


def contents(examples):
    return {example.image.read_bytes() for example in examples}


@pytest.mark.parametrize(("split", "other"), [("test", "train"), ("validation", "train"), ("train", "validation")])
def test_shapes_are_calibrated_with_images_of_another_split(split, other):
    data = Shapes(split=split, samples=20)
    chosen = choose_images("shapes", data, 8)
    assert chosen.source == f"shapes, split {other}"
    assert len(chosen.examples) == len(contents(chosen.examples)) == 8
    assert not contents(chosen.examples) & contents(data.examples())


def test_a_folder_is_calibrated_with_the_images_that_samples_leaves_out(images):
    data = ImageFolder(str(images), samples=12)
    chosen = choose_images("image_folder", data, 5)
    assert chosen.source == REST
    assert len(chosen.examples) == 5
    assert not {example.id for example in chosen.examples} & {example.id for example in data.examples()}
    assert {example.label for example in chosen.examples} == {"cat", "dog"}


def test_fewer_images_are_used_if_fewer_are_left(images):
    assert len(choose_images("image_folder", ImageFolder(str(images), samples=18), 64).examples) == 2


def test_a_run_of_all_images_is_refused_with_a_number_of_samples(images):
    with pytest.raises(ConfigError, match=r"all of its 20 images, and none is left.*as in data.options.samples=16"):
        choose_images("image_folder", ImageFolder(str(images)), 5)


def test_a_copy_of_an_image_of_the_run_does_not_calibrate(images):
    data = ImageFolder(str(images), samples=18)
    used = data.examples()[0].image
    left_out = choose_images("image_folder", data, 64).examples
    shutil.copyfile(used, left_out[0].image)
    assert [example.id for example in choose_images("image_folder", data, 64).examples] == [left_out[1].id]


def test_a_damaged_image_does_not_calibrate(images):
    data = ImageFolder(str(images), samples=18)
    left_out = choose_images("image_folder", data, 64).examples
    left_out[0].image.write_bytes(b"damaged")
    assert [example.id for example in choose_images("image_folder", data, 64).examples] == [left_out[1].id]


@dataclass
class Split:
    """A data set of which another split is listed, but its images are missing here."""

    data: ImageFolder

    def examples(self):
        return self.data.examples()

    def other_images(self, count):
        return Karpathy("nowhere", split="val")


def test_without_the_other_split_no_image_of_the_run_is_used(images):
    with pytest.raises(ConfigError, match="none is left for the calibration"):
        choose_images("karpathy", Split(ImageFolder(str(images))), 5)


def test_karpathy_calibrates_with_another_split():
    assert Karpathy("root", split="test").other_images(5) == Karpathy("root", split="val", samples=5)
    assert Karpathy("root", split="val").other_images(5).split == "test"
