"""Decoding: every common format to upright RGB, and every damaged file to an error that names it."""

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from visionbench.core import Example
from visionbench.datafiles.images import PictureError, check_file, decode, decode_example, read_header

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


@pytest.fixture
def saved(tmp_path):
    """A function that saves an image and returns its path."""

    def save(image, name="image.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def pixels(path):
    picture = decode(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("name", ["p.png", "p.webp", "p.bmp", "p.tiff"])
def test_rgb_is_decoded_unchanged(saved, name):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8))
    options = {"lossless": True} if name.endswith("webp") else {}
    np.testing.assert_array_equal(pixels(saved(image, name, **options)), np.asarray(image))


def test_a_jpeg_is_decoded_almost_unchanged(saved):
    decoded = pixels(saved(Image.new("RGB", (16, 8), (200, 100, 50)), "p.jpg", quality=95))
    assert decoded.shape == (8, 16, 3)
    assert np.abs(decoded - np.array((200, 100, 50))).max() <= 3


def test_grey_becomes_three_equal_channels(saved):
    assert (pixels(saved(Image.new("L", (2, 2), 77))) == 77).all()
    assert (pixels(saved(Image.new("1", (2, 2), 1))) == 255).all()


def test_cmyk_becomes_rgb(saved):
    decoded = pixels(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "p.jpg", quality=95))
    assert np.abs(decoded.astype(int) - RED).max() <= 5


@pytest.mark.parametrize("name", ["p.png", "p.tiff"])
def test_sixteen_bits_of_grey_are_scaled_and_not_clipped(saved, name):
    levels = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    assert pixels(saved(Image.fromarray(levels), name))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_per_pixel_are_an_error_because_white_is_not_defined(saved, kind):
    with pytest.raises(PictureError, match=r"p\.tiff: .*without a definition of white"):
        decode(saved(Image.fromarray(np.ones((2, 2), kind)), "p.tiff"))


@pytest.mark.parametrize(
    ("colour", "shown"),
    [((0, 0, 0, 0), WHITE), ((0, 0, 0, 255), BLACK), ((255, 0, 0, 0), WHITE), ((255, 0, 0, 51), (255, 204, 204))],
)
def test_transparency_shows_white(saved, colour, shown):
    assert tuple(pixels(saved(Image.new("RGBA", (2, 2), colour)))[0, 0]) == shown


def test_grey_with_transparency_shows_white(saved):
    assert (pixels(saved(Image.new("LA", (2, 2), (0, 0)))) == 255).all()


@pytest.mark.parametrize(("transparency", "shown"), [({}, GREEN), ({"transparency": bytes([255, 0])}, WHITE)])
def test_a_palette_is_applied_with_its_transparency(saved, transparency, shown):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([*RED, *GREEN])
    assert tuple(pixels(saved(image, **transparency))[0, 0]) == shown


def test_an_image_with_an_exif_orientation_is_turned_upright(saved):
    image = Image.new("RGB", (4, 2), BLUE)
    image.putpixel((0, 0), RED)  # top left as stored, top right when turned
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = pixels(saved(image, exif=exif))
    assert decoded.shape == (4, 2, 3)
    assert tuple(decoded[0, 1]) == RED


