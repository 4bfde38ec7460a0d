"""The quiet window, and the inputs that calls rotate over."""

import gc

import pytest
import torch
from PIL import Image

from visionbench.config import InputsConfig
from visionbench.core import Example
from visionbench.stages.context import assemble, input_bytes, preprocess, quiet

CPU = torch.device("cpu")


@pytest.fixture
def collecting():
    yield gc.enable
    gc.enable()


# ------------------------------------------------------------------------------------------------------------- window
def test_a_quiet_window_collects_no_garbage_and_keeps_no_gradients():
    with quiet():
        assert not gc.isenabled()
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("switch", [gc.enable, gc.disable])
def test_afterwards_garbage_is_collected_as_it_was_before(switch, collecting):
    switch()
    before = gc.isenabled()
    with quiet():
        pass
    assert gc.isenabled() is before
    assert gc.get_freeze_count() == 0


def test_an_error_inside_ends_the_window_too(collecting):
    with pytest.raises(MemoryError), quiet():
        raise MemoryError
    assert gc.isenabled()
    assert not torch.is_inference_mode_enabled()


# ------------------------------------------------------------------------------------------------------------- inputs
class Processor:
    """1 MiB of fp32 a picture, filled with its red."""

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


def test_as_many_examples_are_preprocessed_as_the_rule_wants(examples):
    assert reds(preprocess(Processor(), examples, InputsConfig(distinct_samples=4)).singles) == [0, 1, 2, 3]
    assert len(preprocess(Processor(), examples, InputsConfig(distinct_samples=64)).singles) == 6


@pytest.mark.parametrize(("max_mib", "count"), [(1, 2), (2, 2), (3, 3), (1024, 6)])
def test_no_more_than_memory_holds_but_two_of_them(examples, max_mib, count):
    assert len(preprocess(Processor(), examples, InputsConfig(max_mib=max_mib)).singles) == count


def test_each_picture_comes_with_its_first_caption_or_an_empty_one(examples):
    processor = Processor()
    preprocess(processor, [*examples[:2], Example("bare", examples[2].image)], InputsConfig())
    assert processor.captions == ["red 0", "red 1", ""]


class Choosy(Processor):
    """It takes no picture of these reds."""

    def __init__(self, *refused):
        super().__init__()
        self.refused = refused

    def preprocess(self, images, captions):
        if images[0].getpixel((0, 0))[0] in self.refused:
            raise ValueError("height is 0\nand more lines")
        return super().preprocess(images, captions)


def test_a_picture_that_the_processor_cannot_take_is_named_and_the_next_one_takes_its_place(examples):
    found = preprocess(Choosy(1, 5), examples, InputsConfig(distinct_samples=3))
    assert reds(found.singles) == [0, 2, 3]
    assert found.unfit == {"1": "the model cannot take it (ValueError: height is 0)"}


def test_pictures_that_are_not_kept_are_tried_all_the_same(examples):
    found = preprocess(Choosy(4), examples, InputsConfig(max_mib=1))
    assert reds(found.singles) == [0, 1] and list(found.unfit) == ["4"]


def test_a_processor_that_takes_no_picture_ends_the_run_with_its_own_error(examples):
    with pytest.raises(ValueError, match="height is 0"):
        preprocess(Choosy(*range(6)), examples, InputsConfig())
    processor = Choosy(0, 1)
    with pytest.raises(ValueError, match="height is 0"):
        preprocess(processor, examples, InputsConfig(distinct_samples=2))


def test_a_picture_is_turned_for_timed_calls_as_its_masks_need_it(examples, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = Image.new("RGB", (2, 2), (9, 0, 0))
    picture.putpixel((0, 0), (7, 0, 0))
    picture.save(tmp_path / "turned.png", exif=exif)
    for frame, red in (("stored", 7), ("turned", 9), (None, 9)):
        example = Example("a", tmp_path / "turned.png", exif=frame)
        assert reds(preprocess(Processor(), [example], InputsConfig()).singles) == [red]


def test_the_bytes_of_inputs_are_those_of_their_tensors():
    assert input_bytes({"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.int64)}) == 3 * 4 * 4 + 5 * 8


@pytest.mark.parametrize(
    ("size", "batches"), [(1, [[0], [1], [2]]), (2, [[0, 1], [2, 0]]), (3, [[0, 1, 2]]), (5, [[0, 1, 2, 0, 1]])]
)
def test_every_sample_is_in_a_batch_and_the_last_batch_wraps_around(size, batches):
    singles = [{"pixels": torch.tensor([float(number)])} for number in range(3)]
    assert [batch["pixels"].tolist() for batch in assemble(singles, size, CPU, torch.float32)] == batches


def test_numbers_take_the_precision_and_tokens_stay_whole():
    (batch,) = assemble([{"pixels": torch.zeros(1, 2), "ids": torch.tensor([[7]])}], 1, CPU, torch.bfloat16)
    assert batch["pixels"].dtype == torch.bfloat16
    assert batch["ids"].dtype == torch.int64


@pytest.mark.parametrize(
    ("size", "max_mib", "count"),
    [(1, None, 6), (1, 2, 2), (2, 4, 2), (4, 4, 1), (64, 1, 1)],
    ids=["no bound", "two of six", "two of three", "one of two", "at least one, however wide"],
)
def test_a_cases_batches_together_keep_within_the_bound(size, max_mib, count):
    singles = [{"pixels": torch.zeros(1, 2**18)} for _ in range(6)]  # a MiB each
    assert len(list(assemble(singles, size, CPU, torch.float32, max_mib))) == count
