"""A folder of images and depth maps: PNG with a scale, NumPy files in metres, and the problems that are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionbench.core import ConfigError
from visionbench.data.depth_folder import DepthFolder
from visionbench.examples import screening
from visionbench.registry import find

METRES = np.array([[1.5, 2.0, 0.0, 4.25], [3.0, 3.0, 3.5, 0.0], [8.0, 9.0, 10.0, 65.0]], np.float32)
EXPECTED = np.where(METRES > 0, METRES, np.nan)


@pytest.fixture
def root(tmp_path):
    """Two images of 4 × 3 pixels: `a.jpg` with a depth map in millimetres, `b.png` with one in metres."""
    for name in ("images", "depth"):
        (tmp_path / name).mkdir()
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (4, 3), "red").save(tmp_path / "images" / name)
    Image.fromarray((METRES * 1000).astype(np.uint16)).save(tmp_path / "depth" / "a.png")
    np.save(tmp_path / "depth" / "b.npy", METRES)
    return tmp_path


def data(root: Path, scale: float | None = 1000, **options) -> DepthFolder:
    return DepthFolder(str(root), scale=scale, **options)


def problems(root: Path) -> dict[str, str]:
    examples = screening.with_mask_frame(data(root).examples(), None)
    return screening.find_problems(examples, len(examples))


def test_it_is_registered():
    assert find("data", "depth_folder") is DepthFolder


def test_both_kinds_of_files_give_metres_and_nan_for_pixels_that_were_not_measured(root):
    for example in data(root).examples():
        assert example.size == (3, 4)
        np.testing.assert_allclose(example.depth_map(), EXPECTED, rtol=1e-6)
    assert problems(root) == {}


def test_nan_in_a_numpy_file_also_means_not_measured(root):
    np.save(root / "depth" / "b.npy", EXPECTED.astype(np.float64))
    np.testing.assert_allclose(data(root).examples()[1].depth_map(), EXPECTED, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda depth: (depth / "a.png").unlink(), "its depth map depth/a.npy is missing"),
        (
            lambda depth: Image.new("L", (4, 3), 9).save(depth / "a.png"),
            "has the mode L: it must have one channel of 16",
        ),
        (lambda depth: Image.new("RGB", (4, 3)).save(depth / "a.png"), "has the mode RGB"),
        (lambda depth: (depth / "a.png").write_bytes(b"no image"), "its depth map depth/a.png: cannot be decoded"),
        (lambda depth: save(depth, METRES[:2]), "its annotations are for 4 × 2 pixels, the image has 4 × 3"),
        (lambda depth: save(depth, METRES * 0), "has no pixel with a depth: all are 0 or NaN"),
        (lambda depth: save(depth, METRES - 2), "has 3 pixels with a negative or infinite depth"),
        (lambda depth: save(depth, METRES + np.inf), "has 12 pixels with a negative or infinite depth"),
        (lambda depth: save(depth, METRES[None]), "is an array [1, 3, 4] of float32: it must have two axes"),
        (
            lambda depth: save(depth, METRES.astype(int)),
            "is an array [3, 4] of int64: it must have two axes and floating",
        ),
        (lambda depth: (save(depth, METRES), (depth / "a.npy").write_bytes(b"")), "depth/a.npy cannot be read"),
        (lambda depth: (save(depth, METRES), (depth / "a.npy").write_bytes(b"x" * 99)), "depth/a.npy cannot be read"),
        (lambda depth: np.save(depth / "a.npy", METRES), "it has 2 files: depth/a.npy, depth/a.png"),
    ],
)
def test_a_problem_of_a_depth_map_names_its_image_and_the_file(root, change, message):
    change(root / "depth")
    reasons = problems(root)
    assert list(reasons) == ["a.jpg"]
    assert message in reasons["a.jpg"]


def save(depth, array):
    (depth / "a.png").unlink()
    np.save(depth / "a.npy", array)


def test_an_object_array_is_not_unpickled(root):
    save(root / "depth", np.array([[{}]], dtype=object))
    assert "depth/a.npy cannot be read" in problems(root)["a.jpg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": None}, "depth/a.png is a PNG file, whose numbers need a scale; give the number that is one metre"),
        ({"scale": 0}, "data.options.scale=0: must be above 0"),
        ({"depth": "depths"}, "depths/ is not in it; give another folder with data.options.depth"),
        ({"samples": 0}, "data.options.samples=0"),
    ],
)
def test_a_fault_of_an_option_is_one_line(root, options, message):
    with pytest.raises(ConfigError, match=message):
        data(root, **options).examples()


def test_numpy_files_need_no_scale(root):
    (root / "images" / "a.jpg").unlink()
    (root / "depth" / "a.png").unlink()
    assert [example.id for example in data(root, scale=None).examples()] == ["b.png"]


def test_a_depth_map_without_an_image_is_a_problem(root):
    (root / "images" / "a.jpg").unlink()
    assert problems(root) == {"depth/a.png": "there is no image of this name"}


def test_the_identity_changes_with_a_depth_map_and_with_the_scale(root):
    before = data(root).identity()
    assert (before["scale"], before["samples"]) == ("1000", "2")
    np.save(root / "depth" / "b.npy", METRES * 2)
    assert data(root).identity()["annotations_sha256"] != before["annotations_sha256"]
    assert data(root, scale=256).identity()["scale"] == "256"
