"""What of a data set cannot be used is found before measuring, named, counted, and refused or left out."""

import numpy as np
import pytest
from PIL import Image

from visionbench.core import Example
from visionbench.examples import intake
from visionbench.registry import ConfigError


@pytest.fixture
def examples(tmp_path):
    """Six noisy JPEG pictures."""
    found = []
    for k in range(6):
        path = tmp_path / f"{k}.jpg"
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
        found.append(Example(str(k), path))
    return found


def truncate(example):
    example.image.write_bytes(example.image.read_bytes()[:-2000])


def test_whole_pictures_have_no_fault(examples):
    assert intake.faults(examples, decoded=6) == {}


def test_missing_empty_unreadable_and_misannotated_pictures_are_named_with_their_fault(examples):
    examples[0].image.unlink()
    examples[1].image.write_bytes(b"")
    examples[2].image.write_text("not a picture")
    examples[4] = Example("4", examples[4].image, faults=("an empty caption", "no caption 3"))
    found = intake.faults(examples, decoded=0)
    assert list(found) == ["0", "1", "2", "4"]
    assert (found["0"], found["1"], found["4"]) == ("missing", "zero bytes", "an empty caption; no caption 3")
    assert "cannot be decoded" in found["2"]


def test_two_pictures_of_one_name_cannot_be_told_apart(examples):
    twins = [*examples, Example("3", examples[0].image)]
    assert intake.faults(twins, decoded=0) == {"3": "2 pictures have this name"}


def test_a_file_under_two_ids_is_a_fault_of_the_second(examples):
    examples[4] = Example("4", examples[1].image.parent / "." / ".." / examples[1].image.parent.name / "1.jpg")
    assert intake.faults(examples, decoded=0) == {"4": "its file is that of picture '1' too: list each file once"}


def test_only_the_first_are_decoded(examples):
    truncate(examples[1])
    truncate(examples[4])
    assert list(intake.faults(examples, decoded=2)) == ["1"]
    assert list(intake.faults(examples, decoded=6)) == ["1", "4"]


def test_one_that_cannot_be_used_does_not_count_among_the_first(examples):
    examples[0].image.unlink()
    truncate(examples[2])
    assert list(intake.faults(examples, decoded=2)) == ["0", "2"]


def test_faults_are_refused_in_one_line_that_names_the_first_and_the_way_out():
    found = {str(k): "missing" for k in range(5)}
    with pytest.raises(ConfigError) as error:
        intake.raise_on_faults("coco", found, 100, "fail")
    assert str(error.value) == (
        "data=coco: 5 of 100 pictures cannot be used: 0 (missing), 1 (missing), 2 (missing), and 2 more; correct "
        "them, or leave them out with data.on_error=skip"
    )


def test_data_without_any_picture_are_refused():
    with pytest.raises(ConfigError, match=r"^data=coco: there is no picture in it that could be measured; check split"):
        intake.raise_on_faults("coco", {}, 0, "skip")


def test_a_name_of_many_characters_is_cut():
    assert intake.summarize_faults({"x" * 5000: "missing"}) == f"{'x' * 120}… (missing)"


def test_faults_are_let_pass_where_they_are_to_be_left_out_unless_nothing_remains(examples):
    intake.raise_on_faults("coco", {"0": "missing"}, 6, "skip")
    intake.raise_on_faults("coco", {}, 6, "fail")
    with pytest.raises(ConfigError, match=r"none of its 6 pictures can be used: 0 \(missing\)"):
        intake.raise_on_faults("coco", {str(k): "missing" for k in range(6)}, 6, "skip")


# -------------------------------------------------------------------------------------------- masks and their pictures
def masked(path, size, orientation=1, stored=(40, 64)):
    """An example whose annotations give a size, of a picture that is stored in another one perhaps."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", stored[::-1]).save(path, exif=exif)
    return Example(path.name, path, masks=lambda: np.ones((1, *size), bool), size=size)


@pytest.mark.parametrize("stored", [(40, 64), (64, 64)], ids=["oblong", "square"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_masks_on_a_picture_with_an_exif_orientation_are_refused_until_a_key_names_their_frame(
    tmp_path, orientation, stored
):
    turned = stored[::-1] if orientation >= 5 else stored
    for size in (stored, turned):
        example = masked(tmp_path / "a.jpg", size, orientation, stored)
        (why,) = intake.faults(intake.in_frame([example], None), decoded=1).values()
        assert f"EXIF orientation is {orientation}" in why and "data.exif=stored or data.exif=turned" in why
    for exif, size in (("stored", stored), ("turned", turned)):
        example = masked(tmp_path / "a.jpg", size, orientation, stored)
        assert intake.faults(intake.in_frame([example], exif), decoded=1) == {}
    if turned != stored:
        for exif, size in (("stored", turned), ("turned", stored)):
            example = masked(tmp_path / "a.jpg", size, orientation, stored)
            (why,) = intake.faults(intake.in_frame([example], exif), decoded=0).values()
            assert why.startswith(f"its annotations are for {size[1]} × {size[0]} pixels, the picture has ")


def test_pictures_without_masks_are_turned_whatever_the_key_says(tmp_path):
    example = Example("a", masked(tmp_path / "a.jpg", (64, 40), orientation=6).image)
    (same,) = intake.in_frame([example], "stored")
    assert same.turned and intake.faults([same], decoded=1) == {}


def test_masks_of_another_size_than_the_header_gives_are_found_without_decoding(tmp_path):
    example = masked(tmp_path / "a.jpg", (64, 64))
    assert intake.faults([example], decoded=0) == {
        "a.jpg": "its annotations are for 64 × 64 pixels, the picture has 64 × 40"
    }
    assert intake.faults([masked(tmp_path / "b.jpg", (40, 64))], decoded=0) == {}


def test_of_many_faults_of_one_picture_the_first_are_named_and_the_rest_counted(examples):
    many = Example("0", examples[0].image, faults=tuple(f"fault {n}" for n in range(9)))
    assert intake.faults([many], decoded=0) == {"0": "fault 0; fault 1; fault 2; and 6 more"}


def test_what_is_left_out_is_not_used(examples):
    assert [example.id for example in intake.usable(examples, {"1": "missing", "5": "zero bytes"})] == list("0234")
