"""The image processors that torch computes give the pixels of those of transformers."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    ConvNextImageProcessorPil,
    DeiTImageProcessorPil,
    SamImageProcessorPil,
    SamProcessor,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
)

from visionbench import weights
from visionbench.core import ConfigError
from visionbench.stages.device_processor import DeviceProcessor, on_device, why_not_covered

CPU = torch.device("cpu")
SIZES = ((96, 64), (64, 96), (1, 1), (400, 3), (3, 300), (48, 48), (49, 48), (96, 64), (61, 47))
"""Widths and heights: usual, very narrow, tiny, of the size of the output, and one size twice."""
SAM = {"size": {"longest_edge": 96}, "pad_size": {"height": 96, "width": 96}}
SMALL = {"size": {"height": 48, "width": 40}}
SMALL_SQUARE = {"size": {"height": 48, "width": 48}}
SHORTEST = {"size": {"shortest_edge": 48}}
CROPPED = {**SHORTEST, "crop_size": {"height": 48, "width": 48}}
PROCESSORS = {
    "CLIP": CLIPImageProcessorPil(**CROPPED),
    "CLIP, cropped to less": CLIPImageProcessorPil(**SHORTEST, crop_size={"height": 31, "width": 40}),
    "CLIP, padded to more": CLIPImageProcessorPil(**SHORTEST, crop_size={"height": 71, "width": 60}),
    "CLIP without a crop, square": CLIPImageProcessorPil(**SMALL_SQUARE, do_center_crop=False),
    "SigLIP": SiglipImageProcessorPil(**SMALL),
    "ViT": ViTImageProcessorPil(**SMALL),
    "ViT, bicubic": ViTImageProcessorPil(**SMALL, resample=3),
    "ViT, enlarged": ViTImageProcessorPil(size={"height": 150, "width": 160}),
    "ViT, not normalised": ViTImageProcessorPil(**SMALL, do_normalize=False),
    "ViT, not rescaled": ViTImageProcessorPil(**SMALL, do_normalize=False, do_rescale=False),
    "ViT, to 2": ViTImageProcessorPil(**SMALL, rescale_factor=2 / 255),
    "DeiT": DeiTImageProcessorPil(**SMALL, crop_size={"height": 32, "width": 32}),
    "BLIP": BlipImageProcessorPil(**SMALL_SQUARE),
    "BLIP, padded": BlipImageProcessorPil(**SMALL_SQUARE, do_pad=True, pad_size={"height": 50, "width": 60}),
    "ConvNext, cropped": ConvNextImageProcessorPil(**SHORTEST, crop_pct=0.875),
    "ConvNext, not cropped": ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    "SAM": SamImageProcessorPil(**SAM),
}


def pictures(sizes=SIZES):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)) for width, height in sizes]


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_transformers_within_rounding(name):
    """The images are noise, so that every error of the filter would be large.

    Both resize one axis after the other and clip levels between them. Pillow begins with the other axis for some tall
    images, so that single pixels of noise differ by several levels."""
    processor = PROCESSORS[name]
    assert why_not_covered(processor) is None
    images = [image for image in pictures() if "SAM" not in name or min(image.size) > 3]
    expected = processor(images=images, return_tensors="pt")
    own = DeviceProcessor(processor, CPU)(images=images, return_tensors="pt")
    assert own["pixel_values"].dtype == torch.float32
    assert own["pixel_values"].is_contiguous()
    scale = weights.levels(SimpleNamespace(processor=processor))
    difference = (own["pixel_values"] - expected["pixel_values"]).abs() * scale
    assert difference.amax() < 16
    assert difference.mean(dim=(1, 2, 3)).amax() < 0.5
    for key in set(expected) - {"pixel_values"}:
        assert torch.as_tensor(own[key]).tolist() == torch.as_tensor(expected[key]).tolist()


def test_an_image_has_the_same_pixels_alone_and_in_a_batch():
    processor = DeviceProcessor(PROCESSORS["CLIP"], CPU)
    images = pictures()
    together = processor(images=images)["pixel_values"]
    assert torch.equal(together, torch.cat([processor(images=[image])["pixel_values"] for image in images]))


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        (None, "the model has no image processor"),
        (SimpleNamespace(), "SimpleNamespace is not one of CLIPImageProcessor, "),
        (ViTImageProcessorPil(**SMALL, resample=1), "resizes with Pillow's filter 1, and torch has only bilinear and"),
        (ViTImageProcessorPil(**SMALL, do_resize=False), "does not resize, so that images have different sizes"),
        (ViTImageProcessorPil(size={"shortest_edge": 9, "longest_edge": 12}), "ViTImageProcessor has the size {"),
        (ViTImageProcessorPil(**SMALL, do_pad=True), "pads to the largest image of a batch"),
        (CLIPImageProcessorPil(**CROPPED, do_thumbnail=True), "CLIPImageProcessor has the step do_thumbnail"),
    ],
)
def test_a_processor_that_is_not_covered_is_refused_with_the_reason(processor, reason):
    with pytest.raises(ConfigError) as caught:
        on_device(Model(processor), CPU)
    message = str(caught.value)
    assert message.startswith("data.preprocess=device: ") and reason in message
    assert message.endswith("; use data.preprocess=transformers")


@dataclass(frozen=True)
class Model:
    processor: object
    identity: object = None


def test_the_loaded_model_is_not_changed():
    model = Model(PROCESSORS["CLIP"], {"image_backend": "pil"})
    changed = on_device(model, CPU)
    assert changed.identity == {"image_backend": "torch"}
    assert (model.processor, model.identity) == (PROCESSORS["CLIP"], {"image_backend": "pil"})
    assert changed.processor.size == model.processor.size


def test_the_processor_of_images_and_prompts_keeps_its_prompts():
    """SAM's processor scales prompts to the frame of the resized image."""
    model = Model(SamProcessor(PROCESSORS["SAM"]), {})
    changed = on_device(model, CPU)
    [image] = pictures([(60, 40)])
    given = {"images": [image], "input_points": [[[[10.0, 20.0]]]], "return_tensors": "pt"}
    expected, own = model.processor(**given), changed.processor(**given)
    assert own["input_points"].tolist() == expected["input_points"].tolist() == [[[[16.0, 32.0]]]]
    assert isinstance(model.processor.image_processor, SamImageProcessorPil)
    masks = torch.ones(1, 1, 3, 24, 24)
    full_size = changed.processor.image_processor.post_process_masks(masks, [(40, 60)], [(64, 96)])
    assert full_size[0].shape[-2:] == (40, 60)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_gpu_gives_the_pixels_of_transformers():
    processor = PROCESSORS["CLIP"]
    images = pictures()
    own = DeviceProcessor(processor, torch.device("cuda:0"))(images=images)["pixel_values"]
    assert own.is_cuda
    expected = processor(images=images, return_tensors="pt")["pixel_values"]
    difference = (own.cpu() - expected).abs() * weights.levels(SimpleNamespace(processor=processor))
    assert difference.amax() < 16
    assert difference.mean() < 0.1
