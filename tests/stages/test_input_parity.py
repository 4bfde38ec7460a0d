"""Decoders: the files left to Pillow are counted, and other pixels than those of the reference fail the run."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from visionbench.config import ParityConfig
from visionbench.core import Example, Samples
from visionbench.metrics.parity import Parity
from visionbench.stages.decoding import Decoding
from visionbench.stages.input_parity import compare
from visionbench.stages.parity import ParityError


@dataclass(frozen=True)
class Brighter:
    """A decoder that adds levels to one pixel or to all, or halves the image; PNG is left to Pillow."""

    levels: int = 0
    all_pixels: bool = True
    is_reference: bool = False
    reduces: bool = False

    def decode(self, opened, least):
        if opened.format == "PNG":
            return None
        if self.reduces:
            return opened.resize((opened.width // 2, opened.height // 2))
        pixels = np.asarray(opened.convert("RGB")).copy()
        pixels[: None if self.all_pixels else 1, : None if self.all_pixels else 1] += np.uint8(self.levels)
        return Image.fromarray(pixels)


@dataclass
class Model:
    """A model whose processor resizes to 4 × 4 pixels and normalises with a standard deviation of 0.5."""

    processor: object = field(
        default_factory=lambda: SimpleNamespace(
            do_rescale=True, rescale_factor=1 / 255, do_normalize=True, image_std=[0.5, 0.5, 0.5]
        )
    )
    gives_pixels: bool = True

    def preprocess(self, images, captions):
        pixels = torch.stack([torch.tensor(np.asarray(image.resize((4, 4))), dtype=torch.float32) for image in images])
        return {"pixel_values": (pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5} if self.gives_pixels else {}


@pytest.fixture
def examples(tmp_path):
    """Four uniform images: three JPEG, then a PNG."""
    paths = [tmp_path / name for name in ("0.jpg", "1.jpg", "2.jpg", "3.png")]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (20 * number, 100, 100)).save(path)
    return [Example(path.stem, path) for path in paths]


def with_decoder(examples, decoder, model=None, original=None, **rule):
    """The samples of the comparison. `original` is the model with the reference processor, if it is another one."""
    model = model or Model()
    return compare(model, original or model, examples, Decoding("brighter", decoder), ParityConfig(**rule))


def compared(examples, decoder, model=None, original=None, **rule):
    return Parity().compute(with_decoder(examples, decoder, model, original, **rule)).values


def test_differences_are_in_levels_of_eight_bits(examples):
    values = compared(examples, Brighter(1))
    assert values == {
        "parity_decoder_mean_levels": 1.0,
        "parity_decoder_max_levels": 1.0,
        "parity_input_mean_levels": pytest.approx(1.0, abs=1e-4),
        "parity_input_max_levels": pytest.approx(1.0, abs=1e-4),
    }


def test_the_mean_and_the_largest_difference_of_an_image_are_separate(examples):
    values = compared(examples, Brighter(64, all_pixels=False))
    assert values["parity_decoder_mean_levels"] == 1.0  # one of 64 pixels
    assert values["parity_decoder_max_levels"] == 64.0


def test_a_mean_above_the_limit_fails_with_the_image_and_the_figure(examples):
    with pytest.raises(ParityError, match=r"the decoded pixels of 0 differ .* 2 levels .*levels\.decoder is 1"):
        compared(examples, Brighter(2))


def test_the_limit_is_an_option(examples):
    assert compared(examples, Brighter(2), max_levels={"decoder": 2.5})["parity_decoder_mean_levels"] == 2.0


def test_an_image_that_pillow_decodes_does_not_differ(examples):
    assert set(compared(examples[3:], Brighter(200)).values()) == {0.0}


def test_another_size_fails_unless_the_decoder_reduces_images(examples):
    with pytest.raises(ParityError, match="0 has 4 × 4 pixels, with Pillow 8 × 8"):
        compared(examples, HalvesUnexpectedly())


@dataclass(frozen=True)
class HalvesUnexpectedly(Brighter):
    def decode(self, opened, least):
        return opened.resize((4, 4))


def test_reduced_images_are_compared_as_inputs_only_with_a_limit_of_their_own(examples):
    samples = with_decoder(examples, Brighter(reduces=True))
    metrics = Parity().compute(samples)
    assert metrics.values["parity_input_mean_levels"] == pytest.approx(0.0, abs=1e-4)
    assert metrics.values["parity_decoder_mean_levels"] is None
    assert metrics.reasons["parity_decoder_mean_levels"] == "brighter gives smaller images"
    with pytest.raises(ParityError, match=r"the inputs of 0 differ .*max_levels\.draft is 4"):
        with_decoder(examples, Inverse(reduces=True))


@dataclass(frozen=True)
class Inverse(Brighter):
    def decode(self, opened, least):
        return Image.fromarray(255 - np.asarray(opened.convert("RGB")))


def test_a_model_without_pixels_has_no_difference_of_inputs(examples):
    samples = with_decoder(examples, Brighter(1), Model(gives_pixels=False))
    metrics = Parity().compute(samples)
    assert metrics.values["parity_decoder_mean_levels"] == 1.0
    assert metrics.reasons["parity_input_mean_levels"] == "the model's inputs have no pixel_values"


@pytest.mark.parametrize(("decoder", "images"), [(None, 16), (Brighter(is_reference=True), 16), (Brighter(200), 0)])
def test_nothing_is_compared_with_the_reference_or_without_images(examples, decoder, images):
    assert with_decoder(examples, decoder, images=images) == Samples()


def test_files_left_to_pillow_are_counted_by_their_format(examples):
    decoding = Decoding("brighter", Brighter())
    for example in [*examples, *examples]:
        decoding.decode(example)
    samples = decoding.describe(examples)
    assert samples.labels == {"left_to_pillow": "Pillow decoded 1 of 4 images instead of brighter (1 PNG)"}
    assert samples.flags == {}


def test_a_row_whose_images_pillow_decoded_is_questionable(examples):
    decoding = Decoding("brighter", Brighter())
    decoding.decode(examples[3])
    text = "Pillow decoded 1 of 1 images instead of brighter (1 PNG)"
    assert decoding.describe(examples[3:]).flags == {"decoder_unused": text}
    assert decoding.describe(examples[3:], used=False).flags == {}
    assert decoding.describe(examples[:3]) == Samples()


@dataclass
class OtherProcessor(Model):
    """A model whose processor adds levels to each pixel."""

    levels: float = 0.0

    def preprocess(self, images, captions):
        return {"pixel_values": Model.preprocess(self, images, captions)["pixel_values"] + self.levels / 255 / 0.5}


def test_another_processor_is_compared_with_that_of_transformers(examples):
    values = compared(examples, None, OtherProcessor(levels=0.25), Model())
    assert values["parity_decoder_mean_levels"] is None
    assert values["parity_input_mean_levels"] == pytest.approx(0.25, abs=1e-4)


def test_the_limit_of_another_processor_has_its_own_key(examples):
    message = r"data\.preprocess=device: the inputs of 0 differ .*max_levels\.preprocess is 0\.5"
    with pytest.raises(ParityError, match=message):
        compared(examples, None, OtherProcessor(levels=0.75), Model())


def test_with_both_the_higher_limit_counts_for_inputs(examples):
    assert compared(examples, Brighter(), OtherProcessor(levels=0.75), Model())["parity_input_mean_levels"] > 0.7
    with pytest.raises(
        ParityError, match=r"^data\.decoder=brighter, data\.preprocess=device: .*max_levels\.decoder is 1"
    ):
        compared(examples, Brighter(), OtherProcessor(levels=1.5), Model())
