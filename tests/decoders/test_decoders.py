"""Every decoder gives Pillow's image and Pillow's error, for all kinds of files. Draft mode gives a smaller JPEG."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionbench.datafiles import images
from visionbench.datafiles.images import PictureError, decode, decode_by
from visionbench.registry import find, names

EXACT = ("simplejpeg",)
ORIENTATION = 0x0112


def photo(width, height, mode="RGB"):
    """A smooth image with noise, whose JPEG has all frequencies."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def rotated(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(photo(48, 32), "JPEG", exif=exif)


def changed(content, share):
    """A JPEG with wrong bytes in its compressed pixels, from this share of the file on."""
    start = int(len(content) * share)
    return content[:start] + b"\x55" * 40 + content[start + 40 :]


def truncated(content, share):
    return content[: int(len(content) * share)]


JPEG = encoded(photo(96, 64), "JPEG", quality=90)
PROGRESSIVE = encoded(photo(96, 64), "JPEG", progressive=True)
DECODED_BY_ITSELF = {
    "baseline": JPEG,
    "4:4:4": encoded(photo(61, 47), "JPEG", subsampling=0),
    "4:2:0 with odd sides": encoded(photo(61, 47), "JPEG", subsampling=2),
    "4:2:2": encoded(photo(61, 47), "JPEG", subsampling=1),
    "lowest quality": encoded(photo(96, 64), "JPEG", quality=1),
    "progressive": PROGRESSIVE,
    "restart markers": encoded(photo(96, 64), "JPEG", restart_marker_rows=1),
    "stored as RGB": encoded(photo(96, 64), "JPEG", keep_rgb=True),
    "grey": encoded(photo(61, 47, "L"), "JPEG"),
    "one pixel": encoded(Image.new("RGB", (1, 1), (200, 100, 50)), "JPEG"),
    "very wide": encoded(photo(3000, 2), "JPEG"),
    "very high": encoded(photo(1, 900), "JPEG"),
    "bytes after the end": JPEG + b"more",
    **{f"orientation {number}": rotated(number) for number in range(1, 9)},
    "orientation 9, which does not exist": rotated(9),
}
LEFT_TO_PILLOW = {
    "CMYK": (encoded(photo(61, 47, "CMYK"), "JPEG"), "JPEG in CMYK"),
    "PNG": (encoded(photo(20, 10), "PNG"), "PNG"),
    "PNG with alpha": (encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 51)), "PNG"), "PNG"),
    "PNG with a palette": (encoded(photo(20, 10, "P"), "PNG"), "PNG"),
    "PNG of 16 bits": (encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 150), "PNG"), "PNG"),
    "GIF": (encoded(photo(20, 10, "P"), "GIF"), "GIF"),
    "WebP": (encoded(photo(20, 10), "WEBP"), "WEBP"),
    "rotated TIFF": (encoded(photo(20, 10), "TIFF", tiffinfo={ORIENTATION: 6}), "TIFF"),
    "two images in one JPEG": (
        encoded(photo(48, 32), "MPO", save_all=True, append_images=[photo(48, 32)]),
        "MPO",
    ),
}
DAMAGED = {
    "empty after the start": b"\xff\xd8\xff",
    "only a header": truncated(JPEG, 0.1),
    "truncated": truncated(JPEG, 0.6),
    "truncated before the end": JPEG[:-8],
    "without the end marker": JPEG[:-2],
    "truncated progressive": truncated(PROGRESSIVE, 0.5),
    "wrong bytes": changed(JPEG, 0.5),
    "zeros at the end": JPEG[:-200] + bytes(200),
    "truncated PNG": truncated(encoded(photo(40, 40), "PNG"), 0.5),
    "no image": b"not an image, but a text",
}


def with_other(decoder, path, content=None, turned=True, least=None):
    return decode_by(find("decoders", decoder)(), path, content, turned, least)


@pytest.fixture(params=[False, True], ids=["by its path", "from its bytes"])
def as_bytes(request):
    return request.param


@pytest.fixture
def saved(tmp_path):
    def save(content):
        path = tmp_path / "image.jpg"
        path.write_bytes(content)
        return path

    return save


