"""Inputs of timed calls: which examples are preprocessed and kept, and how they become batches."""

import pytest
import torch
from PIL import Image

from visionbench.config import InputsConfig
from visionbench.core import Example
from visionbench.stages.inputs import assemble, batch_count, have_several_sizes, input_bytes, preprocess

CPU = torch.device("cpu")


class Processor:
    """1 MiB of fp32 for each image, filled with its red value."""

    def __init__(self):
        self.captions = []

    def preprocess(self, images, captions):
        (image,) = images
        self.captions += captions
        return {"pixels": torch.full((1, 2**18), float(image.getpixel((0, 0))[0]))}


@pytest.fixture
def examples(tmp_path):
    for red in range(6):
        Image.new("RGB", (2, 2), (red, 0, 0)).save(tmp_path / f"{red}.png")
    return [Example(str(red), tmp_path / f"{red}.png", captions=(f"red {red}", "other")) for red in range(6)]


def reds(singles):
    return [float(one["pixels"][0, 0]) for one in singles]


def test_distinct_samples_limits_the_inputs_that_are_kept(examples):
    assert reds(preprocess(Processor(), examples, InputsConfig(distinct_samples=4)).singles) == [0, 1, 2, 3]
    assert len(preprocess(Processor(), examples, InputsConfig(distinct_samples=64)).singles) == 6


@pytest.mark.parametrize(("max_mib", "count"), [(1, 2), (2, 2), (3, 3), (1024, 6)])
def test_max_mib_limits_the_inputs_that_are_kept_to_no_fewer_than_two(examples, max_mib, count):
    assert len(preprocess(Processor(), examples, InputsConfig(max_mib=max_mib)).singles) == count


def test_an_image_is_preprocessed_with_its_first_caption_or_an_empty_one(examples):
    processor = Processor()
    preprocess(processor, [*examples[:2], Example("bare", examples[2].image)], InputsConfig())
    assert processor.captions == ["red 0", "red 1", ""]


class Choosy(Processor):
    """A processor that refuses images of these red values."""

    def __init__(self, *refused):
        super().__init__()
        self.refused = refused

    def preprocess(self, images, captions):
        if images[0].getpixel((0, 0))[0] in self.refused:
            raise ValueError("height is 0\nand more lines")
        return super().preprocess(images, captions)


def test_an_image_that_the_processor_refuses_is_named_and_replaced_by_the_next(examples):
    timed = preprocess(Choosy(1, 5), examples, InputsConfig(distinct_samples=3))
    assert reds(timed.singles) == [0, 2, 3]
    assert timed.unfit == {"1": "the model cannot take it (ValueError: height is 0)"}


def test_examples_beyond_max_mib_are_preprocessed_although_they_are_not_kept(examples):
    timed = preprocess(Choosy(4), examples, InputsConfig(max_mib=1))
    assert reds(timed.singles) == [0, 1] and list(timed.unfit) == ["4"]


def test_a_processor_that_refuses_every_image_raises_its_error(examples):
    with pytest.raises(ValueError, match="height is 0"):
        preprocess(Choosy(*range(6)), examples, InputsConfig())
    processor = Choosy(0, 1)
    with pytest.raises(ValueError, match="height is 0"):
        preprocess(processor, examples, InputsConfig(distinct_samples=2))


def test_an_image_with_masks_is_turned_as_its_frame_requires(examples, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = Image.new("RGB", (2, 2), (9, 0, 0))
    picture.putpixel((0, 0), (7, 0, 0))
    picture.save(tmp_path / "turned.png", exif=exif)
    for frame, red in (("stored", 7), ("turned", 9), (None, 9)):
        example = Example("a", tmp_path / "turned.png", exif=frame)
        assert reds(preprocess(Processor(), [example], InputsConfig()).singles) == [red]


def test_input_bytes_is_the_sum_over_the_tensors():
    assert input_bytes({"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.int64)}) == 3 * 4 * 4 + 5 * 8


@pytest.mark.parametrize(
    ("size", "batches"), [(1, [[0], [1], [2]]), (2, [[0, 1], [2, 0]]), (3, [[0, 1, 2]]), (5, [[0, 1, 2, 0, 1]])]
)
def test_every_input_is_in_a_batch_and_the_last_batch_is_filled_from_the_first_inputs(size, batches):
    singles = [{"pixels": torch.tensor([float(number)])} for number in range(3)]
    assert [batch["pixels"].tolist() for batch in assemble(singles, size, CPU, torch.float32)] == batches


def test_floating_point_inputs_have_the_runs_dtype_and_tokens_stay_integers():
    (batch,) = assemble([{"pixels": torch.zeros(1, 2), "ids": torch.tensor([[7]])}], 1, CPU, torch.bfloat16)
    assert batch["pixels"].dtype == torch.bfloat16
    assert batch["ids"].dtype == torch.int64


@pytest.mark.parametrize(
    ("size", "max_mib", "count"),
    [(1, None, 6), (1, 2, 2), (2, 4, 2), (4, 4, 1), (64, 1, 1)],
    ids=["no bound", "two of six", "two of three", "one of two", "at least one, however wide"],
)
def test_max_mib_limits_the_batches_of_a_case(size, max_mib, count):
    singles = [{"pixels": torch.zeros(1, 2**18)} for _ in range(6)]  # a MiB each
    assert len(list(assemble(singles, size, CPU, torch.float32, max_mib))) == count
    assert batch_count(singles, size, max_mib) == count


def test_inputs_that_differ_in_a_size_have_several_sizes():
    wide, tall = {"pixel_values": torch.zeros(1, 3, 4, 8)}, {"pixel_values": torch.zeros(1, 3, 8, 4)}
    assert not have_several_sizes([wide, {"pixel_values": torch.ones(1, 3, 4, 8)}])
    assert have_several_sizes([wide, wide, tall])


def test_the_number_of_batches_in_memory_follows_from_the_largest_input():
    small, large = {"x": torch.zeros(1, 2**17)}, {"x": torch.zeros(1, 2**18)}
    assert batch_count([small] * 4, 1, max_mib=2) == batch_count([small, large, small, small], 1, max_mib=4) == 4
    assert batch_count([small, large, small, small], 1, max_mib=2) == 2
