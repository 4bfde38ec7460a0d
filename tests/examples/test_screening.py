"""Examples that cannot be used are found before measuring, named, counted, and refused or left out."""

import numpy as np
import pytest
from PIL import Image

from visionbench.core import ConfigError, Example
from visionbench.examples import screening


@pytest.fixture
def examples(tmp_path):
    """Six JPEG images of noise."""
    examples = []
    for k in range(6):
        path = tmp_path / f"{k}.jpg"
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
        examples.append(Example(str(k), path))
    return examples


def truncate(example):
    example.image.write_bytes(example.image.read_bytes()[:-2000])


def test_intact_images_have_no_problem(examples):
    assert screening.find_problems(examples, decoded=6) == {}


def test_missing_empty_unreadable_and_wrongly_annotated_images_are_named_with_their_problem(examples):
    examples[0].image.unlink()
    examples[1].image.write_bytes(b"")
    examples[2].image.write_text("not an image")
    examples[4] = Example("4", examples[4].image, problems=("an empty caption", "no caption 3"))
    problems = screening.find_problems(examples, decoded=0)
    assert list(problems) == ["0", "1", "2", "4"]
    assert (problems["0"], problems["1"], problems["4"]) == ("missing", "zero bytes", "an empty caption; no caption 3")
    assert "cannot be decoded" in problems["2"]


def test_two_images_with_one_name_cannot_be_used(examples):
    twins = [*examples, Example("3", examples[0].image)]
    assert screening.find_problems(twins, decoded=0) == {"3": "2 images have this name"}


def test_a_file_with_two_ids_is_a_problem_of_the_second(examples):
    examples[4] = Example("4", examples[1].image.parent / "." / ".." / examples[1].image.parent.name / "1.jpg")
    assert screening.find_problems(examples, decoded=0) == {
        "4": "its file is also that of image '1': list each file once"
    }


def test_only_the_first_images_are_decoded(examples):
    truncate(examples[1])
    truncate(examples[4])
    assert list(screening.find_problems(examples, decoded=2)) == ["1"]
    assert list(screening.find_problems(examples, decoded=6)) == ["1", "4"]


def test_an_unusable_image_does_not_count_among_the_first(examples):
    examples[0].image.unlink()
    truncate(examples[2])
    assert list(screening.find_problems(examples, decoded=2)) == ["0", "2"]


def test_problems_are_an_error_of_one_line_that_names_the_first_and_the_remedy():
    problems = {str(k): "missing" for k in range(5)}
    with pytest.raises(ConfigError) as error:
        screening.raise_on_problems("coco", problems, 100, "fail")
    assert str(error.value) == (
        "data=coco: 5 of 100 images cannot be used: 0 (missing), 1 (missing), 2 (missing), and 2 more; correct "
        "them, or leave them out with data.on_error=skip"
    )


def test_data_without_an_image_are_an_error():
    with pytest.raises(ConfigError, match=r"^data=coco: it has no image to measure with; check split"):
        screening.raise_on_problems("coco", {}, 0, "skip")


def test_a_long_name_is_shortened():
    assert screening.summarize_problems({"x" * 5000: "missing"}) == f"{'x' * 120}… (missing)"


def test_with_skip_problems_are_an_error_only_if_no_image_remains(examples):
    screening.raise_on_problems("coco", {"0": "missing"}, 6, "skip")
    screening.raise_on_problems("coco", {}, 6, "fail")
    with pytest.raises(ConfigError, match=r"none of its 6 images can be used: 0 \(missing\)"):
        screening.raise_on_problems("coco", {str(k): "missing" for k in range(6)}, 6, "skip")


# ---------------------------------------------------------------------------------------------- masks and their images
def masked(path, size, orientation=1, stored=(40, 64)):
    """An example whose annotations are for `size`, of an image that is stored with the size `stored`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", stored[::-1]).save(path, exif=exif)
    return Example(path.name, path, masks=lambda: np.ones((1, *size), bool), size=size)


@pytest.mark.parametrize("stored", [(40, 64), (64, 64)], ids=["oblong", "square"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_masks_on_an_image_with_an_exif_orientation_need_the_key_that_names_their_frame(tmp_path, orientation, stored):
    turned = stored[::-1] if orientation >= 5 else stored
    for size in (stored, turned):
        example = masked(tmp_path / "a.jpg", size, orientation, stored)
        (problem,) = screening.find_problems(screening.with_mask_frame([example], None), decoded=1).values()
        assert f"EXIF orientation is {orientation}" in problem and "data.exif=stored or data.exif=turned" in problem
    for exif, size in (("stored", stored), ("turned", turned)):
        example = masked(tmp_path / "a.jpg", size, orientation, stored)
        assert screening.find_problems(screening.with_mask_frame([example], exif), decoded=1) == {}
    if turned != stored:
        for exif, size in (("stored", turned), ("turned", stored)):
            example = masked(tmp_path / "a.jpg", size, orientation, stored)
            (problem,) = screening.find_problems(screening.with_mask_frame([example], exif), decoded=0).values()
            assert problem.startswith(f"its annotations are for {size[1]} × {size[0]} pixels, the image has ")


def test_images_without_masks_are_turned_for_every_value_of_the_key(tmp_path):
    example = Example("a", masked(tmp_path / "a.jpg", (64, 40), orientation=6).image)
    (same,) = screening.with_mask_frame([example], "stored")
    assert same.turned and screening.find_problems([same], decoded=1) == {}


def test_masks_with_another_size_than_the_header_are_found_without_decoding(tmp_path):
    example = masked(tmp_path / "a.jpg", (64, 64))
    assert screening.find_problems([example], decoded=0) == {
        "a.jpg": "its annotations are for 64 × 64 pixels, the image has 64 × 40"
    }
    assert screening.find_problems([masked(tmp_path / "b.jpg", (40, 64))], decoded=0) == {}


def test_the_first_of_many_problems_of_one_image_are_named_and_the_others_counted(examples):
    many = Example("0", examples[0].image, problems=tuple(f"problem {n}" for n in range(9)))
    assert screening.find_problems([many], decoded=0) == {"0": "problem 0; problem 1; problem 2; and 6 more"}


def test_usable_examples_are_those_that_are_not_left_out(examples):
    assert [example.id for example in screening.usable_examples(examples, {"1": "missing", "5": "zero bytes"})] == list(
        "0234"
    )