def outcome(function, *arguments):
    """The pixels, or the message of the error."""
    try:
        image = function(*arguments)
    except PictureError as error:
        return str(error)
    image = getattr(image, "image", image)
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("kind", DECODED_BY_ITSELF)
@pytest.mark.parametrize("decoder", EXACT)
def test_a_jpeg_has_the_pixels_of_pillow(saved, decoder, kind, turned, as_bytes):
    content = DECODED_BY_ITSELF[kind]
    path = saved(content)
    own = with_other(decoder, path, content if as_bytes else None, turned)
    np.testing.assert_array_equal(np.asarray(own.image), np.asarray(decode(path, turned=turned)))
    assert own.image.mode == "RGB"
    assert own.left_to_pillow == ""


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("kind", LEFT_TO_PILLOW)
@pytest.mark.parametrize("decoder", [*EXACT, "pillow_draft"])
def test_other_files_are_decoded_by_pillow_with_their_format_as_the_reason(saved, decoder, kind, turned):
    content, reason = LEFT_TO_PILLOW[kind]
    path = saved(content)
    own = with_other(decoder, path, None, turned, lambda width, height: (width, height))
    np.testing.assert_array_equal(np.asarray(own.image), np.asarray(decode(path, turned=turned)))
    assert own.left_to_pillow == ("" if decoder == "pillow_draft" and reason == "JPEG in CMYK" else reason)


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("decoder", sorted(set(names("decoders")) - {"pillow"}))
def test_a_damaged_file_gives_the_error_or_the_pixels_of_pillow(saved, decoder, kind):
    path = saved(DAMAGED[kind])
    full_size = lambda width, height: (width, height)  # noqa: E731
    assert outcome(with_other, decoder, path, None, True, full_size) == outcome(decode, path)


@pytest.mark.parametrize("decoder", sorted(set(names("decoders")) - {"pillow"}))
def test_too_many_pixels_are_refused_before_anything_is_decoded(saved, monkeypatch, decoder):
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PictureError, match="6144 pixels.*bomb"):
        with_other(decoder, saved(JPEG))


@pytest.mark.parametrize("decoder", sorted(set(names("decoders")) - {"pillow"}))
def test_a_missing_file_gives_the_error_of_pillow(decoder):
    path = Path("nowhere/image.jpg")
    assert outcome(with_other, decoder, path) == outcome(decode, path)


@pytest.mark.parametrize(
    ("needed", "size"),
    [
        ((640, 480), (640, 480)),
        ((321, 241), (640, 480)),
        ((320, 240), (320, 240)),
        ((160, 241), (640, 480)),
        ((100, 100), (160, 120)),
        ((1, 1), (80, 60)),
        ((4000, 3000), (640, 480)),
    ],
)
def test_draft_mode_gives_the_smallest_scale_that_is_not_below_the_needed_size(saved, needed, size):
    path = saved(encoded(photo(640, 480), "JPEG"))
    decoded = with_other("pillow_draft", path, None, True, lambda width, height: needed)
    assert decoded.image.size == size


@pytest.mark.parametrize(("turned", "size"), [(True, (60, 80)), (False, (160, 120))])
def test_the_needed_size_of_draft_mode_is_that_of_the_upright_image(saved, turned, size):
    """The stored image is 640 × 480, and turned by EXIF it is 480 × 640: a needed width of 60 is 1/8 of 480."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(encoded(photo(640, 480), "JPEG", exif=exif))
    decoded = with_other("pillow_draft", path, None, turned, lambda width, height: (60 * width // 480, 1))
    assert decoded.image.size == (size if turned else (80, 60))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_draft_mode_is_close_to_the_reduced_image(saved, mode):
    path = saved(encoded(photo(640, 480, mode), "JPEG", quality=95))
    decoded = with_other("pillow_draft", path, None, True, lambda width, height: (width // 2, height // 2)).image
    expected = decode(path).resize((320, 240), Image.Resampling.BOX)
    assert np.abs(np.asarray(decoded, np.int16) - np.asarray(expected, np.int16)).mean() < 3