TURNED = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""The stored pixels turned by each EXIF orientation, according to its definition."""


@pytest.mark.parametrize("size", [(5, 7), (6, 6)], ids=["oblong", "square"])
@pytest.mark.parametrize("name", ["p.png", "p.tiff", "p.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_exif_orientation_is_turned_or_left_as_stored_and_the_header_gives_the_size(
    saved, name, orientation, size
):
    stored = np.random.default_rng(orientation).integers(0, 255, (*size, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(stored), name, exif=exif, **({"lossless": True} if name == "p.webp" else {}))
    turned = TURNED[orientation](stored)
    np.testing.assert_array_equal(np.asarray(decode(path)), turned)
    np.testing.assert_array_equal(np.asarray(decode(path, turned=False)), stored)
    header = read_header(path)
    assert header.orientation == orientation
    assert header.size(turned=True) == turned.shape[:2] and header.size(turned=False) == size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_or_left_as_stored_by_each_orientation(saved, orientation):
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :16] = 255  # one corner is white, and the next one grey
    stored[:16, 32:] = 128
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(stored), "p.jpg", exif=exif, quality=95, subsampling=0)
    for decoded, expected in ((decode(path), TURNED[orientation](stored)), (decode(path, turned=False), stored)):
        assert np.abs(np.asarray(decoded, int) - expected).max() < 16
    assert read_header(path).size(turned=False) == (32, 48)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(saved, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.new("RGB", (4, 2)), exif=exif)
    assert read_header(path).orientation == 1 and decode(path).size == decode(path, turned=False).size == (4, 2)


@pytest.mark.parametrize(("exif", "size"), [(None, (2, 4)), ("turned", (2, 4)), ("stored", (4, 2))])
def test_an_examples_image_is_turned_unless_its_masks_are_of_the_stored_pixels(saved, exif, size):
    data = Image.Exif()
    data[0x0112] = 6
    path = saved(Image.new("RGB", (4, 2)), exif=data)
    assert decode_example(Example("one", path, exif=exif)).size == size
    assert decode_example(Example("one", path, exif=exif), path.read_bytes()).size == size


def test_damaged_exif_data_are_ignored_or_a_problem_of_the_image(saved):
    path = saved(Image.new("RGB", (8, 8)), "p.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0")
    for read in (read_header, decode, lambda path: decode(path, turned=False)):
        try:
            read(path)
        except PictureError as error:
            assert "cannot be decoded" in error.reason


def test_the_first_frame_of_an_animation_is_decoded(saved):
    frames = [Image.new("RGB", (3, 3), colour) for colour in (RED, GREEN)]
    path = saved(frames[0], "p.gif", save_all=True, append_images=frames[1:])
    assert tuple(pixels(path)[0, 0]) == RED


def test_the_file_is_closed_after_decoding(saved):
    path = saved(Image.new("RGB", (2, 2)))
    picture = decode(path)
    path.unlink()
    assert picture.getpixel((0, 0)) == BLACK


# ------------------------------------------------------------------------------------------------------------ damaged
@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.gif", "p.webp"])
def test_the_error_for_a_truncated_image_names_the_file(saved, name):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = saved(Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PictureError, match=rf"{path}: cannot be decoded \(.+\)"):
        decode(path)


@pytest.mark.parametrize("content", [b"", b"not an image\n", b"\x89PNG\r\n\x1a\n"])
def test_the_error_for_a_file_that_is_not_an_image_names_it(tmp_path, content):
    path = tmp_path / "p.jpg"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=str(path)):
        decode(path)


def test_the_error_for_a_missing_file_or_a_folder_names_it(tmp_path):
    with pytest.raises(PictureError, match="gone.png"):
        decode(tmp_path / "gone.png")
    with pytest.raises(PictureError, match=str(tmp_path)):
        decode(tmp_path)


@pytest.mark.parametrize("side", [10_000, 20_000], ids=["over the warning", "over the error"])
def test_a_decompression_bomb_is_an_error_before_it_is_decoded(tmp_path, side):
    path = tmp_path / "bomb.png"
    size = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        PngImagePlugin.putchunk(file, b"IHDR", size)
        PngImagePlugin.putchunk(file, b"IDAT", b"")
    for read in (check_file, decode):
        with pytest.raises(PictureError, match=r"bomb\.png: .*decompression bomb"):
            read(path)


def test_checking_a_file_detects_what_is_not_an_image_but_not_a_truncated_image(saved, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = saved(Image.fromarray(noise), "p.jpg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    check_file(path)
    with pytest.raises(PictureError, match="cannot be decoded"):
        decode(path)
    for content, reason in (
        (None, "missing"),
        (b"", "zero bytes"),
        (b"text", "cannot be decoded"),
        (POINTER, "a Git LFS pointer"),
    ):
        path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
        with pytest.raises(PictureError) as caught:
            check_file(path)
        assert caught.value.reason.startswith(reason)
